#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <random>

#include "cache/choose.h"
#include "support/winners.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

std::vector<std::int64_t> rows_of(const std::vector<Candidate>& candidates) {
    std::vector<std::int64_t> rows;
    for (const Candidate& candidate : candidates) rows.push_back(candidate.winner.key.rows);
    return rows;
}

}  // namespace

TEST_CASE("a winner of the very problem is exact and comes first") {
    const auto candidates = choose({tuned(32), tuned(64), tuned(128)}, problem(64), current);
    REQUIRE(candidates.size() == 3);
    CHECK(candidates[0].how == How::exact);
    CHECK(candidates[0].winner.key.rows == 64);
    CHECK(candidates[0].differs.empty());
    CHECK(candidates[1].how == How::near);
    CHECK(candidates[1].differs == std::vector<std::string>{"rows"});
}

TEST_CASE("no winners, no candidates") {
    CHECK(choose({}, problem(64), current).empty());
    CHECK_FALSE(nearest({}, problem(64), current));
}

TEST_CASE("a stale kernel hash of the winner's own variant makes it near") {
    Winner stale = tuned(64);
    stale.key.kernel_hash = "rs-1";
    auto candidates = choose({stale}, problem(64), current);
    REQUIRE(candidates.size() == 1);
    CHECK(candidates[0].how == How::near);
    CHECK(candidates[0].differs == std::vector<std::string>{"kernel_hash"});
    // Another variant's current hash is no excuse.
    stale.key.kernel_hash = "mma-2";
    CHECK(choose({stale}, problem(64), current)[0].how == How::near);
    CHECK(choose({tuned(64, kSmallConfig)}, problem(64), current)[0].how == How::exact);
    // A stale winner of this bucket beats a current one of another.
    CHECK(rows_of(choose({tuned(48), stale, tuned(96)}, problem(64), current)) ==
          std::vector<std::int64_t>{64, 48, 96});
}

TEST_CASE("these fields may differ in a near winner") {
    const std::pair<const char*, Winner> winners[] = {
        {"memory_gib", changed(tuned(64), [](Winner& w) { w.key.memory_gib = 94; })},
        {"compiler", changed(tuned(64), [](Winner& w) { w.key.compiler = "nvrtc 13.5.1"; })},
        {"measuring_policy", changed(tuned(64), [](Winner& w) { w.key.measuring_policy = 0; })},
        {"experts", changed(tuned(64), [](Winner& w) { w.key.experts = 128; })},
        {"groups", changed(tuned(64), [](Winner& w) { w.key.groups = 4; })},
        {"rows", tuned(96)},
        {"x_aligned", changed(tuned(64), [](Winner& w) { w.key.x_aligned = false; })},
        {"y_aligned", changed(tuned(64), [](Winner& w) { w.key.y_aligned = false; })},
    };
    for (const auto& [field, winner] : winners) {
        INFO(field);
        const auto candidates = choose({winner}, problem(64), current);
        REQUIRE(candidates.size() == 1);
        CHECK(candidates[0].how == How::near);
        CHECK(candidates[0].differs == std::vector<std::string>{field});
    }
}

TEST_CASE("these fields may not") {
    const std::pair<const char*, Winner> winners[] = {
        {"device", changed(tuned(64), [](Winner& w) { w.key.device = "NVIDIA H200"; })},
        {"sm_count", changed(tuned(64), [](Winner& w) { w.key.sm_count = 114; })},
        {"layout_version", changed(tuned(64), [](Winner& w) { w.key.layout_version = 1; })},
        {"scale_warps", changed(tuned(64), [](Winner& w) { w.key.scale_warps = 4; })},
        {"scale_class", changed(tuned(64), [](Winner& w) { w.key.scale_class = ScaleClass::plain; })},
        {"n", changed(tuned(64), [](Winner& w) { w.key.n = 2880; })},
        {"k", changed(tuned(64), [](Winner& w) { w.key.k = 5760; })},
        {"prologue", changed(tuned(64), [](Winner& w) { w.key.prologue = "gather"; })},
        {"epilogue", changed(tuned(64), [](Winner& w) { w.key.epilogue = "swiglu"; })},
        {"status", changed(tuned(64), [](Winner& w) { w.status = WinnerStatus::blocked; })},
    };
    for (const auto& [field, winner] : winners) {
        INFO(field);
        CHECK(choose({winner}, problem(64), current).empty());
        const auto closest = nearest({winner}, problem(64), current);
        REQUIRE(closest);
        CHECK(closest->how == How::fallback);
        CHECK(closest->differs == std::vector<std::string>{field});
    }
    const Winner hopper = changed(tuned(64, "wgmma_rs/hopper bm64 bn256 bk128 w12 s4 k2"), [](Winner& w) {
        w.key.layout = Layout::hopper;
        w.key.scale_warps = 8;
    });
    CHECK(choose({hopper}, problem(64), current).empty());
    CHECK(nearest({hopper}, problem(64), current)->differs == std::vector<std::string>{"layout", "scale_warps"});
}

TEST_CASE("a winner for aligned rows never serves others") {
    for (bool Key::*field : {&Key::x_aligned, &Key::y_aligned}) {
        Key unaligned = problem(64);
        unaligned.*field = false;
        CHECK(choose({tuned(64)}, unaligned, current).empty());
        Winner careful = tuned(64);
        careful.key.*field = false;
        CHECK(choose({careful}, unaligned, current)[0].how == How::exact);
    }
}

TEST_CASE("near goes by the ratio of rows, experts and groups, and not too far") {
    const std::vector<Winner> all = {tuned(0),  tuned(1),   tuned(16),  tuned(24),
                                     tuned(48), tuned(128), tuned(256), tuned(384)};
    CHECK(rows_of(choose(all, problem(64), current)) == std::vector<std::int64_t>{48, 128, 24, 256, 16});
    CHECK(rows_of(choose(all, problem(0), current)) == std::vector<std::int64_t>{0, 1});
    CHECK(choose(all, problem(16384), current).empty());
    CHECK(nearest(all, problem(16384), current)->winner.key.rows == 384);
    const Winner far_experts = changed(tuned(64), [](Winner& w) { w.key.experts = w.key.groups = 128; });
    CHECK(rows_of(choose({far_experts, tuned(96)}, problem(64), current)) == std::vector<std::int64_t>{96, 64});
}

TEST_CASE("groups of 0 means one for each expert") {
    Winner all_experts = tuned(64);
    all_experts.key.groups = 0;
    CHECK(choose({all_experts}, problem(64), current)[0].how == How::exact);
    Key wanted = problem(64);
    wanted.groups = 0;
    CHECK(choose({tuned(64)}, wanted, current)[0].how == How::exact);
}

TEST_CASE("of two winners of one problem the newer serves") {
    const Winner newer = changed(tuned(64, kSmallConfig), [](Winner& w) { w.tuned_at = "2026-02-01T00:00:00Z"; });
    for (const auto& winners : {std::vector<Winner>{tuned(64), newer}, std::vector<Winner>{newer, tuned(64)}}) {
        const auto candidates = choose(winners, problem(64), current);
        REQUIRE(candidates.size() == 2);
        CHECK(candidates[0].winner.config == kSmallConfig);
        CHECK(candidates[1].how == How::exact);
    }
}

TEST_CASE("a config blocked for a problem does not come back from its neighbours") {
    const Winner blocked = changed(tuned(64), [](Winner& w) {
        w.status = WinnerStatus::blocked;
        w.key.kernel_hash = "rs-1";
    });
    const auto candidates = choose({blocked, tuned(48), tuned(96, kSmallConfig)}, problem(64), current);
    REQUIRE(candidates.size() == 1);
    CHECK(candidates[0].winner.config == kSmallConfig);
    CHECK(nearest({blocked, tuned(48)}, problem(64), current)->differs ==
          std::vector<std::string>{"kernel_hash", "status"});
    // Nor where another compiler, policy or amount of memory is all that differs.
    for (const auto change : {+[](Key& k) { k.compiler = "nvrtc 99.0.0"; }, +[](Key& k) { k.measuring_policy += 1; },
                              +[](Key& k) { k.memory_gib += 1; }}) {
        const Winner elsewhere = changed(blocked, [&](Winner& w) { change(w.key); });
        CHECK(choose({elsewhere, tuned(48)}, problem(64), current).empty());
    }
    // For other rows it is as good as ever.
    CHECK(choose({blocked, tuned(48)}, problem(48), current)[0].how == How::exact);
}

TEST_CASE("configs that do not read, or are for another layout than their key's, are passed over") {
    CHECK(choose({tuned(64, "tcgen05/native bm64")}, problem(64), current).empty());
    CHECK(choose({tuned(64, "wgmma_rs/hopper bm64 bn256 bk128 w12 s4 k2")}, problem(64), current).empty());
}

TEST_CASE("the order of the winners does not matter") {
    std::vector<Winner> winners;
    for (const std::int64_t rows : {16, 24, 32, 48, 64, 96, 128, 192, 256})
        for (const std::string& config : {kConfig, kSmallConfig})
            for (const char* hash : {"rs-1", "mma-1", "rs-2", "mma-2"})
                winners.push_back(changed(tuned(rows, config), [&](Winner& w) { w.key.kernel_hash = hash; }));
    std::mt19937 random(3);
    const auto first = choose(winners, problem(64), current);
    CHECK(first.size() == winners.size());
    for (int round = 0; round < 20; ++round) {
        std::shuffle(winners.begin(), winners.end(), random);
        const auto again = choose(winners, problem(64), current);
        REQUIRE(again.size() == first.size());
        for (std::size_t i = 0; i < first.size(); ++i) {
            REQUIRE(again[i].winner.key == first[i].winner.key);
            REQUIRE(again[i].winner.config == first[i].winner.config);
            REQUIRE(again[i].how == first[i].how);
        }
    }
}
