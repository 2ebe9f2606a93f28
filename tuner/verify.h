// Does a kernel compute the right thing? Sampled outputs against the reference; every output written; the same bits
// twice.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "reference/reference.h"
#include "tuner/bench_problem.h"

namespace mxfp4 {

inline constexpr double kMostRelativeError = 2.5e-3;  // Frobenius; rounding to bf16 alone gives 1.7e-3
inline constexpr double kMostElementError = 2e-2;     // of rms + |reference|

// What the reference says of some outputs: of the first and the last row of every group, in the last column and others.
struct Expectation {
    int rotation = 0;
    std::vector<Sample> samples;  // ascending by row
    std::vector<float> values;
    double rms = 0;  // of the values
};
double root_mean_square(const std::vector<float>& values);
Expectation expect(const SampleWeights& weights, const BenchProblem& problem, int rotation,
                   std::size_t least_samples = 512);

struct Agreement {
    double relative_error = 0;
    std::string rejected;  // what is wrong; empty: nothing
};
Agreement compare(const Expectation& expected, const std::vector<float>& got);

// Launches once on the expectation's rotation, into poisoned memory, and compares.
using Launch = std::function<void(int rotation)>;
Agreement verify_samples(Backend& backend, const BenchProblem& problem, const Expectation& expected,
                         const Launch& launch);

// Launches twice into poisoned memory: an output that was not written, a NaN or a bit that changed is named. Empty:
// fine.
std::string verify_whole(Backend& backend, const BenchProblem& problem, int rotation, const Launch& launch);

}  // namespace mxfp4
