// The fast path: Yᵀ = W · Xᵀ. Weights are decoded straight into WGMMA's A registers, rows of x are its N dimension.
// A persistent, warp-specialised kernel: one producer warpgroup fills a ring of stages, the others decode and multiply.
#pragma once

#include "consumer.cuh"
#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "pipeline.cuh"
#include "producer.cuh"
#include "ptx.cuh"
#include "wgmma_shapes.cuh"

namespace mxfp4 {

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WgmmaRs {
    static_assert(check(kConfig, kFormat) == Reject::none);
    using SharedMemory = Shared<kConfig>;
    static_assert(sizeof(SharedMemory) + 1024 <= shared_bytes(kConfig));
    static constexpr int kChunks = SharedMemory::kChunks;
    static constexpr int kSlabs = slabs_per_warpgroup(kConfig);

    const MatmulArguments& arguments;
    SharedMemory& shared;
    Ring<kConfig> ring;

    __device__ void produce() const {
        const u64 policy = ptx::policy_evict_first();
        Producer<kConfig>(arguments, ring).run([&](const Work& work, int chunk, int chunks, int stage, int thread) {
            if constexpr (kFormat.layout == Layout::native) {
                if (thread < 32) copy_native(work, chunk, chunks, stage, policy);
            } else {
                copy_hopper(work, chunk, chunks, stage, thread);
            }
        });
    }

    // A slab's values of a stage are one contiguous run, its scales another: a lane for each slab.
    __device__ void copy_native(const Work& work, int chunk, int chunks, int stage, u64 policy) const {
        const int slabs = slabs_of<kConfig>(work, arguments.n), lane = ptx::lane_id();
        const u32 full = ring.full(stage);
        if (lane == 0)
            ptx::mbarrier_arrive_expect_tx(full, u32(slabs * chunks * (kNativeValueTileBytes + kNativeScaleTileBytes)));
        __syncwarp();
        if (lane >= slabs) return;
        const i64 slab = work.n / kSlabRows + lane;
        const u8* values = arguments.values + work.expert * arguments.values_expert_bytes + slab * arguments.values_row_bytes;
        const u8* scales = arguments.scales + work.expert * arguments.scales_expert_bytes + slab * arguments.scales_row_bytes;
        ptx::bulk_copy(ptx::shared_address(shared.w[stage][lane]), values + i64(chunk) * kNativeValueTileBytes,
                       u32(chunks) * kNativeValueTileBytes, full, policy);
        ptx::bulk_copy(ptx::shared_address(shared.scales[stage][lane]), scales + i64(chunk) * kNativeScaleTileBytes,
                       u32(chunks) * kNativeScaleTileBytes, full, policy);
    }

    // A hopper tile of 64 rows and 64 k is 16 stored rows of 128 bytes: one behind the other they are in native's order.
    __device__ void copy_hopper(const Work& work, int chunk, int chunks, int stage, int thread) const {
        if (thread == 0) ptx::mbarrier_arrive(ring.full(stage));
        const int slabs = slabs_of<kConfig>(work, arguments.n), slab0 = work.n / kSlabRows;
        const u8* values = arguments.values + work.expert * arguments.values_expert_bytes +
                           (i64(slab0) * 16 + (thread >> 3)) * arguments.values_row_bytes + i64(chunk) * 128 + (thread & 7) * 16;
        for (int s = 0; s < slabs; ++s)
            for (int c = 0; c < chunks; ++c)
                ptx::cp_async16(ptx::shared_address(shared.w[stage][s][c]) + thread * 16,
                                values + s * 16 * arguments.values_row_bytes + c * 128, 16);
        // 8 pieces of 16 bytes are the scales of a tile: a thread for each.
        const u8* scales = arguments.scales + work.expert * arguments.scales_expert_bytes;
        for (int i = thread; i < slabs * chunks * 8; i += kProducerWarps * 32) {
            const int piece = i & 7, c = (i >> 3) % chunks, s = (i >> 3) / chunks;
            const i64 at = hopper_scale_offset<kFormat>((slab0 + s) * 4 + (piece >> 1), chunk + c, arguments.scales_row_bytes);
            ptx::cp_async16(ptx::shared_address(shared.scales[stage][s][c]) + piece * 16, scales + at + (piece & 1) * 16, 16);
        }
    }

    __device__ void consume(int warpgroup) const {
        mxfp4::consume<kConfig>(arguments, shared, warpgroup, [&]<int kN>(const Work& work, auto& position, auto& d) {
            multiply<kN>(work, warpgroup, position, d);
        });
    }

    template <int kN, class Position>
    __device__ void multiply(const Work& work, int warpgroup, Position& position, float (&d)[kSlabs][kN / 2]) const {
        const auto rule = ScaleRule<kFormat>::of_expert(arguments.expert_shift, work.expert);
        const int thread = int(threadIdx.x) & 127;
        for (int chunk = work.chunk_begin; chunk < work.chunk_end; chunk += kChunks) {
            ring.wait(position);
            const u32 x = ptx::shared_address(shared.x[position.stage]);
            const u32 w = ptx::shared_address(shared.w[position.stage][warpgroup * kSlabs]) + thread * 16;
            const u32 scales = ptx::shared_address(shared.scales[position.stage][warpgroup * kSlabs]) + thread / 4 * 4;
#pragma unroll
            for (int c = 0; c < kChunks; ++c) {
                if (c > 0 && chunk + c >= work.chunk_end) break;
                const u32 b = ptx::descriptor_address(x + c * SharedMemory::kXChunkBytes);
#pragma unroll
                for (int s = 0; s < kSlabs; ++s) {
                    const ptx::Word4 words = ptx::load_shared16(w + (s * kChunks + c) * kNativeValueTileBytes);
                    u32 scale_word = ptx::load_shared4(scales + (s * kChunks + c) * kNativeScaleTileBytes);
                    if constexpr (kFormat.layout == Layout::hopper)
                        scale_word = without_padding(scale_word, chunk + c, arguments.k / kBlockElements);
                    multiply_half<kN>(words.x, words.y, rule.multipliers(even_scales(scale_word)), b, d[s]);
                    multiply_half<kN>(words.z, words.w, rule.multipliers(odd_scales(scale_word)), b + 4, d[s]);
                }
            }
            ptx::wgmma_wait<0>();
            ring.release(position);
        }
    }

    // Two k16 steps under one scale are one group. The tensor cores may still read the fragments of the group before, so at
    // most one group is in flight when new fragments are decoded.
    template <int kN>
    __device__ static void multiply_half(u32 word0, u32 word1, u32 multipliers, u32 b, float (&d)[kN / 2]) {
        u32 a0[4], a1[4];
        decode_fragment<kFormat>(word0, multipliers, a0);
        decode_fragment<kFormat>(word1, multipliers, a1);
        ptx::wgmma_fence();
        ptx::Wgmma<kN>::rs(d, a0, ptx::swizzled_descriptor(b));
        ptx::Wgmma<kN>::rs(d, a1, ptx::swizzled_descriptor(b + 2));
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_wgmma_rs(const MatmulArguments& arguments) {
    run_warp_specialised<kConfig, WgmmaRs<kConfig, kFormat>>(arguments);
}

}  // namespace mxfp4
