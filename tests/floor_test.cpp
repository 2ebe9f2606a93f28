// The floor against figures computed by hand from bytes, flops and the measured ceilings.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "tuner/floor.h"

using namespace mxfp4;
using Catch::Approx;

TEST_CASE("bytes and flops of a problem") {
    const ProblemSize size{.active = 4, .rows = 4, .n = 5760, .k = 2880};
    CHECK(problem_bytes(size) == 4 * 5760.0 * 2880 * 17 / 32 + 4 * (5760.0 + 2880) * 2);
    CHECK(problem_flops(size) == 2 * 4 * 5760.0 * 2880);
}

TEST_CASE("the floor is memory's for few rows and the tensor cores' for many") {
    // gpt-oss-20b mlp1 at 1 and 1024 tokens.
    CHECK(*floor_us("NVIDIA H100 80GB HBM3", {4, 4, 5760, 2880}) == Approx(11.67).epsilon(1e-3));
    CHECK(*floor_us("NVIDIA H100 80GB HBM3", {32, 4096, 5760, 2880}) == Approx(178.34).epsilon(1e-3));
    CHECK(*floor_us("NVIDIA H200", {4, 4, 5760, 2880}) == Approx(8.25).epsilon(1e-3));
    CHECK(*floor_us("NVIDIA H200", {32, 4096, 5760, 2880}) == Approx(170.51).epsilon(1e-3));
}

TEST_CASE("a GPU whose ceilings nobody measured has no floor") {
    CHECK_FALSE(floor_us("NVIDIA H100 PCIe", {4, 4, 5760, 2880}));
    CHECK_FALSE(floor_us("NVIDIA H200 NVL", {4, 4, 5760, 2880}));
    CHECK_FALSE(floor_us("", {4, 4, 5760, 2880}));
    CHECK(device_ceiling("NVIDIA H200")->short_name == "h200");
}
