// Every admissible pair of layout and kernel on a GPU, against the reference.
#include <catch2/catch_test_macros.hpp>

#include <map>

#include "core/parallel.h"
#include "support/kernel_checks.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

Backend& gpu() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0, {});
    return *backend;
}

// Tile shapes, pipelines, splits and grids of every kernel; each is tried with every layout that it reads.
constexpr const char* kTails[] = {
    "naive bm64 bn64 bk64 w1 s1 k1",
    "mma bm16 bn64 bk128 w4 s4 k1",
    "mma bm8 bn128 bk64 w8 s2 k1",
    "mma bm64 bn128 bk64 w4 s3 k1",
    "wgmma_ss bm128 bn128 bk64 w12 s3 k1",
    "wgmma_ss bm64 bn64 bk128 w8 s3 k0",
    "wgmma_rs bm8 bn128 bk128 w12 s8 k1",
    "wgmma_rs bm16 bn64 bk64 w8 s6 k0 c2",
    "wgmma_rs bm16 bn192 bk192 w16 s4 k0",
    "wgmma_rs bm64 bn256 bk128 w12 s4 k2",
    "wgmma_rs bm32 bn128 bk320 w8 s2 k3",
    "wgmma_rs bm8 bn64 bk192 w16 s6 k1",
    "wgmma_rs bm32 bn128 bk128 w20 s4 k0",
    "wgmma_rs bm16 bn64 bk128 w12 s4 k2 c2",
    "wgmma_rs bm96 bn256 bk192 w12 s3 k1",
    "wgmma_rs bm16 bn128 bk128 w8 s3 k1 c2",
    "wgmma_rs bm24 bn512 bk192 w20 s3 k1",
    "wgmma_rs bm40 bn384 bk320 w16 s2 k1",
    "wgmma_rs bm192 bn192 bk64 w16 s5 k1",
    "wgmma_rs bm256 bn128 bk64 w12 s4 k1",
    "wgmma_rs bm32 bn128 bk128 w12 s5 k1 cl2",
    "wgmma_rs bm192 bn192 bk128 w16 s3 k1 cl2",
};
constexpr Layout kLayouts[] = {Layout::blocks, Layout::hopper, Layout::native};
constexpr ScaleClass kClasses[] = {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain};

WeightsFormat format_of(Layout layout, ScaleClass scale_class, int w = 8) {
    return {layout, layout == Layout::native ? 0 : w, scale_class};
}

std::vector<KernelConfig> configs_of(const WeightsFormat& format) {
    std::vector<KernelConfig> configs;
    for (const std::string tail : kTails) {
        const auto space = tail.find(' ');
        const KernelConfig config = parse_config(fmt::format("{}/{}{}", tail.substr(0, space), to_string(format.layout), tail.substr(space)));
        const Reject reject = check(config, format);
        if (reject == Reject::none)
            configs.push_back(config);
        else
            REQUIRE((reject == Reject::layout_not_admissible && format.layout == Layout::blocks));
    }
    return configs;
}

// Images stay in the backend's memory: compile all of a format's kernels side by side before the first is loaded.
void compile_ahead() {
    std::vector<std::pair<KernelConfig, WeightsFormat>> jobs;
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses)
            for (const int w : {8, 2}) {
                const WeightsFormat format = format_of(layout, scale_class, w);
                if (w != 8 && (layout == Layout::native || scale_class != ScaleClass::folded)) continue;
                for (const KernelConfig& config : configs_of(format)) jobs.push_back({config, format});
            }
    parallel_for(0, std::int64_t(jobs.size()), [&](std::int64_t i) { gpu().compile(jobs[i].first, jobs[i].second); });
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
