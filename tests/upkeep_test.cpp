#include <catch2/catch_test_macros.hpp>

#include <mxfp4/error.h>

#include "cache/upkeep.h"
#include "cache/winner_json.h"
#include "support/temporary_folder.h"
#include "support/winners.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

const std::string kImageA(64, 'a'), kImageB(64, 'b'), kImageC(64, 'c');

std::vector<std::string> keys_of(const std::vector<Finding>& findings) {
    std::vector<std::string> keys;
    for (const Finding& finding : findings) keys.push_back(finding.key);
    return keys;
}

}  // namespace

TEST_CASE("a winner is found by its text or the unique beginning of its hash") {
    const std::vector<Winner> winners = {tuned(1), tuned(2), tuned(3)};
    for (const Winner& winner : winners) {
        CHECK(find_winner(winners, winner.key.text()).key == winner.key);
        CHECK(find_winner(winners, winner.key.hash()).key == winner.key);
    }
    CHECK_THROWS_AS(find_winner(winners, "no"), Error);
    CHECK_THROWS_AS(find_winner(winners, ""), Error);
    // 17 hashes and 16 first digits: two begin alike.
    std::vector<Winner> many;
    for (int rows = 0; rows < 17; ++rows) many.push_back(tuned(rows));
    int ambiguous = 0;
    for (const char digit : std::string("0123456789abcdef")) {
        try {
            find_winner(many, std::string(1, digit));
        } catch (const Error& error) {
            ambiguous += std::string(error.what()).find("more than one") != std::string::npos;
        }
    }
    CHECK(ambiguous > 0);
}

TEST_CASE("verify names rows that could never serve and damaged images") {
    const TemporaryFolder folder;
    Cache cache = Cache::open(folder / "a.sqlite", Cache::Mode::read_write);
    const Winner wide = tuned(2, "wgmma_rs/native bm64 bn256 bk100 w12 s4 k2");
    const Winner odd = changed(tuned(3), [](Winner& w) { w.key.k = 2881; });
    cache.put({tuned(1), wide, odd});
    const KeptImage sound{kImageA, 10, "", {}}, damaged{kImageB, 10, "checksum does not match", {}};
    CHECK(keys_of(verify(cache, {sound, damaged})) ==
          std::vector<std::string>{wide.key.text(), odd.key.text(), kImageB});
    cache.remove({wide.key.text(), odd.key.text()});
    CHECK(verify(cache, {sound}).empty());
}

TEST_CASE("garbage is what cannot be exact any more") {
    const Winner good = tuned(1);
    const Winner stale = changed(tuned(2), [](Winner& w) { w.key.kernel_hash = "rs-1"; });
    const Winner policy = changed(tuned(3), [](Winner& w) { w.key.measuring_policy = kMeasuringPolicy + 1; });
    const Winner version = changed(tuned(4), [](Winner& w) { w.key.layout_version = 7; });
    const Winner impossible = tuned(6, "wgmma_rs/native bm64 bn256 bk100 w12 s4 k2");
    const Winner overtaken = changed(tuned(8), [](Winner& w) { w.image = kImageB; });
    const Winner newer = changed(tuned(8, kSmallConfig), [](Winner& w) {
        w.tuned_at = "2026-02-01T00:00:00Z";
        w.image = kImageC;
    });
    const Winner blocked = changed(tuned(12), [](Winner& w) {
        w.status = WinnerStatus::blocked;
        w.key.kernel_hash = "rs-1";
    });
    const std::vector<KeptImage> images = {{kImageA, 1, "", {}}, {kImageB, 1, "", {}}, {kImageC, 1, "", {}}};
    const Garbage garbage =
        find_garbage({good, stale, policy, version, impossible, overtaken, newer, blocked}, images, current);
    CHECK(keys_of(garbage.rows) == std::vector<std::string>{stale.key.text(), policy.key.text(), version.key.text(),
                                                            impossible.key.text(), overtaken.key.text()});
    CHECK(keys_of(garbage.images) == std::vector<std::string>{kImageB});
    CHECK_FALSE(garbage.images_unknown);
    CHECK(find_garbage({good, newer}, {}, current).rows.empty());
}

TEST_CASE("images go only where every winner says which it needs, damaged ones always") {
    const Winner silent = changed(tuned(1), [](Winner& w) { w.image.clear(); });
    const std::vector<KeptImage> images = {{kImageB, 1, "", {}}, {kImageC, 1, "checksum does not match", {}}};
    const Garbage garbage = find_garbage({silent}, images, current);
    CHECK(garbage.images_unknown);
    CHECK(keys_of(garbage.images) == std::vector<std::string>{kImageC});
    // The host has no images.
    const Winner host = changed(tuned(1, "host/native bm8 bn64 bk64 w4 s1 k1"), [](Winner& w) {
        w.image.clear();
        w.key.kernel_hash = "rs-2";
    });
    CHECK_FALSE(find_garbage({host}, images, current).images_unknown);
    CHECK(find_garbage({host}, images, current).images.size() == 2);
}

TEST_CASE("merge takes what is new, newer or measured with less spread, and blocks") {
    const Winner same = tuned(1), older = tuned(2), spread = tuned(3), free = tuned(4), ahead = tuned(6);
    const std::vector<Winner> ours = {same, older, spread, free, ahead};
    const std::vector<Winner> theirs = {
        same,
        changed(older, [](Winner& w) { w.tuned_at = "2026-02-01T00:00:00Z"; }),
        changed(spread, [](Winner& w) { w.us_p90 = 10.2; }),
        changed(free, [](Winner& w) { w.status = WinnerStatus::blocked; }),
        changed(ahead, [](Winner& w) { w.tuned_at = "2025-12-31T00:00:00Z"; }),
        tuned(8),
    };
    std::vector<std::string> why;
    std::vector<Winner> after = {same, ahead};
    for (const Taken& taken : merge(ours, theirs)) {
        why.push_back(taken.why);
        after.push_back(taken.winner);
    }
    CHECK(why == std::vector<std::string>{"newer", "measured better", "blocked there", "new"});
    CHECK(merge(after, theirs).empty());
    const Winner blocked = changed(older, [](Winner& w) { w.status = WinnerStatus::blocked; });
    CHECK(merge({blocked}, {theirs[1]}).empty());  // newer, but what a person blocked here stays
    const Winner of_another_config = changed(blocked, [](Winner& w) { w.config = kSmallConfig; });
    CHECK(merge({older}, {of_another_config}).empty());  // nobody blocked ours
    CHECK(merge(ours, ours).empty());
}

TEST_CASE("compare tells what is here, there and unlike") {
    const Winner other = changed(tuned(2), [](Winner& w) { w.us = 9; });
    const Difference difference = compare({tuned(1), tuned(2), tuned(4)}, {tuned(2), tuned(3), tuned(4)});
    REQUIRE(difference.only_ours.size() == 1);
    CHECK(difference.only_ours[0].key.rows == 1);
    REQUIRE(difference.only_theirs.size() == 1);
    CHECK(difference.only_theirs[0].key.rows == 3);
    CHECK(difference.changed.empty());
    CHECK_FALSE(difference.none());
    CHECK(compare({tuned(2)}, {other}).changed.size() == 1);
    CHECK(compare({tuned(2)}, {tuned(2)}).none());
}

TEST_CASE("winners survive JSON") {
    Winner winner = tuned(64);
    winner.us = 10 + 1.0 / 3;
    winner.status = WinnerStatus::blocked;
    winner.key.device = "caf\xc3\xa9 \xff";  // not all names are UTF-8
    const std::string text =
        to_json(std::vector<Winner>{winner, tuned(1)}).dump(1, ' ', false, nlohmann::json::error_handler_t::replace);
    const std::vector<Winner> back = winners_from_json(nlohmann::json::parse(text));
    REQUIRE(back.size() == 2);
    CHECK(back[0].key == winner.key);
    CHECK(compare({winner, tuned(1)}, back).none());
}

TEST_CASE("JSON that is no list of winners is refused") {
    const nlohmann::json good = to_json(std::vector<Winner>{tuned(1)});
    CHECK(winners_from_json(good).size() == 1);
    const auto with = [&](const char* field, const nlohmann::json& value) {
        nlohmann::json bad = good;
        bad["winners"][0][field] = value;
        return bad;
    };
    const auto without = [&](const char* field) {
        nlohmann::json bad = good;
        bad["winners"][0].erase(field);
        return bad;
    };
    nlohmann::json newer = good;
    newer["version"] = 2;
    for (const nlohmann::json& bad :
         {nlohmann::json(), nlohmann::json::array(), nlohmann::json::object(), nlohmann::json(3), newer,
          with("key", "device=x"), with("key", 7), with("config", "wgmma_rs"), with("us", -1), with("us", "fast"),
          with("us_p10", -1), with("status", "good"), with("tuned_at", "yesterday"), with("tuned_at", 5),
          with("image", 5), without("key"), without("config"), without("us"), without("tuned_at")})
        CHECK_THROWS_AS(winners_from_json(bad), Error);
}
