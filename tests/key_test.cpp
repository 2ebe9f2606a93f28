#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include <mxfp4/error.h>

#include "cache/problem_key.h"

using namespace mxfp4;

namespace {

Key sample() {
    Key key;
    key.device = "NVIDIA H100 80GB HBM3";
    key.sm_count = 132;
    key.memory_gib = 80;
    key.compiler = "nvrtc 13.0.88";
    key.kernel_hash = "0123456789abcdef";
    key.experts = 32;
    key.n = 5760;
    key.k = 2880;
    key.groups = 32;
    key.rows = 64;
    return key;
}

}  // namespace

TEST_CASE("rows map to powers of two and the midpoints between them") {
    const std::vector<std::int64_t> expected = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
    CHECK(rows_buckets(64) == expected);
    CHECK(rows_buckets(49) == expected);
    CHECK(rows_buckets(0) == std::vector<std::int64_t>{0});
    std::int64_t last = 0;
    for (std::int64_t rows = 0; rows <= 64; ++rows) {
        const std::int64_t bucket = rows_bucket(rows);
        // The smallest bucket that is not below rows.
        CHECK(bucket == *std::lower_bound(expected.begin(), expected.end(), rows));
        CHECK(bucket >= last);
        last = bucket;
    }
    for (const std::int64_t bucket : rows_buckets(kMaxRows)) CHECK(rows_bucket(bucket) == bucket);
    CHECK(rows_bucket(16385) == 24576);
    CHECK(rows_bucket(24577) == 32768);
}

TEST_CASE("rows outside what a problem may have are refused") {
    CHECK(rows_bucket(kMaxRows) == kMaxRows);
    CHECK(rows_buckets(kMaxRows).back() == kMaxRows);
    CHECK_THROWS_AS(rows_bucket(-1), Error);
    CHECK_THROWS_AS(rows_bucket(kMaxRows + 1), Error);
    CHECK_THROWS_AS(rows_bucket(std::numeric_limits<std::int64_t>::max()), Error);
}

TEST_CASE("a key has one text, which reads back") {
    const std::string text =
        "device=NVIDIA%20H100%2080GB%20HBM3;sm_count=132;memory_gib=80;compiler=nvrtc%2013.0.88;kernel_hash="
        "0123456789abcdef;"
        "measuring_policy=5;layout=native;layout_version=2;scale_warps=0;scale_class=folded;experts=32;n=5760;k=2880;"
        "groups=32;"
        "rows=64;x_aligned=true;y_aligned=true;prologue=none;epilogue=none";
    CHECK(sample().text() == text);
    CHECK(Key::parse(text) == sample());
    CHECK(sample().hash().size() == 16);
    CHECK(Key::parse(text).hash() == sample().hash());
}

TEST_CASE("any byte of a name survives") {
    Key key = sample();
    key.device.clear();
    for (int byte = 0; byte < 256; ++byte) key.device += char(byte);
    key.compiler = "a;b=c%20d";
    key.kernel_hash = "";
    CHECK(Key::parse(key.text()) == key);
    CHECK(key.text().find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:/%=;") ==
          std::string::npos);
}

TEST_CASE("every field changes text and hash, and all but the kernel hash change the problem") {
    std::vector<Key> keys(20, sample());
    keys[1].device = "NVIDIA H200";
    keys[2].sm_count = 114;
    keys[3].memory_gib = 141;
    keys[4].compiler = "nvrtc 13.5.1";
    keys[5].kernel_hash = "f";
    keys[6].measuring_policy = kMeasuringPolicy + 1;
    keys[7].layout = Layout::hopper;
    keys[8].layout_version = 1;
    keys[9].scale_warps = 8;
    keys[10].scale_class = ScaleClass::plain;
    keys[11].experts = 128;
    keys[12].n = 2880;
    keys[13].k = 5760;
    keys[14].groups = 33;
    keys[15].rows = 96;
    keys[16].x_aligned = false;
    keys[17].y_aligned = false;
    keys[18].prologue = "gather";
    keys[19].epilogue = "swiglu";
    CHECK(sample().fields().size() == keys.size() - 1);
    std::set<std::string> texts, hashes;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        texts.insert(keys[i].text());
        hashes.insert(keys[i].hash());
        CHECK(Key::parse(keys[i].text()) == keys[i]);
        CHECK(same_problem(keys[0], keys[i]) == (i == 0 || i == 5));
    }
    CHECK(texts.size() == keys.size());
    CHECK(hashes.size() == keys.size());
}

TEST_CASE("a key text that is not canonical is refused") {
    const std::string good = sample().text();
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return text.replace(text.find(from), from.size(), to);
    };
    for (const std::string& bad : {std::string(),
                                   std::string("device=x"),
                                   good + ";",
                                   good + ";more=1",
                                   good.substr(1),
                                   good.substr(0, good.size() - 5),
                                   with("sm_count=132", "sm_count=0132"),
                                   with("sm_count=132", "sm_count=132x"),
                                   with("sm_count=132", "sm_count="),
                                   with("sm_count=132", "sm_count=99999999999"),
                                   with("rows=64", "rows=99999999999999999999"),
                                   with("%20", "%2"),
                                   with("%20", "%zz"),
                                   with("%20", "%"),
                                   with("%20", " "),
                                   with("NVIDIA", "%4EVIDIA"),
                                   with("x_aligned=true", "x_aligned=1"),
                                   with("native", "natives"),
                                   with("folded", "fold"),
                                   with("n=5760;k=2880", "k=2880;n=5760"),
                                   with("rows=64;", "")})
        CHECK_THROWS_AS(Key::parse(bad), Error);
}

TEST_CASE("a problem's key names the device and the bucket of its rows") {
    const auto backend = make_host_backend({});
    const WeightsFormat format{Layout::hopper, 8, ScaleClass::rebased};
    const ProblemShape shape{
        .experts = 32, .n = 5760, .k = 2880, .rows = 50, .groups = 0, .x_aligned = false, .y_aligned = true};
    const Key key = problem_key(*backend, format, 1, shape);
    CHECK(key.device == backend->identity().name);
    CHECK(key.sm_count == backend->identity().sm_count);
    CHECK(key.memory_gib * (1ll << 30) == backend->identity().memory_bytes);
    CHECK(key.compiler == backend->compiler_build());
    CHECK(key.kernel_hash.empty());
    CHECK(key.format() == format);
    CHECK(key.rows == 64);
    CHECK(key.groups == 32);
    CHECK_FALSE(key.x_aligned);
    CHECK(key.y_aligned);
    CHECK(groups_bound(32, 32) == 32);
    CHECK(groups_bound(5, 32) == 6);
    CHECK(groups_bound(33, 32) == 48);
    CHECK(groups_bound(33, 33) == 33);
}
