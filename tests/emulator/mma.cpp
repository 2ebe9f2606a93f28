#include "mma.h"

#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "core/bf16.h"

namespace mxfp4::emulator {
namespace {

float low(u32 pair) { return bf16_to_float(u16(pair)); }
float high(u32 pair) { return bf16_to_float(u16(pair >> 16)); }

// Lane l holds, in register r, the pair (row l / 4 + 8 * (r & 1), k 2 * (l % 4) + 8 * (r >> 1)).
void read_a(const u32* const (&lanes)[32], float (&a)[16][16]) {
    for (int l = 0; l < 32; ++l)
        for (int r = 0; r < 4; ++r) {
            float* const at = &a[l / 4 + 8 * (r & 1)][2 * (l % 4) + 8 * (r >> 1)];
            at[0] = low(lanes[l][r]);
            at[1] = high(lanes[l][r]);
        }
}

// 16 k of a row of a tile in shared memory, as its descriptor says: K-major under the 128-byte swizzle.
void read_row(const SharedMemory& shared, u64 descriptor, int row, float* k16) {
    constexpr u64 kSwizzle128 = u64(1) << 62, kLeading = u64(1) << 16, kStride = u64(0x3FFF) << 32, kAddress = 0x3FFF;
    if ((descriptor & ~(kStride | kAddress)) != (kSwizzle128 | kLeading))
        throw Error(fmt::format("a WGMMA descriptor that is not known here: {:#x}", descriptor));
    const u32 stride = u32((descriptor & kStride) >> 32) << 4;
    const u32 start = u32(descriptor & kAddress) << 4;
    const u32 at = start + u32(row / 8) * stride + u32(row % 8) * 128;
    for (u32 half = 0; half < 2; ++half) {
        u16 bits[8];
        std::memcpy(bits, shared.at_async(swizzled(at + half * 16), 16, 16), 16);
        for (int i = 0; i < 8; ++i) k16[half * 8 + i] = bf16_to_float(bits[i]);
    }
}

// Register j * 4 + 2 * h + i of lane l is (row l / 4 + 8 * h, column 8 * j + 2 * (l % 4) + i). b is [k][n].
void multiply_add(float* const (&d)[32], const float (&a)[16][16], const float* b, int n) {
    float sum[256];
    for (int row = 0; row < 16; ++row) {
        for (int c = 0; c < n; ++c) sum[c] = 0;
        for (int k = 0; k < 16; ++k)
            for (int c = 0; c < n; ++c) sum[c] += a[row][k] * b[k * n + c];
        for (int c = 0; c < n; ++c) d[row % 8 * 4 + c % 8 / 2][c / 8 * 4 + row / 8 * 2 + c % 2] += sum[c];
    }
}

// To nearest even, subnormals too: the product of two bf16 is exact in double.
u16 to_bf16(double value) {
    if (std::isnan(value)) return 0x7FFF;
    if (std::abs(value) < 0x1p-126)
        return u16((std::signbit(value) ? 0x8000 : 0) | int(std::nearbyint(std::abs(value) * 0x1p133)));
    return float_to_bf16(float(value));
}

}  // namespace

void multiply_m16n8k16(float* const (&d)[32], const u32* const (&a)[32], const u32 (&b)[32][2]) {
    float rows[16][16], columns[16 * 8];
    read_a(a, rows);
    for (int l = 0; l < 32; ++l)
        for (int r = 0; r < 2; ++r) {
            const int k = 2 * (l % 4) + 8 * r;
            columns[k * 8 + l / 4] = low(b[l][r]);
            columns[(k + 1) * 8 + l / 4] = high(b[l][r]);
        }
    multiply_add(d, rows, columns, 8);
}

void multiply(const SharedMemory& shared, const Product& p, int warp) {
    float a[16][16], b[16 * 256];
    if (p.a_in_registers) {
        const u32* lanes[32];
        for (int l = 0; l < 32; ++l) lanes[l] = p.a[l];
        read_a(lanes, a);
    } else {
        for (int row = 0; row < 16; ++row) read_row(shared, p.a_descriptor, warp * 16 + row, a[row]);
    }
    for (int c = 0; c < p.n; ++c) {
        float k16[16];
        read_row(shared, p.b_descriptor, c, k16);
        for (int k = 0; k < 16; ++k) b[k * p.n + c] = k16[k];
    }
    multiply_add(p.d, a, b, p.n);
}

u32 pack_bf16x2(float lo, float hi) { return to_bf16(lo) | u32(to_bf16(hi)) << 16; }
u32 multiply_bf16x2(u32 a, u32 b) {
    return to_bf16(double(low(a)) * low(b)) | u32(to_bf16(double(high(a)) * high(b))) << 16;
}

}  // namespace mxfp4::emulator
