// What the mma.sync kernels share: x fragments from shared memory, and a store straight from the accumulators.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "ptx.cuh"
#include "scheduler.cuh"
#include "x_tile.cuh"

namespace mxfp4 {

// A tile of x in shared memory: rows of block_k elements.
template <KernelConfig kConfig>
struct PaddedX {
    static constexpr int kRowBytes = (kConfig.block_k + 8) * 2;  // +8 elements: without them rows alias one bank
    static constexpr int kStageBytes = kConfig.block_m * kRowBytes;

    // All k of [chunk, chunk + block_k / 64), the threads of the block together.
    __device__ static void load(u32 to, const XTile& x, int chunk) {
        constexpr int kPieces = kConfig.block_k / 8;
        for (int i = int(threadIdx.x); i < x.rows * kPieces; i += kConfig.num_warps * 32) {
            const int row = i / kPieces, piece = i % kPieces;
            x.load_piece(to + row * kRowBytes + piece * 16, row, chunk * kChunkK + piece * 8);
        }
    }
};

template <KernelConfig kConfig, int kGroups>
__device__ inline void clear(float (&d)[kGroups][kConfig.block_m / 8][4]) {
#pragma unroll
    for (int f = 0; f < kGroups; ++f)
#pragma unroll
        for (int j = 0; j < kConfig.block_m / 8; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i) d[f][j][i] = 0;
}

// The words and scales of kGroups row groups of 16 outputs, one 64-k chunk. Row groups beyond N are read as zero.
// The reader's type is deduced whole: NVRTC 13.5 does not deduce a class-type argument out of WeightReader<kFormat>.
template <class Reader, int kGroups>
__device__ inline void load_weights(const Reader& reader, int row_group, int chunk, ptx::Word4 (&words)[kGroups],
                                    u32 (&scale_words)[kGroups]) {
#pragma unroll
    for (int f = 0; f < kGroups; ++f) {
        const bool inside = (row_group + f) * 16 < reader.n;
        words[f] = inside ? reader.words(row_group + f, chunk, ptx::lane_id()) : ptx::Word4{0, 0, 0, 0};
        scale_words[f] = inside ? reader.scale_word(row_group + f, chunk, ptx::lane_id()) : 0;
    }
}

// d[f][j]: 16 outputs (row group f of this warp) x 8 rows of x (block j), += one 64-k chunk.
template <KernelConfig kConfig, class Reader, int kGroups>
__device__ inline void multiply_chunk(const Reader& reader, const ptx::Word4 (&words)[kGroups],
                                      const u32 (&scale_words)[kGroups], u32 x, float (&d)[kGroups][kConfig.block_m / 8][4]) {
    const int lane = ptx::lane_id(), t = lane & 3;
    x += (lane >> 2) * PaddedX<kConfig>::kRowBytes;
#pragma unroll
    for (int step = 0; step < 4; ++step) {
        u32 a[kGroups][4];
#pragma unroll
        for (int f = 0; f < kGroups; ++f) reader.fragment(words[f], scale_words[f], step, a[f]);
        const u32 k = u32(Reader::k_of(step, t)) * 2;
#pragma unroll
        for (int j = 0; j < kConfig.block_m / 8; ++j) {
            const u32 row = x + j * 8 * PaddedX<kConfig>::kRowBytes + k;
            const u32 b0 = ptx::load_shared4(row), b1 = ptx::load_shared4(row + Reader::kGap * 2);
#pragma unroll
            for (int f = 0; f < kGroups; ++f) ptx::mma_m16n8k16(d[f][j], a[f], b0, b1);
        }
    }
}

// A lane holds outputs g and g + 8 of rows 2t and 2t + 1 of each 8 x 8 block. A template recursion over the row groups: the
// compiler leaves a loop of this size rolled, and the accumulators then live in local memory.
template <KernelConfig kConfig, int kGroup = 0, int kGroups>
__device__ inline void store_accumulators(const MatmulArguments& a, const Work& work, int n,
                                          const float (&d)[kGroups][kConfig.block_m / 8][4], float scale) {
    const int lane = ptx::lane_id();
#pragma unroll
    for (int j = 0; j < kConfig.block_m / 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int row = j * 8 + (lane & 3) * 2 + (i & 1), output = n + kGroup * 16 + (lane >> 2) + (i >> 1) * 8;
            if (row < work.rows && output < a.n)
                static_cast<u16*>(a.y)[(i64(work.row) + row) * a.y_stride + output] =
                    u16(ptx::pack_bf16x2(d[kGroup][j][i] * scale, 0));
        }
    if constexpr (kGroup + 1 < kGroups) store_accumulators<kConfig, kGroup + 1>(a, work, n, d, scale);
}

}  // namespace mxfp4
