// One gpt-oss-20b expert block through the dispatcher: both matmuls, the activation between them, the weighted sum.
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "gpu/dispatcher_gpu.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

constexpr i64 kHidden = 2880, kExperts = 32;
constexpr int kTopK = 4;

// Rows of tokens sorted by expert.
struct Routed {
    Routing routing;
    std::vector<i64> token_of_row;
    std::vector<float> weight_of_row;

    Routed(Random& random, i64 tokens) {
        std::vector<std::vector<std::pair<i64, float>>> chosen(kExperts);
        std::uniform_real_distribution<float> uniform(0.05f, 1.0f);
        for (i64 t = 0; t < tokens; ++t) {
            std::vector<i64> experts(kExperts);
            for (i64 e = 0; e < kExperts; ++e) experts[std::size_t(e)] = e;
            std::shuffle(experts.begin(), experts.end(), random);
            float weights[kTopK], sum = 0;
            for (float& w : weights) sum += w = uniform(random);
            for (int i = 0; i < kTopK; ++i)
                chosen[std::size_t(experts[std::size_t(i)])].emplace_back(t, weights[i] / sum);
        }
        routing.offsets.push_back(0);
        for (i64 e = 0; e < kExperts; ++e) {
            for (const auto& [token, weight] : chosen[std::size_t(e)]) {
                token_of_row.push_back(token);
                weight_of_row.push_back(weight);
            }
            routing.offsets.push_back(i32(token_of_row.size()));
            routing.ids.push_back(i32(e));
        }
    }
    i64 rows() const { return i64(token_of_row.size()); }
    i64 expert_of_row(i64 row) const {
        return std::upper_bound(routing.offsets.begin(), routing.offsets.end(), i32(row)) - routing.offsets.begin() - 1;
    }
};

// gate and up alternate; bias first, then the clamps, as gpt-oss has it.
float swiglu(float gate, float up) {
    gate = std::min(gate, 7.0f);
    up = std::clamp(up, -7.0f, 7.0f);
    return (up + 1) * gate / (1 + std::exp(-1.702f * gate));
}

Checkpoint gpt_oss_checkpoint(Random& random, i64 n) {
    Checkpoint c{kExperts, n, kHidden, std::vector<u8>(std::size_t(kExperts * n * kHidden / 2)),
                 std::vector<u8>(std::size_t(kExperts * n * kHidden / 32))};
    for (std::size_t i = 0; i < c.blocks.size(); i += 4) {
        const u32 word = u32(random());
        std::memcpy(c.blocks.data() + i, &word, 4);
    }
    for (u8& s : c.scales) s = u8(117 + random() % 4);  // weights of about 0.01, as a checkpoint has them
    return c;
}

std::vector<float> random_bias(Random& random, i64 n) {
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<float> bias(std::size_t(kExperts * n));
    for (float& b : bias) b = normal(random);
    return bias;
}

// y against the reference at a few thousand places.
void check_samples(Random& random, const Checkpoint& c, const std::vector<u16>& x, const Routed& routed,
                   const std::vector<u16>& y) {
    std::vector<Sample> samples;
    for (int i = 0; i < 4000; ++i)
        samples.push_back({between(random, 0, routed.rows() - 1), between(random, 0, c.n - 1)});
    const std::vector<float> want = reference_samples(
        c.view(), {x.data(), 0, routed.routing.offsets.data(), routed.routing.ids.data(), i32(kExperts), routed.rows()},
        samples);
    double square = 0, error = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const double d = bf16_to_float(y[std::size_t(samples[i].row * c.n + samples[i].n)]) - want[i];
        square += double(want[i]) * want[i];
        error += d * d;
    }
    const double rms = std::sqrt(square / double(samples.size()));
    INFO("relative Frobenius error " << std::sqrt(error / square));
    CHECK(std::sqrt(error / square) <= 2.5e-3);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const double got = bf16_to_float(y[std::size_t(samples[i].row * c.n + samples[i].n)]);
        INFO("row " << samples[i].row << ", output " << samples[i].n << ": " << got << ", the reference says "
                    << want[i]);
        REQUIRE(std::abs(got - want[i]) <= 2e-2 * (rms + std::abs(want[i])));
    }
}

struct Layer {
    const Checkpoint& checkpoint;
    const Weights& weights;
    const std::vector<float>& bias;  // [experts, n]

    // Through the dispatcher; no NaN, and right where sampled.
    std::vector<u16> run(Random& random, Dispatcher& dispatcher, const std::vector<u16>& x,
                         const Routed& routed) const {
        const Buffer device_x = to_device(gpu(), x), offsets = to_device(gpu(), routed.routing.offsets);
        std::vector<u16> y(std::size_t(routed.rows() * checkpoint.n), PoisonedRows::kPoison);
        const Buffer device_y = to_device(gpu(), y);
        const RunInfo info = dispatcher.run({.x = device_x.data(),
                                             .weights = weights,
                                             .expert_offsets = offsets.as<i32>(),
                                             .rows = routed.rows(),
                                             .y = device_y.data()});
        gpu().synchronize();
        gpu().copy_out(y.data(), device_y.data(), y.size() * 2);
        INFO(info.config << ", N " << checkpoint.n << ", rows " << routed.rows());
        REQUIRE(std::none_of(y.begin(), y.end(), [](u16 bits) { return (bits & 0x7FFF) >= 0x7F80; }));
        check_samples(random, checkpoint, x, routed, y);
        return y;
    }
};

// The activation between the two matmuls, for one row.
void activate(const float* gate_up, const float* bias, u16* to) {
    for (i64 i = 0; i < kHidden; ++i)
        to[i] = float_to_bf16(swiglu(gate_up[2 * i] + bias[2 * i], gate_up[2 * i + 1] + bias[2 * i + 1]));
}

}  // namespace

TEST_CASE("one gpt-oss-20b expert block: both matmuls through the dispatcher") {
    Random random(8);
    const Checkpoint gate_up = gpt_oss_checkpoint(random, 2 * kHidden), down = gpt_oss_checkpoint(random, kHidden);
    const std::vector<float> gate_up_bias = random_bias(random, 2 * kHidden), down_bias = random_bias(random, kHidden);
    Dispatcher dispatcher(options_of());
    const Weights gate_up_weights = dispatcher.upload(pack(gate_up.view()).view()),
                  down_weights = dispatcher.upload(pack(down.view()).view());
    const Layer first{gate_up, gate_up_weights, gate_up_bias}, second{down, down_weights, down_bias};
    for (const i64 tokens : {64, 512, 1024}) {
        INFO("tokens " << tokens);
        const Routed routed(random, tokens);
        const std::vector<u16> hidden = random_bf16(random, std::size_t(tokens * kHidden));
        std::vector<u16> x(std::size_t(routed.rows() * kHidden)), inner(x.size());
        for (i64 r = 0; r < routed.rows(); ++r)
            std::copy_n(hidden.data() + routed.token_of_row[std::size_t(r)] * kHidden, kHidden, x.data() + r * kHidden);
        const std::vector<u16> y1 = first.run(random, dispatcher, x, routed);
        std::vector<float> row(std::size_t(2 * kHidden));
        for (i64 r = 0; r < routed.rows(); ++r) {
            for (i64 n = 0; n < 2 * kHidden; ++n)
                row[std::size_t(n)] = bf16_to_float(y1[std::size_t(r * 2 * kHidden + n)]);
            activate(row.data(), gate_up_bias.data() + routed.expert_of_row(r) * 2 * kHidden,
                     inner.data() + r * kHidden);
        }
        const std::vector<u16> y2 = second.run(random, dispatcher, inner, routed);

        // The weighted sum, against the same block done by the reference for a few tokens from end to end.
        std::vector<float> out(std::size_t(tokens * kHidden));
        for (i64 r = 0; r < routed.rows(); ++r)
            for (i64 n = 0; n < kHidden; ++n)
                out[std::size_t(routed.token_of_row[std::size_t(r)] * kHidden + n)] +=
                    routed.weight_of_row[std::size_t(r)] *
                    (bf16_to_float(y2[std::size_t(r * kHidden + n)]) +
                     down_bias[std::size_t(routed.expert_of_row(r) * kHidden + n)]);
        REQUIRE(std::none_of(out.begin(), out.end(), [](float v) { return std::isnan(v); }));
        double square = 0, error = 0;
        for (const i64 token : {i64(0), tokens / 2, tokens - 1}) {
            std::vector<double> want(std::size_t(kHidden), 0.0);
            for (i64 r = 0; r < routed.rows(); ++r) {
                if (routed.token_of_row[std::size_t(r)] != token) continue;
                const i32 expert = i32(routed.expert_of_row(r)), offsets[] = {0, 1};
                std::vector<u16> middle(std::size_t(kHidden), u16(0));
                std::vector<float> last(std::size_t(kHidden), 0.0f);
                reference_matmul(gate_up.view(), {x.data() + r * kHidden, 0, offsets, &expert, 1, 1}, row.data(), 0);
                activate(row.data(), gate_up_bias.data() + expert * 2 * kHidden, middle.data());
                reference_matmul(down.view(), {middle.data(), 0, offsets, &expert, 1, 1}, last.data(), 0);
                for (i64 n = 0; n < kHidden; ++n)
                    want[std::size_t(n)] += double(routed.weight_of_row[std::size_t(r)]) *
                                            (last[std::size_t(n)] + down_bias[std::size_t(expert * kHidden + n)]);
            }
            for (i64 n = 0; n < kHidden; ++n) {
                const double d = out[std::size_t(token * kHidden + n)] - want[std::size_t(n)];
                square += want[std::size_t(n)] * want[std::size_t(n)];
                error += d * d;
            }
        }
        std::printf("MoE block, %lld tokens: relative Frobenius error of the output %.2e\n", tokens,
                    std::sqrt(error / square));
        CHECK(std::sqrt(error / square) <= 5e-3);  // three roundings to bf16 on the way
    }
}
