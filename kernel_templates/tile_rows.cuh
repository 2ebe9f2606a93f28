// One kernel, several instantiated n: a tile of 130 rows pays for 144 of them, not 256.
#pragma once

namespace mxfp4 {

// The instantiated n after n; the first after 0. Few: each costs the overlapping kernels registers (wgmma_rs.cuh) and all of them
// compile time. Dense towards block_m: a group's rows are spread evenly over its tiles, and a tuned block_m fits the rows.
constexpr int next_tile_rows(int n, int block_m) {
    if (block_m <= 32) return n + 8;
    if (block_m <= 64) return n < 32 ? n + 16 : n + 8;
    if (n < 64) return n + 32;
    if (block_m <= 96) return n + 8;
    const int half = (block_m / 2 + 15) / 16 * 16;
    return n < half ? half : n + 16;
}

// How many n are instantiated.
constexpr int tile_rows_count(int block_m) {
    int count = 1;
    for (int n = next_tile_rows(0, block_m); n < block_m; n = next_tile_rows(n, block_m)) ++count;
    return count;
}

// Calls body.template operator()<kN>() with the smallest instantiated kN >= rows; the largest is block_m.
template <int kBlockM, int kN = next_tile_rows(0, kBlockM), class Body>
__device__ inline void with_tile_rows(int rows, Body&& body) {
    if constexpr (kN >= kBlockM) {
        body.template operator()<kBlockM>();
    } else {
        if (rows <= kN)
            body.template operator()<kN>();
        else
            with_tile_rows<kBlockM, next_tile_rows(kN, kBlockM)>(rows, body);
    }
}

// The accumulators of a smaller n are the first of a larger one's.
template <int kCount, int kAll>
__device__ inline float (&first(float (&d)[kAll]))[kCount] {
    static_assert(kCount <= kAll);
    return reinterpret_cast<float (&)[kCount]>(d);
}

}  // namespace mxfp4
