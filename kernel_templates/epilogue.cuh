// Accumulators of a wgmma consumer -> y. The accumulators are transposed (outputs x rows), y is not.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "pipeline.cuh"
#include "ptx.cuh"
#include "scheduler.cuh"

namespace mxfp4 {

// Stores elements [first, first + 8) of a row of y, those below n alone. bits: 8 bf16.
__device__ inline void store_row_piece(const MatmulArguments& a, i64 row, int first, ptx::Word4 bits) {
    if (first >= a.n) return;
    u16* to = static_cast<u16*>(a.y) + row * a.y_stride + first;
    if (a.y_aligned && first + 8 <= a.n) {
        *reinterpret_cast<ptx::Word4*>(to) = bits;
        return;
    }
    const u32 pairs[4] = {bits.x, bits.y, bits.z, bits.w};
    for (int i = 0; i < 8; ++i)
        if (first + i < a.n) to[i] = u16(pairs[i / 2] >> (i % 2 * 16));
}

// One slab group's view of the epilogue: slabs of 64 outputs, up to block_m rows. One for all n that the main loop is
// instantiated for: work.rows says where the tile ends.
template <KernelConfig kConfig, WeightsFormat kFormat>
struct Epilogue {
    static constexpr int kSlabs = slabs_per_warpgroup(kConfig);
    using Accumulators = float[kConfig.block_m / 2];  // of a slab, a lane's part of m64nNk16

    const MatmulArguments& arguments;
    Shared<kConfig>& shared;
    int group;  // of slabs
    int part;   // of k

    __device__ static int thread() { return ptx::thread_id_anew() & 127; }
    __device__ void sync() const { ptx::named_barrier_sync(1 + group, 128); }
    __device__ void sync_parts() const { ptx::named_barrier_sync(1 + slab_groups(kConfig) + group, 128 * k_parts(kConfig)); }

    __device__ static void clear(Accumulators (&d)[kSlabs]) {
#pragma unroll
        for (int s = 0; s < kSlabs; ++s)
#pragma unroll
            for (int i = 0; i < kConfig.block_m / 2; ++i) d[s][i] = 0;
    }

    // Adds the parts of k up, in their order, for the first of them. Returns whether this is the first.
    __device__ bool combine(Accumulators (&d)[kSlabs]) const {
        if constexpr (k_parts(kConfig) == 1) return true;
        static_assert(k_parts(kConfig) == 1 || kSlabs * kConfig.block_m <= kMostRowsOfParts);
        constexpr int kPieces = kSlabs * kConfig.block_m / 8;  // of 16 bytes a lane
        const u32 staging = ptx::shared_address(shared.store) + group * kStoreTileBytes + thread() * 16;
        const auto at = [&](int part, int piece) { return staging + part * slab_groups(kConfig) * kStoreTileBytes + piece * 2048; };
        const auto bits = [&](int i) { return __float_as_uint(d[i / (kConfig.block_m / 2)][i % (kConfig.block_m / 2)]); };
        if (part > 0) {
#pragma unroll
            for (int i = 0; i < kPieces; ++i)
                ptx::store_shared16(at(part, i), {bits(4 * i), bits(4 * i + 1), bits(4 * i + 2), bits(4 * i + 3)});
        }
        sync_parts();
        if (part == 0)
#pragma unroll
            for (int p = 1; p < k_parts(kConfig); ++p)
#pragma unroll
                for (int i = 0; i < kPieces; ++i) {
                    const ptx::Word4 v = ptx::load_shared16(at(p, i));
                    float* const sums = &d[4 * i / (kConfig.block_m / 2)][4 * i % (kConfig.block_m / 2)];
                    sums[0] += __uint_as_float(v.x);
                    sums[1] += __uint_as_float(v.y);
                    sums[2] += __uint_as_float(v.z);
                    sums[3] += __uint_as_float(v.w);
                }
        sync_parts();  // the staging may be written again
        return part == 0;
    }

    // The end of a piece of work: a whole tile is stored, a partial one by whoever completes it.
    __device__ void finish(const Work& work, Accumulators (&d)[kSlabs]) const {
        if (kConfig.split_k != 1 && !work.whole() && !reduce(work, d)) return;
        store_slabs(work, d);
    }

  private:
    __device__ void store_slabs(const Work& work, const Accumulators (&d)[kSlabs]) const {
        store_steps(work, d, 0);
        sync();  // the next store starts with the first half again
    }
    // 32 rows of a slab go through shared memory at a time, so that a row leaves in 128-byte runs; two halves of the staging
    // alternate, so that one barrier a step is enough. A template recursion: the compiler leaves a loop of this size rolled, and the
    // accumulators then live in local memory.
    template <int kStep = 0>
    __device__ void store_steps(const Work& work, const Accumulators (&d)[kSlabs], u32 half) const {
        constexpr int kRowSteps = (kConfig.block_m + 31) / 32, kSlab = kStep / kRowSteps, kRow = kStep % kRowSteps * 32;
        const Place place = Epilogue::place(work, kSlab);
        if (kRow < place.rows) {
            store_step<kRow>(place, work.scale, d[kSlab], ptx::shared_address(shared.store[group]) + half);
            half ^= kStoreTileBytes / 2;
        }
        if constexpr (kStep + 1 < kSlabs * kRowSteps) store_steps<kStep + 1>(work, d, half);
    }
    // Where the accumulators of a slab belong; a tall tile's second are its second half's.
    struct Place {
        int n, row, rows;
    };
    __device__ Place place(const Work& work, int slab) const {
        if (is_tall<kConfig>(work)) return {work.n + group * kSlabRows, work.row + slab * work.tile_m, rows_of_half<kConfig>(work, slab)};
        return {work.n + (group * kSlabs + slab) * kSlabRows, work.row, work.rows};
    }
    // Rows [kRow, kRow + 32) of it.
    template <int kRow>
    __device__ void store_step(const Place& place, float scale, const Accumulators& d, u32 staging) const {
        const int thread = Epilogue::thread(), warp = thread / 32, lane = thread % 32;
        // Matrix i of a stmatrix covers 8 rows of y and 8 outputs: i & 1 picks the outputs, i >> 1 the rows.
        const int row_in_pair = ((lane >> 4) & 1) * 8 + (lane & 7), piece = warp * 2 + ((lane >> 3) & 1);
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            const int j = kRow / 8 + pair * 2;  // blocks of 8 rows: j and j + 1
            const u32 to = staging + (pair * 16 + row_in_pair) * 128 + ((piece ^ (lane & 7)) << 4);
            if (j + 1 < kConfig.block_m / 8)
                ptx::stmatrix4_trans(to, packed(d, j, 0, scale), packed(d, j, 1, scale), packed(d, j + 1, 0, scale), packed(d, j + 1, 1, scale));
            else if (j < kConfig.block_m / 8)
                ptx::stmatrix2_trans(to, packed(d, j, 0, scale), packed(d, j, 1, scale));
        }
        sync();
        // Eight threads take a row.
        constexpr int kRows = kConfig.block_m - kRow < 32 ? kConfig.block_m - kRow : 32, kTurns = (kRows + 15) / 16;
        const int row = thread >> 3, p = thread & 7;
        ptx::Word4 bits[kTurns];
#pragma unroll
        for (int i = 0; i < kTurns; ++i) bits[i] = ptx::load_shared16(staging + (row + i * 16) * 128 + ((p ^ (row & 7)) << 4));
#pragma unroll
        for (int i = 0; i < kTurns; ++i)
            if (kRow + row + i * 16 < place.rows)
                store_row_piece(arguments, i64(place.row) + kRow + row + i * 16, place.n + p * 8, bits[i]);
    }

    // Adds up the partial tiles of all ranges that share this tile, in the order of k, in whichever thread block arrives
    // last: the same bits at every run. Returns whether this is that block; d then holds the sum.
    __device__ bool reduce(const Work& work, Accumulators (&d)[kSlabs]) const {
        // The tile's beginning is most often what comes last: it need not go through memory.
        if (work.range == work.first_range && arrives_last(work, /*only_look=*/true)) {
            add_partials(work, work.first_range + 1, d);
            return true;
        }
        store_partial(work, d);
        __threadfence();
        sync();
        if (!arrives_last(work, /*only_look=*/false)) return false;
        clear(d);
        add_partials(work, work.first_range, d);
        return true;
    }
    // Counts this range's arrival, if it is not only to look; whether all others had arrived before.
    __device__ bool arrives_last(const Work& work, bool only_look) const {
        if (thread() == 0) {
            u32* counter = static_cast<u32*>(arguments.workspace) + work.first_range * kCountersPerRange + group;
            const u32 others = u32(work.last_range - work.first_range);
            const u32 arrived = atomicAdd(counter, only_look ? 0 : 1);
            if (arrived == others) *counter = 0;  // ready for the next launch
            shared.last_arriver[group] = arrived == others;
        }
        sync();
        const bool last = shared.last_arriver[group] != 0;
        sync();  // last_arriver may be written again
        if (last) __threadfence();
        return last;
    }
    __device__ void add_partials(const Work& work, int first_range, Accumulators (&d)[kSlabs]) const {
        for (int range = first_range; range <= work.last_range; ++range) {
            const bool starts_range = range != work.first_range || work.first_range_starts_here;
            add_partial(work, 2 * range + (starts_range ? 0 : 1), d);
        }
    }

    // Outputs 8*half .. +7 of this warp's 16, rows 8j .. 8j+7: a lane's two rows of y as a pair.
    __device__ static u32 packed(const Accumulators& d, int j, int half, float scale) {
        if constexpr (kFormat.scale_class != ScaleClass::rebased) return ptx::pack_bf16x2(d[j * 4 + half * 2], d[j * 4 + half * 2 + 1]);
        return ptx::pack_bf16x2(d[j * 4 + half * 2] * scale, d[j * 4 + half * 2 + 1] * scale);
    }
    // A thread's own registers, 16 bytes at a time, next to its neighbours': nobody else reads them but the same thread of
    // the last arriver.
    __device__ float4* partial(i64 slot) const {
        float* tiles = reinterpret_cast<float*>(static_cast<u8*>(arguments.workspace) + arguments.workspace_counter_bytes);
        const i64 group_elements = i64(kConfig.block_m) * kConfig.block_n / slab_groups(kConfig);
        return reinterpret_cast<float4*>(tiles + slot * (i64(kConfig.block_m) * kConfig.block_n) +
                                         group * group_elements) + thread();
    }
    __device__ void store_partial(const Work& work, const Accumulators (&d)[kSlabs]) const {
        float4* to = partial(2 * work.range + (work.first_piece ? 0 : 1));
#pragma unroll
        for (int s = 0; s < kSlabs; ++s)
#pragma unroll
            for (int i = 0; i < kConfig.block_m / 2; i += 4, to += 128)
                if (i * 2 < work.rows) *to = make_float4(d[s][i], d[s][i + 1], d[s][i + 2], d[s][i + 3]);
    }
    __device__ void add_partial(const Work& work, i64 slot, Accumulators (&d)[kSlabs]) const {
        const float4* from = partial(slot);
#pragma unroll
        for (int s = 0; s < kSlabs; ++s)
#pragma unroll
            for (int i = 0; i < kConfig.block_m / 2; i += 4, from += 128) {
                if (i * 2 >= work.rows) continue;
                const float4 v = __ldcg(from);
                d[s][i] += v.x;
                d[s][i + 1] += v.y;
                d[s][i + 2] += v.z;
                d[s][i + 3] += v.w;
            }
    }
};

}  // namespace mxfp4
