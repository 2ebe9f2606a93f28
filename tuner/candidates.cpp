#include "tuner/candidates.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <span>

#include "tuner/cost_model.h"
#include "tuner/proven.h"

namespace mxfp4 {
namespace {

struct BlockShape {
    int block_n, num_warps;
};
constexpr BlockShape kWgmmaRsBlocks[] = {{64, 8},   {128, 12}, {192, 16}, {128, 8}, {256, 12},
                                         {384, 16}, {64, 16},  {64, 12},  {128, 20}, {256, 20}, {512, 20}};
constexpr BlockShape kWgmmaSsBlocks[] = {{64, 8}, {128, 8}, {128, 12}, {256, 12}};
constexpr BlockShape kMmaBlocks[] = {{64, 4}, {64, 2}, {128, 8}, {128, 4}, {32, 2}};
constexpr int kWgmmaRows[] = {8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 144, 152, 160, 192, 208, 224, 256};
constexpr int kMmaRows[] = {8, 16, 32, 64};
constexpr int kWgmmaDepths[] = {64, 128, 192, 256, 320};
constexpr int kDepthOfTwoParts = 256;  // 320 are an odd number of chunks; others do as well without
constexpr int kMmaDepths[] = {64, 128};
constexpr int kSplits[] = {1, 0, 2, 4};
constexpr int kBlocksPerSm[] = {1, 2, 3};
constexpr int kClusters[] = {1, 2};
constexpr int kFewestRowsOfClusters = 64;  // with fewer, x is little of what is copied
constexpr int kMostStages = 16;

struct Ranked {
    KernelConfig config;
    double cost;
};

class Enumerator {
  public:
    Enumerator(const WeightsFormat& format, const ProblemShape& shape, const DeviceLimits& limits)
        : format_(format), shape_(shape), limits_(limits) {}

    void wgmma(Variant variant, std::span<const BlockShape> blocks) {
        const bool few_rows = rows_per_group(shape_) < kFewestRowsOfClusters / 2;
        for (const BlockShape& block : blocks)
            for (int block_m : kWgmmaRows)
                for (int block_k : kWgmmaDepths)
                    for (int ctas : kBlocksPerSm)
                        for (int split : kSplits)
                            for (int cluster : kClusters) {
                                if (cluster > 1 && (few_rows || block_m < kFewestRowsOfClusters)) continue;
                                KernelConfig c{.variant = variant,
                                               .layout = format_.layout,
                                               .block_m = block_m,
                                               .block_n = block.block_n,
                                               .block_k = block_k,
                                               .num_warps = block.num_warps,
                                               .split_k = split,
                                               .ctas_per_sm = ctas,
                                               .cluster = cluster};
                                if (block_k == kDepthOfTwoParts && k_parts(c) != 2) continue;
                                for (int stages : depths(c)) {
                                    c.stages = stages;
                                    consider(c);
                                }
                            }
    }

    void mma() {
        for (const BlockShape& block : kMmaBlocks)
            for (int block_m : kMmaRows)
                for (int block_k : kMmaDepths)
                    for (int stages : {2, 3, 4, 6})
                        consider({.variant = Variant::mma,
                                  .layout = format_.layout,
                                  .block_m = block_m,
                                  .block_n = block.block_n,
                                  .block_k = block_k,
                                  .num_warps = block.num_warps,
                                  .stages = stages});
    }

    void host() {
        const int cores = std::max(1, limits_.sm_count);
        std::vector<int> threads = {cores, (cores + 1) / 2, 1};
        threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
        for (int count : threads)
            for (int block_m : {1, 4, 16, 64})
                for (int block_n : {64, 128, 256})
                    for (int block_k : {256, 1024})
                        for (int simd : {1, 0})
                            consider({.variant = Variant::host,
                                      .layout = format_.layout,
                                      .block_m = block_m,
                                      .block_n = block_n,
                                      .block_k = block_k,
                                      .num_warps = count,
                                      .simd = simd});
    }

    CandidateList list;
    std::vector<Ranked> ranked;

  private:
    // As deep as there is room for; and what keeps so many bytes in flight on an SM: more only makes the first ones wait where
    // memory is the limit. {1}: there is no room for two.
    std::vector<int> depths(const KernelConfig& c) const {
        std::vector<int> depths = {deepest_pipeline(c)};
        KernelConfig one = c, two = c;
        one.stages = 1;
        two.stages = 2;
        const std::int64_t stage = (shared_bytes(two) - shared_bytes(one)) * c.ctas_per_sm;
        for (int bytes : {128 * 1024, 92 * 1024}) {
            const int stages = std::max<int>(2, int((bytes + stage / 2) / stage));
            if (stages < depths.back()) depths.push_back(stages);
        }
        return depths;
    }
    // Stages that shared memory has room for; 1 where there is none for two.
    int deepest_pipeline(KernelConfig c) const {
        c.stages = kMostStages;
        while (c.stages > 1 && (shared_bytes(c) > limits_.shared_bytes_per_block ||
                                (shared_bytes(c) + 1024) * c.ctas_per_sm > limits_.shared_bytes_per_sm))
            --c.stages;
        return c.stages;
    }

    void consider(const KernelConfig& c) {
        Reject reject = check(c, format_, shape_, limits_);
        if (is_wgmma(c.variant) && reject == Reject::stages_not_supported && c.stages < 2)
            reject = Reject::too_much_shared_memory;
        if (reject != Reject::none) {
            ++list.rejected[reject];
            return;
        }
        ++list.admissible;
        ranked.push_back({c, c.variant == Variant::host ? estimate_host_cost(c, shape_, limits_.sm_count)
                                                        : estimate_us(c, shape_, limits_)});
    }

    WeightsFormat format_;
    ProblemShape shape_;
    DeviceLimits limits_;
};

using Traits = std::array<int, 4>;
Traits traits(const KernelConfig& c) {
    if (c.variant == Variant::host) return {c.num_warps * 2 + c.simd, c.block_m, c.block_n, c.block_k};
    return {((c.block_n * 32 + c.num_warps) * 4 + c.ctas_per_sm) * 4 + c.cluster, c.block_m, c.block_k,
            is_wgmma(c.variant) ? c.split_k * 32 + c.stages : c.stages};
}

// How much dearer a candidate counts once one that agrees with it in so many traits is picked: a measurement of one
// says much of what there is to know about the other, and the model is no better than this.
constexpr double kLikeness[5] = {0, 0, 0.006, 0.03, 0.12};
constexpr double kSameBlock = 0.012;  // agreeing in the first trait counts once more: every kind of block gets its turn

// The cheapest, then each time the cheapest that is not too much like what is picked already.
std::vector<KernelConfig> pick(std::vector<Ranked> ranked, int most) {
    std::vector<KernelConfig> picked;
    std::vector<double> dearer(ranked.size(), 1);
    while (int(picked.size()) < most && !ranked.empty()) {
        std::size_t best = 0;
        for (std::size_t i = 1; i < ranked.size(); ++i)
            if (ranked[i].cost * dearer[i] < ranked[best].cost * dearer[best]) best = i;
        const KernelConfig config = ranked[best].config;
        picked.push_back(config);
        ranked[best] = ranked.back();
        dearer[best] = dearer.back();
        ranked.pop_back();
        dearer.pop_back();
        const Traits has = traits(config);
        for (std::size_t i = 0; i < ranked.size(); ++i) {
            const Traits other = traits(ranked[i].config);
            if (has[0] == other[0]) dearer[i] += kSameBlock;
            dearer[i] += kLikeness[std::inner_product(has.begin(), has.end(), other.begin(), 0, std::plus<>(),
                                                      std::equal_to<>())];
        }
    }
    return picked;
}

// Puts `few` into `many` at every third place: they are tried even where the model thinks little of them, but not
// first.
std::vector<KernelConfig> interleave(const std::vector<KernelConfig>& many, const std::vector<KernelConfig>& few) {
    std::vector<KernelConfig> merged;
    auto next = few.begin();
    for (const KernelConfig& c : many) {
        merged.push_back(c);
        if (merged.size() % 3 == 2 && next != few.end()) merged.push_back(*next++);
    }
    merged.insert(merged.end(), next, few.end());
    return merged;
}

}  // namespace

CandidateList enumerate_candidates(const WeightsFormat& format, const ProblemShape& shape, const DeviceLimits& limits,
                                   Device::Kind kind, int most) {
    if (most < 1) return {};
    CandidateList list;
    const auto collect = [&](auto&& enumerate, int share) {
        Enumerator e(format, shape, limits);
        enumerate(e);
        for (const auto& [reject, count] : e.list.rejected) list.rejected[reject] += count;
        list.admissible += e.list.admissible;
        return pick(std::move(e.ranked), share);
    };
    if (kind == Device::Kind::host) {
        list.configs = collect([](Enumerator& e) { e.host(); }, most);
        return list;
    }
    // A tensor core without wgmma keeps up only where a group has few rows; the decoded tile in shared memory pays only
    // where many rows reuse it. `blocks` has no register path, so there both compete everywhere.
    const double rows = rows_per_group(shape);
    const bool blocks = format.layout == Layout::blocks;
    const int share = blocks ? most : std::max(1, most / 12);
    std::vector<KernelConfig> others;
    if (blocks || rows <= 16) others = collect([](Enumerator& e) { e.mma(); }, blocks ? most / 2 : share);
    if (blocks || rows >= 64) {
        const auto ss = collect([](Enumerator& e) { e.wgmma(Variant::wgmma_ss, kWgmmaSsBlocks); },
                                blocks ? most - most / 2 : share);
        others = interleave(ss, others);
    }
    if (blocks) {
        list.configs = std::move(others);
        return list;
    }
    auto rs = collect([](Enumerator& e) { e.wgmma(Variant::wgmma_rs, kWgmmaRsBlocks); }, std::max(1, most - int(others.size())));
    for (const KernelConfig& config : proven_configs(format.layout, rows))
        if (check(config, format, shape, limits) == Reject::none) {
            std::erase(rs, config);
            list.configs.push_back(config);
        }
    list.configs.insert(list.configs.end(), rs.begin(), rs.end());
    list.configs = interleave(list.configs, others);
    if (int(list.configs.size()) > most) list.configs.resize(std::size_t(most));
    return list;
}

}  // namespace mxfp4
