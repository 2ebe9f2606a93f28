// The fast path: Yᵀ = W · Xᵀ. Weights are decoded straight into WGMMA's A registers, rows of x are its N dimension. (Tiles of
// up to 8 rows are multiplied by mma.sync, from the same ring: warp_rs.cuh.)
// A persistent, warp-specialised kernel: one producer warpgroup fills a ring of stages, the others decode and multiply.
#pragma once

#include "consumer.cuh"
#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "pipeline.cuh"
#include "producer.cuh"
#include "ptx.cuh"
#include "tile_rows.cuh"
#include "units.cuh"
#include "warp_rs.cuh"
#include "wgmma_shapes.cuh"

namespace mxfp4 {

// Packed weights come by the copy engine alone: the threads have nothing to do. Boxes are as deep as a stage, and all that a tile may have
// of slabs, also where fewer are left: beyond N and K they are zero, and what else they bring is not looked at.
template <KernelConfig kConfig>
struct CopyEngine {
    static constexpr bool kThreadsCopy = false;

    const MatmulArguments& arguments;
    Ring<kConfig> ring;

    __device__ u32 bytes(const Work& work) const {
        return slabs_of_stage<kConfig>(work) * Shared<kConfig>::kChunks * (kNativeValueTileBytes + kNativeScaleTileBytes);
    }
    __device__ void copy(const Work&, int, int, int) const {}
};
template <KernelConfig kConfig, WeightsFormat kFormat, Layout = kFormat.layout>
struct CopiedWeights;

// native: two copies bring all slabs, or a tall tile's, and all chunks of a stage.
template <KernelConfig kConfig, WeightsFormat kFormat>
struct CopiedWeights<kConfig, kFormat, Layout::native> : CopyEngine<kConfig> {
    using CopyEngine<kConfig>::arguments, CopyEngine<kConfig>::ring;

    __device__ void issue(const Work& work, int chunk, u32 stage) const {
        const u32 full = ring.full(stage);
        const int slab0 = work.n / kSlabRows;
#pragma unroll
        for (int s = 0; s < slabs_of_stage<kConfig>(work); s += slabs_of_copy(kConfig)) {
            ptx::tensor_copy(ring.w(stage, s, 0), arguments.values_map, {0, chunk, slab0 + s, work.expert}, full, ptx::kEvictFirst);
            ptx::tensor_copy(ring.scales(stage, s, 0), arguments.scales_map, {0, chunk, slab0 + s, work.expert}, full, ptx::kEvictFirst);
        }
    }
};

// hopper: boxes of stored rows, which in shared memory are in native's order. Values as native's, scales slab by slab. (One
// thread asks for all of this: at 140 instructions for a stage's weights, kernels with much to multiply waited for it.)
template <KernelConfig kConfig, WeightsFormat kFormat>
struct CopiedWeights<kConfig, kFormat, Layout::hopper> : CopyEngine<kConfig> {
    using CopyEngine<kConfig>::arguments, CopyEngine<kConfig>::ring;

    __device__ void issue(const Work& work, int chunk, u32 stage) const {
        constexpr u32 w = kFormat.scale_warps;
        const u32 full = ring.full(stage), slab0 = u32(work.n) / kSlabRows;
#pragma unroll
        for (int s = 0; s < slabs_of_stage<kConfig>(work); s += slabs_of_copy(kConfig))
            ptx::tensor_copy(ring.w(stage, s, 0), arguments.values_map, {0, 0, chunk, int(slab0) + s, work.expert}, full, ptx::kEvictFirst);
#pragma unroll (Shared<kConfig>::kSlabs <= 3 ? 3 : 1)  // more of them spill
        for (int s = 0; s < slabs_of_stage<kConfig>(work); ++s) {
            const u32 row_group = (slab0 + s) * 4, scales = ring.scales(stage, s, 0);
            const int row = row_group / (2 * w) * w + row_group % w, half = row_group / w % 2;
            if constexpr (w == 1)
                ptx::tensor_copy(scales, arguments.scales_map, {0, half, row, chunk, work.expert}, full, ptx::kEvictFirst);
            else
                ptx::tensor_copy(scales, arguments.scales_map, {0, row, half, chunk, work.expert}, full, ptx::kEvictFirst);
        }
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WgmmaRs {
    static_assert(check(kConfig, kFormat) == Reject::none);
    using SharedMemory = Shared<kConfig>;
    static_assert(sizeof(SharedMemory) + 1024 <= shared_bytes(kConfig));
    using Weights = CopiedWeights<kConfig, kFormat>;
    static constexpr int kChunks = SharedMemory::kChunks;
    static constexpr int kSlabs = slabs_per_warpgroup(kConfig);
    static constexpr int kParts = k_parts(kConfig);
    using StageUnits = Units<kConfig, kFormat>;
    static constexpr bool kLoadAhead = loads_ahead(kConfig);
    // k16 steps whose products are one group of WGMMAs: all of a unit, where there is room for the fragments of two of them and products
    // are short.
    static constexpr int kGroupSteps = kConfig.block_m <= 32 && spare_registers(kConfig) >= kFragmentRegisters + 32 ? 4 : 2;

    const MatmulArguments& arguments;
    Ring<kConfig> ring;

    __device__ void produce() const { Producer<kConfig, Weights>(arguments, ring, {{arguments, ring}}).run(); }

    __device__ void consume(int warpgroup) const {
        mxfp4::consume<kConfig, kFormat>(arguments, ring, warpgroup, [&](const Work& work, auto& position, auto& d) {
            // This part's chunks of a stage: part, part + kParts, ...
            const int part = k_part_of(kConfig, warpgroup);
            int chunk = work.chunk_begin + part;
            if (kParts == 1 || chunk < work.chunk_end) {
                const int slab = slab_group_of(kConfig, warpgroup) * (is_tall<kConfig>(work) ? kLoadedSlabs<true> : kSlabs);
                const auto rule = ScaleRule<kFormat>::of_expert(arguments.expert_shift, work.expert);
                if constexpr (warps_multiply(kConfig))
                    chunk = WarpRs<kConfig, kFormat>{arguments, ring}.multiply(work, chunk, slab, part, rule, position, d);
                else if (is_tall<kConfig>(work))
                    chunk = multiply<has_tall_tiles(kConfig)>(work, chunk, slab, part, rule, position, d);
                else
                    chunk = multiply<false>(work, chunk, slab, part, rule, position, d);
            }
            if (kParts > 1 && chunk - part < work.chunk_end) {  // the last stage had nothing for this part
                ptx::mbarrier_wait(ring.full(position.stage), position.parity);
                ring.release(position);
            }
        });
    }

    // d += W · Xᵀ over this part's chunks from `chunk` on, of which there is one at least; frees their stages, and returns the first chunk
    // after them.
    template <bool kTall, class Position>
    __device__ int multiply(const Work& work, int chunk, int slab, int part, const ScaleRule<kFormat>& rule, Position& position,
                            float (&d)[kSlabs][kConfig.block_m / 2]) const {
        constexpr int kFewest = kTall ? kConfig.block_m / 2 + 1 : 1;  // rows of a tall tile's half
        with_tile_rows<kConfig.block_m, tile_rows(kFewest, kConfig.block_m)>(work.tile_m, [&]<int kN>() {
            for (; chunk + kChunks - kParts < work.chunk_end; chunk += kChunks)
                multiply_stage<kN, kTall>(chunk, slab, part, rule, position, d);
        });
        if (chunk < work.chunk_end) {
            const auto multiply_end = [&]<int kN>() { this->multiply_end<kN, kTall>(work.chunk_end, chunk, slab, part, rule, position, d); };
            if (!kTall && half_of_x(kConfig, work.tile_m))
                multiply_end.template operator()<x_box_rows(kConfig, true)>();
            else
                multiply_end.template operator()<x_box_rows(kConfig, false)>();
            chunk += kChunks;
        }
        return chunk;
    }

    // A stage of which this part has all chunks. Nothing in it branches, so that the compiler knows the descriptors of x to be uniform.
    template <int kN, bool kTall, class Position>
    __device__ void multiply_stage(int chunk, int slab, int part, const ScaleRule<kFormat>& rule, Position& position,
                                   float (&d)[kSlabs][kConfig.block_m / 2]) const {
        ptx::mbarrier_wait(ring.full(position.stage), position.parity);
        const u64 x = x_descriptor<kN, kTall>(position.stage, part);
        const StageUnits units(ring, position.stage, slab, part);
        constexpr int kLoaded = kLoadedSlabs<kTall>, kCount = StageUnits::kCount / kSlabs * kLoaded;
        Unit next = units.load(0, 0);
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
            const int c = i / kLoaded, s = i % kLoaded;
            if (!kLoadAhead && i > 0) next = units.load(s, c);
            const Unit unit = next;
            if (kLoadAhead && i + 1 < kCount) next = units.load((i + 1) % kLoaded, (i + 1) / kLoaded);
            multiply_unit<kN, kTall>(unit, chunk + c * kParts, rule, x + c * kXStep<kN, kTall>, d[s], d[kSlabs - 1]);
        }
        ptx::wgmma_wait_for(d);
        ring.release(position);
    }
    // The last stage, if this part has fewer chunks of it. For all rows of x that it holds, so that there are two of these only, or three.
    template <int kN, bool kTall, class Position>
    __device__ void multiply_end(int chunk_end, int chunk, int slab, int part, const ScaleRule<kFormat>& rule, Position& position,
                                 float (&d)[kSlabs][kConfig.block_m / 2]) const {
        ptx::mbarrier_wait(ring.full(position.stage), position.parity);
        const u64 x = x_descriptor<kN, kTall>(position.stage, part);
        const StageUnits units(ring, position.stage, slab, part);
#pragma unroll 1
        for (int c = 0; chunk + c * kParts < chunk_end; ++c) {
#pragma unroll
            for (int s = 0; s < kLoadedSlabs<kTall>; ++s)
                multiply_unit<kN, kTall>(units.load(s, c), chunk + c * kParts, rule, x + c * kXStep<kN, kTall>, d[s], d[kSlabs - 1]);
            ptx::wgmma_wait_for(d);
        }
        ring.release(position);
    }

    // Slabs of a chunk that are a warpgroup's.
    template <bool kTall>
    static constexpr int kLoadedSlabs = kTall ? 1 : kSlabs;
    // Of the part's first chunk of x in a stage, and how far on its next one is, and the same one of a tall tile's second half.
    template <int kN, bool kTall>
    static constexpr u32 kXChunk = x_rows_of_stage(kConfig, kTall ? kConfig.block_m : kN) * 128 >> 4;
    template <int kN, bool kTall>
    static constexpr u32 kXStep = kParts * kXChunk<kN, kTall>;
    static constexpr u32 kXSecondHalf = kChunks * (kConfig.block_m * 128 + slabs_of_copy(kConfig) * kNativeValueTileBytes) >> 4;
    template <int kN, bool kTall>
    __device__ u64 x_descriptor(u32 stage, int part) const {
        return ptx::swizzled_descriptor(ptx::uniform(ptx::descriptor_address(ring.x(stage)) + part * kXChunk<kN, kTall>));
    }

    // Adds to d, and in a tall tile to its second half's.
    // The tensor cores may still read the fragments of the group before, so at most one group is in flight when new fragments are decoded.
    template <int kN, bool kTall>
    __device__ void multiply_unit(const Unit& unit, int chunk, const ScaleRule<kFormat>& rule, u64 x, float (&d)[kConfig.block_m / 2],
                                  float (&second_half)[kConfig.block_m / 2]) const {
        const u32 scale_word = scales_of_chunk<kFormat>(unit.scale_word, chunk, arguments);
        const u32 words[4] = {unit.words.x, unit.words.y, unit.words.z, unit.words.w};
        const u32 multipliers[2] = {rule.multipliers(even_scales(scale_word)), rule.multipliers(odd_scales(scale_word))};
#pragma unroll
        for (int first_step = 0; first_step < 4; first_step += kGroupSteps) {
            u32 a[kGroupSteps][4];
#pragma unroll
            for (int i = 0; i < kGroupSteps; ++i) decode_fragment<kFormat>(words[first_step + i], multipliers[(first_step + i) / 2], a[i]);
            ptx::wgmma_fence();
#pragma unroll
            for (int i = 0; i < kGroupSteps; ++i) {
                ptx::Wgmma<kN>::rs(first<kN / 2>(d), a[i], x + 2 * (first_step + i));
                if constexpr (kTall) ptx::Wgmma<kN>::rs(first<kN / 2>(second_half), a[i], x + kXSecondHalf + 2 * (first_step + i));
            }
            ptx::wgmma_commit();
            ptx::wgmma_wait<1>();
        }
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_wgmma_rs(const MatmulArguments& arguments) {
    run_warp_specialised<kConfig, WgmmaRs<kConfig, kFormat>>(arguments);
}

}  // namespace mxfp4
