// The two inner loops of the host kernel, scalar and vector. Both add in the same order, k ascending, and a product of
// a bf16 and a decoded weight is exact in fp32, so both give the same bits.
#pragma once

#include "contract/layout.h"

namespace mxfp4 {

// One expert's stored bytes.
struct ExpertView {
    Layout layout;
    int scale_warps;
    const u8* values;  // [value_rows, values_row_bytes]
    const u8* scales;  // [scale_rows, scales_row_bytes]
    i64 values_row_bytes, scales_row_bytes;
    i64 n, k;
    const float* scale_of_byte;  // [256] what a stored scale byte multiplies by
};

// Eight words that decode into vectors of eight outputs: word g belongs to output n + g. Register i of a word holds
// k = 2 * (kb + kb_step(i)) and the next, of output n + n_step(i) + g.
struct WordGroup {
    const u8* base;  // word g lies at base + g's offset (word_offset)
    int n;           // within the slab
    int kb;          // within the 32 k of a scale
};
inline constexpr int kWordGroups = 32;  // of a slab (64 outputs) and one scale (32 k)

inline WordGroup word_group(const ExpertView& e, i64 n0, i64 kg, int i) {
    if (e.layout == Layout::blocks) {
        const int n = (i >> 2) * 8, kb = (i & 3) * 4;
        return {e.values + kg * e.values_row_bytes + (n0 + n) * 16 + kb, n, kb};
    }
    const int n = (i >> 3) * 16, kb = (i >> 2 & 1) * 8 + (i & 3);
    if (e.layout == Layout::native)
        return {e.values + native_word_offset(n0 + n, kg * 16 + kb, ceil_div(e.k, kChunkK)), n, kb};
    const Index2 at = hopper_value_swizzle(n0 + n, kg * 16 + kb);
    return {e.values + at.row * e.values_row_bytes + at.col, n, kb};
}
inline i64 word_offset(const ExpertView& e, int g) {
    if (e.layout == Layout::blocks) return g * 16;
    if (e.layout == Layout::native) return g * 64;
    return (g >> 1) * e.values_row_bytes + (g & 1) * 64;
}
constexpr int n_step(Layout layout, int i) { return layout == Layout::blocks ? 0 : (i & 1) * 8; }
constexpr int kb_step(Layout layout, int i) { return layout == Layout::blocks ? i : (i >> 1) * 4; }

// The multipliers of a slab's 64 outputs; 0 beyond n, where nothing need be stored.
inline void slab_scales(const ExpertView& e, i64 n0, i64 kg, float* scales) {
    for (int i = 0; i < kSlabRows; ++i) {
        const i64 n = n0 + i;
        if (n >= e.n) {
            scales[i] = 0;
            continue;
        }
        i64 offset = native_scale_offset(n, kg, ceil_div(e.k, kChunkK));
        if (e.layout != Layout::native) {
            const Index2 at = hopper_scale_swizzle(n, kg, e.scale_warps);
            offset = at.row * e.scales_row_bytes + at.col;
        }
        scales[i] = e.scale_of_byte[e.scales[offset]];
    }
}

struct TileCode {
    // w [k_count, 64] becomes the fp32 weights of outputs n0 .. n0 + 63, k0 .. k0 + k_count - 1 (both multiples of 32).
    void (*decode)(const ExpertView& expert, i64 n0, i64 k0, int k_count, float* w);
    // acc [rows, 64] += x [rows, k_count] · w; rows of x and acc are that many elements apart.
    void (*multiply)(const float* x, i64 x_stride, int rows, const float* w, int k_count, float* acc, i64 acc_stride);
};

const TileCode& scalar_tile_code();
const TileCode* simd_tile_code();  // null where the CPU has no AVX2 with FMA

}  // namespace mxfp4
