// The kernels' own text on the CPU, in random interleavings: docs/emulator.md.
#include <catch2/catch_get_random_seed.hpp>

#include "emulated/pipeline.cuh"
#include "emulator/instances.h"
#include "support/kernel_checks.h"

using namespace mxfp4;
using namespace mxfp4::test;
using emulator::EmulatedBackend;
using emulator::Instance;
using emulator::When;

namespace {

// Whatever the interleaving and the time at which copies and products happen, the bits are the same.
BeforeRun another_schedule(EmulatedBackend& backend, Random& random) {
    return [&](int run) {
        backend.timing = When(run % 3);
        backend.seed = random();
    };
}

void check_instances(const std::vector<Instance>& instances, unsigned seed, int problems) {
    for (const Instance& instance : instances) {
        Random random(seed);
        EmulatedBackend backend;
        const Kernels kernels{backend.load(instance)};
        for (int i = 0; i < problems; ++i) {
            INFO("problem " << i);
            backend.guard_below = i % 2 != 0;
            backend.device_limits.sm_count = int(between(random, instance.config.cluster, 5));
            const i64 experts = between(random, 1, 5), n = between(random, 1, 320), k = 32 * between(random, 1, 16);
            const i64 rows = i < problems / 2 ? between(random, 1, 12) : between(random, 13, 90);
            check_random_problem(backend, RandomProblem(random, instance.format, experts, n, k, rows, 40), kernels, 3,
                                 another_schedule(backend, random));
        }
        check_identity(backend, random, instance.format, kernels);
        if (instance.format.scale_class != ScaleClass::folded) continue;
        check_integers(backend, random, instance.format, 192, 512, 29, kernels, 3, another_schedule(backend, random));
        check_edges(backend, random, instance.format, kernels);
    }
}

}  // namespace

TEST_CASE("naive and mma kernels", "[mma]") { check_instances(emulator::mma_instances(), 1, 4); }
TEST_CASE("wgmma_ss kernels", "[wgmma_ss]") { check_instances(emulator::wgmma_ss_instances(), 2, 5); }
TEST_CASE("wgmma_rs kernels", "[wgmma_rs]") { check_instances(emulator::wgmma_rs_instances(), 3, 5); }

// Weights are asked for by what the groups are before the grids before have ended.
TEST_CASE("groups that the grids before still change", "[wgmma_rs]") {
    for (const Instance& instance : emulator::wgmma_rs_instances()) {
        Random random(5);
        EmulatedBackend backend;
        backend.device_limits.sm_count = 3;
        const KernelPtr kernel = backend.load(instance);
        const auto check = [&](const RandomProblem& problem, const std::vector<i32>& before) {
            DeviceRun device(backend, problem.c);
            const std::vector<i32>& offsets = problem.c.routing.offsets;
            backend.grids_before = [&](bool ended) { std::ranges::copy(ended ? offsets : before, device.offsets()); };
            for (int run = 0; run < 3; ++run) {
                INFO(describe(problem.c, instance.config) << ", run " << run);
                backend.timing = When(run);
                backend.seed = random();
                CHECK(judge(device.run(*kernel), problem.want, offsets) == "");
            }
        };
        for (int i = 0; i < 3; ++i) {
            const RandomProblem problem(random, instance.format, 4, between(random, 1, 320), 32 * between(random, 1, 16), 40, 6);
            check(problem, other_offsets(random, problem.c.routing, problem.c.rows));
        }
        for (const FarGroups& groups : kFarGroups)
            check(RandomProblem(random, instance.format, groups), FarGroups::offsets(groups.before));
    }
}

// Hidden: emulated_kernels_test [long] --rng-seed 7
TEST_CASE("all kernels, for as long as you like", "[.long]") {
    for (const auto instances : {emulator::mma_instances, emulator::wgmma_ss_instances, emulator::wgmma_rs_instances})
        check_instances(instances(), Catch::getSeed(), 50);
}

TEST_CASE("a position in the ring goes on by many stages as by one at a time") {
    constexpr KernelConfig kThreeStages =
        emulator::with(emulator::config(Variant::wgmma_rs, 16, 384, 192, 16, 3, 1), Layout::native);
    using Position = RingPosition<kThreeStages>;
    for (int start = 0; start < 6; ++start) {
        Position one;
        for (int i = 0; i < start; ++i) one.advance();
        const Position from = one;
        for (int count = 0; count < 20; ++count) {
            Position many = from;
            many.advance(count);
            CHECK(many.stage == one.stage);
            CHECK(many.parity == one.parity);
            one.advance();
        }
        Position far = from;
        far.advance(1 << 25);  // 2^31 of K in chunks of 64
        Position same = from;
        same.advance((1 << 25) % 6);
        CHECK(far.stage == same.stage);
        CHECK(far.parity == same.parity);
    }
}
