// A benchmark's problem on a device: weights in copies, random rows, poisoned output, offsets of each rotation.
#pragma once

#include <cstdint>
#include <vector>

#include "backends/backend.h"
#include "tuner/routing.h"
#include "tuner/sample_weights.h"
#include "weights.h"

namespace mxfp4 {

// Random bf16 rows. They repeat after a while: drawing half a gigabyte of them takes longer than all measurements.
class InputRows {
  public:
    explicit InputRows(std::int64_t k, std::uint64_t seed = 7);

    std::int64_t k() const { return k_; }
    std::int64_t period() const { return period_; }
    const std::uint16_t* row(std::int64_t r) const { return bits_.data() + r % period_ * k_; }  // [k] bf16

  private:
    std::int64_t k_, period_;
    std::vector<std::uint16_t> bits_;  // [period, k]
};

// x, y and scratch, shared by all problems of a run; they grow as needed.
class BenchMemory {
  public:
    explicit BenchMemory(Backend& backend) : backend_(&backend) {}

    Backend& backend() const { return *backend_; }
    const InputRows& input(std::int64_t k);
    const void* x(std::int64_t rows, std::int64_t k);  // [rows, k] bf16
    void* y(std::int64_t rows, std::int64_t n);        // [rows, n] bf16, contents undefined
    // Scratch whose counters stay zero between launches: they lie in an area that no config's partial sums reach.
    struct Scratch {
        void* data = nullptr;
        std::int64_t counter_bytes = 0;
    };
    Scratch scratch(std::int64_t counter_bytes, std::int64_t partial_bytes);

  private:
    Backend* backend_;
    std::vector<InputRows> input_;  // of the last k
    Buffer x_, y_, scratch_;
    std::int64_t x_rows_ = 0, counter_bytes_ = 0, partial_bytes_ = 0;
};

// All experts of the weights, in several copies.
class DeviceSample {
  public:
    DeviceSample(Backend& backend, const SampleWeights& sample, int copies);

    const SampleWeights& sample() const { return *sample_; }
    int copies() const { return int(weights_.size()); }
    const DeviceWeights& copy(int i) const { return weights_[std::size_t(i)]; }

  private:
    const SampleWeights* sample_;
    std::vector<DeviceWeights> weights_;
};

inline constexpr int kMostCopies = 8;  // of the weights
// Rotations that let weights come from memory on a GPU. The host's stay wherever its caches hold them: its users' do too.
RotationPlan cold_rotations(const Backend& backend, const SampleWeights& sample, const std::vector<std::vector<std::int64_t>>& draws,
                            int most_copies = kMostCopies);

class BenchProblem {
  public:
    BenchProblem(BenchMemory& memory, const WeightsInfo& weights, RotationPlan plan);

    const RotationPlan& plan() const { return plan_; }
    int rotations() const { return int(plan_.rotations.size()); }
    std::int64_t rows() const { return plan_.rows; }
    std::int64_t n() const { return n_; }
    std::int64_t k() const { return k_; }
    const void* x() const { return x_; }
    void* y() const { return y_; }
    std::int64_t y_bytes() const { return rows() * n_ * 2; }
    const std::int32_t* expert_offsets(int rotation) const;  // on the device
    const InputRows& input() const { return memory_->input(k_); }

    void poison_y() const;  // with NaN
    // Everything but the workspace.
    MatmulArguments arguments(const DeviceSample& weights, int rotation) const;

  private:
    BenchMemory* memory_;
    RotationPlan plan_;
    std::int64_t experts_, n_, k_;
    const void* x_;
    void* y_;
    Buffer offsets_;  // [rotations, experts + 1]
};

}  // namespace mxfp4
