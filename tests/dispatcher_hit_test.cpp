// What a hit costs: no allocation, and little time.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

#include "core/config_text.h"
#include "support/host_dispatcher.h"
#include "support/temporary_folder.h"

using namespace mxfp4;
using namespace mxfp4::test;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static constexpr bool kSanitized = true;  // times mean nothing then
#else
static constexpr bool kSanitized = false;
#endif

// Counts what a thread allocates, in the library too.
static thread_local long allocations = 0;
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++allocations;
    if (void* const pointer = std::malloc(bytes ? bytes : 1)) return pointer;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* pointer) noexcept { std::free(pointer); }
[[gnu::noinline]] void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }

TEST_CASE("a hit allocates nothing, and prepare makes hits") {
    Host host;
    Dispatcher dispatcher = host_dispatcher();
    const Weights weights = dispatcher.upload(host.view());
    dispatcher.prepare(weights, {.max_rows = 300, .groups = 7});
    CHECK(dispatcher.workspace_bytes(weights, 300) == 0);  // the host splits no k
    std::vector<Rows> work;
    for (const i64 rows : {300, 1, 2, 7, 64, 200}) work.emplace_back(host, rows);
    dispatcher.run(work[0].problem(weights));  // this thread's scratch in the host kernel
    for (Rows& rows : work)
        for (const int groups : {1, 2, 3}) {
            Problem problem = rows.problem(weights);
            problem.groups = groups;
            const long before = allocations;
            dispatcher.run(problem);
            REQUIRE(allocations == before);
        }
    const long before = allocations;
    Rows unprepared(host, 5000);
    CHECK(allocations > before);  // the counter counts
    const long made = allocations;
    dispatcher.run(unprepared.problem(weights));
    CHECK(allocations > made);
}

TEST_CASE("prepare that is told no groups prepares up to as many as there are experts") {
    Host host(8, 64, 64);
    Dispatcher dispatcher = host_dispatcher();
    const Weights weights = dispatcher.upload(host.view());
    dispatcher.prepare(weights, {.max_rows = 8});
    const i32 offsets[] = {0, 1, 2, 3, 4, 5, 6, 7, 8}, ids[] = {7, 6, 5, 4, 3, 2, 1, 0};
    const std::vector<u16> x(8 * 64, 0x3F80);
    std::vector<u16> y(8 * 64);
    const auto run = [&](int groups) {
        const long before = allocations;
        dispatcher.run({.x = x.data(), .weights = weights, .expert_offsets = offsets, .expert_ids = ids, .groups = groups, .rows = groups, .y = y.data()});
        return allocations - before;
    };
    run(8);  // this thread's scratch in the host kernel
    for (int groups = 1; groups <= 8; ++groups) {
        INFO(groups << " groups");
        CHECK(run(groups) == 0);
    }
}

TEST_CASE("a hit costs at most 200 ns over the bare launch") {
    // A group without rows: the host kernel looks at its offsets and returns.
    const TemporaryFolder folder;
    Host host;
    put_winner(folder / "t.sqlite", host, 4, "host/native bm8 bn64 bk64 w1 s1 k1");
    Dispatcher dispatcher({.device = Device::host(), .cache = folder / "t.sqlite"});
    const Weights weights = dispatcher.upload(host.view());
    const auto backend = make_host_backend({});
    const KernelPtr kernel = backend->load(parse_config("host/native bm8 bn64 bk64 w1 s1 k1"), {});
    const i32 offsets[] = {0, 0};
    std::vector<u16> x(4 * 64), y(4 * 96);
    MatmulArguments arguments = arguments_of(host.packed, host.checkpoint);
    arguments.x = x.data();
    arguments.y = y.data();
    arguments.expert_offsets = offsets;
    arguments.rows = 4;
    arguments.groups = 1;
    const Problem problem{
        .x = x.data(), .weights = weights, .expert_offsets = offsets, .groups = 1, .rows = 4, .y = y.data()};
    const auto batch_ns = [](auto launch) {
        constexpr int kBatch = 1000;
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < kBatch; ++i) launch();
        return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / kBatch;
    };
    std::vector<double> bare, hits;
    for (int batch = 0; batch < 101; ++batch) {
        bare.push_back(batch_ns([&] { kernel->launch(arguments, nullptr); }));
        hits.push_back(batch_ns([&] { dispatcher.run(problem); }));
    }
    std::sort(bare.begin(), bare.end());
    std::sort(hits.begin(), hits.end());
    INFO("bare launch " << bare[50] << " ns, dispatched " << hits[50] << " ns");
    if (!kSanitized) CHECK(hits[50] - bare[50] <= 200);
}
