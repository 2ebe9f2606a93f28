// The dispatcher on a GPU: weights uploaded and wrapped, scratch, threads, winners of older kernel text.
#include <catch2/catch_test_macros.hpp>

#include <thread>

#include "gpu/dispatcher_gpu.h"
#include "support/temporary_folder.h"

using namespace mxfp4;
using namespace mxfp4::test;

TEST_CASE("uploaded weights of every layout give the reference's results, whatever the size") {
    Dispatcher dispatcher(options_of());
    Random random(1);
    struct Range {
        int low, high;
    };
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native})
        for (const Range range : {Range{118, 128}, Range{122, 140}, Range{0, 140}}) {
            const Packed packed(random, 5, 328, 352, {.layout = layout}, range.low, range.high);
            const Weights weights = dispatcher.upload(packed.packed.view());
            for (const i64 count : {1, 3, 40, 700}) {
                Rows rows(random, packed.checkpoint, count);
                const RunInfo info = dispatcher.run(rows.problem(weights));
                INFO(to_string(layout) << ", class " << to_string(weights.info().format.scale_class) << ", rows "
                                       << count << ", " << info.config);
                // Scales as wide as plain allows leave a few outputs with most of the norm: those are judged in the
                // kernels' tests.
                if (range.low > 0) CHECK(rows.judged() == "");
                rows.fetch();
                CHECK(rows.y.guards_intact());
            }
        }
}

TEST_CASE("tensors as Triton holds them are wrapped, N padded to 256, rebased where their scales ask for it") {
    Dispatcher dispatcher(options_of());
    Random random(2);
    for (const int high : {128, 133}) {
        const Packed packed(random, 4, 320, 384, {.layout = Layout::hopper, .num_warps = 8}, high - 10, high);
        const StoredShape stored = packed.packed.info.stored();
        const i64 value_rows = 512 / 4, scale_rows = 512 / 32;
        std::vector<u8> values(std::size_t(4 * value_rows * stored.value_row_bytes)),
            scales(std::size_t(4 * scale_rows * stored.scale_row_bytes));
        for (i64 e = 0; e < 4; ++e) {
            std::copy_n(packed.packed.values.data() + e * stored.values_bytes(), stored.values_bytes(),
                        values.data() + e * value_rows * stored.value_row_bytes);
            std::copy_n(packed.packed.scales.data() + e * stored.scales_bytes(), stored.scales_bytes(),
                        scales.data() + e * scale_rows * stored.scale_row_bytes);
        }
        const Buffer device_values = to_device(gpu(), values), device_scales = to_device(gpu(), scales);
        const WrapSpec spec{.values = device_values.data(),
                            .scales = device_scales.data(),
                            .experts = 4,
                            .n = 320,
                            .k = 384,
                            .num_warps = 8,
                            .value_rows = value_rows,
                            .scale_rows = scale_rows};
        const Weights weights = dispatcher.wrap(spec);
        CHECK(weights.info().format.scale_class == (high == 128 ? ScaleClass::folded : ScaleClass::rebased));
        for (const i64 count : {2, 90}) {
            Rows rows(random, packed.checkpoint, count);
            const RunInfo info = dispatcher.run(rows.problem(weights));
            INFO(info.config << ", rows " << count);
            CHECK(rows.judged() == "");
        }
    }
}

TEST_CASE("the caller's workspace serves split-k whatever it holds, and one too small is left alone") {
    const Current current;
    const TemporaryFolder folder;
    Random random(5);
    const Packed packed(random, 4, 512, 2048);
    put_winner(folder / "t.sqlite", packed.packed.info, 16, kSplitConfig);
    Dispatcher dispatcher(options_of(folder / "t.sqlite"));
    const Weights weights = dispatcher.upload(packed.packed.view());
    const std::size_t bytes = dispatcher.workspace_bytes(weights, 16);
    REQUIRE(bytes > 0);
    const Buffer workspace(gpu(), bytes);
    Rows rows(random, packed.checkpoint, 15);
    for (int round = 0; round < 3; ++round) {
        gpu().fill(workspace.data(), 0xA5, bytes, nullptr);
        gpu().synchronize();
        rows.poison();
        Problem problem = rows.problem(weights);
        problem.workspace = {workspace.data(), bytes};
        CHECK(dispatcher.run(problem).config == kSplitConfig);
        CHECK(rows.judged() == "");
    }
    gpu().fill(workspace.data(), 0xA5, bytes, nullptr);
    gpu().synchronize();
    Problem problem = rows.problem(weights);
    problem.workspace = {workspace.data(), 512};
    dispatcher.run(problem);
    CHECK(rows.judged() == "");
    std::vector<u8> bytes_after(bytes);
    gpu().copy_out(bytes_after.data(), workspace.data(), bytes);
    CHECK(bytes_after == std::vector<u8>(bytes, 0xA5));
}

TEST_CASE("many threads on many streams, split-k and not, all get the right rows") {
    const Current current;
    const TemporaryFolder folder;
    Random random(6);
    const Packed packed(random, 6, 256, 1024);
    for (const i64 rows : {4, 16}) put_winner(folder / "t.sqlite", packed.packed.info, rows, kSplitConfig);
    Dispatcher dispatcher(options_of(folder / "t.sqlite"));
    const Weights weights = dispatcher.upload(packed.packed.view());
    std::vector<Rows> work;
    for (int i = 0; i < 48; ++i) work.emplace_back(random, packed.checkpoint, 1 + i * 5 % 60);
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            const Current mine;
            const OwnedStream stream = make_stream();
            for (int round = 0; round < 20; ++round)
                for (std::size_t i = std::size_t(t); i < work.size(); i += 8)
                    dispatcher.run(work[i].problem(weights), stream.get());
            check(driver().stream_synchronize(stream.get()), "wait");
        });
    for (std::thread& thread : threads) thread.join();
    for (Rows& rows : work) REQUIRE(rows.judged() == "");
}

TEST_CASE("winners of older kernel text are tried, and serve as near; another thread's capture goes on meanwhile") {
    const Current current;
    const TemporaryFolder folder;
    Random random(9);
    const char* const configs[] = {"mma/native bm16 bn64 bk64 w4 s2 k1", "wgmma_ss/native bm64 bn128 bk64 w8 s4 k1",
                                   "wgmma_rs/native bm64 bn256 bk128 w12 s4 k0", kSplitConfig};
    const Packed packed(random, 4, 512, 2048);
    for (int i = 0; i < 4; ++i)
        put_winner(folder / "t.sqlite", packed.packed.info, i64(1) << 2 * i, configs[i], "an older kernel text");
    std::vector<std::string> messages;
    Dispatcher dispatcher(
        options_of(folder / "t.sqlite", [&](LogLevel, const std::string& text) { messages.push_back(text); }));
    const Weights weights = dispatcher.upload(packed.packed.view());
    const OwnedStream stream = make_stream(), captured = make_stream();
    check(driver().stream_begin_capture(captured.get(), CU_STREAM_CAPTURE_MODE_GLOBAL), "begin a capture");
    std::thread([&] {
        for (int i = 0; i < 4; ++i) {
            Rows rows(random, packed.checkpoint, i64(1) << 2 * i);
            const RunInfo info = dispatcher.run(rows.problem(weights), stream.get());
            CHECK(info.config == configs[i]);
            CHECK(info.how == How::near);
            gpu().synchronize(stream.get());
        }
    }).join();
    Graph graph;
    check(driver().stream_end_capture(captured.get(), graph.out()), "end the capture: nothing may have broken it");
    CHECK(messages.empty());
    for (int i = 0; i < 4; ++i) {
        Rows rows(random, packed.checkpoint, i64(1) << 2 * i);
        dispatcher.run(rows.problem(weights), stream.get());
        CHECK(rows.judged() == "");
    }
}
