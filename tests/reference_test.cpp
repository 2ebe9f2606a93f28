// The oracle against sums written out from the OCP MX definition, in double.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "reference/reference.h"

using namespace mxfp4;

namespace {

std::uint16_t to_bf16(float v) { return std::uint16_t(std::bit_cast<std::uint32_t>(v) >> 16); }
double from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }

struct Case {
    std::int64_t experts, n, k, rows;
    std::vector<std::uint8_t> blocks, scales;
    std::vector<std::uint16_t> x;

    Case(std::int64_t e, std::int64_t n_, std::int64_t k_, std::int64_t r, unsigned seed)
        : experts(e),
          n(n_),
          k(k_),
          rows(r),
          blocks(e * n * k / 2),
          scales(e * n * k / 32),
          x(r * k) {
        std::mt19937 random(seed);
        for (auto& b : blocks) b = std::uint8_t(random());
        for (auto& s : scales) s = std::uint8_t(115 + random() % 24);
        for (auto& v : x) v = to_bf16(float(int(random() % 4001) - 2000) / 512);
    }
    CheckpointView view() const {
        return {.blocks = blocks.data(), .scales = scales.data(), .experts = experts, .n = n, .k = k};
    }

    // Bit by bit, from the format's definition: (-1)^s * 2^(e-1) * 1.m, subnormal 0.5 * m.
    double weight(std::int64_t e, std::int64_t row, std::int64_t column) const {
        const std::int64_t at = (e * n + row) * k + column;
        const int code = blocks[at / 2] >> (column % 2 ? 4 : 0) & 15;
        const int exponent = code >> 1 & 3, mantissa = code & 1;
        const double magnitude = exponent == 0 ? 0.5 * mantissa : std::ldexp(1 + 0.5 * mantissa, exponent - 1);
        const int s = scales[at / 32];
        const double scale = s == 255 ? std::numeric_limits<double>::quiet_NaN() : std::pow(2.0, s - 127);
        return (code & 8 ? -magnitude : magnitude) * scale;
    }
    double output(std::int64_t e, std::int64_t r, std::int64_t row) const {
        double y = 0;
        for (std::int64_t c = 0; c < k; ++c) y += from_bf16(x[r * k + c]) * weight(e, row, c);
        return y;
    }
};

bool near(double value, double expected) { return std::abs(value - expected) <= 1e-5 * (1 + std::abs(expected)); }

}  // namespace

TEST_CASE("the reference equals sums written out") {
    const Case c(3, 21, 96, 11, 1);
    const std::vector<std::int32_t> offsets = {0, 4, 4, 11};
    std::vector<float> y(c.rows * c.n, -1);
    const ReferenceProblem problem{.x = c.x.data(), .expert_offsets = offsets.data(), .rows = c.rows};
    reference_matmul(c.view(), problem, y.data(), 0, 2);
    for (std::int64_t r = 0; r < c.rows; ++r)
        for (std::int64_t n = 0; n < c.n; ++n) REQUIRE(near(y[r * c.n + n], c.output(r < 4 ? 0 : 2, r, n)));

    const std::vector<Sample> samples = {{0, 0}, {10, 20}, {3, 7}, {4, 7}};
    const std::vector<float> picked = reference_samples(c.view(), problem, samples);
    for (std::size_t i = 0; i < samples.size(); ++i) CHECK(picked[i] == y[samples[i].row * c.n + samples[i].n]);
}

TEST_CASE("integers come out exactly, over many k") {
    Case c(1, 5, 2880, 3, 2);
    for (auto& s : c.scales) s = 128;  // times two: every weight is an integer
    for (auto& v : c.x) v = to_bf16(float(int(v % 17) - 8));
    const std::vector<std::int32_t> offsets = {0, 3};
    std::vector<float> y(15);
    reference_matmul(c.view(), {.x = c.x.data(), .expert_offsets = offsets.data(), .rows = 3}, y.data(), 0);
    for (std::int64_t r = 0; r < 3; ++r)
        for (std::int64_t n = 0; n < 5; ++n) CHECK(double(y[r * 5 + n]) == c.output(0, r, n));
}

TEST_CASE("offsets are clamped, ids outside give zeros, rows in no group stay") {
    const Case c(2, 4, 32, 8, 3);
    const std::vector<std::int32_t> offsets = {-5, 2, 3, 5, 5, 6, 99};
    const std::vector<std::int32_t> ids = {1, 2, 0, 0, -1, 1};
    std::vector<float> y(8 * 6, 77);
    const ReferenceProblem problem{
        .x = c.x.data(), .expert_offsets = offsets.data(), .expert_ids = ids.data(), .groups = 6, .rows = 7};
    reference_matmul(c.view(), problem, y.data(), 6);
    const int expert_of_row[8] = {1, 1, -1, 0, 0, -1, 1, -2};  // -1: zeros, -2: untouched
    for (int r = 0; r < 8; ++r) {
        for (int n = 0; n < 4; ++n) {
            const int e = expert_of_row[r];
            REQUIRE(near(y[r * 6 + n], e == -2 ? 77 : e == -1 ? 0 : c.output(e, r, n)));
        }
        CHECK(y[r * 6 + 4] == 77);
        CHECK(y[r * 6 + 5] == 77);
    }
    const auto samples = reference_samples(c.view(), problem, std::vector<Sample>{{2, 1}, {7, 0}});
    CHECK(samples[0] == 0);
    CHECK(std::isnan(samples[1]));
}

TEST_CASE("strided views and rows read the same values") {
    const Case c(2, 6, 64, 3, 4);
    const std::int64_t bs[4] = {1009, 151, 70, 3}, ss[3] = {29, 4, 2};
    std::vector<std::uint8_t> blocks(4000), scales(100);
    for (std::int64_t e = 0; e < 2; ++e)
        for (std::int64_t n = 0; n < 6; ++n)
            for (std::int64_t g = 0; g < 2; ++g) {
                for (int i = 0; i < 16; ++i)
                    blocks[e * bs[0] + n * bs[1] + g * bs[2] + i * bs[3]] = c.blocks[((e * 6 + n) * 2 + g) * 16 + i];
                scales[e * ss[0] + n * ss[1] + g * ss[2]] = c.scales[(e * 6 + n) * 2 + g];
            }
    CheckpointView strided{.blocks = blocks.data(), .scales = scales.data(), .experts = 2, .n = 6, .k = 64};
    std::copy(bs, bs + 4, strided.blocks_strides);
    std::copy(ss, ss + 3, strided.scales_strides);
    std::vector<std::uint16_t> x(3 * 67);
    for (int r = 0; r < 3; ++r) std::copy_n(c.x.begin() + r * 64, 64, x.begin() + r * 67);
    const std::vector<std::int32_t> offsets = {0, 1, 3};
    std::vector<float> y(18), expected(18);
    reference_matmul(strided, {.x = x.data(), .x_stride = 67, .expert_offsets = offsets.data(), .rows = 3}, y.data(),
                     0);
    reference_matmul(c.view(), {.x = c.x.data(), .expert_offsets = offsets.data(), .rows = 3}, expected.data(), 0);
    CHECK(y == expected);
}

TEST_CASE("E8M0 edges: 0 is 2^-127, 255 is NaN; a NaN in x stays in its row") {
    Case c(1, 2, 32, 2, 5);
    c.blocks.assign(c.blocks.size(), 0x22);  // 1.0
    c.scales = {0, 255};
    c.x.assign(c.x.size(), to_bf16(1.0f));
    const std::vector<std::int32_t> offsets = {0, 2};
    std::vector<float> y(4);
    const ReferenceProblem problem{.x = c.x.data(), .expert_offsets = offsets.data(), .rows = 2};
    reference_matmul(c.view(), problem, y.data(), 0);
    CHECK(y[0] == std::ldexp(1.0f, -122));
    CHECK(std::isnan(y[1]));
    c.scales = {127, 127};
    c.x[5] = 0x7FC0;
    reference_matmul(c.view(), problem, y.data(), 0);
    CHECK(std::isnan(y[0]));
    CHECK(y[2] == 32);
}
