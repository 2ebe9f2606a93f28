// AVX2 and FMA, asked for function by function: the rest of the library runs on any CPU.
#include "backends/host/tile.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace mxfp4 {
namespace {

// Register i of eight words.
template <bool kNative, int i>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline __m256i decode_pairs(__m256i w) {
    const __m256i mask = _mm256_set1_epi32(int(kPackbitsMask));
    if constexpr (i == 0) return _mm256_and_si256(w, mask);
    if constexpr (kNative) {
        if constexpr (i == 1) return _mm256_and_si256(_mm256_slli_epi32(w, 4), mask);
        if constexpr (i == 2)
            return _mm256_and_si256(_mm256_or_si256(_mm256_slli_epi32(w, 10), _mm256_srli_epi32(w, 22)), mask);
        if constexpr (i == 3)
            return _mm256_and_si256(_mm256_xor_si256(_mm256_slli_epi32(w, 6), _mm256_srli_epi32(w, 2)), mask);
    } else {
        if constexpr (i == 1) return _mm256_and_si256(_mm256_slli_epi32(w, 3), mask);
        if constexpr (i == 2) return _mm256_and_si256(_mm256_slli_epi32(w, 6), mask);
        if constexpr (i == 3)
            return _mm256_or_si256(
                _mm256_and_si256(_mm256_slli_epi32(w, 1), _mm256_set1_epi32(int(0x80008000u))),
                _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(w, 3), _mm256_set1_epi32(0x01800180)),
                                _mm256_and_si256(_mm256_srli_epi32(w, 7), _mm256_set1_epi32(0x00400040))));
    }
}

// Register i of a word group -> two rows of w.
template <Layout kLayout, int i>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline void store_pairs(__m256i words, const WordGroup& group,
                                                                        const float* scales, float* w) {
    const __m256 magnitudes = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    const __m256i pairs = decode_pairs<kLayout == Layout::native, i>(words);
    // The permutation looks at the low three bits of each index alone: no mask needed.
    const __m256 low = _mm256_permutevar8x32_ps(magnitudes, _mm256_srli_epi32(pairs, 6));
    const __m256 high = _mm256_permutevar8x32_ps(magnitudes, _mm256_srli_epi32(pairs, 22));
    const __m256 low_sign = _mm256_and_ps(_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)), sign);
    const __m256 high_sign = _mm256_and_ps(_mm256_castsi256_ps(pairs), sign);
    const int n = group.n + n_step(kLayout, i);
    const __m256 scale = _mm256_loadu_ps(scales + n);
    float* const to = w + 2 * (group.kb + kb_step(kLayout, i)) * kSlabRows + n;
    _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_or_ps(low, low_sign), scale));
    _mm256_storeu_ps(to + kSlabRows, _mm256_mul_ps(_mm256_or_ps(high, high_sign), scale));
}

template <Layout kLayout>
[[gnu::target("avx2,fma")]] void decode_layout(const ExpertView& e, i64 n0, i64 k0, int k_count, float* w) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    alignas(32) i32 offsets[8];
    for (int g = 0; g < 8; ++g) offsets[g] = i32(word_offset(e, g));
    const __m256i index = _mm256_load_si256(reinterpret_cast<const __m256i*>(offsets));
    float scales[kSlabRows];
    for (int k = 0; k < k_count; k += kBlockElements) {
        const i64 kg = (k0 + k) / kBlockElements;
        slab_scales(e, n0, kg, scales);
        for (int i = 0; i < kWordGroups; ++i) {
            const WordGroup group = word_group(e, n0, kg, i);
            __m256i mask = _mm256_set1_epi32(-1);
            if constexpr (kLayout == Layout::blocks) {  // ends at n; the others are stored in whole slabs
                const i64 left = e.n - n0 - group.n;
                mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? i32(left) : 8), lanes);
            }
            const __m256i words = _mm256_mask_i32gather_epi32(_mm256_setzero_si256(),
                                                              reinterpret_cast<const int*>(group.base), index, mask, 1);
            float* const to = w + i64(k) * kSlabRows;
            store_pairs<kLayout, 0>(words, group, scales, to);
            store_pairs<kLayout, 1>(words, group, scales, to);
            store_pairs<kLayout, 2>(words, group, scales, to);
            store_pairs<kLayout, 3>(words, group, scales, to);
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

// kRows rows at once, with eight accumulators in flight whatever their number.
template <int kRows>
[[gnu::target("avx2,fma")]] void multiply_rows(const float* x, i64 x_stride, const float* w, int k_count, float* acc,
                                               i64 acc_stride) {
    constexpr int kVectors = 8 / kRows;
    for (int n = 0; n < kSlabRows; n += 8 * kVectors) {
        __m256 sums[kRows][kVectors];
        for (int m = 0; m < kRows; ++m)
            for (int v = 0; v < kVectors; ++v) sums[m][v] = _mm256_loadu_ps(acc + m * acc_stride + n + 8 * v);
        for (int k = 0; k < k_count; ++k) {
            __m256 weights[kVectors];
            for (int v = 0; v < kVectors; ++v) weights[v] = _mm256_loadu_ps(w + i64(k) * kSlabRows + n + 8 * v);
            for (int m = 0; m < kRows; ++m) {
                const __m256 element = _mm256_broadcast_ss(x + m * x_stride + k);
                for (int v = 0; v < kVectors; ++v) sums[m][v] = _mm256_fmadd_ps(element, weights[v], sums[m][v]);
            }
        }
        for (int m = 0; m < kRows; ++m)
            for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(acc + m * acc_stride + n + 8 * v, sums[m][v]);
    }
}

void multiply(const float* x, i64 x_stride, int rows, const float* w, int k_count, float* acc, i64 acc_stride) {
    int m = 0;
    for (; m + 4 <= rows; m += 4)
        multiply_rows<4>(x + m * x_stride, x_stride, w, k_count, acc + m * acc_stride, acc_stride);
    for (; m + 2 <= rows; m += 2)
        multiply_rows<2>(x + m * x_stride, x_stride, w, k_count, acc + m * acc_stride, acc_stride);
    if (m < rows) multiply_rows<1>(x + m * x_stride, x_stride, w, k_count, acc + m * acc_stride, acc_stride);
}

}  // namespace

const TileCode* simd_tile_code() {
    static constexpr TileCode kCode = {decode, multiply};
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kCode : nullptr;
}

}  // namespace mxfp4

#else

namespace mxfp4 {

const TileCode* simd_tile_code() { return nullptr; }

}  // namespace mxfp4

#endif
