// Which tile, and which range of k, a thread block works on next. The histogram of rows over groups is known on the device
// only: a warp scans it, 32 groups at a time.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "ptx.cuh"

namespace mxfp4 {

// A piece of work: a tile of y, and a range of 64-k chunks.
struct alignas(16) Work {
    int expert;                    // -1: the group's id is out of range, its rows become zero
    float scale;                   // of the expert; the producer fills it in
    int row, rows;                 // first row of the tile, rows in it (1 .. block_m, twice that if tall; 0: there is no more work; -1: a stage to give back)
    int n;                         // first output
    int tile_m;                    // rows, of a tall tile those of its first half, rounded up to 8
    int chunk_begin, chunk_end;    // of k
    int range, first_range, last_range;  // the range of work this is in, and those that share the tile (split-k)
    bool first_piece;              // of its range
    bool first_range_starts_here;  // the tile starts where first_range starts
    bool shares_x;                 // with the other block of the cluster, which has the same rows
    bool tall;                     // two halves of tile_m rows, and half of the outputs (contract/config.h)

    __device__ bool whole() const { return first_range == last_range; }
    __device__ static Work none() {
        Work work = {};
        work.expert = -1;
        return work;
    }
};

template <KernelConfig kConfig>
__device__ inline bool is_tall(const Work& work) {
    return has_tall_tiles(kConfig) && work.tall;
}
// Rows of a half of a tile; all of a wide one's are in the first.
template <KernelConfig kConfig>
__device__ inline int rows_of_half(const Work& work, int half) {
    if (!is_tall<kConfig>(work)) return work.rows;
    const int left = work.rows - half * work.tile_m;
    return left < work.tile_m ? left : work.tile_m;
}

__device__ inline float scale_of_expert(const MatmulArguments& a, int expert) {
    return a.expert_scale && expert >= 0 ? a.expert_scale[expert] : 1.0f;
}

template <KernelConfig kConfig>
class Scheduler {
    // Where products take the time, a tile takes longer the more rows it has: the last wave, which not all blocks have a part in, is
    // to be of small ones. Where reading weights does, all take the same.
    static constexpr bool kLargestFirst = is_wgmma(kConfig.variant) && kConfig.block_m >= 64;
    // Groups that can be compared with what they were. All that 120b has, where there are few tokens and a trip to memory is felt.
    static constexpr int kMostKept = kConfig.block_m <= 16 ? 128 : 32;

  public:
    static constexpr u32 kKeptBytes = kMostKept * sizeof(ptx::Word4);

    // kept: where in shared memory the groups are kept until unchanged() is asked, kKeptBytes; 0: nowhere.
    __device__ explicit Scheduler(const MatmulArguments& arguments, u32 kept = 0)
        : arguments_(arguments),
          kept_(kLargestFirst || (kConfig.split_k != 1 && arguments.groups > 32) ? 0 : kept),
          chunks_(int(ceil_div(arguments.k, kChunkK))),
          tiles_n_(int(ceil_div(arguments.n, kConfig.block_n))),
          tall_tiles_n_(int(ceil_div(arguments.n, outputs_of_tall_tile(kConfig)))),
          range_(cluster() - clusters()) {
        if constexpr (kConfig.split_k != 1) {
            int tiles = 0;
            for (int base = 0; base < arguments_.groups; base += 32) {
                load_groups(base);
                tiles += group_tiles_;
            }
            if constexpr (kConfig.split_k == 0) {
                const int grid = int(gridDim.x), waves = tiles / grid;
                whole_tiles_ = tiles % grid == 0 ? tiles : waves > 1 ? (waves - 1) * grid : 0;
                tile_ = int(blockIdx.x);
            }
            steps_ = (tiles - whole_tiles_) * chunks_;
            ranges_ = kConfig.split_k == 0 ? int(gridDim.x) : tiles * kConfig.split_k;
            if (ranges_ > steps_) ranges_ = steps_;
        }
        if (kConfig.split_k == 1 || arguments_.groups > 32) load_groups(0);  // else they are at hand
    }

    // The next piece of this thread block; false when there is none.
    __device__ bool next(Work& work) {
        if constexpr (kConfig.split_k == 1) {
            range_ += clusters();
            int tile = range_;
            if constexpr (kLargestFirst) {
                // Every other wave runs backwards: the first block's tiles are not the larger ones of every wave.
                backwards_ = !backwards_;
                if (backwards_) tile += clusters() - 1 - 2 * cluster();
            }
            return find_whole(tile, work);
        } else {
            if (tile_ < whole_tiles_) {
                const int tile = tile_;
                tile_ += gridDim.x;
                return find_whole(tile, work);
            }
            bool first_piece = false;
            if (step_ >= range_end_) {
                range_ += gridDim.x;
                if (range_ >= ranges_) return false;
                step_ = range_begin(range_);
                range_end_ = range_begin(range_ + 1);
                first_piece = true;
            }
            const int tile = step_ / chunks_;
            if (!find(whole_tiles_ + tile, work)) return false;
            const int tile_begin = tile * chunks_, tile_end = tile_begin + chunks_;
            const int end = range_end_ < tile_end ? range_end_ : tile_end;
            work.chunk_begin = step_ - tile_begin;
            work.chunk_end = end - tile_begin;
            work.range = range_;
            work.first_range = range_of(tile_begin);
            work.last_range = range_of(tile_end - 1);
            work.first_piece = first_piece;
            work.first_range_starts_here = range_begin(work.first_range) == tile_begin;
            step_ = end;
            return true;
        }
    }

    // A group as it lies in memory, unchecked.
    struct RawGroup {
        int begin = 0, end = 0, id = -1;
    };
    // A lane's of those that are kept: lane, lane + 32, ...
    struct RawGroups {
        RawGroup of[kMostKept / 32];
    };
    // The kept groups as memory has them now, for unchanged(). Nothing is done with them here: until then they are on their way.
    __device__ RawGroups read_again() const {
        RawGroups now;
        for_kept([&](int i) { now.of[i] = read_group(32 * i); });
        return now;
    }
    // Whether these are all that was gone by so far, and what it was then; false also where nobody can tell. From here on none is kept.
    __device__ bool unchanged(const RawGroups& now) {
        if constexpr (kLargestFirst) return false;  // none ever is: no vote on nothing
        u32 changed = kept_ == 0 || base_ >= kMostKept;
        for_kept([&](int i) { changed |= difference(now.of[i], ptx::load_shared16(kept_at(32 * i))); });
        kept_ = 0;
        return __ballot_sync(~0u, changed != 0) == 0;
    }

  private:
    template <class Body>
    __device__ void for_kept(Body&& body) const {
        if (kept_ == 0) return;
#pragma unroll
        for (int i = 0; i < kMostKept / 32; ++i)
            if (32 * i <= base_) body(i);
    }
    __device__ u32 kept_at(int base) const { return kept_ + (base + ptx::lane_id()) * sizeof(ptx::Word4); }
    __device__ static ptx::Word4 word(const RawGroup& raw) { return {u32(raw.begin), u32(raw.end), u32(raw.id), 0}; }
    // 0 where there is none.
    __device__ static u32 difference(const RawGroup& raw, const ptx::Word4& kept) {
        const auto now = word(raw);
        return (now.x ^ kept.x) | (now.y ^ kept.y) | (now.z ^ kept.z);
    }
    // Blocks of a cluster have the same tiles, but for their outputs or their rows.
    __device__ static int cluster() { return int(blockIdx.x) / kConfig.cluster; }
    __device__ static int clusters() { return int(gridDim.x) / kConfig.cluster; }

    __device__ int range_begin(int range) const { return int(i64(range) * steps_ / ranges_); }
    __device__ int range_of(int step) const { return int((i64(step + 1) * ranges_ - 1) / steps_); }

    struct Group {
        int row_begin = 0, rows = 0, expert = -1;
    };
    // From L2: L1 may have what was there before the grids before ended. The expert's id is read beside the offsets, not after them: at
    // few rows each trip to memory is felt.
    __device__ RawGroup read_group(int base) const {
        RawGroup raw;
        const int i = base + ptx::lane_id();
        if (i >= arguments_.groups) return raw;
        raw.id = arguments_.expert_ids ? __ldcg(arguments_.expert_ids + i) : i;
        raw.begin = __ldcg(arguments_.expert_offsets + i);
        raw.end = __ldcg(arguments_.expert_offsets + i + 1);
        return raw;
    }
    __device__ Group checked(const RawGroup& raw) const {
        const int begin = clamped_offset(raw.begin), rows = clamped_offset(raw.end) - begin;
        return {begin, rows < 0 ? 0 : rows, raw.id < 0 || raw.id >= arguments_.experts ? -1 : raw.id};
    }
    __device__ int clamped_offset(int offset) const { return offset < 0 ? 0 : offset > arguments_.rows ? arguments_.rows : offset; }
    // The rows of a group are spread evenly over its tiles, so that none is nearly empty. (One tile: no division, which is felt at few tokens.)
    __device__ static int rows_per_tile(int rows, int tiles_m) { return ((tiles_m > 1 ? (rows + tiles_m - 1) / tiles_m : rows) + 7) / 8 * 8; }
    // An odd number of tiles becomes an even one, which tall tiles take whole, where that makes no more rows of them, rounded up.
    __device__ static int tiles_for(int rows) {
        const int tiles_m = (rows + kConfig.block_m - 1) / kConfig.block_m;
        if (!has_tall_tiles(kConfig) || tiles_m % 2 == 0 || tiles_m == 1) return tiles_m;
        return (tiles_m + 1) * rows_per_tile(rows, tiles_m + 1) <= tiles_m * rows_per_tile(rows, tiles_m) ? tiles_m + 1 : tiles_m;
    }
    // Pairs of a group's tiles of rows that tall tiles take.
    __device__ int tall_pairs(int tiles_m) const { return has_tall_tiles(kConfig) && arguments_.x_aligned ? tiles_m / 2 : 0; }
    // Tiles of a group that has so many tiles of rows; of a cluster of two, pairs of them: side by side in n, and, where a column is
    // left over, one above the other in it.
    __device__ int tiles_of(int tiles_m) const {
        if constexpr (has_tall_tiles(kConfig))
            return tall_pairs(tiles_m) * tall_tiles_n_ + (tiles_m - 2 * tall_pairs(tiles_m)) * tiles_n_;
        else if constexpr (kConfig.cluster == 1)
            return tiles_m * tiles_n_;
        else
            return tiles_m * (tiles_n_ / 2) + tiles_n_ % 2 * ((tiles_m + 1) / 2);
    }
    // Lane l holds group base + l: its expert, its rows, its tiles of rows, and the tiles of the lanes up to it.
    __device__ void load_groups(int base) {
        base_ = base;
        const RawGroup raw = read_group(base);
        if (kept_ != 0 && base < kMostKept) ptx::store_shared16(kept_at(base), word(raw));
        group_ = checked(raw);
        if (kLargestFirst && arguments_.groups <= 32) sort_groups();
        tiles_m_ = tiles_for(group_.rows);
        tiles_up_to_ = tiles_of(tiles_m_);
        for (int step = 1; step < 32; step *= 2) {
            const int below = __shfl_up_sync(~0u, tiles_up_to_, step);
            if (ptx::lane_id() >= step) tiles_up_to_ += below;
        }
        group_tiles_ = __shfl_sync(~0u, tiles_up_to_, 31);
    }

    // By rows, the most first: a bitonic network over the lanes.
    __device__ void sort_groups() {
        const int lane = ptx::lane_id();
        int key = (group_.rows < (1 << 26) ? group_.rows : (1 << 26) - 1) << 5 | lane;
#pragma unroll
        for (int size = 2; size <= 32; size *= 2)
#pragma unroll
            for (int step = size / 2; step > 0; step /= 2) {
                const int other = __shfl_xor_sync(~0u, key, step);
                const bool larger_here = ((lane & size) == 0) == ((lane & step) == 0);
                if ((other > key) == larger_here) key = other;
            }
        const int from = key & 31;
        group_.rows = __shfl_sync(~0u, group_.rows, from);
        group_.row_begin = __shfl_sync(~0u, group_.row_begin, from);
        group_.expert = __shfl_sync(~0u, group_.expert, from);
    }

    // A tile with all of its k.
    __device__ bool find_whole(int tile, Work& work) {
        if (!find(tile, work)) return false;
        work.chunk_begin = 0;
        work.chunk_end = chunks_;
        work.range = work.first_range = work.last_range = 0;
        return true;
    }
    // Tile ids only grow: walk on from the 32 groups at hand.
    __device__ bool find(int tile, Work& work) {
        while (tile >= tiles_before_ + group_tiles_) {
            if (base_ + 32 >= arguments_.groups) return false;
            tiles_before_ += group_tiles_;
            load_groups(base_ + 32);
        }
        tile -= tiles_before_;
        const unsigned behind = __ballot_sync(~0u, tile < tiles_up_to_);
        const int lane = __ffs(int(behind)) - 1;
        const int tiles_m = __shfl_sync(~0u, tiles_m_, lane);
        const int before = __shfl_sync(~0u, tiles_up_to_, lane) - tiles_of(tiles_m);
        const int rows = __shfl_sync(~0u, group_.rows, lane);
        const int row_begin = __shfl_sync(~0u, group_.row_begin, lane);
        work.expert = __shfl_sync(~0u, group_.expert, lane);

        Place at = place(tile - before, tiles_m);
        const int per_tile = rows_per_tile(rows, at.tiles_m);
        if (kConfig.cluster > 1 && at.m * per_tile >= rows) {  // no row is left for this block: it goes along, beyond the outputs
            at.m = 0;
            at.n = tiles_n_;
        }
        const bool tall = has_tall_tiles(kConfig) && at.tall;
        const int left = rows - at.m * per_tile, most = tall ? 2 * per_tile : per_tile;
        work.row = row_begin + at.m * per_tile;
        work.rows = left < most ? left : most;
        work.n = at.n * (tall ? outputs_of_tall_tile(kConfig) : kConfig.block_n);
        work.tile_m = per_tile;
        work.tall = tall;
        work.shares_x = at.shares_x;
        return true;
    }

    // Where a tile lies in its group: how many tiles of rows and of outputs before it (a tall one's outputs are half as many), and how
    // many tiles the group's rows are spread over. m runs fastest: thread blocks that run together share the weights of an n tile.
    struct Place {
        int m, n, tiles_m;
        bool tall = false, shares_x = false;
    };
    __device__ Place place(int tile, int tiles_m) const {
        if constexpr (kConfig.cluster > 1) return place_of_pair(tile, tiles_m);
        // Tall tiles come first, then wide ones of what rows are left.
        const int pairs = tall_pairs(tiles_m), tall = pairs * tall_tiles_n_, wide = tiles_m - 2 * pairs;
        if (has_tall_tiles(kConfig) && tile < tall) return {.m = tile % pairs * 2, .n = tile / pairs, .tiles_m = tiles_m, .tall = true};
        tile -= tall;
        const int n = wide > 1 ? tile / wide : tile;
        return {.m = 2 * pairs + tile - n * wide, .n = n, .tiles_m = tiles_m};
    }
    // Of a block of a cluster: beside the other's, or, in a column that is left over, above or below it.
    __device__ Place place_of_pair(int tile, int tiles_m) const {
        const int beside = tiles_m * (tiles_n_ / 2);
        if (tile >= beside)
            return {.m = (tile - beside) * 2 + ptx::cluster_rank(), .n = tiles_n_ - 1, .tiles_m = (tiles_m + 1) / 2 * 2};
        const int pair = tiles_m > 1 ? tile / tiles_m : tile;
        return {.m = tile - pair * tiles_m, .n = pair * 2 + ptx::cluster_rank(), .tiles_m = tiles_m, .shares_x = true};
    }

    const MatmulArguments& arguments_;
    u32 kept_;
    int chunks_, tiles_n_, tall_tiles_n_;
    bool backwards_ = true;
    int range_, ranges_ = 0, steps_ = 0, step_ = 0, range_end_ = 0;  // steps: 64-k chunks of tiles, in order
    // Stream-k: tiles before these ranges that blocks take whole, one wave after the other. Neighbours in a wave share x and weights
    // in L2; what is left is one to two waves, so that a tile has two ranges at most, and is begun long after its end was done.
    int whole_tiles_ = 0, tile_ = 0;
    int tiles_before_ = 0;  // in the groups before base_
    int base_ = 0, tiles_m_ = 0, tiles_up_to_ = 0, group_tiles_ = 0;
    Group group_;
};

}  // namespace mxfp4
