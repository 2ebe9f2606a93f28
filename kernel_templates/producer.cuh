// The producer warpgroup of the wgmma kernels: walks the same work as the consumers and fills the ring ahead of them.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "contract/tensors.h"
#include "pipeline.cuh"
#include "ptx.cuh"
#include "scheduler.cuh"
#include "x_tile.cuh"

namespace mxfp4 {

// Weights brings the weights of a stage, from `chunk` of 64 k on:
//   kThreadsCopy            all producer threads take part (decoded stores)
//   bytes(work)             what its bulk copies will add to the stage's barrier
//   issue(...)              one thread: its bulk copies
//   copy(...)               all threads: what they store of it
template <KernelConfig kConfig, class Weights>
class Producer {
  public:
    static constexpr int kChunks = Shared<kConfig>::kChunks;

    __device__ Producer(const MatmulArguments& arguments, const Ring<kConfig>& ring, const Weights& weights)
        : arguments_(arguments), ring_(ring), weights_(weights) {}

    __device__ void run() {
        const bool by_copies = !ring_.threads_arrive;
        if (by_copies && threadIdx.x >= 32) {  // the copy engine does it all: one warp drives it
            ring_.wait_until_made();
            if (kEarly && kAlone && threadIdx.x < 64 && arguments_.weights_constant) tell_when_grids_ended();
            return;
        }
        // Before the grids before this one have ended, the weights alone that the first item will probably need are asked for, going by
        // what the groups are then. Once they have, so is x of its first stage, while the groups are compared: consumers wait for that.
        bool in_earnest = !kEarly || !by_copies || !arguments_.weights_constant;
        if (in_earnest) {
            ring_.wait_until_made();
            ptx::wait_for_grids_before();
        }
        int early_stages = 0;
#pragma unroll 1
        for (bool known = false; !known;) {
            Scheduler<kConfig> scheduler(arguments_, in_earnest ? 0 : ring_.kept_groups());
            known = true;
            for (bool more = true; more;) {
                Work work = Work::none();
                more = scheduler.next(work);
                if (work.expert < 0) work.chunk_end = work.chunk_begin;  // nothing to add up, yet rows to write
                make_uniform(work);
                if (!in_earnest) {
                    ring_.wait_until_made();
                    early_stages = ask_early(work);
                    ptx::wait_for_grids_before();
                    in_earnest = true;
                    const auto groups = scheduler.read_again();  // on their way while x is asked for
                    if (early_stages > 0) ask_early_x(work);
                    known = scheduler.unchanged(groups);
                    if (!known) break;
                } else if (early_stages > 0 && !is_early(work)) {
                    discard(early_stages);
                    early_stages = 0;
                }
                load(work, early_stages);
                early_stages = 0;
            }
        }
    }

  private:
    static constexpr bool kAlone = kConfig.ctas_per_sm == 1;  // on its SM
    // Whether weights are asked for early. Not by blocks of a cluster: they may find other groups than each other, and then give back other
    // numbers of stages.
    static constexpr bool kEarly = kConfig.cluster == 1;
    static constexpr int kHalves = has_tall_tiles(kConfig) ? 2 : 1;  // of a tile, at most
    using Position = typename Ring<kConfig>::Position;

    // How x comes: stored by the threads; by one copy for all chunks of a stage; or, where K ends within a chunk, by one for each
    // (contract/tensors.h).
    enum class X { stored, whole, chunks };

    // What the copies need is made known as uniform: it then stands where they take it from. (Left to find out, the compiler went
    // through the lanes for each of them, and a stage took 1300 cycles of this warp, often more than of the consumers.)
    __device__ static void make_uniform(Work& work) {
        work.expert = ptx::uniform(work.expert);
        work.row = ptx::uniform(work.row);
        work.rows = ptx::uniform(work.rows);
        work.n = ptx::uniform(work.n);
        work.tile_m = ptx::uniform(work.tile_m);
        if constexpr (has_tall_tiles(kConfig)) work.tall = ptx::uniform(int(work.tall)) != 0;
        work.chunk_begin = ptx::uniform(work.chunk_begin);
        work.chunk_end = ptx::uniform(work.chunk_end);
        if constexpr (kConfig.cluster > 1) work.shares_x = ptx::uniform(int(work.shares_x)) != 0;
    }

    // Asks for the weights of an item's first stages; returns for how many. What they bring is announced with the barrier's one arrival,
    // later: until then its count of bytes is below zero. They are asked for at the pace of memory, because the groups, when the grids
    // before end, wait behind what is on its way (2 us behind a whole ring). Where blocks share an SM, those of the grid before
    // are still at work there, and more than a little would be taken from them.
    __device__ int ask_early(const Work& work) const {
        constexpr u32 kStageBytes = Shared<kConfig>::kSlabs * kChunks * kNativeValueTileBytes;
        constexpr u32 kStageNanoseconds = kStageBytes / 28;  // an SM's part of memory's bandwidth: 23 bytes a ns on an H100, 32 on an H200
        constexpr int kLittle = kStageBytes < 32768 ? int(32768 / kStageBytes) : 1;
        constexpr int kMost = !kAlone && kLittle < kConfig.stages ? kLittle : kConfig.stages;
        const int stages = (work.chunk_end - work.chunk_begin + kChunks - 1) / kChunks, most = stages < kMost ? stages : kMost;
        if (ptx::elect_one()) store_shared_struct(ring_.work(0), work);
        int asked = 0;
        while (asked < most) {
            if (ptx::elect_one()) weights_.issue(work, work.chunk_begin + asked * kChunks, asked * Position::kStageBytes);
            __syncwarp();
            ++asked;
            if (kAlone && __ballot_sync(~0u, ptx::mbarrier_try_wait(ring_.grids_ended(), 0, kStageNanoseconds)) != 0) break;
        }
        return asked;
    }
    // Asks for x of the first of these stages.
    __device__ void ask_early_x(const Work& work) const {
        const XRows rows[2] = {x_rows(work, 0), x_rows(work, kHalves - 1)};
        if (ptx::elect_one()) with_copied_x([&]<X kX>() { issue_x<kX>(work, rows, work.chunk_begin, 0); });
        __syncwarp();
    }
    __device__ u32 early_x_bytes(const Work& work) const {
        return with_copied_x([&]<X kX>() { return x_bytes<kX>(work, work.chunk_begin); });
    }
    // The second warp waits for the grids before, so that the first need not.
    __device__ void tell_when_grids_ended() const {
        ptx::wait_for_grids_before();
        ptx::mbarrier_arrive_if(ptx::lane_id() == 0, ring_.grids_ended());
    }
    // Whether this item needs what was asked for early.
    __device__ bool is_early(const Work& work) const {
        const auto early = load_shared_struct<Work>(ring_.work(0));
        __syncwarp();  // one lane writes there next
        return work.expert == early.expert && work.n == early.n && work.row == early.row && work.rows == early.rows &&
               work.tile_m == early.tile_m && work.chunk_begin == early.chunk_begin && work.chunk_end == early.chunk_end;
    }
    // The groups have become others: consumers give back what came early.
    __device__ void discard(int stages) {
        if (ptx::elect_one()) {
            const auto early = load_shared_struct<Work>(ring_.work(0));
            Work nothing = Work::none();
            nothing.rows = -1;
            for (u32 stage = 0; stage < stages * Position::kStageBytes; stage += Position::kStageBytes) {
                store_shared_struct(ring_.work(stage), nothing);
                ptx::mbarrier_arrive_expect_tx(ring_.full(stage), weights_.bytes(early) + (stage == 0 ? early_x_bytes(early) : 0));
            }
        }
        __syncwarp();
        position_.advance(stages);
    }

    // The stages of one item; at least one, because the first one tells the consumers what the item is.
    __device__ void load(Work& work, int early_stages) {
        work.scale = scale_of_expert(arguments_, work.expert);
        if (ring_.threads_arrive)
            load_with_threads(work);
        else
            with_copied_x([&]<X kX>() { load_by_copies<kX>(work, early_stages); });
    }
    // Calls body.template operator()<kX>() with how the copy engine brings x.
    template <class Body>
    __device__ auto with_copied_x(Body&& body) const {
        return arguments_.k % kChunkK == 0 ? body.template operator()<X::whole>() : body.template operator()<X::chunks>();
    }

    // Where x is copied from for an item, or a half of it.
    __device__ XRows x_rows(const Work& work, int half) const {
        const int row = work.row + half * work.tile_m, rows = rows_of_half<kConfig>(work, half);
        const XRows at = x_rows_at(row, rows, x_rows_of_stage(kConfig, x_rows_wanted(work)), arguments_.rows);
        return {ptx::uniform(at.first), ptx::uniform(at.before)};
    }
    // Halves of tall tiles have one kind of box.
    __device__ static int x_rows_wanted(const Work& work) { return is_tall<kConfig>(work) ? kConfig.block_m : work.tile_m; }
    __device__ static u32 x_chunk_bytes(const Work& work) { return x_rows_of_stage(kConfig, x_rows_wanted(work)) * 128; }

    template <X kX>
    __device__ void load_by_copies(const Work& work, int early_stages) {
        const XRows rows[2] = {x_rows(work, 0), x_rows(work, kHalves - 1)};
        if (ptx::elect_one()) {
            Position position = position_;
            int chunk = work.chunk_begin;
            ptx::mbarrier_wait(ring_.empty(position.stage), position.parity ^ 1);
            store_shared_struct(ring_.work(position.stage), work);
            if (chunk >= work.chunk_end) ptx::mbarrier_arrive(ring_.full(position.stage));
            if (early_stages > 0) {  // all of the first one is on its way
                announce<kX>(work, chunk, position.stage);
                position.advance();
                chunk += kChunks;
                --early_stages;
            }
            for (; chunk < work.chunk_end; chunk += kChunks) {
                ptx::mbarrier_wait(ring_.empty(position.stage), position.parity ^ 1);
                issue_copies<kX>(work, rows, chunk, position.stage, early_stages-- <= 0);
                position.advance();
            }
        }
        __syncwarp();
        const int stages = (work.chunk_end - work.chunk_begin + kChunks - 1) / kChunks;
        position_.advance(stages > 0 ? stages : 1);
    }

    __device__ void load_with_threads(const Work& work) {
        const XRows rows[2] = {x_rows(work, 0), x_rows(work, kHalves - 1)};
        int chunk = work.chunk_begin;
        do {
            const u32 stage = position_.stage;
            ptx::mbarrier_wait(ring_.empty(stage), position_.parity ^ 1);
            const int left = work.chunk_end - chunk, chunks = left < kChunks ? left : kChunks;
            if (threadIdx.x < 32 && ptx::elect_one()) {
                if (chunk == work.chunk_begin) store_shared_struct(ring_.work(stage), work);
                if (chunks <= 0)
                    ptx::mbarrier_arrive(ring_.full(stage));
                else if (!arguments_.x_aligned)
                    issue_copies<X::stored>(work, rows, chunk, stage, true);
                else
                    with_copied_x([&]<X kX>() { issue_copies<kX>(work, rows, chunk, stage, true); });
            }
            if (chunks > 0) weights_.copy(work, chunk, chunks, stage);  // none: perhaps no expert either
            if (!arguments_.x_aligned) store_x(work, chunk, chunks, stage);
            ptx::fence_proxy_async();  // each thread announces what it has stored
            ptx::mbarrier_arrive(ring_.full(stage));
            position_.advance();
            chunk += kChunks;
        } while (chunk < work.chunk_end);
    }

    // One thread: announces what copies will bring of a stage, and asks for them; of weights only if they are not on their way.
    template <X kX>
    __device__ void issue_copies(const Work& work, const XRows (&rows)[2], int chunk, u32 stage, bool weights_too) const {
        announce<kX>(work, chunk, stage);
        if (weights_too) weights_.issue(work, chunk, stage);
        if constexpr (kX != X::stored) issue_x<kX>(work, rows, chunk, stage);
    }
    template <X kX>
    __device__ void announce(const Work& work, int chunk, u32 stage) const {
        ptx::mbarrier_arrive_expect_tx(ring_.full(stage), weights_.bytes(work) + x_bytes<kX>(work, chunk));
    }
    template <X kX>
    __device__ static u32 x_bytes(const Work& work, int chunk) {
        return kX == X::stored ? 0 : (is_tall<kConfig>(work) ? 2 : 1) * chunks_of_x<kX>(work, chunk) * x_chunk_bytes(work);
    }
    // Of the stage that begins with this one.
    template <X kX>
    __device__ static int chunks_of_x(const Work& work, int chunk) {
        const int left = work.chunk_end - chunk;
        return kX == X::chunks && left < kChunks ? left : kChunks;
    }
    template <X kX>
    __device__ void issue_x(const Work& work, const XRows (&rows)[2], int chunk, u32 stage) const {
        issue_x_half<kX>(work, rows[0], chunk, ring_.x(stage), ring_.full(stage));
        if (is_tall<kConfig>(work)) issue_x_half<kX>(work, rows[1], chunk, ring_.x_of_second_half(stage), ring_.full(stage));
    }
    template <X kX>
    __device__ void issue_x_half(const Work& work, const XRows& rows, int chunk, u32 to_chunks, u32 full) const {
        const TensorMap& x_map = arguments_.x_maps[half_of_x(kConfig, x_rows_wanted(work))];
        const bool for_both = kConfig.cluster > 1 && work.shares_x;
        const int chunks = chunks_of_x<kX>(work, chunk);
        constexpr int kStep = kX == X::whole ? x_chunks_of_copy(kConfig) : 1;
#pragma unroll 1
        for (int c = 0; c < chunks; c += kStep) {
            if (for_both && (chunk + c) % 2 != ptx::cluster_rank()) continue;  // the other block brings it
            const auto copy = [&, to = to_chunks + c * x_chunk_bytes(work)](const auto& at) {
                for_both ? ptx::tensor_copy_to_both(to, x_map, at, full) : ptx::tensor_copy(to, x_map, at, full);
            };
            if constexpr (kX == X::whole) {
                const int at[4] = {0, rows.first, rows.before, chunk + c};
                copy(at);
            } else {
                const int at[3] = {(chunk + c) * kChunkK, rows.first, rows.before};
                copy(at);
            }
        }
    }
    __device__ void store_x(const Work& work, int chunk, int chunks, u32 stage) const {
        const XTile x = x_tile(arguments_, work.row, work.rows);
        for (int c = 0; c < chunks; ++c)
            x.store_chunk(ring_.x(stage) + c * x_chunk_bytes(work), chunk + c, int(threadIdx.x));
    }

    const MatmulArguments& arguments_;
    Ring<kConfig> ring_;
    Weights weights_;
    Position position_;
};

// Slabs of 64 outputs that a tile has in a stage.
template <KernelConfig kConfig>
__device__ inline int slabs_of_stage(const Work& work) {
    return is_tall<kConfig>(work) ? slabs_of_copy(kConfig) : Shared<kConfig>::kSlabs;
}

}  // namespace mxfp4
