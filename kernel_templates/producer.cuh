// The producer warpgroup of the wgmma kernels: walks the same work as the consumers and fills the ring ahead of them.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "pipeline.cuh"
#include "ptx.cuh"
#include "scheduler.cuh"

namespace mxfp4 {

// Weights brings the weights of a stage, chunks [chunk, chunk + chunks) of 64 k:
//   kThreadsCopy            all producer threads take part (decoded stores)
//   bytes(work, chunks)     what its bulk copies will add to the stage's barrier
//   issue(...)              one thread: its bulk copies
//   copy(...), arrive(...)  all threads: copies and stores, and each thread's arrival on the barrier
template <KernelConfig kConfig, class Weights>
class Producer {
  public:
    static constexpr int kChunks = Shared<kConfig>::kChunks;

    __device__ Producer(const MatmulArguments& arguments, Ring<kConfig> ring, Weights weights)
        : arguments_(arguments), ring_(ring), weights_(weights) {}

    __device__ static bool threads_arrive(const MatmulArguments& arguments) {
        return Weights::kThreadsCopy || !arguments.x_aligned;
    }

    __device__ void run() {
        if (!threads_arrive(arguments_) && threadIdx.x >= 32) return;  // the copy engine does it all: one warp drives it
        Scheduler<kConfig> scheduler(arguments_);
        Work work = Work::none();
        while (scheduler.next(work)) {
            if (work.expert < 0) work.chunk_end = work.chunk_begin;  // nothing to add up, yet rows to write
            load(work);
        }
        load(Work::none());
    }

  private:
    // The stages of one item; at least one, because the first one tells the consumers what the item is.
    __device__ void load(const Work& work) {
        int chunk = work.chunk_begin;
        do {
            const int stage = position_.stage;
            ptx::mbarrier_wait(ring_.empty(stage), position_.parity ^ 1);
            __syncwarp();  // a lane that looked only after thread 0's copies were consumed would see the phase after, and hang
            const int left = work.chunk_end - chunk, chunks = left < kChunks ? left : kChunks;
            if (threadIdx.x == 0) drive_copy_engine(work, chunk, chunks, stage);
            if (threads_arrive(arguments_)) {
                if (chunks > 0) weights_.copy(work, chunk, chunks, stage);  // none: perhaps no expert either
                if (!arguments_.x_aligned) store_x(work, chunk, chunks, stage);
                weights_.arrive(stage);
            }
            position_.advance();
            chunk += kChunks;
        } while (chunk < work.chunk_end);
    }

    // One thread: copies take their operands from uniform registers, so that a warp would issue them one by one anyway.
    __device__ void drive_copy_engine(const Work& work, int chunk, int chunks, int stage) const {
        const bool first = chunk == work.chunk_begin;
        const float scale = first ? scale_of_expert(arguments_, work.expert) : 0;  // on its way while copies are issued
        const bool whole_stages = arguments_.k % kChunkK == 0;  // one copy brings all chunks of x (contract/tensors.h)
        const int x_copies = chunks <= 0 || !arguments_.x_aligned ? 0 : whole_stages ? 1 : chunks;
        const u32 full = ring_.full(stage), x_chunk_bytes = x_rows_of_stage(kConfig, work.rows) * 128;
        const TensorMap& x_map = arguments_.x_maps[half_of_x(kConfig, work.rows)];
        ptx::mbarrier_expect_tx(full, x_copies * (whole_stages ? kChunks : 1) * x_chunk_bytes + weights_.bytes(work, chunks));
        weights_.issue(work, chunk, chunks, stage);
        const u32 x = ptx::shared_address(ring_.shared.x[stage]);
        if (whole_stages && x_copies > 0) ptx::tensor_copy(x, x_map, {0, work.row, chunk}, full);
        if (!whole_stages)
            for (int c = 0; c < x_copies; ++c)
                ptx::tensor_copy(x + c * x_chunk_bytes, x_map, (chunk + c) * kChunkK, work.row, full);
        if (first) {
            Work item = work;
            item.scale = scale;
            ring_.shared.work[stage] = item;
        }
        ptx::mbarrier_arrive(full);
    }
    __device__ void store_x(const Work& work, int chunk, int chunks, int stage) const {
        const XTile x = x_tile(arguments_, work.row, work.rows);
        for (int c = 0; c < chunks; ++c)
            x.store_chunk(ptx::shared_address(ring_.shared.x[stage]) + c * x_rows_of_stage(kConfig, work.rows) * 128, chunk + c,
                          int(threadIdx.x));
    }

    const MatmulArguments& arguments_;
    Ring<kConfig> ring_;
    Weights weights_;
    typename Ring<kConfig>::Position position_;
};

// Slabs of 64 outputs that a tile really has: the last tile of N may have fewer.
template <KernelConfig kConfig>
__device__ inline int slabs_of(const Work& work, int n) {
    const int slabs = (n - work.n + kSlabRows - 1) / kSlabRows;
    return slabs < Shared<kConfig>::kSlabs ? slabs : Shared<kConfig>::kSlabs;
}

}  // namespace mxfp4
