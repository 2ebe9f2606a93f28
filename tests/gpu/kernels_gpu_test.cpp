// Every admissible pair of layout and kernel on a GPU, against the reference.
#include <catch2/catch_test_macros.hpp>

#include <map>

#include "core/parallel.h"
#include "support/kernel_checks.h"
#include "support/kernel_suite.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

Backend& gpu() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0, {});
    return *backend;
}

// Images stay in the backend's memory: all kernels are compiled side by side before the first is loaded.
void compile_ahead() {
    const std::vector<CompileJob> jobs = kernel_suite();
    parallel_for(0, std::int64_t(jobs.size()), [&](std::int64_t i) { gpu().compile(jobs[i].config, jobs[i].format); });
}

KernelPtr kernel_of(const KernelConfig& config, const WeightsFormat& format) {
    static std::map<std::string, KernelPtr> loaded;
    if (loaded.empty()) compile_ahead();
    KernelPtr& kernel = loaded[fmt::format("{} {} {}", to_text(config), format.scale_warps, int(format.scale_class))];
    if (!kernel) kernel = gpu().load(config, format);
    return kernel;
}

Kernels kernels_of(const WeightsFormat& format) {
    Kernels kernels;
    for (const KernelConfig& config : configs_of(format)) kernels.push_back(kernel_of(config, format));
    return kernels;
}

}  // namespace

TEST_CASE("the identity probe shows every decoded weight exactly", "[probe]") {
    Random random(3);
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses) {
            const WeightsFormat format = format_of(layout, scale_class);
            check_identity(gpu(), random, format, kernels_of(format));
        }
}

TEST_CASE("random ragged problems agree with the reference", "[random]") {
    Random random(1);
    for (int i = 0; i < 36; ++i) {
        const Layout layout = kLayouts[i % 3];
        const ScaleClass scale_class = kClasses[i / 3 % 3];
        const i64 experts = between(random, 1, 40), n = between(random, 1, 700), k = 32 * between(random, 1, 24);
        const i64 rows = i % 4 == 0 ? between(random, 300, 1500) : between(random, 0, 120);
        const WeightsFormat format = format_of(layout, scale_class, scale_class == ScaleClass::folded && random() % 2 ? 2 : 8);
        if (rows == 0) continue;
        INFO("problem " << i);
        check_random_problem(gpu(), RandomProblem(random, format, experts, n, k, rows, 80), kernels_of(format), 4);
    }
}

TEST_CASE("a hundred runs give the same bits", "[hundred]") {
    Random random(6);
    for (const Layout layout : kLayouts) {
        const WeightsFormat format = format_of(layout, ScaleClass::folded);
        check_random_problem(gpu(), RandomProblem(random, format, 12, 448, 1056, 400, 12), kernels_of(format), 100);
    }
}

TEST_CASE("integer-valued inputs give exact results over many k steps", "[integer]") {
    Random random(4);
    for (const Layout layout : kLayouts)
        for (const i64 rows : {13, 700}) {
            const WeightsFormat format = format_of(layout, ScaleClass::folded);
            check_integers(gpu(), random, format, 320, 2880, rows, kernels_of(format), 4);
        }
}

TEST_CASE("offsets are clamped, NaN stays in its row, padding counts for nothing", "[edges]") {
    Random random(5);
    for (const Layout layout : kLayouts) {
        const WeightsFormat format = format_of(layout, ScaleClass::folded);
        check_edges(gpu(), random, format, kernels_of(format));
    }
}
