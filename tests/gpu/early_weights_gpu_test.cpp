// Kernels ask for weights before the grid before them has ended, going by what the groups are then. Here that grid changes them last.
#include <catch2/catch_test_macros.hpp>

#include "support/kernel_checks.h"
#include "support/temporary_folder.h"
#include "tools/nvrtc_of_environment.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

// Stands in for mma.cuh. Lets the next grid start, waits for 20 us, then copies `rows` offsets from x to y.
constexpr const char* kChangeGroups = R"(
#pragma once
#include "contract/arguments.h"
#include "contract/config.h"
#include "ptx.cuh"
namespace mxfp4 {
template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_mma(const MatmulArguments& a) {
    ptx::wait_for_grids_before();
    ptx::let_next_grid_start();
    u64 start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (now < start + 20000);
    if (blockIdx.x == 0 && int(threadIdx.x) < a.rows) static_cast<i32*>(a.y)[threadIdx.x] = static_cast<const i32*>(a.x)[threadIdx.x];
}
}  // namespace mxfp4
)";

std::unique_ptr<Backend> backend_with(const std::filesystem::path& templates) {
    BackendOptions options;
    options.nvrtc = nvrtc_of_environment();
    options.kernel_templates = templates;
    return make_cuda_backend(0, options);
}

}  // namespace

TEST_CASE("groups that the grid before still changes", "[small]") {
    TemporaryFolder folder;
    folder.write("templates/mma.cuh", kChangeGroups);
    const auto changing = backend_with(folder.path() / "templates"), backend = backend_with({});
    const KernelPtr change_groups = changing->load(parse_config("mma/native bm64 bn64 bk128 w4 s2 k1"), {});
    Random random(8);
    for (const char* text : {"wgmma_rs/native bm8 bn64 bk128 w8 s4 k1 c2", "wgmma_rs/native bm8 bn64 bk192 w16 s6 k1",
                             "wgmma_rs/native bm16 bn192 bk64 w16 s4 k0", "wgmma_rs/hopper bm8 bn128 bk128 w12 s5 k1",
                             "wgmma_rs/native bm16 bn128 bk128 w8 s3 k1 c2",
                             "wgmma_rs/native bm96 bn256 bk192 w12 s3 k1", "wgmma_ss/native bm64 bn64 bk128 w8 s3 k0"}) {
        const KernelConfig config = parse_config(text);
        const WeightsFormat format{config.layout, config.layout == Layout::native ? 0 : 8, ScaleClass::folded};
        const KernelPtr kernel = backend->load(config, format);
        const RandomProblem problem(random, format, 9, 700, 1024, 150, 9);
        DeviceRun device(*backend, problem.c);
        const std::vector<i32>& offsets = problem.c.routing.offsets;
        const Buffer in_the_end = to_device(*backend, offsets);
        for (int run = 0; run < 8; ++run) {
            INFO(describe(problem.c, config) << ", run " << run);
            const std::vector<i32> before = other_offsets(random, problem.c.routing, problem.c.rows);
            MatmulArguments a{};
            a.x = in_the_end.data();
            a.y = device.offsets();
            a.rows = i32(offsets.size());
            const PoisonedRows y = device.run(*kernel, true, [&] {
                backend->copy_in(device.offsets(), before.data(), before.size() * 4);
                change_groups->launch(a, nullptr);
            });
            CHECK(judge(y, problem.want, offsets) == "");
        }
    }
}
