// The layout contract: every byte order that packer, reference, tests and kernels share.
// Compiles in g++, clang and NVRTC (-std=c++20 -default-device): no includes, no macros, integer arithmetic only.
//
// A weight is W[e, n, k]. A checkpoint byte kb of row n holds k = 2*kb in its low nibble and k = 2*kb + 1 in its high
// nibble; kg = k / 32 indexes the E8M0 scale. Formulas: layout-contract.md, checked against triton_kernels v3.6.
#pragma once

namespace mxfp4 {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i32 = int;
using u64 = unsigned long long;
using i64 = long long;
static_assert(sizeof(u8) == 1 && sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(i64) == 8);

// These values reach the disk: do not renumber.
enum class Layout : u8 { blocks = 0, hopper = 1, native = 2 };

// How a kernel may apply the scales of a weight (reaches the disk: do not renumber).
//   folded   every scale <= kMaxFoldedScale: one multiply by 2^(s-1) takes the decoded bits to the scaled value
//   rebased  every expert spans at most kMaxScaleSpan: its scales are lowered by expert_shift, and the fp32 result is
//            multiplied by expert_scale = 2^expert_shift
//   plain    anything else: two multiplies, 2^126 and then 2^(s-127)
enum class ScaleClass : u8 { folded = 0, rebased = 1, plain = 2 };

inline constexpr int kLayoutVersion[3] = {1, 1, 2};  // indexed by Layout

inline constexpr int kBlockElements = 32;  // weights that share one scale
inline constexpr int kScaleNan = 255;      // OCP MX: E8M0 255 is NaN; packing and wrapping refuse it
inline constexpr int kMaxFoldedScale = 128;
inline constexpr int kMaxScaleSpan = 133;  // largest - smallest scale of an expert that can be rebased exactly

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
constexpr i64 round_up(i64 a, i64 b) { return ceil_div(a, b) * b; }
constexpr bool is_power_of_two(i64 v) { return v > 0 && (v & (v - 1)) == 0; }

// ---- E2M1 ----------------------------------------------------------------------------------------------------------

// Twice the value of code s e1 e0 m, an integer: 0 1 2 3 4 6 8 12 and their negatives.
constexpr int e2m1_times_two(u32 code) {
    const int magnitude = (code & 7) < 4 ? int(code & 3) + ((code & 4) ? 2 : 0)
                                         : (code & 7) == 4 ? 4 : (code & 7) == 5 ? 6 : (code & 7) == 6 ? 8 : 12;
    return (code & 8) ? -magnitude : magnitude;
}
constexpr float e2m1_to_float(u32 code) { return (code & 8 ? -0.5f : 0.5f) * float(e2m1_times_two(code & 7)); }

// ---- E8M0 ----------------------------------------------------------------------------------------------------------

// bf16 bits of 2^(s-127) without a floating-point conversion. s = 0 is 2^-127, a bf16 subnormal; s = 255 is NaN.
constexpr u16 e8m0_to_bf16_bits(u32 s) { return s == 0 ? u16(0x0040) : s == 255 ? u16(0x7FC0) : u16(s << 7); }

// bf16 bits of 2^(s-1) = 2^(s-127) * 2^126, the folded multiplier. Right for s <= kMaxFoldedScale only.
constexpr u16 e8m0_to_folded_bf16_bits(u32 s) { return u16((s << 7) + 0x3F00); }

// ---- Packbits: 8 codes in a 32-bit word ----------------------------------------------------------------------------
// A decoded register is a pair of bf16 with the sign at bit 15 and e1 e0 m at bits 8 7 6: value * 2^-126.

inline constexpr u32 kPackbitsMask = 0x81C081C0u;

constexpr u32 packbits_lane(u32 code) { return (code & 8) << 12 | (code & 7) << 6; }
constexpr u32 packbits_pair(u32 byte) { return packbits_lane(byte & 15) | packbits_lane(byte >> 4) << 16; }
constexpr u32 rotate_left(u32 v, int by) { return v << by | v >> (32 - by); }

// hopper and blocks: four bytes b0..b3 -> word, as triton_kernels stores it.
constexpr u32 packbits_encode(u32 b0, u32 b1, u32 b2, u32 b3) {
    const auto fourth = [](u32 code) { return (code & 8) << 11 | (code & 6) << 9 | (code & 1) << 13; };
    return packbits_pair(b0) | packbits_pair(b1) >> 3 | packbits_pair(b2) >> 6 | fourth(b3 & 15) | fourth(b3 >> 4) << 16;
}
// Register i of a word (b_i's pair).
constexpr u32 packbits_decode(u32 w, int i) {
    return i == 0   ? w & kPackbitsMask
           : i == 1 ? (w << 3) & kPackbitsMask
           : i == 2 ? (w << 6) & kPackbitsMask
                    : ((w << 1) & 0x80008000u) | ((w >> 3) & 0x01800180u) | ((w >> 7) & 0x00400040u);
}

// native: the same four registers, two instructions cheaper to decode. r0, r1 and r2 have 24 bits of the word to
// themselves. r3 is two shifts of the word, XORed: what comes along of other bits is cancelled by the eight bits that are
// left. Every word is the word of exactly one choice of bytes.
constexpr u32 native_encode(u32 b0, u32 b1, u32 b2, u32 b3) {
    const u32 p3 = packbits_pair(b3);
    // Each bit of p3 at the place from where one shift takes it to r3: bits 0, 1, 9, 16, 17, 25, and 10, 26.
    u32 w = packbits_pair(b0) | rotate_left(packbits_pair(b1), 28) | rotate_left(packbits_pair(b2), 22) |
            (p3 & 0x80C080C0u) >> 6 | (p3 & 0x01000100u) << 2;
    // The other shift brings the bit eight places off, above or below, to the same place of r3. Bits 25, 17, 9 and 1 hang
    // together, so that each has to become the XOR of all four from 25 down to itself: this takes a second step.
    w ^= (w >> 8 & 0x00030203u) | (w << 8 & 0x04000400u);
    return w ^ (w >> 16 & 0x00000202u);
}
constexpr u32 native_decode(u32 w, int i) {
    return i == 0   ? w & kPackbitsMask
           : i == 1 ? (w << 4) & kPackbitsMask
           : i == 2 ? rotate_left(w, 10) & kPackbitsMask
                    : ((w << 6) ^ (w >> 2)) & kPackbitsMask;
}
// The code byte (two E2M1) that a decoded register stands for: the way back.
constexpr u32 packbits_to_byte(u32 pair) {
    const auto code = [](u32 lane) { return (lane >> 12 & 8) | (lane >> 6 & 7); };
    return code(pair & 0xFFFF) | code(pair >> 16) << 4;
}

// ---- hopper: value swizzle, [N, K/2] bytes -> [N/4, 2*K] bytes ------------------------------------------------------
// N and K/2 are padded with zero bytes to multiples of 64 first. Bytes (n,kb) (n+8,kb) (n,kb+4) (n+8,kb+4) with n&8 == 0
// and kb&4 == 0 lie together and become one packbits word: the a0..a3 registers of a wgmma m64nNk16 A fragment.

struct Index2 {
    i64 row, col;
};

constexpr Index2 hopper_value_swizzle(i64 n, i64 kb) {
    return {(n >> 4) * 4 + ((n >> 1) & 3),
            (kb >> 5) * 128 + (n & 1) * 64 + (kb & 3) * 16 + ((kb >> 3) & 3) * 4 + ((kb >> 2) & 1) * 2 + ((n >> 3) & 1)};
}
// Back: row = n, col = kb.
constexpr Index2 hopper_value_unswizzle(i64 row, i64 col) {
    return {(row >> 2) * 16 + (col & 1) * 8 + (row & 3) * 2 + ((col >> 6) & 1),
            (col >> 7) * 32 + ((col >> 2) & 3) * 8 + ((col >> 1) & 1) * 4 + ((col >> 4) & 3)};
}

// ---- hopper: scale swizzle, [N, K/32] bytes -> [N/32, K] bytes, w = scale_warps --------------------------------------
// N is padded to ALIGN_M = 32*w, K/32 to ALIGN_K = 2.

constexpr i64 scale_align_m(int w) { return 32 * i64(w); }
inline constexpr i64 kScaleAlignK = 2;

constexpr Index2 hopper_scale_swizzle(i64 n, i64 kg, int w) {
    return {(n / (32 * w)) * w + (n >> 4) % w,
            (kg >> 1) * 64 + (((n >> 4) / w) & 1) * 32 + (n & 7) * 4 + (kg & 1) * 2 + ((n >> 3) & 1)};
}
// Back: row = n, col = kg.
constexpr Index2 hopper_scale_unswizzle(i64 row, i64 col, int w) {
    return {(row / w) * 32 * w + ((col >> 5) & 1) * 16 * w + (row % w) * 16 + (col & 1) * 8 + ((col >> 2) & 7),
            (col >> 6) * 2 + ((col >> 1) & 1)};
}

// ---- native: slabs of 64 rows, chunks of 64 k, in the order in which a warpgroup's registers want them ---------------
// values [E, ceil(N/64), ceil(K/64), 128 lanes, 4 words]: lane (0..127) reads 16 bytes, word j holds a0..a3 of k16 step j.
// scales [E, ceil(N/64), ceil(K/64), 4 warps, 8 row pairs, 4 bytes]: bytes (kg even: row g, g+8), (kg odd: row g, g+8).
// docs/layout.md draws both. Pad bytes are zero.

inline constexpr int kSlabRows = 64;
inline constexpr int kChunkK = 64;
inline constexpr int kNativeValueTileBytes = 2048;  // one slab x one chunk
inline constexpr int kNativeScaleTileBytes = 128;

// Offset, inside an expert's values, of the word that holds (n,kb) (n+8,kb) (n,kb+4) (n+8,kb+4); n&8 == 0, kb&4 == 0.
constexpr i64 native_word_offset(i64 n, i64 kb, i64 k_chunks) {
    const i64 lane = ((n >> 4) & 3) * 32 + (n & 7) * 4 + (kb & 3);
    return ((n / kSlabRows) * k_chunks + (kb >> 5)) * kNativeValueTileBytes + lane * 16 + ((kb >> 3) & 3) * 4;
}
constexpr i64 native_scale_offset(i64 n, i64 kg, i64 k_chunks) {
    return ((n / kSlabRows) * k_chunks + (kg >> 1)) * kNativeScaleTileBytes + ((n >> 4) & 3) * 32 + (n & 7) * 4 +
           (kg & 1) * 2 + ((n >> 3) & 1);
}
// The stored byte: the folded multiplier's exponent s - shift + 126, so that a kernel only shifts it by 7; s when plain.
constexpr int native_scale_byte(int s, int expert_shift, bool plain) { return plain ? s : s - expert_shift + 126; }
constexpr int native_scale_from_byte(int byte, int expert_shift, bool plain) { return plain ? byte : byte - 126 + expert_shift; }

// ---- Sizes of a packed weight ---------------------------------------------------------------------------------------

// What decides the stored bytes. Everything else about a kernel is free to tune.
struct WeightsFormat {
    Layout layout = Layout::native;
    int scale_warps = 0;  // w of the scale swizzle: a power of two for hopper and blocks, 0 for native
    ScaleClass scale_class = ScaleClass::folded;
    constexpr bool operator==(const WeightsFormat&) const = default;
};

struct StoredShape {  // of one expert, in bytes
    i64 value_rows, value_row_bytes;
    i64 scale_rows, scale_row_bytes;
    constexpr i64 values_bytes() const { return value_rows * value_row_bytes; }
    constexpr i64 scales_bytes() const { return scale_rows * scale_row_bytes; }
};

// blocks: values [K/32, N*16]; hopper: values [N/4, 2*K]; both: scales [N/32, K], padded as above.
// native: values [N/64, K/64 * 2048], scales [N/64, K/64 * 128].
constexpr StoredShape stored_shape(const WeightsFormat& f, i64 n, i64 k) {
    if (f.layout == Layout::native) {
        const i64 slabs = ceil_div(n, kSlabRows), chunks = ceil_div(k, kChunkK);
        return {slabs, chunks * kNativeValueTileBytes, slabs, chunks * kNativeScaleTileBytes};
    }
    const i64 scale_rows = round_up(n, scale_align_m(f.scale_warps)) / 32;
    const i64 scale_row_bytes = ceil_div(k, 64) * 64;
    if (f.layout == Layout::blocks) return {k / 32, n * 16, scale_rows, scale_row_bytes};
    return {round_up(n, 64) / 4, round_up(k / 2, 64) * 4, scale_rows, scale_row_bytes};
}

}  // namespace mxfp4
