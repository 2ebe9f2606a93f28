// The consumer warpgroups of the wgmma kernels: accumulate a piece of work, add up split-k partials, store.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "epilogue.cuh"
#include "pipeline.cuh"
#include "scheduler.cuh"
#include "tile_rows.cuh"

namespace mxfp4 {

// multiply.template operator()<kN>(work, position, d) adds W · Xᵀ over the work's chunks to d, [slabs][kN / 2] registers, and
// frees the item's stages.
template <KernelConfig kConfig, class Multiply>
__device__ inline void consume(const MatmulArguments& arguments, Shared<kConfig>& shared, int warpgroup, Multiply&& multiply) {
    constexpr int kSlabs = slabs_per_warpgroup(kConfig);
    typename Ring<kConfig>::Position position;
    const Ring<kConfig> ring{shared};
    const Epilogue<kConfig> epilogue{arguments, shared, warpgroup};
    for (;;) {
        ptx::mbarrier_wait(ring.full(position.stage), position.parity);
        const Work work = shared.work[position.stage];
        if (work.rows == 0) break;
        with_tile_rows<kConfig.block_m>(work.tile_m, [&]<int kN>() {
            float d[kSlabs][kN / 2];
#pragma unroll
            for (int s = 0; s < kSlabs; ++s)
#pragma unroll
                for (int i = 0; i < kN / 2; ++i) d[s][i] = 0;
            if (work.chunk_begin < work.chunk_end)
                multiply.template operator()<kN>(work, position, d);
            else
                ring.release(position);  // the stage that brought the item has nothing else in it
            if (kConfig.split_k != 1 && !work.whole() && !epilogue.template reduce<kN, kSlabs>(work, d)) return;
            const float scale = arguments.expert_scale && work.expert >= 0 ? arguments.expert_scale[work.expert] : 1.0f;
#pragma unroll
            for (int s = 0; s < kSlabs; ++s)
                epilogue.template store<kN>(work, work.n + (warpgroup * kSlabs + s) * kSlabRows, d[s], scale);
        });
    }
}

// The role split that both wgmma kernels share: Kernel has produce() and consume(warpgroup).
template <KernelConfig kConfig, class Kernel>
__device__ inline void run_warp_specialised(const MatmulArguments& arguments) {
    extern __shared__ u8 dynamic_shared[];
    auto& shared = *reinterpret_cast<Shared<kConfig>*>((reinterpret_cast<u64>(dynamic_shared) + 1023) & ~u64(1023));
    const Kernel kernel{arguments, shared, {shared}};
    kernel.ring.init(Kernel::threads_arrive(arguments));
    if (threadIdx.x >= kProducerWarps * 32) {
        ptx::setmaxnreg_inc<consumer_registers(kConfig)>();
        kernel.consume(int(threadIdx.x) / 128 - 1);
    } else {
        ptx::setmaxnreg_dec<producer_registers(kConfig)>();
        kernel.produce();
    }
}

}  // namespace mxfp4
