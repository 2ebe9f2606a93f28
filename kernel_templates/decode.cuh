// FP4 words -> bf16 fragments in registers, scale included.
//
// A word holds 8 weights; its four registers r0..r3 are a0..a3 of the m16n8k16 / m64nNk16 A fragment: (row g), (row g+8),
// (row g, k+8), (row g+8, k+8). For the blocks layout a word is 8 consecutive k of one row instead.
#pragma once

#include "contract/arguments.h"
#include "contract/layout.h"
#include "ptx.cuh"

namespace mxfp4 {

inline constexpr u32 kTwoTo126 = 0x7E807E80u;  // bf16x2 of 2^126

// The four bf16 pairs of a word, still scaled by 2^-126.
template <Layout kLayout>
__device__ inline void unpack_word(u32 w, u32 (&r)[4]) {
    if constexpr (kLayout == Layout::native) {
        r[0] = w & kPackbitsMask;
        r[1] = (w << 4) & kPackbitsMask;
        r[2] = __funnelshift_l(w, w, 10) & kPackbitsMask;
        r[3] = ((w << 6) ^ (w >> 2)) & kPackbitsMask;
    } else {
        r[0] = w & kPackbitsMask;
        r[1] = (w << 3) & kPackbitsMask;
        r[2] = (w << 6) & kPackbitsMask;
        if constexpr (kLayout == Layout::hopper) {
            const u32 signs_and_m = ptx::permute_bytes<0x3311>(w << 1, 0);  // w << 1 and, a byte lower, w >> 7
            r[3] = (signs_and_m & 0x80408040u) | ((w >> 3) & 0x01800180u);
        } else {  // one instruction more, but with the above naive spills, at 255 registers
            r[3] = ((w << 1) & 0x80008000u) | ((w >> 3) & 0x01800180u) | ((w >> 7) & 0x00400040u);
        }
    }
}

// What turns stored scale bytes into bf16 multipliers, for one expert.
template <WeightsFormat kFormat>
struct ScaleRule {
    static constexpr bool kPlain = kFormat.scale_class == ScaleClass::plain;
    static constexpr bool kStoredFolded = kFormat.layout == Layout::native;  // the byte is the multiplier's exponent already
    u32 addend;  // folded hopper and blocks: (126 - expert_shift) << 7, in both halves

    __device__ static ScaleRule of_expert(const i32* expert_shift, int expert) {
        if constexpr (kPlain || kStoredFolded) return {0};
        const u32 exponent = 126 - u32(expert_shift ? expert_shift[expert] : 0);
        return {(exponent << 7) * 0x00010001u};
    }
    // bytes s_lo in bits 0..7 and s_hi in bits 16..23 -> the multipliers {lo, hi} as bf16x2.
    __device__ u32 multipliers(u32 two_bytes) const {
        if constexpr (kPlain) {
            // s = 0 is the subnormal 2^-127: 0x0040
            const u32 zero_lo = (two_bytes & 0x000000FFu) == 0 ? 0x00000040u : 0u;
            const u32 zero_hi = (two_bytes & 0x00FF0000u) == 0 ? 0x00400000u : 0u;
            return (two_bytes << 7) | zero_lo | zero_hi;
        }
        return (two_bytes << 7) + addend;
    }
    __device__ static u32 scaled(u32 pair, u32 multiplier) {
        if constexpr (kPlain) pair = ptx::multiply_bf16x2(pair, kTwoTo126);
        return ptx::multiply_bf16x2(pair, multiplier);
    }
};

// One word of a hopper or native tile -> the A fragment of a k16 step. multipliers = {row g, row g+8}.
template <WeightsFormat kFormat>
__device__ inline void decode_fragment(u32 word, u32 multipliers, u32 (&a)[4]) {
    u32 r[4];
    unpack_word<kFormat.layout>(word, r);
    const u32 top = ptx::low_half_twice(multipliers), bottom = ptx::high_half_twice(multipliers);
    a[0] = ScaleRule<kFormat>::scaled(r[0], top);
    a[1] = ScaleRule<kFormat>::scaled(r[1], bottom);
    a[2] = ScaleRule<kFormat>::scaled(r[2], top);
    a[3] = ScaleRule<kFormat>::scaled(r[3], bottom);
}

// The helper under its known name: 8 bf16 of a packbits word, each times one scale (bf16 bits of 2^(s-127)). Any scale.
__device__ inline void decode_mxfp4_packbits_u32_to_8xbf16_scaled(u32 word, u16 scale_bf16_bits, u32 (&out)[4]) {
    unpack_word<Layout::blocks>(word, out);
    const u32 scale = scale_bf16_bits * 0x00010001u;
    for (u32& pair : out) pair = ptx::multiply_bf16x2(ptx::multiply_bf16x2(pair, kTwoTo126), scale);
}

// The scale word of a quad: bytes (kg even: row g, g+8), (kg odd: row g, g+8).
__device__ inline u32 even_scales(u32 scale_word) { return ptx::permute_bytes<0x4140>(scale_word, 0); }
__device__ inline u32 odd_scales(u32 scale_word) { return ptx::permute_bytes<0x4342>(scale_word, 0); }

// ---- Where a lane finds its words in global memory (kernels without a shared weight tile) --------------------------------

// hopper scale swizzle: the 32 bytes that belong to 16 rows (row_group = n / 16) and 64 k lie together.
template <WeightsFormat kFormat>
__device__ inline i64 hopper_scale_offset(int row_group, int chunk, i64 scale_row_bytes) {
    constexpr int w = kFormat.scale_warps;
    return i64(row_group / (2 * w) * w + row_group % w) * scale_row_bytes + i64(chunk) * 64 + (row_group / w & 1) * 32;
}
// Scales are stored for multiples of 32 * w outputs: where w is 1, a slab of 64 may reach beyond them.
template <WeightsFormat kFormat>
__device__ inline bool has_scales(int row_group, int n) {
    return kFormat.layout == Layout::native || kFormat.scale_warps > 1 || row_group * 16 < n;
}

// The last chunk of an odd number of scale groups: what a wrapped tensor holds in its padding could be NaN or infinity, and
// that times the zeros of x would not be zero.
__device__ inline u32 without_padding(u32 scale_word, int chunk, int k_groups) {
    return chunk * 2 + 1 < k_groups ? scale_word : scale_word & 0x0000FFFFu;
}

// Of one expert. row_group = n / 16 (16 rows), chunk = k / 64.
template <WeightsFormat kFormat>
struct WeightReader {
    static constexpr Layout kLayout = kFormat.layout;
    // Offset in k of the x pairs that go with step j of a chunk, for the quad's lane t: b0 = {k, k+1}, b1 = {k + gap, ...}.
    static constexpr int kGap = kLayout == Layout::blocks ? 2 : 8;
    __device__ static int k_of(int step, int t) {
        return kLayout == Layout::blocks ? 32 * (step >> 1) + 8 * t + 4 * (step & 1) : 16 * step + 2 * t;
    }

    const u8* values;
    const u8* scales;
    i64 value_row_bytes, scale_row_bytes;
    int n, k_groups;  // k / 32
    ScaleRule<kFormat> rule;

    // Four words: step j of a hopper or native chunk; or, for blocks, (kg even: row g, g+8), (kg odd: row g, g+8).
    __device__ ptx::Word4 words(int row_group, int chunk, int lane) const {
        if constexpr (kLayout == Layout::native) {
            const i64 tile = (row_group >> 2) * value_row_bytes + i64(chunk) * kNativeValueTileBytes;
            return ptx::load_weights16(values + tile + (row_group & 3) * 512 + lane * 16);
        } else if constexpr (kLayout == Layout::hopper) {
            const u8* row = values + (i64(row_group) * 4 + (lane >> 3)) * value_row_bytes;
            return ptx::load_weights16(row + i64(chunk) * 128 + (lane & 7) * 16);
        } else {
            const int row = row_group * 16 + (lane >> 2), word = (lane & 3) * 4, kg = chunk * 2;
            const u8* even = values + kg * value_row_bytes + i64(row) * 16 + word;
            const bool top = row < n, bottom = row + 8 < n, odd = kg + 1 < k_groups;
            return {top ? ptx::load_weights4(even) : 0, bottom ? ptx::load_weights4(even + 128) : 0,
                    top && odd ? ptx::load_weights4(even + value_row_bytes) : 0,
                    bottom && odd ? ptx::load_weights4(even + value_row_bytes + 128) : 0};
        }
    }
    __device__ u32 scale_word(int row_group, int chunk, int lane) const {
        if constexpr (kLayout == Layout::native) {
            const i64 tile = (row_group >> 2) * scale_row_bytes + i64(chunk) * kNativeScaleTileBytes;
            return ptx::load_weights4(scales + tile + (row_group & 3) * 32 + (lane >> 2) * 4);
        } else {
            const i64 at = hopper_scale_offset<kFormat>(row_group, chunk, scale_row_bytes) + (lane >> 2) * 4;
            return without_padding(ptx::load_weights4(scales + at), chunk, k_groups);
        }
    }
    // One scale of a hopper-swizzled tensor, for those who take a row at a time.
    __device__ u32 scale_byte(int row, int kg) const {
        return scales[hopper_scale_offset<kFormat>(row >> 4, kg >> 1, scale_row_bytes) + (row & 7) * 4 + (kg & 1) * 2 +
                      ((row >> 3) & 1)];
    }
    // The A fragment of step j, j a compile-time constant after unrolling.
    __device__ void fragment(const ptx::Word4& w, u32 scale_word, int step, u32 (&a)[4]) const {
        const u32 multipliers = rule.multipliers(step < 2 ? even_scales(scale_word) : odd_scales(scale_word));
        if constexpr (kLayout == Layout::blocks) {
            u32 top[4], bottom[4];
            unpack_word<kLayout>(step < 2 ? w.x : w.z, top);
            unpack_word<kLayout>(step < 2 ? w.y : w.w, bottom);
            const int first = (step & 1) * 2;
            a[0] = rule.scaled(top[first], ptx::low_half_twice(multipliers));
            a[1] = rule.scaled(bottom[first], ptx::high_half_twice(multipliers));
            a[2] = rule.scaled(top[first + 1], ptx::low_half_twice(multipliers));
            a[3] = rule.scaled(bottom[first + 1], ptx::high_half_twice(multipliers));
        } else {
            decode_fragment<kFormat>(step == 0 ? w.x : step == 1 ? w.y : step == 2 ? w.z : w.w, multipliers, a);
        }
    }
};

template <WeightsFormat kFormat>
__device__ inline WeightReader<kFormat> weight_reader(const MatmulArguments& a, int expert) {
    return {a.values + expert * a.values_expert_bytes, a.scales + expert * a.scales_expert_bytes, a.values_row_bytes,
            a.scales_row_bytes, a.n, a.k / kBlockElements, ScaleRule<kFormat>::of_expert(a.expert_shift, expert)};
}

}  // namespace mxfp4
