// Few rows of x: a consumer warp multiplies its 16 outputs of a slab by mma.sync, whose fragments and accumulators are WGMMA's. It needs
// no waits, so that the loads of a stage are under the products of the one before.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "pipeline.cuh"
#include "ptx.cuh"
#include "units.cuh"

namespace mxfp4 {

// 64 k of x as B fragments: [8 rows][k16 step][register].
template <int kN>
struct XFragments {
    u32 b[kN / 8][4][2];

    // A lane names row l & 7 of the 8 x 8 matrix l >> 3. Four of them are 32 k of 8 rows; the other 32 k are 64 bytes on, under the
    // swizzle.
    __device__ static u32 lane_offset() {
        const u32 lane = u32(ptx::lane_id()), row = lane & 7;
        return row * 128 + (((lane >> 3) ^ row) << 4);
    }
    // from: the address of the chunk's x, plus lane_offset().
    __device__ void load(u32 from) {
#pragma unroll
        for (int j = 0; j < kN / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                ptx::ldmatrix4((from ^ half * 64) + j * 1024, b[j][half * 2][0], b[j][half * 2][1], b[j][half * 2 + 1][0],
                               b[j][half * 2 + 1][1]);
    }
};

// Calls body.template operator()<n>() with n the smaller of kMost and chunks.
template <int kMost, class Body>
__device__ inline void with_chunks(int chunks, Body&& body) {
    if constexpr (kMost == 1) {
        body.template operator()<1>();
    } else {
        if (chunks >= kMost)
            body.template operator()<kMost>();
        else
            with_chunks<kMost - 1>(chunks, body);
    }
}

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WarpRs {
    using StageUnits = Units<kConfig, kFormat>;
    static constexpr int kChunks = Shared<kConfig>::kChunks;
    static constexpr int kSlabs = StageUnits::kSlabs;
    static constexpr int kParts = StageUnits::kParts;

    const MatmulArguments& arguments;
    const Ring<kConfig>& ring;

    // What a warp has loaded ahead.
    template <int kN>
    struct Ahead {
        Unit unit;
        XFragments<kN> x;
    };

    // d += W · Xᵀ over the work's chunks; frees its stages.
    template <int kN, class Position>
    __device__ void multiply(const Work& work, int warpgroup, Position& position, float (&d)[kSlabs][kConfig.block_m / 2]) const {
        // This part's chunks of a stage: part, part + kParts, ...
        const int part = k_part_of(kConfig, warpgroup), slab = slab_group_of(kConfig, warpgroup) * kSlabs;
        const auto rule = ScaleRule<kFormat>::of_expert(arguments.expert_shift, work.expert);
        const u32 x_chunk = x_rows_of_stage(kConfig, work.rows) * 128, x_offset = XFragments<kN>::lane_offset() + part * x_chunk;
        int chunk = work.chunk_begin + part;
        if (kParts == 1 || chunk < work.chunk_end) {
            Ahead<kN> ahead;
            const auto load_first = [&] {
                ptx::mbarrier_wait(ring.full(position.stage), position.parity);
                ahead.unit = StageUnits(ring, position.stage, slab, part).load(0);
                ahead.x.load(ring.x(position.stage) + x_offset);
            };
            // One stage of kCount chunks, of which the first is at hand, and then will be that of the next stage.
            const auto multiply_stage = [&]<int kCount>() {
                const StageUnits units(ring, position.stage, slab, part);
                const u32 x_from = ring.x(position.stage) + x_offset;
#pragma unroll
                for (int i = 0; i < kCount * kSlabs; ++i) {
                    const int c = i / kSlabs, s = i % kSlabs;
                    const Unit unit = ahead.unit;
                    const XFragments<kN> x = ahead.x;
                    if (i + 1 < kCount * kSlabs) {
                        ahead.unit = units.load(i + 1);
                        if (s == kSlabs - 1) ahead.x.load(x_from + (c + 1) * kParts * x_chunk);
                    } else {
                        ring.release(position);  // all of it is in registers
                        if (chunk + kChunks < work.chunk_end) load_first();
                    }
                    multiply_unit<kN>(unit.words, scales_of_chunk<kFormat>(unit.scale_word, chunk + c * kParts, arguments), rule, x, d[s]);
                }
            };
            load_first();
            for (; chunk < work.chunk_end; chunk += kChunks) {
                const int chunks = (work.chunk_end - chunk + kParts - 1) / kParts;
                with_chunks<kChunks / kParts>(chunks, multiply_stage);
            }
        }
        if (kParts > 1 && chunk - part < work.chunk_end) {  // the last stage had nothing for this part
            ptx::mbarrier_wait(ring.full(position.stage), position.parity);
            ring.release(position);
        }
    }

    template <int kN>
    __device__ static void multiply_unit(const ptx::Word4& words, u32 scale_word, const ScaleRule<kFormat>& rule,
                                         const XFragments<kN>& x, float (&d)[kConfig.block_m / 2]) {
        const u32 even = rule.multipliers(even_scales(scale_word)), odd = rule.multipliers(odd_scales(scale_word));
        multiply_step<kN>(words.x, even, x, 0, d);
        multiply_step<kN>(words.y, even, x, 1, d);
        multiply_step<kN>(words.z, odd, x, 2, d);
        multiply_step<kN>(words.w, odd, x, 3, d);
    }
    template <int kN>
    __device__ static void multiply_step(u32 word, u32 multipliers, const XFragments<kN>& x, int step, float (&d)[kConfig.block_m / 2]) {
        u32 a[4];
        decode_fragment<kFormat>(word, multipliers, a);
#pragma unroll
        for (int j = 0; j < kN / 8; ++j) ptx::mma_m16n8k16(reinterpret_cast<float (&)[4]>(d[j * 4]), a, x.b[j][step][0], x.b[j][step][1]);
    }
};

}  // namespace mxfp4
