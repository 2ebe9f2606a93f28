#include <cstring>

#include "backends/host/tile.h"

namespace mxfp4 {
namespace {

void decode(const ExpertView& e, i64 n0, i64 k0, int k_count, float* w) {
    float scales[kSlabRows];
    for (int k = 0; k < k_count; k += kBlockElements) {
        const i64 kg = (k0 + k) / kBlockElements;
        slab_scales(e, n0, kg, scales);
        for (int i = 0; i < kWordGroups; ++i) {
            const WordGroup group = word_group(e, n0, kg, i);
            for (int g = 0; g < 8; ++g) {
                u32 word = 0;
                // Only blocks ends at n; the others are stored in whole slabs.
                if (e.layout != Layout::blocks || n0 + group.n + g < e.n)
                    std::memcpy(&word, group.base + word_offset(e, g), sizeof word);
                for (int r = 0; r < 4; ++r) {
                    const u32 pair = e.layout == Layout::native ? native_decode(word, r) : packbits_decode(word, r);
                    const u32 byte = packbits_to_byte(pair);
                    const int n = group.n + n_step(e.layout, r) + g;
                    float* const to = w + i64(k + 2 * (group.kb + kb_step(e.layout, r))) * kSlabRows + n;
                    to[0] = e2m1_to_float(byte & 15) * scales[n];
                    to[kSlabRows] = e2m1_to_float(byte >> 4) * scales[n];
                }
            }
        }
    }
}

void multiply(const float* x, i64 x_stride, int rows, const float* w, int k_count, float* acc, i64 acc_stride) {
    for (int m = 0; m < rows; ++m)
        for (int k = 0; k < k_count; ++k)
            for (int n = 0; n < kSlabRows; ++n) acc[m * acc_stride + n] += x[m * x_stride + k] * w[k * kSlabRows + n];
}

}  // namespace

const TileCode& scalar_tile_code() {
    static constexpr TileCode kCode = {decode, multiply};
    return kCode;
}

}  // namespace mxfp4
