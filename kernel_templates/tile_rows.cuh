// One kernel, several instantiated n: a tile of 130 rows pays for 144 of them, not 256.
#pragma once

namespace mxfp4 {

// The instantiated n after kN: steps of 8 up to 32, of 16 up to 64, of 32 up to 128, of 16 beyond (where most time is spent).
constexpr int next_tile_rows(int n) { return n < 32 ? n + 8 : n < 64 ? n + 16 : n < 128 ? n + 32 : n + 16; }

// Calls body.template operator()<kN>() with the smallest instantiated kN >= rows; the largest is block_m.
template <int kBlockM, int kN = 8, class Body>
__device__ inline void with_tile_rows(int rows, Body&& body) {
    if constexpr (kN >= kBlockM) {
        body.template operator()<kBlockM>();
    } else {
        if (rows <= kN)
            body.template operator()<kN>();
        else
            with_tile_rows<kBlockM, next_tile_rows(kN)>(rows, body);
    }
}

}  // namespace mxfp4
