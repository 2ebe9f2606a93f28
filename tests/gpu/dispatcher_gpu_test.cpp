// The dispatcher on a GPU: upload, wrap, stream capture, graphs with split-k, the cost of a hit, and one gpt-oss block.
#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include <mxfp4/mxfp4.h>

#include "cache/cache.h"
#include "cache/problem_key.h"
#include "core/config_text.h"
#include "cuda/driver.h"
#include "support/device_case.h"

#include "support/temporary_folder.h"
#include "tools/nvrtc_of_environment.h"
#include "weights.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

Backend& gpu() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0, {.nvrtc = nvrtc_of_environment()});
    return *backend;
}

// The context of the device, current while a test calls the driver itself.
struct Current {
    Current() : primary(device()), current(primary.get()) {}
    static CUdevice device() {
        CUdevice d = 0;
        check(driver().device_get(&d, 0), "open the device");
        return d;
    }
    PrimaryContext primary;
    CurrentContext current;
};

OwnedStream make_stream() {
    OwnedStream stream;
    check(driver().stream_create(stream.out(), CU_STREAM_NON_BLOCKING), "make a stream");
    return stream;
}

template <class Body>
GraphExec capture(Stream stream, Body body) {
    check(driver().stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "begin a capture");
    Graph graph;
    try {
        body();
    } catch (...) {
        driver().stream_end_capture(stream, graph.out());
        throw;
    }
    check(driver().stream_end_capture(stream, graph.out()), "end a capture");
    GraphExec executable;
    check(driver().graph_instantiate_with_flags(executable.out(), graph.get(), 0), "instantiate a graph");
    return executable;
}

// Weights in host memory, packed by the library.
struct Packed {
    Checkpoint checkpoint;
    PackedWeights packed;
    Packed(Random& random, i64 experts, i64 n, i64 k, const PackOptions& options = {}, int low = 118, int high = 128)
        : checkpoint(random_checkpoint(random, experts, n, k, low, high)), packed(pack(checkpoint.view(), options)) {}
};

// Rows on the device, y poisoned.
struct Rows {
    const Checkpoint& checkpoint;
    Routing routing;
    i64 rows;
    std::vector<u16> x;
    PoisonedRows y;
    Buffer device_x, device_y, offsets, ids;

    Rows(Random& random, const Checkpoint& c, i64 rows_)
        : Rows(random, c, rows_, random_routing(random, rows_, c.experts, c.experts, true)) {}
    Rows(Random& random, const Checkpoint& c, i64 rows_, Routing routing_)
        : checkpoint(c),
          routing(std::move(routing_)),
          rows(rows_),
          x(random_bf16(random, std::size_t(rows_ * c.k))),
          y(rows_, c.n, c.n),
          device_x(to_device(gpu(), x)),
          device_y(to_device(gpu(), y.bytes)),
          offsets(to_device(gpu(), routing.offsets)),
          ids(to_device(gpu(), routing.ids)) {}

    Problem problem(const Weights& weights) const {
        return {.x = device_x.data(),
                .weights = weights,
                .expert_offsets = offsets.as<i32>(),
                .expert_ids = ids.as<i32>(),
                .groups = routing.groups(),
                .rows = rows,
                .y = device_y.as<u16>() + PoisonedRows::kGuard};
    }
    void poison() {
        y = PoisonedRows(rows, checkpoint.n, checkpoint.n);
        gpu().copy_in(device_y.data(), y.bytes.data(), y.bytes.size() * 2);
    }
    void fetch() {
        gpu().synchronize();
        gpu().copy_out(y.bytes.data(), device_y.data(), y.bytes.size() * 2);
    }
    std::vector<float> reference() const {
        std::vector<float> want(std::size_t(rows * checkpoint.n));
        reference_matmul(checkpoint.view(),
                         {x.data(), 0, routing.offsets.data(), routing.ids.data(), routing.groups(), rows}, want.data(),
                         0);
        return want;
    }
    std::string judged() {
        fetch();
        return judge(y, reference(), routing.offsets);
    }
};

DispatcherOptions options_of(const std::filesystem::path& cache = {}, LogCallback log = {}) {
    return {.device = Device::cuda(0), .cache = cache, .log = std::move(log), .nvrtc = nvrtc_of_environment()};
}

// Files a config as the winner for these weights and rows.
void put_winner(const std::filesystem::path& database, const WeightsInfo& info, i64 rows, const std::string& config) {
    Winner winner;
    winner.key = problem_key(gpu(), info.format, info.layout_version, {info.experts, info.n, info.k, rows});
    winner.key.kernel_hash = gpu().kernel_hash(parse_config(config).variant);
    winner.config = config;
    winner.us = winner.us_p10 = winner.us_p90 = winner.us_default = 1;
    Cache::open(database, Cache::Mode::read_write).put(winner);
}

constexpr const char* kSplitConfig = "wgmma_rs/native bm16 bn64 bk64 w8 s6 k4";

}  // namespace

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

TEST_CASE("a hit costs at most 200 ns over the bare launch") {
    const Current current;
    const TemporaryFolder folder;
    Random random(7);
    const Packed packed(random, 4, 256, 256);
    const std::string configs[] = {"wgmma_rs/native bm16 bn64 bk64 w8 s6 k1", kSplitConfig};
    put_winner(folder / "t.sqlite", packed.packed.info, 4, configs[0]);
    put_winner(folder / "t.sqlite", packed.packed.info, 16, configs[1]);
    Dispatcher dispatcher(options_of(folder / "t.sqlite"));
    const Weights weights = dispatcher.upload(packed.packed.view());
    const OwnedStream stream = make_stream();
    dispatcher.prepare(weights, {.max_rows = 16, .stream = stream.get()});
    const DeviceWeights bare_weights = upload_weights(gpu(), packed.packed.view());
    const i64 counts[] = {4, 16};
    for (int c = 0; c < 2; ++c) {
        Rows rows(random, packed.checkpoint, counts[c]);
        const Problem problem = rows.problem(weights);
        REQUIRE(dispatcher.run(problem, stream.get()).config == configs[c]);
        const KernelPtr kernel = gpu().load(parse_config(configs[c]), packed.packed.info.format);
        const ProblemShape shape{4, 256, 256, counts[c]};
        const Buffer workspace(
            gpu(), std::size_t(std::max<i64>(workspace_bytes(kernel->config(), shape, gpu().limits().sm_count), 1)));
        gpu().fill(workspace.data(), 0, workspace.bytes(), stream.get());
        MatmulArguments arguments{};
        describe_weights(bare_weights, arguments);
        arguments.x = problem.x;
        arguments.y = problem.y;
        arguments.x_stride = arguments.y_stride = 256;
        arguments.expert_offsets = problem.expert_offsets;
        arguments.expert_ids = problem.expert_ids;
        arguments.workspace = workspace.data();
        arguments.workspace_counter_bytes = workspace_counter_bytes(kernel->config(), shape, gpu().limits().sm_count);
        arguments.rows = i32(counts[c]);
        arguments.groups = problem.groups;
        arguments.x_aligned = arguments.y_aligned = 1;

        // Batches shorter than the launch queue, one after the other, so that both meet the same machine.
        constexpr int kBatch = 100, kBatches = 201;
        const auto batch_ns = [&](auto launch) {
            const auto start = std::chrono::steady_clock::now();
            for (int i = 0; i < kBatch; ++i) launch();
            const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
            check(driver().stream_synchronize(stream.get()), "wait");
            return elapsed.count() / kBatch;
        };
        std::vector<double> bare, dispatched;
        for (int batch = 0; batch < kBatches; ++batch) {
            bare.push_back(batch_ns([&] { kernel->launch(arguments, stream.get()); }));
            dispatched.push_back(batch_ns([&] { dispatcher.run(problem, stream.get()); }));
        }
        const auto median = [](std::vector<double>& v) {
            std::nth_element(v.begin(), v.begin() + v.size() / 2, v.end());
            return v[v.size() / 2];
        };
        const double bare_ns = median(bare), hit_ns = median(dispatched);
        std::printf("%s: bare launch %.0f ns, dispatched %.0f ns, a hit costs %.0f ns\n", configs[c].c_str(), bare_ns,
                    hit_ns, hit_ns - bare_ns);
        CHECK(hit_ns - bare_ns <= 200);
    }
}

// ---- One gpt-oss-20b expert block
// ------------------------------------------------------------------------------------

namespace {

constexpr i64 kHidden = 2880, kExperts = 32;
constexpr int kTopK = 4;

// Rows of tokens sorted by expert.
struct Routed {
    Routing routing;
    std::vector<i64> token_of_row;
    std::vector<float> weight_of_row;

    Routed(Random& random, i64 tokens) {
        std::vector<std::vector<std::pair<i64, float>>> chosen(kExperts);
        std::uniform_real_distribution<float> uniform(0.05f, 1.0f);
        for (i64 t = 0; t < tokens; ++t) {
            std::vector<i64> experts(kExperts);
            for (i64 e = 0; e < kExperts; ++e) experts[std::size_t(e)] = e;
            std::shuffle(experts.begin(), experts.end(), random);
            float weights[kTopK], sum = 0;
            for (float& w : weights) sum += w = uniform(random);
            for (int i = 0; i < kTopK; ++i)
                chosen[std::size_t(experts[std::size_t(i)])].emplace_back(t, weights[i] / sum);
        }
        routing.offsets.push_back(0);
        for (i64 e = 0; e < kExperts; ++e) {
            for (const auto& [token, weight] : chosen[std::size_t(e)]) {
                token_of_row.push_back(token);
                weight_of_row.push_back(weight);
            }
            routing.offsets.push_back(i32(token_of_row.size()));
            routing.ids.push_back(i32(e));
        }
    }
    i64 rows() const { return i64(token_of_row.size()); }
    i64 expert_of_row(i64 row) const {
        return std::upper_bound(routing.offsets.begin(), routing.offsets.end(), i32(row)) - routing.offsets.begin() - 1;
    }
};

// gate and up alternate; bias first, then the clamps, as gpt-oss has it.
float swiglu(float gate, float up) {
    gate = std::min(gate, 7.0f);
    up = std::clamp(up, -7.0f, 7.0f);
    return (up + 1) * gate / (1 + std::exp(-1.702f * gate));
}

Checkpoint gpt_oss_checkpoint(Random& random, i64 n) {
    Checkpoint c{kExperts, n, kHidden, std::vector<u8>(std::size_t(kExperts * n * kHidden / 2)),
                 std::vector<u8>(std::size_t(kExperts * n * kHidden / 32))};
    for (std::size_t i = 0; i < c.blocks.size(); i += 4) {
        const u32 word = u32(random());
        std::memcpy(c.blocks.data() + i, &word, 4);
    }
    for (u8& s : c.scales) s = u8(117 + random() % 4);  // weights of about 0.01, as a checkpoint has them
    return c;
}

std::vector<float> random_bias(Random& random, i64 n) {
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<float> bias(std::size_t(kExperts * n));
    for (float& b : bias) b = normal(random);
    return bias;
}

// y against the reference at a few thousand places.
void check_samples(Random& random, const Checkpoint& c, const std::vector<u16>& x, const Routed& routed,
                   const std::vector<u16>& y) {
    std::vector<Sample> samples;
    for (int i = 0; i < 4000; ++i)
        samples.push_back({between(random, 0, routed.rows() - 1), between(random, 0, c.n - 1)});
    const std::vector<float> want = reference_samples(
        c.view(), {x.data(), 0, routed.routing.offsets.data(), routed.routing.ids.data(), i32(kExperts), routed.rows()},
        samples);
    double square = 0, error = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const double d = bf16_to_float(y[std::size_t(samples[i].row * c.n + samples[i].n)]) - want[i];
        square += double(want[i]) * want[i];
        error += d * d;
    }
    const double rms = std::sqrt(square / double(samples.size()));
    INFO("relative Frobenius error " << std::sqrt(error / square));
    CHECK(std::sqrt(error / square) <= 2.5e-3);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const double got = bf16_to_float(y[std::size_t(samples[i].row * c.n + samples[i].n)]);
        INFO("row " << samples[i].row << ", output " << samples[i].n << ": " << got << ", the reference says "
                    << want[i]);
        REQUIRE(std::abs(got - want[i]) <= 2e-2 * (rms + std::abs(want[i])));
    }
}

struct Layer {
    const Checkpoint& checkpoint;
    const Weights& weights;
    const std::vector<float>& bias;  // [experts, n]

    // Through the dispatcher; no NaN, and right where sampled.
    std::vector<u16> run(Random& random, Dispatcher& dispatcher, const std::vector<u16>& x,
                         const Routed& routed) const {
        const Buffer device_x = to_device(gpu(), x), offsets = to_device(gpu(), routed.routing.offsets);
        std::vector<u16> y(std::size_t(routed.rows() * checkpoint.n), PoisonedRows::kPoison);
        const Buffer device_y = to_device(gpu(), y);
        const RunInfo info = dispatcher.run({.x = device_x.data(),
                                             .weights = weights,
                                             .expert_offsets = offsets.as<i32>(),
                                             .rows = routed.rows(),
                                             .y = device_y.data()});
        gpu().synchronize();
        gpu().copy_out(y.data(), device_y.data(), y.size() * 2);
        INFO(info.config << ", N " << checkpoint.n << ", rows " << routed.rows());
        REQUIRE(std::none_of(y.begin(), y.end(), [](u16 bits) { return (bits & 0x7FFF) >= 0x7F80; }));
        check_samples(random, checkpoint, x, routed, y);
        return y;
    }
};

// The activation between the two matmuls, for one row.
void activate(const float* gate_up, const float* bias, u16* to) {
    for (i64 i = 0; i < kHidden; ++i)
        to[i] = float_to_bf16(swiglu(gate_up[2 * i] + bias[2 * i], gate_up[2 * i + 1] + bias[2 * i + 1]));
}

}  // namespace

TEST_CASE("one gpt-oss-20b expert block: both matmuls through the dispatcher") {
    Random random(8);
    const Checkpoint gate_up = gpt_oss_checkpoint(random, 2 * kHidden), down = gpt_oss_checkpoint(random, kHidden);
    const std::vector<float> gate_up_bias = random_bias(random, 2 * kHidden), down_bias = random_bias(random, kHidden);
    Dispatcher dispatcher(options_of());
    const Weights gate_up_weights = dispatcher.upload(pack(gate_up.view()).view()),
                  down_weights = dispatcher.upload(pack(down.view()).view());
    const Layer first{gate_up, gate_up_weights, gate_up_bias}, second{down, down_weights, down_bias};
    for (const i64 tokens : {64, 512, 1024}) {
        INFO("tokens " << tokens);
        const Routed routed(random, tokens);
        const std::vector<u16> hidden = random_bf16(random, std::size_t(tokens * kHidden));
        std::vector<u16> x(std::size_t(routed.rows() * kHidden)), inner(x.size());
        for (i64 r = 0; r < routed.rows(); ++r)
            std::copy_n(hidden.data() + routed.token_of_row[std::size_t(r)] * kHidden, kHidden, x.data() + r * kHidden);
        const std::vector<u16> y1 = first.run(random, dispatcher, x, routed);
        std::vector<float> row(std::size_t(2 * kHidden));
        for (i64 r = 0; r < routed.rows(); ++r) {
            for (i64 n = 0; n < 2 * kHidden; ++n)
                row[std::size_t(n)] = bf16_to_float(y1[std::size_t(r * 2 * kHidden + n)]);
            activate(row.data(), gate_up_bias.data() + routed.expert_of_row(r) * 2 * kHidden,
                     inner.data() + r * kHidden);
        }
        const std::vector<u16> y2 = second.run(random, dispatcher, inner, routed);

        // The weighted sum, against the same block done by the reference for a few tokens from end to end.
        std::vector<float> out(std::size_t(tokens * kHidden));
        for (i64 r = 0; r < routed.rows(); ++r)
            for (i64 n = 0; n < kHidden; ++n)
                out[std::size_t(routed.token_of_row[std::size_t(r)] * kHidden + n)] +=
                    routed.weight_of_row[std::size_t(r)] *
                    (bf16_to_float(y2[std::size_t(r * kHidden + n)]) +
                     down_bias[std::size_t(routed.expert_of_row(r) * kHidden + n)]);
        REQUIRE(std::none_of(out.begin(), out.end(), [](float v) { return std::isnan(v); }));
        double square = 0, error = 0;
        for (const i64 token : {i64(0), tokens / 2, tokens - 1}) {
            std::vector<double> want(std::size_t(kHidden), 0.0);
            for (i64 r = 0; r < routed.rows(); ++r) {
                if (routed.token_of_row[std::size_t(r)] != token) continue;
                const i32 expert = i32(routed.expert_of_row(r)), offsets[] = {0, 1};
                std::vector<u16> middle(std::size_t(kHidden), u16(0));
                std::vector<float> last(std::size_t(kHidden), 0.0f);
                reference_matmul(gate_up.view(), {x.data() + r * kHidden, 0, offsets, &expert, 1, 1}, row.data(), 0);
                activate(row.data(), gate_up_bias.data() + expert * 2 * kHidden, middle.data());
                reference_matmul(down.view(), {middle.data(), 0, offsets, &expert, 1, 1}, last.data(), 0);
                for (i64 n = 0; n < kHidden; ++n)
                    want[std::size_t(n)] += double(routed.weight_of_row[std::size_t(r)]) *
                                            (last[std::size_t(n)] + down_bias[std::size_t(expert * kHidden + n)]);
            }
            for (i64 n = 0; n < kHidden; ++n) {
                const double d = out[std::size_t(token * kHidden + n)] - want[std::size_t(n)];
                square += want[std::size_t(n)] * want[std::size_t(n)];
                error += d * d;
            }
        }
        std::printf("MoE block, %lld tokens: relative Frobenius error of the output %.2e\n", tokens,
                    std::sqrt(error / square));
        CHECK(std::sqrt(error / square) <= 5e-3);  // three roundings to bf16 on the way
    }
}
