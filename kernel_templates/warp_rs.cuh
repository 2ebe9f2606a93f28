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

// 64 k of 8 rows of x as B fragments: [k16 step][register].
struct XFragments {
    u32 b[4][2];

    // A lane names row l & 7 of the 8 x 8 matrix l >> 3. Four of them are 32 k; the other 32 k are 64 bytes on, under the swizzle.
    __device__ static u32 lane_offset() {
        const u32 lane = u32(ptx::lane_id()), row = lane & 7;
        return row * 128 + (((lane >> 3) ^ row) << 4);
    }
    // from: the address of the chunk's x, plus lane_offset().
    __device__ void load(u32 from) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
            ptx::ldmatrix4(from ^ half * 64, b[half * 2][0], b[half * 2][1], b[half * 2 + 1][0], b[half * 2 + 1][1]);
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
    static_assert(kConfig.block_m == 8);
    using StageUnits = Units<kConfig, kFormat>;
    static constexpr int kChunks = Shared<kConfig>::kChunks;
    static constexpr int kSlabs = StageUnits::kSlabs;
    static constexpr int kParts = StageUnits::kParts;

    const MatmulArguments& arguments;
    const Ring<kConfig>& ring;

    // d += W · Xᵀ over this part's chunks from `chunk` on, of which there is one at least; frees their stages, and returns the first chunk
    // after them. What is multiplied next is loaded before the products of this, over the end of a stage too.
    template <class Position>
    __device__ int multiply(const Work& work, int chunk, int slab, int part, const ScaleRule<kFormat>& rule, Position& position,
                            float (&d)[kSlabs][4]) const {
        const u32 x_chunk = x_rows_of_stage(kConfig, work.tile_m) * 128, x_offset = XFragments::lane_offset() + part * x_chunk;
        Unit next;
        XFragments next_x;
        const auto load_first = [&] {
            ptx::mbarrier_wait(ring.full(position.stage), position.parity);
            next = StageUnits(ring, position.stage, slab, part).load(0, 0);
            next_x.load(ring.x(position.stage) + x_offset);
        };
        // One stage, of which this part has kCount chunks.
        const auto multiply_stage = [&]<int kCount>() {
            const StageUnits units(ring, position.stage, slab, part);
            const u32 x_from = ring.x(position.stage) + x_offset;
#pragma unroll
            for (int i = 0; i < kCount * kSlabs; ++i) {
                const int c = i / kSlabs, s = i % kSlabs;
                const Unit unit = next;
                const XFragments x = next_x;
                if (i + 1 < kCount * kSlabs) {
                    next = units.load((i + 1) % kSlabs, (i + 1) / kSlabs);
                    if (s == kSlabs - 1) next_x.load(x_from + (c + 1) * kParts * x_chunk);
                } else {
                    ring.release(position);  // all of it is in registers
                    if (chunk + kChunks < work.chunk_end) load_first();
                }
                multiply_unit(unit.words, scales_of_chunk<kFormat>(unit.scale_word, chunk + c * kParts, arguments), rule, x, d[s]);
            }
        };
        load_first();
        for (; chunk < work.chunk_end; chunk += kChunks)
            with_chunks<kChunks / kParts>((work.chunk_end - chunk + kParts - 1) / kParts, multiply_stage);
        return chunk;
    }

    __device__ static void multiply_unit(const ptx::Word4& words, u32 scale_word, const ScaleRule<kFormat>& rule, const XFragments& x,
                                         float (&d)[4]) {
        const u32 even = rule.multipliers(even_scales(scale_word)), odd = rule.multipliers(odd_scales(scale_word));
        multiply_step(words.x, even, x.b[0], d);
        multiply_step(words.y, even, x.b[1], d);
        multiply_step(words.z, odd, x.b[2], d);
        multiply_step(words.w, odd, x.b[3], d);
    }
    __device__ static void multiply_step(u32 word, u32 multipliers, const u32 (&b)[2], float (&d)[4]) {
        u32 a[4];
        decode_fragment<kFormat>(word, multipliers, a);
        ptx::mma_m16n8k16(d, a, b[0], b[1]);
    }
};

}  // namespace mxfp4
