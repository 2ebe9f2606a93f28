// Random checkpoint tensors for tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include <mxfp4/packed.h>

struct TestWeights {
    std::int64_t experts, n, k;
    std::vector<std::uint8_t> blocks, scales;

    TestWeights(std::int64_t experts_, std::int64_t n_, std::int64_t k_, unsigned seed, int smallest_scale = 118,
                int largest_scale = 128)
        : experts(experts_),
          n(n_),
          k(k_),
          blocks(std::size_t(experts * n * k / 2)),
          scales(std::size_t(experts * n * k / 32)) {
        std::mt19937 random(seed);
        for (auto& b : blocks) b = std::uint8_t(random());
        for (auto& s : scales)
            s = std::uint8_t(smallest_scale + int(random() % unsigned(largest_scale - smallest_scale + 1)));
    }

    mxfp4::CheckpointView view() const {
        return {.blocks = blocks.data(), .scales = scales.data(), .experts = experts, .n = n, .k = k};
    }
    std::uint8_t byte(std::int64_t e, std::int64_t row, std::int64_t kb) const {
        return blocks[std::size_t((e * n + row) * k / 2 + kb)];
    }
    std::uint8_t& scale(std::int64_t e, std::int64_t row, std::int64_t kg) {
        return scales[std::size_t((e * n + row) * (k / 32) + kg)];
    }
    std::uint8_t scale(std::int64_t e, std::int64_t row, std::int64_t kg) const {
        return scales[std::size_t((e * n + row) * (k / 32) + kg)];
    }
};
