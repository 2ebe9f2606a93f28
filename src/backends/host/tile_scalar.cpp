#include <array>
#include <cstring>

#include "backends/host/tile.h"

namespace mxfp4 {
namespace {

constexpr std::array<float, 16> kE2m1 = [] {
    std::array<float, 16> values{};
    for (u32 code = 0; code < 16; ++code) values[code] = e2m1_to_float(code);
    return values;
}();

// A decoded lane, value * 2^-126 in bf16: its sign and three bits are the code.
constexpr float lane_value(u32 lane) { return kE2m1[(lane >> 12 & 8) | (lane >> 6 & 7)]; }

template <Layout kLayout>
void decode_layout(const ExpertView& e, i64 n0, i64 k0, int k_count, float* w) {
    float scales[kSlabRows];
    i64 offsets[8];
    for (int g = 0; g < 8; ++g) offsets[g] = word_offset(e, g);
    for (int k = 0; k < k_count; k += kBlockElements) {
        const i64 kg = (k0 + k) / kBlockElements;
        slab_scales(e, n0, kg, scales);
        for (int i = 0; i < kWordGroups; ++i) {
            const WordGroup group = word_group(e, n0, kg, i);
            for (int g = 0; g < 8; ++g) {
                u32 word = 0;
                // Only blocks ends at n; the others are stored in whole slabs.
                if (kLayout != Layout::blocks || n0 + group.n + g < e.n)
                    std::memcpy(&word, group.base + offsets[g], sizeof word);
                for (int r = 0; r < 4; ++r) {
                    const u32 pair = kLayout == Layout::native ? native_decode(word, r) : packbits_decode(word, r);
                    const int n = group.n + n_step(kLayout, r) + g;
                    float* const to = w + i64(k + 2 * (group.kb + kb_step(kLayout, r))) * kSlabRows + n;
                    to[0] = lane_value(pair & 0xFFFF) * scales[n];
                    to[kSlabRows] = lane_value(pair >> 16) * scales[n];
                }
            }
        }
    }
}

void decode(const ExpertView& e, i64 n0, i64 k0, int k_count, float* w) {
    switch (e.layout) {
        case Layout::blocks: return decode_layout<Layout::blocks>(e, n0, k0, k_count, w);
        case Layout::hopper: return decode_layout<Layout::hopper>(e, n0, k0, k_count, w);
        case Layout::native: return decode_layout<Layout::native>(e, n0, k0, k_count, w);
    }
}

void multiply(const float* x, i64 x_stride, int rows, const float* __restrict w, int k_count, float* acc,
              i64 acc_stride) {
    for (int m = 0; m < rows; ++m) {
        float* __restrict const sums = acc + m * acc_stride;
        for (int k = 0; k < k_count; ++k) {
            const float element = x[m * x_stride + k];
            for (int n = 0; n < kSlabRows; ++n) sums[n] += element * w[k * kSlabRows + n];
        }
    }
}

}  // namespace

const TileCode& scalar_tile_code() {
    static constexpr TileCode kCode = {decode, multiply};
    return kCode;
}

}  // namespace mxfp4
