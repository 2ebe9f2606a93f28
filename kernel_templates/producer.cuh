// The producer warpgroup of the wgmma kernels: walks the same work as the consumers and fills the ring ahead of them.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "pipeline.cuh"
#include "ptx.cuh"
#include "scheduler.cuh"

namespace mxfp4 {

// copy_weights(work, chunk, chunks, stage, thread) brings the weights of a stage: chunks [chunk, chunk + chunks) of 64 k.
template <KernelConfig kConfig>
class Producer {
  public:
    __device__ Producer(const MatmulArguments& arguments, Ring<kConfig> ring) : arguments_(arguments), ring_(ring) {}

    template <class CopyWeights>
    __device__ void run(CopyWeights&& copy_weights) {
        Scheduler<kConfig> scheduler(arguments_);
        Work work;
        while (scheduler.next(work)) {
            if (work.expert < 0) work.chunk_end = work.chunk_begin;  // nothing to add up, yet rows to write
            load(work, copy_weights);
        }
        work.rows = 0;
        work.chunk_end = work.chunk_begin;
        load(work, copy_weights);
        ptx::cp_async_wait<0>();  // none may be in flight when the block ends
    }

  private:
    // The stages of one item; at least one, because the first one tells the consumers what the item is.
    template <class CopyWeights>
    __device__ void load(const Work& work, CopyWeights&& copy_weights) {
        constexpr int kChunks = Shared<kConfig>::kChunks;
        const int thread = int(threadIdx.x) & (kProducerWarps * 32 - 1);
        const XTile x = x_tile(arguments_, work.row, work.rows);
        int chunk = work.chunk_begin;
        do {
            ptx::mbarrier_wait(ring_.empty(position_.stage), position_.parity ^ 1);
            if (chunk == work.chunk_begin && thread == 0) ring_.shared.work[position_.stage] = work;
            const int chunks = work.chunk_end - chunk < kChunks ? work.chunk_end - chunk : kChunks;
            copy_weights(work, chunk, chunks, position_.stage, thread);
            for (int c = 0; c < chunks; ++c)
                x.load_chunk(ptx::shared_address(ring_.shared.x[position_.stage][c]), chunk + c, thread);
            ring_.arrive_x(position_.stage, x.aligned);
            if constexpr (Ring<kConfig>::kStoredWeights) ring_.arrive_stored(position_.stage);
            position_.advance();
            chunk += kChunks;
        } while (chunk < work.chunk_end);
    }

    const MatmulArguments& arguments_;
    Ring<kConfig> ring_;
    typename Ring<kConfig>::Position position_;
};

// Slabs of 64 outputs that a tile really has: the last tile of N may have fewer.
template <KernelConfig kConfig>
__device__ inline int slabs_of(const Work& work, int n) {
    const int slabs = (n - work.n + kSlabRows - 1) / kSlabRows;
    return slabs < Shared<kConfig>::kSlabs ? slabs : Shared<kConfig>::kSlabs;
}

}  // namespace mxfp4
