#include "reference/reference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/parallel.h"

namespace mxfp4 {
namespace {

constexpr int kBlock = 32;  // weights that share a scale

// OCP MX, table of E2M1: sign, two exponent bits, one mantissa bit.
constexpr float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

double e8m0(std::uint8_t s) {
    return s == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, int(s) - 127);
}

// Reads one row W[e, n, :] whatever its strides.
class RowReader {
  public:
    explicit RowReader(const CheckpointView& w) : w_(w), groups_(w.k / kBlock) {
        const std::int64_t blocks[4] = {w.n * groups_ * 16, groups_ * 16, 16, 1},
                           scales[3] = {w.n * groups_, groups_, 1};
        for (int i = 0; i < 4; ++i) block_stride_[i] = w.blocks_strides[i] ? w.blocks_strides[i] : blocks[i];
        for (int i = 0; i < 3; ++i) scale_stride_[i] = w.scales_strides[i] ? w.scales_strides[i] : scales[i];
    }

    void read(std::int64_t e, std::int64_t n, float* codes, double* scales) const {
        const std::uint8_t* block = w_.blocks + e * block_stride_[0] + n * block_stride_[1];
        const std::uint8_t* scale = w_.scales + e * scale_stride_[0] + n * scale_stride_[1];
        for (std::int64_t g = 0; g < groups_; ++g) {
            for (int i = 0; i < 16; ++i) {
                const std::uint8_t byte = block[g * block_stride_[2] + i * block_stride_[3]];
                codes[g * kBlock + 2 * i] = kE2m1[byte & 15];
                codes[g * kBlock + 2 * i + 1] = kE2m1[byte >> 4];
            }
            scales[g] = e8m0(scale[g * scale_stride_[2]]);
        }
    }

  private:
    const CheckpointView& w_;
    std::int64_t groups_;
    std::int64_t block_stride_[4], scale_stride_[3];
};

using Dot = float (*)(const std::uint16_t* x, const float* codes, const double* scales, std::int64_t k);

float dot_scalar(const std::uint16_t* x, const float* codes, const double* scales, std::int64_t k) {
    double y = 0;
    for (std::int64_t g = 0; g < k / kBlock; ++g, x += kBlock, codes += kBlock) {
        float sum = 0;
        for (int i = 0; i < kBlock; ++i) sum += std::bit_cast<float>(std::uint32_t(x[i]) << 16) * codes[i];
        y += scales[g] * double(sum);
    }
    return float(y);
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] float dot_avx2(const std::uint16_t* x, const float* codes, const double* scales,
                                           std::int64_t k) {
    const auto product = [&](int i, __m256 sum) __attribute__((target("avx2,fma"))) {
        const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
        return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)), _mm256_loadu_ps(codes + i), sum);
    };
    __m256d low = _mm256_setzero_pd(), high = low;
    for (std::int64_t g = 0; g < k / kBlock; ++g, x += kBlock, codes += kBlock) {
        const __m256 sum = product(24, product(16, product(8, product(0, _mm256_setzero_ps()))));
        const __m256d scale = _mm256_set1_pd(scales[g]);
        low = _mm256_fmadd_pd(scale, _mm256_cvtps_pd(_mm256_castps256_ps128(sum)), low);
        high = _mm256_fmadd_pd(scale, _mm256_cvtps_pd(_mm256_extractf128_ps(sum, 1)), high);
    }
    alignas(32) double lanes[4];
    _mm256_store_pd(lanes, _mm256_add_pd(low, high));
    return float((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

Dot choose_dot() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? dot_avx2 : dot_scalar; }
#else
Dot choose_dot() { return dot_scalar; }
#endif

std::int64_t stride_of(const ReferenceProblem& p, std::int64_t k) { return p.x_stride ? p.x_stride : k; }
int groups_of(const ReferenceProblem& p, const CheckpointView& w) { return p.groups ? p.groups : int(w.experts); }
std::int64_t clamped_offset(const ReferenceProblem& p, int g) {
    return std::clamp<std::int64_t>(p.expert_offsets[g], 0, p.rows);
}

}  // namespace

void reference_matmul(const CheckpointView& weights, const ReferenceProblem& problem, float* y, std::int64_t y_stride,
                      int threads) {
    const Dot dot = choose_dot();
    const RowReader reader(weights);
    const std::int64_t k = weights.k, n_total = weights.n, x_stride = stride_of(problem, k);
    if (y_stride == 0) y_stride = n_total;
    constexpr std::int64_t kOutputsPerTask = 16;
    const std::int64_t tasks_per_group = (n_total + kOutputsPerTask - 1) / kOutputsPerTask;
    parallel_for(threads, groups_of(problem, weights) * tasks_per_group, [&](std::int64_t task) {
        const int g = int(task / tasks_per_group);
        const std::int64_t begin = clamped_offset(problem, g), end = clamped_offset(problem, g + 1);
        const std::int64_t e = problem.expert_ids ? problem.expert_ids[g] : g;
        const std::int64_t n_begin = task % tasks_per_group * kOutputsPerTask,
                           n_end = std::min(n_begin + kOutputsPerTask, n_total);
        if (begin >= end) return;
        if (e < 0 || e >= weights.experts) {
            for (std::int64_t r = begin; r < end; ++r)
                std::fill(y + r * y_stride + n_begin, y + r * y_stride + n_end, 0.0f);
            return;
        }
        std::vector<float> codes(k);
        std::vector<double> scales(k / kBlock);
        for (std::int64_t n = n_begin; n < n_end; ++n) {
            reader.read(e, n, codes.data(), scales.data());
            for (std::int64_t r = begin; r < end; ++r)
                y[r * y_stride + n] = dot(problem.x + r * x_stride, codes.data(), scales.data(), k);
        }
    });
}

std::vector<float> reference_samples(const CheckpointView& weights, const ReferenceProblem& problem,
                                     std::span<const Sample> samples) {
    const Dot dot = choose_dot();
    const RowReader reader(weights);
    const std::int64_t k = weights.k, x_stride = stride_of(problem, k);
    std::vector<float> y(samples.size(), std::numeric_limits<float>::quiet_NaN());
    parallel_for(0, std::int64_t(samples.size()), [&](std::int64_t i) {
        const Sample& sample = samples[i];
        for (int g = 0; g < groups_of(problem, weights); ++g) {
            if (sample.row < clamped_offset(problem, g) || sample.row >= clamped_offset(problem, g + 1)) continue;
            const std::int64_t e = problem.expert_ids ? problem.expert_ids[g] : g;
            if (e < 0 || e >= weights.experts) {
                y[i] = 0;
                continue;
            }
            std::vector<float> codes(k);
            std::vector<double> scales(k / kBlock);
            reader.read(e, sample.n, codes.data(), scales.data());
            y[i] = dot(problem.x + sample.row * x_stride, codes.data(), scales.data(), k);
        }
    });
    return y;
}

}  // namespace mxfp4
