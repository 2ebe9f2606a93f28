// The tensors that the copy engine reads, as its maps describe them: by cuTensorMapEncodeTiled, or by the emulator's.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "contract/layout.h"

namespace mxfp4 {

// Innermost dimension first. A box is what one copy brings; in shared memory its elements lie densely, in the same order. (Dimensions
// beyond the rank are given too, as 1 and 0: what is left out, compilers make zero together with all the rest, which a launch feels.)
struct CopiedTensor {
    const void* base;
    int element_bytes;
    bool swizzled;     // rows of 128 bytes under the 128-byte XOR swizzle
    int rank;
    i64 sizes[5];      // elements
    i64 strides[5];    // bytes
    int box[5];        // elements
};

// Where a box of x begins. Its rows beyond the tile's become zero, and are not read: multiplied, zeros take less energy than the next group's
// rows. For this, rows have two dimensions of the same stride. The first is as high as a box: a box that begins with its last r rows has
// no more than r.
struct XRows {
    int first, before;  // in the two; the row of x is their sum
};
// Of a tile with rows [row, row + count) of x. (A tile that ends less than a box's height after x begins is followed by rows, not zeros.)
constexpr XRows x_rows_at(int row, int count, int box_rows, int all_rows) {
    const int height = box_rows < all_rows ? box_rows : all_rows, before = row + count > height ? row + count - height : 0;
    return {row - before, before};
}
// x: all rows of a tile, or of half a tile, and all chunks of a stage; in shared memory chunk by chunk. Where K ends within a chunk,
// chunk by chunk also in copies: only so does the copy engine know that the rest is zero.
constexpr CopiedTensor x_tensor(const KernelConfig& c, const MatmulArguments& a, bool half) {
    const int box_rows = x_box_rows(c, half);
    const i64 stride = a.x_stride * 2, height = box_rows < a.rows ? box_rows : a.rows, before = a.rows - height + 1;
    if (a.k % kChunkK != 0)
        return {a.x, 2, true, 3, {a.k, height, before, 1, 1}, {2, stride, stride, 0, 0}, {kChunkK, box_rows, 1, 1, 1}};
    return {a.x, 2, true, 4, {kChunkK, height, before, a.k / kChunkK, 1}, {2, stride, stride, kChunkK * 2, 0},
            {kChunkK, box_rows, 1, x_chunks_of_copy(c), 1}};
}

// native: all slabs of a tile, or half of them, and all chunks of a stage, in units of 8 bytes. tile_bytes: kNativeValueTileBytes or
// kNativeScaleTileBytes.
constexpr CopiedTensor native_tensor(const KernelConfig& c, const MatmulArguments& a, const u8* base, int tile_bytes, i64 row_bytes,
                                     i64 expert_bytes) {
    return {base,
            8,
            false,
            4,
            {tile_bytes / 8, ceil_div(a.k, kChunkK), ceil_div(a.n, kSlabRows), a.experts, 1},
            {8, tile_bytes, row_bytes, expert_bytes, 0},
            {tile_bytes / 8, c.block_k / kChunkK, slabs_of_copy(c), 1, 1}};
}

// hopper values: all slabs of a tile, or half of them, and all chunks of a stage. A chunk of a slab is 16 stored rows of 128 bytes: one
// behind the other, they are in native's order. N is padded to whole slabs (layout.h: stored_shape).
constexpr CopiedTensor hopper_values_tensor(const KernelConfig& c, const MatmulArguments& a) {
    return {a.values,
            1,
            false,
            5,
            {128, 16, ceil_div(a.k, kChunkK), ceil_div(a.n, kSlabRows), a.experts},
            {1, a.values_row_bytes, 128, 16 * a.values_row_bytes, a.values_expert_bytes},
            {128, 16, c.block_k / kChunkK, slabs_of_copy(c), 1}};
}

// hopper scales of one slab and all chunks of a stage. The 32 bytes of 16 rows of W and 64 k are one half of a stored row's 64; a
// slab's four are spread over min(4, w) stored rows and the halves, w = scale_warps (layout.h: hopper scale swizzle). With one warp
// the halves come first.
constexpr CopiedTensor hopper_scales_tensor(const KernelConfig& c, const WeightsFormat& f, const MatmulArguments& a) {
    const i64 rows = a.scales_expert_bytes / a.scales_row_bytes, chunks = ceil_div(a.k, kChunkK);
    const int chunks_of_box = c.block_k / kChunkK, rows_of_box = f.scale_warps < 4 ? 2 : 4;
    if (f.scale_warps == 1)
        return {a.scales, 1, false, 5, {32, 2, rows, chunks, a.experts}, {1, 32, a.scales_row_bytes, 64, a.scales_expert_bytes},
                {32, 2, 2, chunks_of_box, 1}};
    return {a.scales, 1, false, 5, {32, rows, 2, chunks, a.experts}, {1, a.scales_row_bytes, 32, 64, a.scales_expert_bytes},
            {32, rows_of_box, 4 / rows_of_box, chunks_of_box, 1}};
}

// Whether the packed weights come by maps.
constexpr bool maps_weights(const KernelConfig& c) { return c.variant == Variant::wgmma_rs; }

// Makes the maps that a launch needs and is not given: encode(map, tensor) each.
template <class Encode>
constexpr void make_maps(const KernelConfig& c, const WeightsFormat& f, MatmulArguments& a, Encode&& encode) {
    if (is_wgmma(c.variant) && a.x_aligned) {
        const int most_rows = a.rows < c.block_m ? a.rows : c.block_m;  // of a tile
        if (!half_of_x(c, most_rows)) encode(a.x_maps[false], x_tensor(c, a, false));
        encode(a.x_maps[true], x_tensor(c, a, true));
    }
    if (!maps_weights(c) || a.weights_mapped) return;
    if (c.layout == Layout::native) {
        encode(a.values_map, native_tensor(c, a, a.values, kNativeValueTileBytes, a.values_row_bytes, a.values_expert_bytes));
        encode(a.scales_map, native_tensor(c, a, a.scales, kNativeScaleTileBytes, a.scales_row_bytes, a.scales_expert_bytes));
    } else {
        encode(a.values_map, hopper_values_tensor(c, a));
        encode(a.scales_map, hopper_scales_tensor(c, f, a));
    }
}

}  // namespace mxfp4
