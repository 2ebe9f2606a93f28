// What the tuner would try: admissible, few, the sensible ones first.
#include <algorithm>
#include <cmath>
#include <set>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "core/config_text.h"
#include "tuner/candidates.h"
#include "tuner/cost_model.h"
#include "tuner/proven.h"

using namespace mxfp4;

namespace {

constexpr WeightsFormat kNative = {Layout::native, 0, ScaleClass::folded};
constexpr WeightsFormat kHopper = {Layout::hopper, 8, ScaleClass::rebased};
constexpr WeightsFormat kBlocks = {Layout::blocks, 8, ScaleClass::plain};

ProblemShape gpt_oss(std::int64_t tokens, std::int64_t n = 5760) {
    return {.experts = 32, .n = n, .k = 2880, .rows = tokens * 4, .groups = 0};
}

bool has(const CandidateList& list, auto&& predicate) {
    return std::any_of(list.configs.begin(), list.configs.end(), predicate);
}

}  // namespace

TEST_CASE("every candidate passes check and none comes twice") {
    const DeviceLimits limits;
    for (const WeightsFormat& format : {kNative, kHopper, kBlocks})
        for (std::int64_t tokens = 1; tokens <= 16384; tokens *= 4) {
            const ProblemShape shape = gpt_oss(tokens);
            const CandidateList list = enumerate_candidates(format, shape, limits, Device::Kind::cuda);
            INFO(to_string(format.layout) << ", " << tokens << " tokens");
            CHECK(list.configs.size() >= 12);
            CHECK(list.configs.size() <= std::size_t(kMostCandidates));
            CHECK(list.admissible > std::int64_t(list.configs.size()));
            std::set<std::string> texts;
            for (const KernelConfig& c : list.configs) {
                CHECK(check(c, format, shape, limits) == Reject::none);
                CHECK(texts.insert(to_text(c)).second);
            }
        }
}

TEST_CASE("refused configs are counted by reason") {
    const CandidateList list = enumerate_candidates(kNative, gpt_oss(64), DeviceLimits{}, Device::Kind::cuda);
    CHECK(list.rejected.at(Reject::too_many_registers) > 0);
    CHECK(list.rejected.at(Reject::too_much_shared_memory) > 0);
    CHECK_FALSE(list.rejected.contains(Reject::none));
    CHECK_FALSE(list.rejected.contains(Reject::stages_not_supported));

    DeviceLimits poor;
    poor.workspace_bytes = 1;
    const CandidateList whole = enumerate_candidates(kNative, gpt_oss(64), poor, Device::Kind::cuda);
    CHECK(whole.rejected.at(Reject::too_much_workspace) > 0);
    CHECK_FALSE(has(whole, [](const KernelConfig& c) { return c.split_k != 1; }));

    const CandidateList none =
        enumerate_candidates(kNative, {.experts = 4, .n = 64, .k = 33, .rows = 4}, DeviceLimits{}, Device::Kind::cuda);
    CHECK(none.configs.empty());
    CHECK(none.rejected.at(Reject::shape_not_supported) > 0);
}

TEST_CASE("which kernels compete") {
    const DeviceLimits limits;
    const auto is = [](Variant v) { return [v](const KernelConfig& c) { return c.variant == v; }; };
    const CandidateList few = enumerate_candidates(kNative, gpt_oss(1), limits, Device::Kind::cuda);
    CHECK(few.configs.front().variant == Variant::wgmma_rs);
    CHECK(has(few, is(Variant::mma)));
    CHECK_FALSE(has(few, is(Variant::wgmma_ss)));
    // One expert's tiles do not fill the machine: some candidates split k.
    const CandidateList one =
        enumerate_candidates(kNative, {.experts = 1, .n = 1024, .k = 8192, .rows = 1}, limits, Device::Kind::cuda);
    CHECK(has(one, [](const KernelConfig& c) { return c.split_k != 1; }));

    const CandidateList many = enumerate_candidates(kNative, gpt_oss(8192), limits, Device::Kind::cuda);
    CHECK(has(many, is(Variant::wgmma_ss)));
    CHECK_FALSE(has(many, is(Variant::mma)));

    const CandidateList blocks = enumerate_candidates(kBlocks, gpt_oss(64), limits, Device::Kind::cuda);
    CHECK_FALSE(has(blocks, is(Variant::wgmma_rs)));
    CHECK(has(blocks, is(Variant::mma)));
    CHECK(has(blocks, is(Variant::wgmma_ss)));
}

TEST_CASE("tiles fit the groups") {
    const DeviceLimits limits;
    const auto front = [&](std::int64_t tokens) {
        return enumerate_candidates(kNative, gpt_oss(tokens), limits, Device::Kind::cuda).configs.front();
    };
    CHECK(front(1).block_m <= 16);
    CHECK(front(16384).block_m >= 96);
}

TEST_CASE("what is proven comes before what the model thinks of") {
    const DeviceLimits limits;
    for (const WeightsFormat& format : {kNative, kHopper})
        for (std::int64_t tokens = 1; tokens <= 16384; tokens *= 2) {
            const ProblemShape shape = gpt_oss(tokens);
            std::vector<KernelConfig> proven = proven_configs(format.layout, rows_per_group(shape));
            std::erase_if(proven, [&](const KernelConfig& c) { return check(c, format, shape, limits) != Reject::none; });
            INFO(to_string(format.layout) << ", " << tokens << " tokens");
            CHECK(proven.size() >= 4);
            CHECK(proven.size() <= 14);  // the model has its share
            std::vector<KernelConfig> first = enumerate_candidates(format, shape, limits, Device::Kind::cuda).configs;
            std::erase_if(first, [](const KernelConfig& c) { return c.variant != Variant::wgmma_rs; });
            CHECK(first.size() > proven.size());
            first.resize(proven.size());
            CHECK(first == proven);
        }
}

TEST_CASE("a budget for fewer keeps the best") {
    const CandidateList all = enumerate_candidates(kNative, gpt_oss(64), DeviceLimits{}, Device::Kind::cuda);
    const CandidateList few = enumerate_candidates(kNative, gpt_oss(64), DeviceLimits{}, Device::Kind::cuda, 5);
    CHECK(few.configs.size() == 5);
    CHECK(few.configs.front() == all.configs.front());
    CHECK(enumerate_candidates(kNative, gpt_oss(64), DeviceLimits{}, Device::Kind::cuda, 0).configs.empty());
}

TEST_CASE("host candidates use the cores that there are") {
    DeviceLimits limits;
    limits.sm_count = 6;
    const CandidateList list =
        enumerate_candidates(kNative, {.experts = 4, .n = 512, .k = 512, .rows = 64}, limits, Device::Kind::host);
    CHECK(list.configs.size() > 8);
    CHECK(list.configs.front().simd == 1);
    CHECK(list.configs.front().num_warps == 6);
    for (const KernelConfig& c : list.configs) {
        CHECK(c.variant == Variant::host);
        CHECK(c.num_warps <= 6);
    }
    limits.sm_count = 1;
    for (const KernelConfig& c :
         enumerate_candidates(kNative, {.experts = 4, .n = 512, .k = 512, .rows = 64}, limits, Device::Kind::host)
             .configs)
        CHECK(c.num_warps == 1);
}

TEST_CASE("expected tiles add up") {
    // One group: no randomness.
    const TileCount one = expected_tiles({.experts = 1, .n = 64, .k = 64, .rows = 130}, 64, 8);
    CHECK(one.active == 1);
    CHECK(one.row_tiles == 3);
    CHECK(one.row_pairs == 2);
    CHECK(one.mma_rows == 136);
    // Few rows: E (1 - exp(-rows / E)) groups are active.
    const TileCount few = expected_tiles(gpt_oss(1), 8, 8);
    CHECK(few.active == Catch::Approx(32 * (1 - std::exp(-4 / 32.0))).epsilon(1e-3));
    CHECK(few.row_tiles == Catch::Approx(few.active).epsilon(1e-3));
    // Many rows: all are, and padding is less than half a tile a group.
    const TileCount many = expected_tiles(gpt_oss(4096), 128, 8);
    CHECK(many.active == Catch::Approx(32));
    CHECK(many.mma_rows >= 16384 * 0.995);
    CHECK(many.mma_rows <= 16384 + 32 * 8);
    CHECK(rows_per_group(gpt_oss(4096)) == Catch::Approx(512).epsilon(0.01));
}
