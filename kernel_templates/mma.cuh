// Warp-level mma.sync: each warp decodes its own weights, fragment by fragment, in registers. No WGMMA, no barriers but the
// block's own: also the small-row path.
#pragma once

#include "warp_mma.cuh"

namespace mxfp4 {

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WarpMma {
    static_assert(check(kConfig, kFormat) == Reject::none);
    using X = PaddedX<kConfig>;
    static_assert(kConfig.stages * X::kStageBytes <= shared_bytes(kConfig));
    static constexpr int kGroups = kConfig.block_n / 16 / kConfig.num_warps;  // row groups of a warp
    static constexpr int kChunks = kConfig.block_k / kChunkK;

    const MatmulArguments& arguments;
    u32 shared;

    // x runs stages - 1 stages ahead through shared memory, weights one chunk ahead through registers.
    __device__ void multiply(const Work& work, float (&d)[kGroups][kConfig.block_m / 8][4]) const {
        const auto reader = weight_reader<kFormat>(arguments, work.expert);
        const XTile x = x_tile(arguments, work.row, work.rows);
        const int row_group = work.n / 16 + ptx::warp_id() * kGroups;
        const int steps = (work.chunk_end + kChunks - 1) / kChunks;
        for (int step = 0; step < kConfig.stages - 1; ++step) prefetch_x(x, step, steps);
        ptx::Word4 words[kGroups], next_words[kGroups] = {};
        u32 scale_words[kGroups], next_scale_words[kGroups] = {};
        load_weights(reader, row_group, 0, words, scale_words);
        for (int step = 0; step < steps; ++step) {
            ptx::cp_async_wait<kConfig.stages - 2>();
            __syncthreads();  // this stage has landed for all, and the one to be overwritten is read by none
            prefetch_x(x, step + kConfig.stages - 1, steps);
            const u32 stage = shared + step % kConfig.stages * X::kStageBytes;
#pragma unroll
            for (int c = 0; c < kChunks; ++c) {
                const int chunk = step * kChunks + c;
                if (chunk >= work.chunk_end) break;
                if (chunk + 1 < work.chunk_end) load_weights(reader, row_group, chunk + 1, next_words, next_scale_words);
                multiply_chunk<kConfig>(reader, words, scale_words, stage + c * kChunkK * 2, d);
#pragma unroll
                for (int f = 0; f < kGroups; ++f) {
                    words[f] = next_words[f];
                    scale_words[f] = next_scale_words[f];
                }
            }
        }
        ptx::cp_async_wait<0>();
        __syncthreads();
    }
    __device__ void prefetch_x(const XTile& x, int step, int steps) const {
        if (step < steps) X::load(shared + step % kConfig.stages * X::kStageBytes, x, step * kChunks);
        ptx::cp_async_commit();  // also when empty: the waits count groups
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_mma(const MatmulArguments& arguments) {
    using Kernel = WarpMma<kConfig, kFormat>;
    ptx::let_next_grid_start();
    ptx::wait_for_grids_before();
    extern __shared__ u8 dynamic_shared[];
    const Kernel kernel{arguments, ptx::shared_address(dynamic_shared)};
    Scheduler<kConfig> scheduler(arguments);
    Work work;
    while (scheduler.next(work)) {
        float d[Kernel::kGroups][kConfig.block_m / 8][4];
        clear<kConfig>(d);
        if (work.expert >= 0) kernel.multiply(work, d);
        store_accumulators<kConfig>(arguments, work, work.n + ptx::warp_id() * Kernel::kGroups * 16, d,
                                    scale_of_expert(arguments, work.expert));
    }
}

}  // namespace mxfp4
