// Many kernels compiled at once, and the fixed sample that CI compiles.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backends/cuda/jit.h"

namespace mxfp4 {

struct CompileJob {
    KernelConfig config;
    WeightsFormat format;
};

// One of each kernel, layout, scale class and way of splitting k, and every default config.
std::vector<CompileJob> sample_jobs();

// Compiles on that many threads (0: one a core); reports in the order of the jobs. done is called after each, one at a time.
std::vector<CompileReport> compile_many(Jit& jit, std::span<const CompileJob> jobs, int threads,
                                        const std::function<void(std::size_t job, const CompileReport& report)>& done = {});

}  // namespace mxfp4
