// The consumer warpgroups of the wgmma kernels: accumulate a piece of work, add up split-k partials, store.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "epilogue.cuh"
#include "pipeline.cuh"
#include "scheduler.cuh"

namespace mxfp4 {

// One consumer warp's copy of a work item: its stage goes back to the producer before the tile is stored, and the registers
// are wanted for accumulators. The lane that gives the stage back reads it, and no other: racecheck does not follow __syncwarp.
template <KernelConfig kConfig>
__device__ inline void keep_item(const Ring<kConfig>& ring, u32 stage, u32 item) {
    if (ptx::lane_id() == ring.releasing_lane()) store_shared_struct(item, load_shared_struct<Work>(ring.work(stage)));
    __syncwarp();
}
// Whether there is an item. Asked before it is copied: at the end the next grid waits for this block's.
template <KernelConfig kConfig>
__device__ inline bool has_rows(const Ring<kConfig>& ring, u32 stage) {
    const int reader = ring.releasing_lane();
    return __shfl_sync(~0u, ptx::lane_id() == reader ? ptx::load_shared4(ring.rows(stage)) : 0, reader) != 0;
}

// multiply(work, position, d) adds W · Xᵀ over the work's chunks to d, accumulators of [slabs] m64nNk16 of which the first n / 2 each, n
// the instantiated one, are the tile's, and frees the item's stages.
template <KernelConfig kConfig, WeightsFormat kFormat, class Multiply>
__device__ inline void consume(const MatmulArguments& arguments, const Ring<kConfig>& ring, int warpgroup, Multiply&& multiply) {
    constexpr int kSlabs = slabs_per_warpgroup(kConfig);
    typename Ring<kConfig>::Position position;
    const Epilogue<kConfig, kFormat> epilogue{arguments, ring.shared, slab_group_of(kConfig, warpgroup), k_part_of(kConfig, warpgroup)};
    const u32 item = ring.item(ptx::warp_id() - kProducerWarps);
    for (;;) {
        ptx::mbarrier_wait(ring.full(position.stage), position.parity);
        if (!has_rows(ring, position.stage)) break;
        keep_item(ring, position.stage, item);
        const auto work = load_shared_struct<Work>(item);
        if (work.rows < 0) {
            ring.release(position);
            continue;
        }
        typename Epilogue<kConfig, kFormat>::Accumulators d[kSlabs];
        epilogue.clear(d);
        if (work.chunk_begin < work.chunk_end)
            multiply(work, position, d);
        else
            ring.release(position);  // the stage that brought the item has nothing else in it
        if (epilogue.combine(d)) epilogue.finish(load_shared_struct<Work>(item), d);
    }
}

// The role split that both wgmma kernels share: Kernel has produce() and consume(warpgroup).
template <KernelConfig kConfig, class Kernel>
__device__ inline void run_warp_specialised(const MatmulArguments& arguments) {
    extern __shared__ u8 dynamic_shared[];
    auto& shared = *reinterpret_cast<Shared<kConfig>*>((reinterpret_cast<u64>(dynamic_shared) + 1023) & ~u64(1023));
    const Kernel kernel{arguments, Ring<kConfig>(shared, Kernel::Weights::kThreadsCopy || !arguments.x_aligned)};
    kernel.ring.make();
    ptx::let_next_grid_start();
    if (threadIdx.x >= kProducerWarps * 32) {
        ptx::setmaxnreg_inc<consumer_registers(kConfig)>();
        kernel.ring.wait_until_made();
        ptx::wait_for_grids_before();
        kernel.consume(int(threadIdx.x) / 128 - 1);
    } else {
        ptx::setmaxnreg_dec<producer_registers(kConfig)>();
        kernel.produce();
    }
    if constexpr (kConfig.cluster > 1) ptx::cluster_sync();  // the others still arrive at barriers here, and copy to here
}

}  // namespace mxfp4
