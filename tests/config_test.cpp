#include <catch2/catch_test_macros.hpp>

#include <mxfp4/error.h>

#include "core/config_text.h"

using namespace mxfp4;

TEST_CASE("a config text reads back") {
    const std::string text = "wgmma_rs/native bm64 bn256 bk128 w12 s4 k2";
    const KernelConfig config = parse_config(text);
    CHECK(config == KernelConfig{Variant::wgmma_rs, Layout::native, 64, 256, 128, 12, 4, 2});
    CHECK(to_text(config) == text);
    CHECK(check(config, WeightsFormat{}) == Reject::none);
    CHECK(to_text(parse_config("host/hopper bm8 bn64 bk64 w4 s1 k1 v1")) == "host/hopper bm8 bn64 bk64 w4 s1 k1 v1");
}

TEST_CASE("a config text that does not read is refused") {
    for (const char* text : {"", "wgmma_rs", "wgmma/native bm64", "wgmma_rs/natives bm64", "wgmma_rs/native bm", "wgmma_rs/native q4",
                             "wgmma_rs/native bm64x", "wgmma_rs/native bm99999999999999999999"})
        CHECK_THROWS_AS(parse_config(text), Error);
}

TEST_CASE("the bound of tiles counts an odd number of tiles of rows that tall tiles make even") {
    KernelConfig config = parse_config("wgmma_rs/native bm32 bn256 bk128 w12 s4 k1");
    const ProblemShape one_group = {.experts = 1, .n = 256, .k = 64, .rows = 85};  // 29 of 32 rows three times, or 22 of 24 four times
    REQUIRE(has_tall_tiles(config));
    CHECK(max_tiles(config, one_group) >= 2 * 2);  // two tall tiles above one another, for each half of the outputs
    config.split_k = 2;
    REQUIRE(!has_tall_tiles(config));
    CHECK(max_tiles(config, one_group) == 3);
}
