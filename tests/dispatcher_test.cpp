// The dispatcher on Device::host(): results, choice, concurrency, errors.
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "core/config_text.h"
#include "support/host_dispatcher.h"
#include "support/temporary_folder.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

struct Messages {
    std::vector<std::string> said;
    LogCallback callback() {
        return [this](LogLevel, const std::string& message) { said.push_back(message); };
    }
    int count(const std::string& part) const {
        int found = 0;
        for (const std::string& message : said) found += message.find(part) != std::string::npos;
        return found;
    }
};

std::string what_of(const std::function<void()>& call, ErrorCode code) {
    try {
        call();
    } catch (const Error& error) {
        CHECK(error.code() == code);
        return error.what();
    }
    FAIL("nothing was thrown");
    return "";
}

}  // namespace

TEST_CASE("uploaded weights of every layout and scale class give the reference's results") {
    Dispatcher dispatcher = host_dispatcher();
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native})
        for (const ScaleClass scale_class : {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain}) {
            const WeightsFormat format{layout, layout == Layout::native ? 0 : 2, scale_class};
            Host host(3, 83, 96, format, scale_class == ScaleClass::folded ? 128 : 140);
            const Weights weights = dispatcher.upload(host.view());
            CHECK(weights.info().format == format);
            Rows rows(host, 29, 91);
            const RunInfo info = dispatcher.run(rows.problem(weights));
            CHECK(info.how == How::fallback);
            CHECK(parse_config(info.config).variant == Variant::host);
            REQUIRE(rows.judged(host) == "");
        }
}

TEST_CASE("wrapped tensors are read in place, with padded rows, and their scale class is found") {
    Dispatcher dispatcher = host_dispatcher();
    struct Wanted {
        int high, lift;
        ScaleClass scale_class;
    };
    for (const Wanted wanted : {Wanted{128, 0, ScaleClass::folded}, Wanted{129, 0, ScaleClass::rebased},
                                Wanted{117, 30, ScaleClass::rebased}, Wanted{252, 0, ScaleClass::plain}}) {
        Host host(3, 72, 160, {Layout::hopper, 8, ScaleClass::plain}, wanted.high);
        for (i64 i = 0; i < 72 * 5; ++i) host.checkpoint.scales[72 * 5 + i] += u8(wanted.lift);
        // The smallest scale that the class still allows, in the expert with the largest; its codes are 0.
        if (wanted.high == 252) {
            for (u8& s : host.checkpoint.scales) s = u8(between(host.random, 128, 134));
            host.checkpoint.scales[5] = 0;
            std::fill_n(host.checkpoint.blocks.begin() + 5 * 16, 16, u8(0));
        }
        host.packed = pack_by_maps(host.checkpoint, host.packed.format);
        // As current Triton pads N to 256, here with garbage in the padding.
        const StoredShape stored = host.packed.stored;
        const i64 value_rows = 256 / 4, value_row_bytes = stored.value_row_bytes + 16,
                  scale_rows = stored.scale_rows + 1, scale_row_bytes = stored.scale_row_bytes + 32;
        std::vector<u8> memory(std::size_t(3 * (value_rows * value_row_bytes + scale_rows * scale_row_bytes) + 64),
                               u8(255));
        u8* const values = memory.data() + (16 - reinterpret_cast<std::uintptr_t>(memory.data()) % 16) % 16;
        u8* const scales = values + 3 * value_rows * value_row_bytes;
        for (i64 e = 0; e < 3; ++e) {
            for (i64 r = 0; r < stored.value_rows; ++r)
                std::copy_n(host.packed.values.data() + e * stored.values_bytes() + r * stored.value_row_bytes,
                            stored.value_row_bytes, values + (e * value_rows + r) * value_row_bytes);
            for (i64 n = 0; n < 72; ++n)
                for (i64 kg = 0; kg < 5; ++kg) {
                    const Index2 at = hopper_scale_swizzle(n, kg, 8);
                    scales[(e * scale_rows + at.row) * scale_row_bytes + at.col] =
                        host.checkpoint.scales[(e * 72 + n) * 5 + kg];
                }
        }
        WrapSpec spec{.values = values,
                      .scales = scales,
                      .experts = 3,
                      .n = 72,
                      .k = 160,
                      .num_warps = 8,
                      .value_rows = value_rows,
                      .value_row_bytes = value_row_bytes,
                      .scale_rows = scale_rows,
                      .scale_row_bytes = scale_row_bytes};
        const Weights weights = dispatcher.wrap(spec);
        CHECK(weights.info().format.scale_class == wanted.scale_class);
        Rows rows(host, 31);
        dispatcher.run(rows.problem(weights));
        REQUIRE(rows.judged(host) == "");

        // In place: what the caller changes is what the next launch reads.
        std::fill_n(values, 3 * value_rows * value_row_bytes, u8(0));
        dispatcher.run(rows.problem(weights));
        for (i64 r = rows.routing.offsets[0]; r < 31; ++r) REQUIRE((rows.y.at(r, 7) & 0x7FFF) == 0);

        const Index2 at = hopper_scale_swizzle(70, 3, 8);
        scales[(2 * scale_rows + at.row) * scale_row_bytes + at.col] = 255;
        const std::string what = what_of([&] { dispatcher.wrap(spec); }, ErrorCode::invalid_argument);
        CHECK(what.find("expert 2, row 70, block 3") != std::string::npos);
        spec.value_row_bytes = stored.value_row_bytes - 16;
        CHECK(what_of([&] { dispatcher.wrap(spec); }, ErrorCode::invalid_argument).find("value_row_bytes") !=
              std::string::npos);
        spec.value_row_bytes = 0;
        spec.values = values + 4;
        CHECK(what_of([&] { dispatcher.wrap(spec); }, ErrorCode::invalid_argument).find("values is not aligned") !=
              std::string::npos);
    }
}

TEST_CASE("the database decides: exact, near, fallback") {
    const TemporaryFolder folder;
    const auto database = folder / "tuned.sqlite";
    Host host;
    put_winner(database, host, 16, "host/native bm8 bn64 bk64 w1 s1 k1");
    put_winner(database, host, 64, "host/native bm16 bn128 bk64 w2 s1 k1", "an older kernel text");
    put_winner(database, host, 256,
               "wgmma_rs/native bm64 bn256 bk128 w12 s4 k1");                 // passes check(), but not on this device
    put_winner(database, host, 4096, "host/native bm8 bn100 bk64 w1 s1 k1");  // check() refuses it
    Messages messages;
    Dispatcher dispatcher({.device = Device::host(), .cache = database, .log = messages.callback()});
    const Weights weights = dispatcher.upload(host.view());
    const auto run = [&](i64 count) {
        Rows rows(host, count);
        const RunInfo info = dispatcher.run(rows.problem(weights));
        REQUIRE(rows.judged(host) == "");
        return info;
    };
    CHECK(run(16).how == How::exact);
    CHECK(run(13).how == How::exact);  // the same bucket
    CHECK(run(16).config == "host/native bm8 bn64 bk64 w1 s1 k1");
    CHECK(run(8).how == How::near);
    CHECK(run(8).config == "host/native bm8 bn64 bk64 w1 s1 k1");
    CHECK(run(64).how == How::near);
    CHECK(run(64).config == "host/native bm16 bn128 bk64 w2 s1 k1");
    CHECK(messages.count("host backend runs host kernels alone") == 0);
    CHECK(run(256).config == "host/native bm16 bn128 bk64 w2 s1 k1");  // the exact one does not load: the next
    CHECK(run(250).how == How::near);
    CHECK(messages.count("host backend runs host kernels alone") == 1);
    CHECK(messages.count("nothing is tuned") == 0);
    const RunInfo far = run(4096);
    CHECK(far.how == How::fallback);
    CHECK(far.config == to_text(make_host_backend({})->default_config({}, {})));
    CHECK(messages.count(reject_text(Reject::block_n_not_supported)) == 1);
    CHECK(messages.count("nothing is tuned for E 3 N 96 K 64 native") == 1);
    run(3000);
    CHECK(messages.count("nothing is tuned") == 1);
}

TEST_CASE("a database that is missing is no error, one that is none is") {
    const TemporaryFolder folder;
    Messages messages;
    Host host;
    Dispatcher dispatcher({.device = Device::host(), .cache = folder / "none.sqlite", .log = messages.callback()});
    Rows rows(host, 5);
    const Weights weights = dispatcher.upload(host.view());
    CHECK(dispatcher.run(rows.problem(weights)).how == How::fallback);
    CHECK(messages.count("there is no tuning database") == 1);
    CHECK_FALSE(std::filesystem::exists(folder / "none.sqlite"));
    const auto bad = folder.write(
        "bad.sqlite", "certainly not a database, and long enough to be looked at by SQLite ...............");
    what_of([&] { Dispatcher({.device = Device::host(), .cache = bad}); }, ErrorCode::cache);
    std::filesystem::create_symlink(folder / "loop", folder / "loop");  // one that cannot be looked at
    what_of([&] { Dispatcher({.device = Device::host(), .cache = folder / "loop"}); }, ErrorCode::cache);
}

TEST_CASE("eight threads on one dispatcher, new sizes among them, all get the right rows") {
    const TemporaryFolder folder;
    Host host(4, 130, 96);
    for (const i64 rows : {1, 4, 24, 96})
        put_winner(folder / "t.sqlite", host, rows, fmt::format("host/native bm{} bn64 bk64 w2 s1 k1", rows));
    Dispatcher dispatcher({.device = Device::host(), .cache = folder / "t.sqlite"});
    const Weights weights = dispatcher.upload(host.view());
    std::vector<Rows> work;
    for (int i = 0; i < 64; ++i) work.emplace_back(host, i % 8 == 7 ? 100 : i * 3 % 70 + 1);
    std::atomic<int> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] {
            for (int i = next++; i < 64; i = next++) {
                if (i % 16 == 5) {  // upload and prepare meanwhile
                    const Weights others = dispatcher.upload(host.view());
                    dispatcher.prepare(others, {.max_rows = 20});
                }
                dispatcher.run(work[std::size_t(i)].problem(weights));
            }
        });
    for (std::thread& thread : threads) thread.join();
    for (const Rows& rows : work) REQUIRE(rows.judged(host) == "");
}

TEST_CASE("no rows, no launch") {
    Host host;
    Dispatcher dispatcher = host_dispatcher();
    const Weights weights = dispatcher.upload(host.view());
    const RunInfo info =
        dispatcher.run({.x = nullptr, .weights = weights, .expert_offsets = nullptr, .rows = 0, .y = nullptr});
    CHECK(info.config.empty());
    dispatcher.prepare(weights, {.max_rows = 0});
}

TEST_CASE("rows as unaligned as bf16 allows are served") {
    Host host(3, 83, 96);
    Dispatcher dispatcher = host_dispatcher();
    const Weights weights = dispatcher.upload(host.view());
    Rows rows(host, 17, 85);
    std::vector<u16> x(17 * 99 + 1);
    for (i64 r = 0; r < 17; ++r) std::copy_n(rows.x.data() + r * 96, 96, x.data() + 1 + r * 99);
    Problem problem{.x = x.data() + 1,
                    .x_stride = 99,
                    .weights = weights,
                    .expert_offsets = rows.routing.offsets.data(),
                    .expert_ids = rows.routing.ids.data(),
                    .groups = rows.routing.groups(),
                    .rows = 17,
                    .y = rows.y.data(),
                    .y_stride = 85};
    dispatcher.run(problem);
    CHECK(rows.judged(host) == "");
}

TEST_CASE("a problem that is none is refused before anything is done") {
    Host host;
    Dispatcher dispatcher = host_dispatcher(), other = host_dispatcher();
    const Weights weights = dispatcher.upload(host.view());
    Rows rows(host, 9);
    struct Wrong {
        const char* message;
        std::function<void(Problem&)> change;
    };
    const std::vector<Wrong> wrongs = {
        {"x (is null", [](Problem& p) { p.x = nullptr; }},
        {"y (is null", [](Problem& p) { p.y = nullptr; }},
        {"expert_offsets (is null", [](Problem& p) { p.expert_offsets = nullptr; }},
        {"rows of a problem (is -1", [](Problem& p) { p.rows = -1; }},
        {"rows of a problem (is 2147483648", [](Problem& p) { p.rows = 1ll << 31; }},
        {"x_stride (is 63", [](Problem& p) { p.x_stride = 63; }},
        {"x_stride (is -64", [](Problem& p) { p.x_stride = -64; }},
        {"y_stride (is 95", [](Problem& p) { p.y_stride = 95; }},
        {"groups of a problem (is -1", [](Problem& p) { p.groups = -1; }},
        {"groups without expert_ids (is 4", [](Problem& p) { p.groups = 4, p.expert_ids = nullptr; }},
        {"workspace (is 0x8", [](Problem& p) { p.workspace.data = reinterpret_cast<void*>(8); }},
    };
    for (const Wrong& wrong : wrongs) {
        Problem problem = rows.problem(weights);
        wrong.change(problem);
        INFO(wrong.message);
        CHECK(what_of([&] { dispatcher.run(problem); }, ErrorCode::invalid_argument).find(wrong.message) == 0);
    }
    CHECK(
        what_of([&] { other.run(rows.problem(weights)); }, ErrorCode::invalid_argument).find("another dispatcher's") !=
        std::string::npos);
    CHECK(rows.y.bytes == PoisonedRows(9, 96, 96).bytes);
    what_of([&] { dispatcher.prepare(weights, {.max_rows = -1}); }, ErrorCode::invalid_argument);
    what_of([&] { dispatcher.prepare(weights, {.max_rows = 1, .groups = -1}); }, ErrorCode::invalid_argument);
    what_of([&] { dispatcher.prepare(weights, {.max_rows = 1, .graphs = -1}); }, ErrorCode::invalid_argument);

    PackedView view = host.view();
    view.info.layout_version = 9;
    what_of([&] { dispatcher.upload(view); }, ErrorCode::unsupported);
    view = host.view();
    view.info.k = 48;
    what_of([&] { dispatcher.upload(view); }, ErrorCode::invalid_argument);
    view = host.view();
    view.scales = nullptr;
    what_of([&] { dispatcher.upload(view); }, ErrorCode::invalid_argument);
    view = host.view();
    view.info.format.scale_class = ScaleClass::rebased;
    CHECK(what_of([&] { dispatcher.upload(view); }, ErrorCode::invalid_argument).find("expert_scale") !=
          std::string::npos);
}

TEST_CASE("dispatchers and weights move, and weights may outlive their dispatcher") {
    Host host;
    std::optional<Dispatcher> first = host_dispatcher();
    Weights weights = first->upload(host.view());
    Dispatcher second = std::move(*first);
    Weights moved = std::move(weights);
    Rows rows(host, 6);
    second.run(rows.problem(moved));
    CHECK(rows.judged(host) == "");
    what_of([&] { second.run(rows.problem(weights)); }, ErrorCode::invalid_argument);
    second = host_dispatcher();
    what_of([&] { second.run(rows.problem(moved)); }, ErrorCode::invalid_argument);
    CHECK(moved.info().n == 96);
}
