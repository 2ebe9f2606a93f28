// One kernel, several instantiated n (contract/config.h).
#pragma once

#include "contract/config.h"

namespace mxfp4 {

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
