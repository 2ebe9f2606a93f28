#include "tuner/shape_bench.h"

#include <algorithm>

#include "core/config_text.h"

namespace mxfp4 {

ShapeBench::ShapeBench(BenchMemory& memory, const DeviceSample& weights, const BenchProblem& problem,
                       const ProblemShape& shape)
    : memory_(memory),
      weights_(weights),
      problem_(problem),
      shape_(shape),
      // The last rotation: its experts are others than the first ones, and it may lie on another copy.
      expected_(expect(weights.sample(), problem, problem.rotations() - 1)) {}

Measurement ShapeBench::measure(const std::string& config_text, const TimingOptions& timing) {
    Backend& backend = memory_.backend();
    Measurement m;
    m.config = parse_config(config_text);
    const WeightsFormat format = weights_.sample().info.format;
    if (const Reject reject = check(m.config, format, shape_, backend.limits()); reject != Reject::none) {
        m.rejected = reject_text(reject);
        return m;
    }
    try {
        m.report = backend.compile(m.config, format);
        m.rejected = m.report.rejected;
        if (!m.rejected.empty()) return m;
        const KernelPtr kernel = backend.load(m.config, format);
        const Agreement agreement =
            verify_samples(backend, problem_, expected_, [&](int rotation) { launch(*kernel, problem_, rotation, nullptr); });
        m.relative_error = agreement.relative_error;
        m.rejected = agreement.rejected;
        m.wrong = !m.rejected.empty();
        if (m.wrong) return m;
        m.verified = true;
        kernels_[to_text(m.config)] = kernel;
        m.timing = compare({&m.config, 1}, timing).front();
    } catch (const Error& error) {
        m.rejected = error.what();
    }
    return m;
}

std::vector<Timing> ShapeBench::compare(std::span<const KernelConfig> configs, const TimingOptions& timing) {
    return compare_on(problem_, configs, timing);
}

std::vector<Timing> ShapeBench::compare_on(const BenchProblem& problem, std::span<const KernelConfig> configs,
                                           const TimingOptions& timing) {
    std::vector<TimedWork> all;
    for (const KernelConfig& config : configs) all.push_back(work(config, problem));
    return memory_.backend().time(all, timing);
}

std::string ShapeBench::verify_whole(const KernelConfig& config) {
    const Kernel& kernel = *kernels_.at(to_text(config));
    return mxfp4::verify_whole(memory_.backend(), problem_, expected_.rotation,
                               [&](int rotation) { launch(kernel, problem_, rotation, nullptr); });
}

void ShapeBench::launch(const Kernel& kernel, const BenchProblem& problem, int rotation, Stream stream) const {
    const int sm_count = memory_.backend().limits().sm_count;
    const KernelConfig& config = kernel.config();
    MatmulArguments arguments = problem.arguments(weights_, rotation);
    if (config.split_k != 1) {
        const std::int64_t counters = workspace_counter_bytes(config, shape_, sm_count);
        const auto scratch = memory_.scratch(counters, workspace_bytes(config, shape_, sm_count) - counters);
        arguments.workspace = scratch.data;
        arguments.workspace_counter_bytes = scratch.counter_bytes;
    }
    kernel.launch(arguments, stream);
}

TimedWork ShapeBench::work(const KernelConfig& config, const BenchProblem& problem) const {
    const KernelPtr kernel = kernels_.at(to_text(config));
    return {[this, kernel, &problem](int rotation, Stream stream) { launch(*kernel, problem, rotation, stream); },
            problem.rotations()};
}

}  // namespace mxfp4
