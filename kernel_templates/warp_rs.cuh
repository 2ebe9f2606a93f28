// Few rows of x: a consumer warp multiplies its 16 outputs of a slab by mma.sync, whose fragments and accumulators are WGMMA's. It needs
// no waits.
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

    // Where a lane finds what it names of a chunk: row l & 7 of the 8 x 8 matrix l >> 3. Four of them are 32 k; the other 32 k are 64
    // bytes on, under the swizzle.
    struct Address {
        u32 halves[2];

        __device__ explicit Address(u32 chunk) {
            const u32 lane = u32(ptx::lane_id()), row = lane & 7;
            halves[0] = chunk + row * 128 + (((lane >> 3) ^ row) << 4);
            halves[1] = halves[0] ^ 64;
        }
    };
    __device__ void load(const Address& from, u32 offset) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
            ptx::ldmatrix4(from.halves[half] + offset, b[half * 2][0], b[half * 2][1], b[half * 2 + 1][0], b[half * 2 + 1][1]);
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WarpRs {
    static_assert(kConfig.block_m == 8);
    using StageUnits = Units<kConfig, kFormat>;
    static constexpr int kChunks = Shared<kConfig>::kChunks;
    static constexpr int kSlabs = StageUnits::kSlabs;
    static constexpr int kParts = StageUnits::kParts;
    static constexpr u32 kXChunkBytes = kConfig.block_m * 128;

    const MatmulArguments& arguments;
    const Ring<kConfig>& ring;

    // d += W · Xᵀ over this part's chunks from `chunk` on, of which there is one at least; frees their stages, and returns the first chunk
    // after them.
    template <class Position>
    __device__ int multiply(const Work& work, int chunk, int slab, int part, const ScaleRule<kFormat>& rule, Position& position,
                            float (&d)[kSlabs][4]) const {
        for (; chunk < work.chunk_end; chunk += kChunks) {
            ptx::mbarrier_wait(ring.full(position.stage), position.parity);
            const StageUnits units(ring, position.stage, slab, part);
            const XFragments::Address x(ring.x(position.stage) + part * kXChunkBytes);
            if (chunk + kChunks - kParts < work.chunk_end) {
                multiply_chunks<kChunks / kParts>(units, 0, x, chunk, rule, d, [&] { ring.release(position); });
            } else {  // the last stage, of which this part has fewer
#pragma unroll 1
                for (int c = 0; chunk + c * kParts < work.chunk_end; ++c) multiply_chunks<1>(units, c, x, chunk, rule, d, [] {});
                ring.release(position);
            }
        }
        return chunk;
    }

    // Chunks [first, first + kCount) of this part's in a stage, of which chunk 0 is `chunk`. What is multiplied next is loaded before the
    // products of this. loaded(): what is to be done when all of it is in registers.
    template <int kCount, class Loaded>
    __device__ void multiply_chunks(const StageUnits& units, int first, const XFragments::Address& x, int chunk, const ScaleRule<kFormat>& rule,
                                    float (&d)[kSlabs][4], Loaded&& loaded) const {
        Unit next = units.load(0, first);
        XFragments next_x;
        next_x.load(x, first * kParts * kXChunkBytes);
#pragma unroll
        for (int i = 0; i < kCount * kSlabs; ++i) {
            const int c = first + i / kSlabs, s = i % kSlabs;
            const Unit unit = next;
            const XFragments b = next_x;
            if (i + 1 < kCount * kSlabs) {
                next = units.load((i + 1) % kSlabs, first + (i + 1) / kSlabs);
                if (s == kSlabs - 1) next_x.load(x, (c + 1) * kParts * kXChunkBytes);
            } else {
                loaded();
            }
            multiply_unit(unit.words, scales_of_chunk<kFormat>(unit.scale_word, chunk + c * kParts, arguments), rule, b, d[s]);
        }
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
