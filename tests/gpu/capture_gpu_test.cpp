// Stream captures and graphs, with split-k and without.
#include <catch2/catch_test_macros.hpp>

#include "gpu/dispatcher_gpu.h"
#include "support/temporary_folder.h"

using namespace mxfp4;
using namespace mxfp4::test;

TEST_CASE("a capture that was not prepared for is an error before anything is enqueued; a prepared one replays") {
    const Current current;
    Random random(3);
    const Packed packed(random, 4, 256, 256);
    Dispatcher dispatcher(options_of());
    const Weights weights = dispatcher.upload(packed.packed.view());
    const OwnedStream stream = make_stream();
    Rows rows(random, packed.checkpoint, 24), others(random, packed.checkpoint, 300);

    bool refused = false;
    check(driver().stream_begin_capture(stream.get(), CU_STREAM_CAPTURE_MODE_GLOBAL), "begin a capture");
    try {
        dispatcher.run(rows.problem(weights), stream.get());
    } catch (const Error& error) {
        refused = error.code() == ErrorCode::not_prepared && error.remedy().find("prepare") != std::string::npos;
    }
    Graph empty;
    check(driver().stream_end_capture(stream.get(), empty.out()), "end the capture: the error must not have broken it");
    CHECK(refused);
    CHECK_THROWS_AS(
        capture(stream.get(), [&] { dispatcher.prepare(weights, {.max_rows = 8, .stream = stream.get()}); }), Error);

    dispatcher.prepare(weights, {.max_rows = 24, .stream = stream.get()});
    RunInfo info, stand_in;
    const GraphExec graph = capture(stream.get(), [&] {
        info = dispatcher.run(rows.problem(weights), stream.get());
        stand_in = dispatcher.run(others.problem(weights),
                                  stream.get());  // 300 rows were not prepared: a loaded kernel serves
    });
    INFO(info.config << " and " << stand_in.config);
    CHECK(stand_in.how != How::exact);
    for (int replay = 0; replay < 3; ++replay) {
        rows.poison();
        others.poison();
        check(driver().graph_launch(graph.get(), stream.get()), "launch the graph");
        CHECK(rows.judged() == "");
        CHECK(others.judged() == "");
    }
}

TEST_CASE("two captured graphs with split-k in flight at once do not disturb each other, nor the stream") {
    const Current current;
    const TemporaryFolder folder;
    Random random(4);
    const Packed packed(random, 4, 512, 2048);
    for (const i64 rows : {8, 16, 32}) put_winner(folder / "t.sqlite", packed.packed.info, rows, kSplitConfig);
    std::vector<std::string> messages;
    Dispatcher dispatcher(
        options_of(folder / "t.sqlite", [&](LogLevel, const std::string& text) { messages.push_back(text); }));
    const Weights weights = dispatcher.upload(packed.packed.view());
    const OwnedStream streams[3] = {make_stream(), make_stream(), make_stream()};
    dispatcher.prepare(weights, {.max_rows = 32, .stream = streams[0].get(), .graphs = 2});
    CHECK(dispatcher.workspace_bytes(weights, 32) > 0);

    // Both are captured from the same stream, and replayed at once on two others.
    std::vector<Rows> rows;
    for (int i = 0; i < 3; ++i) rows.emplace_back(random, packed.checkpoint, 30);
    std::vector<GraphExec> graphs;
    for (int i = 0; i < 2; ++i)
        graphs.push_back(capture(streams[0].get(), [&] {
            const RunInfo info = dispatcher.run(rows[std::size_t(i)].problem(weights), streams[0].get());
            CHECK(info.config == kSplitConfig);
            CHECK(info.how == How::exact);
        }));
    for (int round = 0; round < 50; ++round) {
        for (Rows& r : rows) r.poison();
        for (int launch = 0; launch < 20; ++launch) {
            for (int i = 0; i < 2; ++i)
                check(driver().graph_launch(graphs[std::size_t(i)].get(), streams[i + 1].get()), "launch a graph");
            dispatcher.run(rows[2].problem(weights), streams[0].get());
        }
        for (std::size_t i = 0; i < rows.size(); ++i) {
            INFO("round " << round << ", problem " << i);
            REQUIRE(rows[i].judged() == "");
        }
    }

    // prepare set two buffers aside: the third capture gets a kernel that needs none, and a message says so.
    const auto scratch_messages = [&] {
        return std::count_if(messages.begin(), messages.end(), [](const std::string& m) {
            return m.find("no split-k scratch is left") != std::string::npos;
        });
    };
    CHECK(scratch_messages() == 0);
    const GraphExec third = capture(streams[0].get(), [&] {
        const RunInfo info = dispatcher.run(rows[2].problem(weights), streams[0].get());
        INFO(info.config);
        CHECK(parse_config(info.config).split_k == 1);
    });
    CHECK(scratch_messages() == 1);
    rows[2].poison();
    check(driver().graph_launch(third.get(), streams[2].get()), "launch a graph");
    CHECK(rows[2].judged() == "");
}
