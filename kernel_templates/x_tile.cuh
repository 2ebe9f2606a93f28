// A tile's rows of x in global memory: for kernels whose threads copy x, and for an x that the copy engine cannot read.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "ptx.cuh"

namespace mxfp4 {

// Rows beyond the tile are left as they are in shared memory: each row of x reaches one column of the accumulators alone, and those columns
// are not stored. k beyond K becomes zero.
struct XTile {
    const u8* first;  // row 0 of the tile, k = 0
    i64 stride_bytes;
    int rows, k;
    bool aligned;

    // 16 bytes, 8 k from `at` of row `row`, to shared memory. Asynchronous where x is aligned.
    __device__ void load_piece(u32 to, int row, int at) const {
        const u8* from = first + row * stride_bytes + i64(at) * 2;
        if (aligned)
            ptx::cp_async16(to, k > at ? from : first, valid_bytes(at));
        else
            copy_elements(to, from, k - at);
    }
    // 64 k of every row, under the XOR swizzle (piece p of row r lies at p ^ (r & 7)), element by element: for an x that the
    // copy engine cannot read. All producer threads take part.
    __device__ void store_chunk(u32 to, int chunk, int thread) const {
        const int piece = thread & 7, at = chunk * kChunkK + piece * 8;
        for (int row = thread >> 3; row < rows; row += kProducerWarps * 4)
            copy_elements(to + row * 128 + ((piece ^ (row & 7)) << 4), first + row * stride_bytes + i64(at) * 2, k - at);
    }

  private:
    __device__ int valid_bytes(int at) const {
        const int valid = (k - at) * 2;
        return valid < 0 ? 0 : valid < 16 ? valid : 16;
    }
    __device__ static void copy_elements(u32 to, const u8* from, int valid) {
        u32 pair[4];
        for (int i = 0; i < 4; ++i) {
            const u32 lo = 2 * i < valid ? ptx::load_u16(from + 4 * i) : 0;
            const u32 hi = 2 * i + 1 < valid ? ptx::load_u16(from + 4 * i + 2) : 0;
            pair[i] = lo | hi << 16;
        }
        ptx::store_shared16(to, {pair[0], pair[1], pair[2], pair[3]});
    }
};

__device__ inline XTile x_tile(const MatmulArguments& a, int row, int rows) {
    return {static_cast<const u8*>(a.x) + i64(row) * a.x_stride * 2, a.x_stride * 2, rows, a.k, a.x_aligned != 0};
}

}  // namespace mxfp4
