// The kernels that the emulator's tests run; each is a template instantiation, and compiling them is most of the cost.
#pragma once

#include <vector>

#include "emulator/emulated_backend.h"

namespace mxfp4::emulator {

std::vector<Instance> mma_instances();
std::vector<Instance> wgmma_ss_instances();
std::vector<Instance> wgmma_rs_instances();
std::vector<Instance> mutated_instances();

inline constexpr WeightsFormat kNative{Layout::native, 0, ScaleClass::folded};
inline constexpr WeightsFormat kHopper{Layout::hopper, 8, ScaleClass::folded};
inline constexpr WeightsFormat kHopper1{Layout::hopper, 1, ScaleClass::folded};
inline constexpr WeightsFormat kBlocks{Layout::blocks, 2, ScaleClass::folded};

constexpr WeightsFormat with(WeightsFormat format, ScaleClass scale_class) {
    format.scale_class = scale_class;
    return format;
}
// As the texts of configs order them: bm bn bk w s k c.
constexpr KernelConfig config(Variant variant, int bm, int bn, int bk, int w, int s, int k, int c = 1) {
    return {.variant = variant, .block_m = bm, .block_n = bn, .block_k = bk, .num_warps = w, .stages = s, .split_k = k,
            .ctas_per_sm = c};
}
constexpr KernelConfig in_pairs(KernelConfig config) {
    config.cluster = 2;
    return config;
}
constexpr KernelConfig with(KernelConfig config, Layout layout) {
    config.layout = layout;
    return config;
}

}  // namespace mxfp4::emulator
