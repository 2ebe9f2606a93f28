// The baseline that speed-ups are quoted against: one warp, a 64 x 64 tile of y, 64 k at a time, nothing overlapped.
#pragma once

#include "warp_mma.cuh"

namespace mxfp4 {

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_naive(const MatmulArguments& arguments) {
    static_assert(check(kConfig, kFormat) == Reject::none);
    constexpr int kGroups = kConfig.block_n / 16;
    ptx::let_next_grid_start();
    ptx::wait_for_grids_before();
    extern __shared__ u8 dynamic_shared[];
    const u32 x_shared = ptx::shared_address(dynamic_shared);
    Scheduler<kConfig> scheduler(arguments);
    Work work;
    while (scheduler.next(work)) {
        float d[kGroups][kConfig.block_m / 8][4];
        clear<kConfig>(d);
        const XTile x = x_tile(arguments, work.row, work.rows);
        if (work.expert >= 0) {
            const auto reader = weight_reader<kFormat>(arguments, work.expert);
            for (int chunk = work.chunk_begin; chunk < work.chunk_end; ++chunk) {
                PaddedX<kConfig>::load(x_shared, x, chunk);
                ptx::cp_async_commit();
                ptx::cp_async_wait<0>();
                __syncwarp();
                ptx::Word4 words[kGroups];
                u32 scale_words[kGroups];
                load_weights(reader, work.n / 16, chunk, words, scale_words);
                multiply_chunk<kConfig>(reader, words, scale_words, x_shared, d);
                __syncwarp();
            }
        }
        store_accumulators<kConfig>(arguments, work, work.n, d, scale_of_expert(arguments, work.expert));
    }
}

}  // namespace mxfp4
