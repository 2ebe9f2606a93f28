// The dispatcher on Device::host(): choice, concurrency, errors, scratch, and what a hit costs.
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <new>
#include <optional>
#include <set>
#include <thread>

#include <mxfp4/mxfp4.h>

#include "backends/backend.h"
#include "cache/cache.h"
#include "cache/problem_key.h"
#include "core/config_text.h"
#include "dispatcher/kernel_set.h"
#include "dispatcher/scratch.h"
#include "support/map_packer.h"
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
void* operator new(std::size_t bytes) {
    ++allocations;
    if (void* const pointer = std::malloc(bytes ? bytes : 1)) return pointer;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* pointer) noexcept { std::free(pointer); }
[[gnu::noinline]] void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }

namespace {

struct Host {
    Random random{7};
    Checkpoint checkpoint;
    MapPacked packed;

    explicit Host(i64 experts = 3, i64 n = 96, i64 k = 64, WeightsFormat format = {}, int high = 128)
        : checkpoint(random_checkpoint(random, experts, n, k, high - 12, high)),
          packed(pack_by_maps(checkpoint, format)) {}

    PackedView view() const {
        PackedView v;
        v.info.format = packed.format;
        v.info.layout_version = kLayoutVersion[int(packed.format.layout)];
        v.info.experts = checkpoint.experts;
        v.info.n = checkpoint.n;
        v.info.k = checkpoint.k;
        v.values = packed.values.data();
        v.scales = packed.scales.data();
        // A packed file has it for native; for the others the dispatcher works it out.
        if (packed.format.layout == Layout::native && !packed.expert_scale.empty())
            v.expert_scale = packed.expert_scale.data();
        return v;
    }
};

struct Rows {
    Routing routing;
    i64 rows, k;
    std::vector<u16> x;
    PoisonedRows y;

    Rows(Host& host, i64 rows_, i64 y_stride = 0)
        : routing(random_routing(host.random, rows_, host.checkpoint.experts, host.checkpoint.experts, true)),
          rows(rows_),
          k(host.checkpoint.k),
          x(random_bf16(host.random, std::size_t(rows_ * k))),
          y(rows_, host.checkpoint.n, y_stride ? y_stride : host.checkpoint.n) {}

    Problem problem(const Weights& weights) {
        return {.x = x.data(),
                .weights = weights,
                .expert_offsets = routing.offsets.data(),
                .expert_ids = routing.ids.data(),
                .groups = routing.groups(),
                .rows = rows,
                .y = y.data(),
                .y_stride = y.stride};
    }
    std::string judged(const Host& host) const {
        std::vector<float> want(std::size_t(rows * host.checkpoint.n));
        reference_matmul(host.checkpoint.view(),
                         {x.data(), 0, routing.offsets.data(), routing.ids.data(), routing.groups(), rows}, want.data(),
                         0);
        return judge(y, want, routing.offsets);
    }
};

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

Dispatcher host_dispatcher() { return Dispatcher({.device = Device::host()}); }

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

// Files a winner for the weights and rows as the tuner would.
void put_winner(const std::filesystem::path& database, const Host& host, i64 rows, const std::string& config,
                const std::string& hash = "") {
    const auto backend = make_host_backend({});
    const WeightsInfo info = host.view().info;
    Winner winner;
    winner.key = problem_key(*backend, info.format, info.layout_version, {info.experts, info.n, info.k, rows});
    winner.key.kernel_hash = hash.empty() ? backend->kernel_hash(Variant::host) : hash;
    winner.config = config;
    winner.us = winner.us_p10 = winner.us_p90 = winner.us_default = 1;
    Cache::open(database, Cache::Mode::read_write).put(winner);
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
