// The emulator itself: it finds nothing in the kernels as they are, and every fault that is put into them.
#include "emulator/instances.h"
#include "mutations.h"
#include "support/kernel_checks.h"

using namespace mxfp4;
using namespace mxfp4::test;
using emulator::EmulatedBackend;
using emulator::Instance;

namespace {

// What is wrong with this run; empty: nothing.
std::string verdict(DeviceRun& device, const RandomProblem& problem, const Kernel& kernel) {
    try {
        const PoisonedRows y = device.run(kernel);
        if (!device.counters_left_zero()) return "a counter is not zero";
        return judge(y, problem.want, problem.c.routing.offsets);
    } catch (const emulator::Error& error) {
        return error.what();
    }
}

// The same, for every timing; before: what the groups are until the grids before have ended, if anything else.
std::string trouble(EmulatedBackend& backend, Random& random, const RandomProblem& problem, const Instance& instance,
                    const std::vector<i32>& before) {
    const KernelPtr kernel = backend.load(instance);
    DeviceRun device(backend, problem.c, problem.shift, problem.shift);
    const std::vector<i32>& offsets = problem.c.routing.offsets;
    if (!before.empty()) backend.grids_before = [&](bool ended) { std::ranges::copy(ended ? offsets : before, device.offsets()); };
    for (const emulator::When timing : {emulator::When::random, emulator::When::early, emulator::When::late}) {
        backend.timing = timing;
        backend.seed = random();
        if (std::string found = verdict(device, problem, *kernel); !found.empty()) return to_text(instance.config) + ": " + found;
    }
    return "";
}

// The first thing that is found wrong with any of the kernels.
std::string first_trouble(int problems) {
    for (const FarGroups& groups : kFarGroups)
        for (const Instance& instance : emulator::mutated_instances()) {
            Random random{1};
            EmulatedBackend backend;
            backend.device_limits.sm_count = 2;
            const RandomProblem problem(random, instance.format, groups);
            if (std::string found = trouble(backend, random, problem, instance, FarGroups::offsets(groups.before)); !found.empty())
                return "far groups, " + found;
        }
    for (int i = 0; i < problems; ++i)
        for (const Instance& instance : emulator::mutated_instances()) {
            Random random{unsigned(i)};
            EmulatedBackend backend;
            backend.device_limits.sm_count = int(between(random, 1, 3)) * instance.config.cluster;
            const RandomProblem problem(random, instance.format, 2, between(random, 1, 200), 32 * between(random, 1, 20),
                                        between(random, 1, 60), 6);
            const std::vector<i32> before = other_offsets(random, problem.c.routing, problem.c.rows);
            if (std::string found = trouble(backend, random, problem, instance, i % 2 ? before : std::vector<i32>()); !found.empty())
                return fmt::format("problem {}, {}", i, found);
        }
    return "";
}

}  // namespace

TEST_CASE("the kernels as they are pass") {
    mutation = 0;
    CHECK(first_trouble(40) == "");
}

TEST_CASE("every fault is noticed") {
    for (const Mutation& fault : kMutations) {
        INFO(fault.what << ": into " << fault.file);
        CHECK(fault.found);  // else tests/emulator/mutations.py looks for text that is not there any more
        mutation = int(&fault - kMutations) + 1;
        const std::string found = first_trouble(40);
        fmt::print("{}: {}\n", fault.what, found);
        CHECK(found != "");
    }
    mutation = 0;
}
