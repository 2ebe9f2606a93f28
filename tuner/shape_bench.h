// Measures configs on one problem. measure() is the one place where a config's text becomes a Measurement, so that it
// can move into a process of its own.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "tuner/bench_problem.h"
#include "tuner/measurement.h"
#include "tuner/verify.h"

namespace mxfp4 {

class ShapeBench {
  public:
    // shape: what the config must serve, for the size of its scratch.
    ShapeBench(BenchMemory& memory, const DeviceSample& weights, const BenchProblem& problem,
               const ProblemShape& shape);

    const Expectation& expected() const { return expected_; }

    // Compiles (or finds the image), loads, verifies the sampled outputs and times alone.
    Measurement measure(const std::string& config_text, const TimingOptions& timing);

    // Times configs that measure() found usable again, interleaved: on its problem, or on another of the same shape.
    std::vector<Timing> compare(std::span<const KernelConfig> configs, const TimingOptions& timing);
    std::vector<Timing> compare_on(const BenchProblem& problem, std::span<const KernelConfig> configs, const TimingOptions& timing);

    // Every output written, none NaN, the same bits twice. Empty: fine.
    std::string verify_whole(const KernelConfig& config);

  private:
    void launch(const Kernel& kernel, const BenchProblem& problem, int rotation, Stream stream) const;
    TimedWork work(const KernelConfig& config, const BenchProblem& problem) const;

    BenchMemory& memory_;
    const DeviceSample& weights_;
    const BenchProblem& problem_;
    ProblemShape shape_;
    Expectation expected_;
    std::map<std::string, KernelPtr> kernels_;  // by config text
};

}  // namespace mxfp4
