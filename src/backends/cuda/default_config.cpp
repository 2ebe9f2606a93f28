#include "backends/cuda/default_config.h"

#include <algorithm>
#include <span>

namespace mxfp4 {
namespace {

struct Choice {
    i64 rows_per_group;  // up to this many
    i64 least_tiles;     // of one row each: with fewer it leaves too many SMs idle
    KernelConfig config;
};

constexpr i64 kAnyRows = 9223372036854775807ll;
constexpr Variant kRs = Variant::wgmma_rs;
constexpr Layout kNative = Layout::native, kBlocks = Layout::blocks;

// What wins most often, or comes close, at gpt-oss's matmuls on an H100 and an H200 (bench/results): few outputs and long stages at few
// rows, more of both rows and outputs to a tile as products take over. The first that may serve does. hopper takes native's.
// variant, layout, block_m, block_n, block_k, num_warps, stages, split_k, ctas_per_sm, simd, cluster.
constexpr Choice kChoices[] = {
    {2, 400, {kRs, kNative, 16, 192, 320, 16, 3, 1, 1}},
    {1, 300, {kRs, kNative, 8, 64, 320, 8, 4, 1, 3}},
    {1, 0, {kRs, kNative, 8, 64, 320, 8, 4, 1, 2}},
    {12, 0, {kRs, kNative, 16, 384, 192, 16, 4, 1, 1}},
    {24, 0, {kRs, kNative, 32, 256, 320, 20, 3, 1, 1}},
    {40, 0, {kRs, kNative, 48, 384, 192, 16, 3, 1, 1}},
    {80, 0, {kRs, kNative, 80, 384, 128, 16, 4, 1, 1}},
    {300, 0, {kRs, kNative, 160, 192, 64, 16, 5, 1, 1, 0, 2}},
    {kAnyRows, 0, {kRs, kNative, 192, 192, 128, 16, 3, 1, 1, 0, 2}},
};
// blocks goes through warps' registers or decoded tiles in shared memory: what won there (H100), or came close.
constexpr Choice kBlocksChoices[] = {
    {4, 0, {Variant::mma, kBlocks, 8, 64, 128, 4, 4}},
    {16, 0, {Variant::mma, kBlocks, 16, 64, 64, 4, 6}},
    {48, 0, {Variant::mma, kBlocks, 32, 128, 128, 4, 4}},
    {kAnyRows, 0, {Variant::wgmma_ss, kBlocks, 128, 128, 64, 12, 3}},
};

constexpr KernelConfig for_layout(KernelConfig config, Layout layout) {
    config.layout = layout;
    return config;
}

constexpr bool all_pass() {
    for (const Choice& choice : kChoices) {
        if (check(choice.config, {kNative, 0}) != Reject::none) return false;
        if (check(for_layout(choice.config, Layout::hopper), {Layout::hopper, 8}) != Reject::none) return false;
    }
    for (const Choice& choice : kBlocksChoices)
        if (check(choice.config, {kBlocks, 8}) != Reject::none) return false;
    return true;
}
static_assert(all_pass());

std::span<const Choice> choices_of(Layout layout) {
    if (layout == kBlocks) return kBlocksChoices;
    return kChoices;
}

}  // namespace

KernelConfig default_config(const WeightsFormat& format, const ProblemShape& shape) {
    const i64 groups = shape.groups ? shape.groups : shape.experts;
    const i64 rows_per_group = ceil_div(shape.rows, groups > 0 ? groups : 1);
    const auto serves = [&](const Choice& choice) {
        return rows_per_group <= choice.rows_per_group && shape.rows * ceil_div(shape.n, choice.config.block_n) >= choice.least_tiles;
    };
    return for_layout(std::ranges::find_if(choices_of(format.layout), serves)->config, format.layout);
}

std::vector<KernelConfig> default_configs(const WeightsFormat& format) {
    std::vector<KernelConfig> configs;
    for (const Choice& choice : choices_of(format.layout)) configs.push_back(for_layout(choice.config, format.layout));
    return configs;
}

}  // namespace mxfp4
