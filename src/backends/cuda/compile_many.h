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

using CompileDone = std::function<void(std::size_t job, const CompileReport& report)>;

// Compiles on that many threads (0: one a core); reports are in the order of the jobs. done is called after each job,
// never twice at once.
std::vector<CompileReport> compile_many(Jit& jit, std::span<const CompileJob> jobs, int threads,
                                        const CompileDone& done = {});

}  // namespace mxfp4
