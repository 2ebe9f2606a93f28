// What the CUDA backend serves before anything was tuned. That each compiles without spills is the compile sample's test.
#include <algorithm>
#include <utility>

#include <catch2/catch_test_macros.hpp>

#include "backends/cuda/default_config.h"
#include "core/config_text.h"

using namespace mxfp4;

TEST_CASE("every default is one that is compiled in tests, and admissible where it serves") {
    for (const Layout layout : {Layout::native, Layout::hopper, Layout::blocks}) {
        const WeightsFormat format{layout, layout == Layout::native ? 0 : 8};
        const std::vector<KernelConfig> all = default_configs(format);
        for (const i64 experts : {1, 8, 128})
            for (const i64 n : {64, 2880, 14336})
                for (i64 rows = 0; rows <= 1 << 20; rows = rows * 2 + 1) {
                    const ProblemShape shape{.experts = experts, .n = n, .k = 2880, .rows = rows};
                    const KernelConfig config = default_config(format, shape);
                    INFO(to_text(config) << " E " << experts << " N " << n << " rows " << rows);
                    CHECK(config.layout == layout);
                    CHECK(std::find(all.begin(), all.end(), config) != all.end());
                    CHECK(check(config, format, shape, DeviceLimits{}) == Reject::none);
                }
    }
}

TEST_CASE("the more rows a group has, the more a default tile has room for") {
    for (const Layout layout : {Layout::native, Layout::blocks}) {
        const WeightsFormat format{layout, layout == Layout::native ? 0 : 8};
        int room = 0;
        for (const i64 rows : {4, 64, 512, 1024, 2048, 4096, 65536}) {
            const int block_m = default_config(format, {.experts = 32, .n = 5760, .k = 2880, .rows = rows}).block_m;
            CHECK(block_m >= room);
            room = block_m;
        }
        CHECK(room >= 128);
    }
}

TEST_CASE("few tiles are spread over all SMs") {
    const auto tile = [](i64 tokens, i64 n) {
        const KernelConfig c = default_config({}, {.experts = 32, .n = n, .k = 2880, .rows = 4 * tokens});
        return std::pair(c.block_n, c.ctas_per_sm);
    };
    CHECK(tile(1, 2880) == std::pair(64, 2));  // 180 tiles of 64 outputs, for 132 SMs
    CHECK(tile(1, 5760) == std::pair(64, 3));  // 360
    CHECK(tile(2, 2880) == std::pair(64, 3));
    CHECK(tile(2, 5760) == std::pair(64, 3));
    CHECK(tile(4, 5760) == std::pair(192, 1));  // 480 of 192
}
