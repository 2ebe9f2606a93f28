// The embedded kernels: the fixed sample and every default config compile for sm_90a without a spill, and no kernel of the GPU suite
// is rejected. Needs NVRTC, no GPU.
//   compile_test [IMAGES]     a folder that keeps images and their reports: then only what changed is compiled
#include <cstdio>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/cuda/compile_many.h"
#include "core/config_text.h"
#include "support/kernel_suite.h"
#include "tools/nvrtc_of_environment.h"

using namespace mxfp4;

int main(int argc, char** argv) {
    BackendOptions options;
    if (argc == 2) options.images = argv[1];
    options.nvrtc = nvrtc_of_environment();
    Jit jit(options);
    try {
        fmt::print("{}\n", jit.compiler_build());
    } catch (const Error& error) {
        fmt::print("SKIPPED: {}\n", error.what());
        return 77;
    }
    std::vector<CompileJob> jobs = sample_jobs();
    const std::size_t samples = jobs.size();
    for (const CompileJob& job : test::kernel_suite()) jobs.push_back(job);
    int bad = 0;
    compile_many(jit, jobs, 0, [&](std::size_t i, const CompileReport& report) {
        const bool fine = report.rejected.empty() && (report.spill_bytes == 0 || i >= samples) && report.registers > 0;
        bad += !fine;
        fmt::print("{} {} {}: {} registers, {} spilled bytes, {:.0f} ms {}\n", fine ? "ok" : "BAD",
                   to_text(jobs[i].config), to_string(jobs[i].format.scale_class), report.registers, report.spill_bytes,
                   report.compile_ms, report.rejected);
        std::fflush(stdout);
    });
    fmt::print("{} of {} are bad\n", bad, jobs.size());
    return bad || samples < 20 ? 1 : 0;
}
