// The kernels that the GPU suite checks: every admissible pair of layout and kernel, and each scale class and scale swizzle of it.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "backends/cuda/compile_many.h"
#include "core/config_text.h"

namespace mxfp4::test {

// Tile shapes, pipelines, splits and grids of every kernel; each is tried with every layout that it reads.
inline constexpr const char* kTails[] = {
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
inline constexpr Layout kLayouts[] = {Layout::blocks, Layout::hopper, Layout::native};
inline constexpr ScaleClass kClasses[] = {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain};

inline WeightsFormat format_of(Layout layout, ScaleClass scale_class, int w = 8) {
    return {layout, layout == Layout::native ? 0 : w, scale_class};
}

inline std::vector<KernelConfig> configs_of(const WeightsFormat& format) {
    std::vector<KernelConfig> configs;
    for (const std::string tail : kTails) {
        const auto space = tail.find(' ');
        const KernelConfig config = parse_config(fmt::format("{}/{}{}", tail.substr(0, space), to_string(format.layout), tail.substr(space)));
        const Reject reject = check(config, format);
        if (reject == Reject::none)
            configs.push_back(config);
        else if (reject != Reject::layout_not_admissible || format.layout != Layout::blocks)
            throw std::logic_error("the suite has a config that no kernel takes: " + to_text(config));
    }
    return configs;
}

inline std::vector<CompileJob> kernel_suite() {
    std::vector<CompileJob> jobs;
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses)
            for (const int w : {8, 2}) {
                if (w != 8 && (layout == Layout::native || scale_class != ScaleClass::folded)) continue;
                const WeightsFormat format = format_of(layout, scale_class, w);
                for (const KernelConfig& config : configs_of(format)) jobs.push_back({config, format});
            }
    return jobs;
}

}  // namespace mxfp4::test
