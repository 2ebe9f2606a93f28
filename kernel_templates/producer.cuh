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
        announce_all();
    }

  private:
    // Stages whose copies are issued but not announced as full: a few are kept back so that copies overlap.
    static constexpr int kLag = kConfig.stages > 3 ? 2 : 1;

    // The stages of one item; at least one, because the first one tells the consumers what the item is.
    template <class CopyWeights>
    __device__ void load(const Work& work, CopyWeights&& copy_weights) {
        constexpr int kChunks = Shared<kConfig>::kChunks;
        const int thread = int(threadIdx.x) & (kProducerWarps * 32 - 1);
        const XTile x = x_tile(arguments_, work.row, work.rows);
        int chunk = work.chunk_begin;
        do {
            acquire();
            if (chunk == work.chunk_begin && thread == 0) ring_.shared.work[issue_.stage] = work;
            const int chunks = work.chunk_end - chunk < kChunks ? work.chunk_end - chunk : kChunks;
            for (int c = 0; c < chunks; ++c)
                x.load_chunk(ptx::shared_address(ring_.shared.x[issue_.stage][c]), chunk + c, thread);
            copy_weights(work, chunk, chunks, issue_.stage, thread);
            ptx::cp_async_commit();
            issue_.advance();
            if (++pending_ > kLag) {
                ptx::cp_async_wait<kLag>();
                announce();
            }
            chunk += kChunks;
        } while (chunk < work.chunk_end);
    }
    __device__ void acquire() {
        const u32 empty = ring_.empty(issue_.stage), parity = issue_.parity ^ 1;
        if (ptx::mbarrier_try_wait(empty, parity)) return;
        announce_all();  // the consumers may be waiting for just these
        ptx::mbarrier_wait(empty, parity);
    }
    // The copies of the oldest pending stage have landed; this thread's writes become visible to WGMMA.
    __device__ void announce() {
        ptx::fence_proxy_async();
        __syncwarp();
        if (ptx::lane_id() == 0) ptx::mbarrier_arrive(ring_.full(announce_.stage));
        announce_.advance();
        --pending_;
    }
    __device__ void announce_all() {
        ptx::cp_async_wait<0>();
        while (pending_ > 0) announce();
    }

    const MatmulArguments& arguments_;
    Ring<kConfig> ring_;
    typename Ring<kConfig>::Position issue_, announce_;
    int pending_ = 0;
};

// Slabs of 64 outputs that a tile really has: the last tile of N may have fewer.
template <KernelConfig kConfig>
__device__ inline int slabs_of(const Work& work, int n) {
    const int slabs = (n - work.n + kSlabRows - 1) / kSlabRows;
    return slabs < Shared<kConfig>::kSlabs ? slabs : Shared<kConfig>::kSlabs;
}

}  // namespace mxfp4
