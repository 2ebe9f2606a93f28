#include "backends/cuda/compile_many.h"

#include <mutex>

#include "backends/cuda/default_config.h"
#include "core/config_text.h"
#include "core/parallel.h"

namespace mxfp4 {
namespace {

constexpr int kScaleWarps = 8;  // what gpt-oss users hold

WeightsFormat format_of(Layout layout, ScaleClass scale_class = ScaleClass::folded) {
    return {layout, layout == Layout::native ? 0 : kScaleWarps, scale_class};
}

constexpr const char* kSample[] = {
    "naive/blocks bm64 bn64 bk64 w1 s1 k1",         "naive/hopper bm64 bn64 bk64 w1 s1 k1",
    "naive/native bm64 bn64 bk64 w1 s1 k1",         "mma/blocks bm16 bn64 bk64 w4 s4 k1",
    "mma/hopper bm16 bn64 bk64 w4 s4 k1",           "mma/native bm8 bn64 bk128 w4 s4 k1",
    "mma/native bm64 bn128 bk64 w8 s3 k1",          "wgmma_ss/hopper bm128 bn128 bk64 w12 s3 k1",
    "wgmma_ss/native bm64 bn128 bk64 w12 s4 k1",    "wgmma_rs/hopper bm64 bn128 bk64 w8 s4 k1",
    "wgmma_rs/native bm8 bn128 bk128 w12 s4 k0 c2", "wgmma_rs/native bm16 bn128 bk128 w12 s6 k2",
    "wgmma_rs/native bm128 bn256 bk64 w12 s4 k1",   "wgmma_rs/native bm80 bn384 bk128 w16 s4 k1 cl2",
    "wgmma_rs/native bm24 bn512 bk192 w20 s3 k1",   "wgmma_rs/hopper bm16 bn128 bk128 w8 s3 k1 c2",
};
// Scale classes differ in a few instructions: one small config of each kernel that decodes shows them all.
constexpr const char* kScaleClassSample[] = {
    "naive/blocks bm64 bn64 bk64 w1 s1 k1",       "mma/hopper bm8 bn64 bk64 w4 s4 k1",
    "wgmma_ss/native bm8 bn128 bk64 w12 s4 k1",   "wgmma_rs/hopper bm8 bn128 bk128 w12 s8 k1",
    "wgmma_rs/native bm32 bn128 bk128 w12 s8 k1", "wgmma_rs/native bm40 bn384 bk320 w16 s2 k1",
};

}  // namespace

std::vector<CompileJob> sample_jobs() {
    std::vector<CompileJob> jobs;
    for (const char* text : kSample) {
        const KernelConfig config = parse_config(text);
        jobs.push_back({config, format_of(config.layout)});
    }
    for (const char* text : kScaleClassSample)
        for (const ScaleClass scale_class : {ScaleClass::rebased, ScaleClass::plain}) {
            const KernelConfig config = parse_config(text);
            jobs.push_back({config, format_of(config.layout, scale_class)});
        }
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native})
        for (const KernelConfig& config : default_configs(format_of(layout)))
            jobs.push_back({config, format_of(layout)});
    return jobs;
}

std::vector<CompileReport> compile_many(Jit& jit, std::span<const CompileJob> jobs, int threads,
                                        const CompileDone& done) {
    std::vector<CompileReport> reports(jobs.size());
    std::mutex mutex;
    parallel_for(threads, std::int64_t(jobs.size()), [&](std::int64_t i) {
        const std::size_t job = std::size_t(i);
        reports[job] = jit.compile(jobs[job].config, jobs[job].format)->report;
        const std::lock_guard lock(mutex);
        if (done) done(job, reports[job]);
    });
    return reports;
}

}  // namespace mxfp4
