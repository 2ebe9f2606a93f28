// What a dispatcher keeps: kernels and scratch.
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "backends/backend.h"
#include "core/config_text.h"
#include "dispatcher/kernel_set.h"
#include "dispatcher/scratch.h"

using namespace mxfp4;

TEST_CASE("a kernel is loaded once, whoever asks, and one that cannot be says so again") {
    const auto backend = make_host_backend({});
    KernelSet kernels(*backend);
    const KernelConfig config = parse_config("host/native bm8 bn64 bk64 w1 s1 k1"),
                       bad = parse_config("host/native bm8 bn65 bk64 w1 s1 k1");
    CHECK(kernels.stand_in({}, {4, 64, 64, 8}, false) == nullptr);
    std::vector<const LoadedKernel*> got(8);
    std::atomic<int> refused = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            got[std::size_t(t)] = &kernels.get(config, {}, 16, How::exact);
            try {
                kernels.get(bad, {}, 16, How::exact);
            } catch (const Error& error) {
                refused += error.code() == ErrorCode::compile;
            }
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::set(got.begin(), got.end()).size() == 1);
    CHECK(refused == 8);

    kernels.get(parse_config("host/native bm64 bn64 bk64 w1 s1 k1"), {}, 1024, How::fallback);
    CHECK(kernels.stand_in({}, {4, 64, 64, 20}, true) == got[0]);
    CHECK(kernels.stand_in({}, {4, 64, 64, 4000}, true)->rows == 1024);
    CHECK(kernels.stand_in({Layout::hopper, 8}, {4, 64, 64, 20}, false) == nullptr);
    CHECK(kernels.stand_in({}, {4, 64, 65, 20}, false) == nullptr);
}

TEST_CASE("split-k scratch: a stream's own, zeroed, and a graph's own for good") {
    const auto backend = make_host_backend({});
    ScratchBuffers scratch(*backend);
    const auto stream = [](std::uintptr_t handle) { return reinterpret_cast<Stream>(handle); };
    const ScratchNeed small{1024, 4096}, large{2048, 1 << 20}, wide{4096, 4096};
    CHECK(scratch.find(stream(16), small) == nullptr);
    const Scratch& first = scratch.make(stream(16), small);
    for (i64 i = 0; i < first.counter_bytes; ++i) REQUIRE(static_cast<u8*>(first.data)[i] == 0);
    CHECK(scratch.find(stream(16), small) == &first);
    CHECK(&scratch.make(stream(16), small) == &first);
    CHECK(scratch.find(stream(32), small) == nullptr);
    CHECK(scratch.find(stream(16), large) == nullptr);
    const Scratch& grown = scratch.make(stream(16), large);
    CHECK(scratch.find(stream(16), small) == &grown);
    CHECK(scratch.find(stream(16), wide) == nullptr);  // its counters would lie among the others' partial tiles

    CHECK(scratch.find_for_graph(stream(16), 5, small) == nullptr);
    scratch.reserve_for_graphs(2, large, stream(16));
    const Scratch* const graph = scratch.find_for_graph(stream(16), 5, small);
    REQUIRE(graph);
    CHECK(graph != &grown);
    CHECK(scratch.find_for_graph(stream(16), 5, large) == graph);
    const Scratch* const another = scratch.find_for_graph(stream(16), 6, large);
    CHECK((another && another != graph));
    CHECK(scratch.find_for_graph(stream(32), 5, large) == nullptr);  // a forked stream may overlap: none left for it
    scratch.reserve_for_graphs(1, large, stream(16));
    CHECK(scratch.find_for_graph(stream(32), 5, large) != nullptr);
    CHECK(scratch.find_for_graph(stream(16), 5, wide) == nullptr);

    // CU_STREAM_PER_THREAD is one handle for a stream of each thread.
    const Scratch* const mine = &scratch.make(stream(2), small);
    CHECK(scratch.find(stream(2), small) == mine);
    std::thread([&] { CHECK(scratch.find(stream(2), small) == nullptr); }).join();
}
