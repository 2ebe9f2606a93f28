#include "backends/cuda/default_config.h"

#include <span>

namespace mxfp4 {
namespace {

struct Choice {
    i64 rows_per_group;  // up to this many
    KernelConfig config;
};

constexpr i64 kAnyRows = 9223372036854775807ll;
constexpr Variant kRs = Variant::wgmma_rs;
constexpr Layout kNative = Layout::native, kBlocks = Layout::blocks;

// What wins most often, or comes close, at gpt-oss's matmuls on an H100 and an H200 (bench/results): few outputs and long stages at few
// rows, more of both rows and outputs to a tile as products take over. hopper takes native's.
// variant, layout, block_m, block_n, block_k, num_warps, stages, split_k, ctas_per_sm, simd, cluster.
constexpr Choice kChoices[] = {
    {1, {kRs, kNative, 16, 192, 320, 16, 3, 1, 1}},
    {12, {kRs, kNative, 16, 384, 192, 16, 4, 1, 1}},
    {24, {kRs, kNative, 32, 128, 320, 12, 4, 1, 1}},
    {40, {kRs, kNative, 48, 384, 192, 16, 3, 1, 1}},
    {80, {kRs, kNative, 80, 384, 128, 16, 4, 1, 1}},
    {136, {kRs, kNative, 152, 192, 128, 16, 3, 1, 1, 0, 2}},
    {kAnyRows, {kRs, kNative, 192, 192, 128, 16, 3, 1, 1, 0, 2}},
};
// Instead of the first, where that has fewer tiles than this: smaller ones, two blocks to an SM, so that most SMs have work.
constexpr i64 kFewTiles = 100;
constexpr KernelConfig kFewTilesChoice{kRs, kNative, 8, 64, 320, 8, 4, 1, 2};
// blocks goes through warps' registers or decoded tiles in shared memory: what won there (H100), or came close.
constexpr Choice kBlocksChoices[] = {
    {4, {Variant::mma, kBlocks, 8, 64, 128, 4, 4}},
    {16, {Variant::mma, kBlocks, 16, 64, 64, 4, 6}},
    {48, {Variant::mma, kBlocks, 32, 128, 128, 4, 4}},
    {kAnyRows, {Variant::wgmma_ss, kBlocks, 128, 128, 64, 12, 3}},
};

constexpr KernelConfig for_layout(KernelConfig config, Layout layout) {
    config.layout = layout;
    return config;
}

constexpr bool all_pass() {
    const auto passes = [](const KernelConfig& config) {
        return check(config, {kNative, 0}) == Reject::none &&
               check(for_layout(config, Layout::hopper), {Layout::hopper, 8}) == Reject::none;
    };
    if (!passes(kFewTilesChoice)) return false;
    for (const Choice& choice : kChoices)
        if (!passes(choice.config)) return false;
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
    const Choice* choice = choices_of(format.layout).data();
    while (choice->rows_per_group < rows_per_group) ++choice;
    const bool few_tiles = choice == kChoices && shape.rows * ceil_div(shape.n, choice->config.block_n) < kFewTiles;
    return for_layout(few_tiles ? kFewTilesChoice : choice->config, format.layout);
}

std::vector<KernelConfig> default_configs(const WeightsFormat& format) {
    std::vector<KernelConfig> configs;
    for (const Choice& choice : choices_of(format.layout)) configs.push_back(for_layout(choice.config, format.layout));
    if (format.layout != kBlocks) configs.push_back(for_layout(kFewTilesChoice, format.layout));
    return configs;
}

}  // namespace mxfp4
