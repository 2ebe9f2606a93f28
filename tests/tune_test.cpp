// The tuner on the host, end to end: problems, verification, ranking, the budget.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include "core/config_text.h"
#include "tuner/compile_pool.h"
#include "tuner/shape_bench.h"
#include "tuner/tune.h"

using namespace mxfp4;

namespace {

SampleWeights small_weights(Layout layout = Layout::native, ScaleClass scale_class = ScaleClass::folded) {
    return random_weights(6, 192, 128, {.layout = layout}, scale_class);
}

// A problem on the host, ready to measure.
struct HostBench {
    explicit HostBench(std::int64_t tokens, Layout layout = Layout::native, ScaleClass scale_class = ScaleClass::folded)
        : sample(small_weights(layout, scale_class)),
          weights(*backend, sample, 1),
          problem(memory, sample.info,
                  plan_rotations({route(Routing::uniform, tokens, 6, 4)}, sample.expert_bytes(), 0, 1)),
          bench(memory, weights, problem, {.experts = 6, .n = 192, .k = 128, .rows = tokens * 4}) {}

    std::unique_ptr<Backend> backend = make_host_backend({});
    SampleWeights sample;
    BenchMemory memory{*backend};
    DeviceSample weights;
    BenchProblem problem;
    ShapeBench bench;
};

using Rows = std::vector<std::int64_t>;

constexpr TimingOptions kShort = {.repeats = 2, .replay_us = 100};

Measurement timed(double us, bool ranked = true, double uneven_us = 0) {
    Measurement m;
    m.verified = true;
    m.timing.us = us;
    m.uneven_us = uneven_us;
    m.ranked = ranked;
    return m;
}

}  // namespace

TEST_CASE("routings share out all rows") {
    for (Routing routing : {Routing::uniform, Routing::skewed, Routing::sparse, Routing::one}) {
        INFO(to_string(routing));
        const auto rows = route(routing, 100, 40, 4);
        CHECK(rows.size() == 40);
        CHECK(std::accumulate(rows.begin(), rows.end(), std::int64_t(0)) == 400);
        CHECK(rows == route(routing, 100, 40, 4));
        CHECK(parse_routing(to_string(routing)) == routing);
    }
    const auto active = [](Routing routing) {
        const auto rows = route(routing, 100, 40, 4);
        return 40 - std::count(rows.begin(), rows.end(), 0);
    };
    CHECK(active(Routing::uniform) > 35);
    CHECK(active(Routing::sparse) == 4);
    CHECK(active(Routing::one) == 1);
    CHECK(route(Routing::skewed, 100, 40, 4)[20] == 200);
    // A token never chooses an expert twice.
    const auto all = route(Routing::uniform, 5, 8, 8);
    CHECK(std::all_of(all.begin(), all.end(), [](std::int64_t m) { return m == 5; }));
    // Sixteen tokens leave 25 of 32 experts with a row; 3 cannot be.
    CHECK(active_experts(route_to_active(16, 32, 4, 25)) == 25);
    CHECK(route_to_active(16, 32, 4, 3) == route(Routing::uniform, 16, 32, 4));
    // E (1 - (1 - top_k / E)^tokens): 13.2, 28.2 and 50.7
    CHECK(active_experts(typical_route(Routing::uniform, 4, 32, 4)) == 13);
    CHECK(active_experts(typical_route(Routing::uniform, 16, 32, 4)) == 28);
    CHECK(active_experts(typical_route(Routing::uniform, 16, 128, 4)) == 51);
    CHECK(typical_route(Routing::sparse, 100, 40, 4) == route(Routing::sparse, 100, 40, 4));
    CHECK_THROWS_AS(route(Routing::uniform, 5, 3, 4), Error);
    CHECK_THROWS_AS(parse_routing("random"), Error);
}

TEST_CASE("rotations keep the rows and touch other weights each time") {
    const std::vector<std::int64_t> rows = {0, 3, 0, 0, 5, 0, 0, 0};  // two of eight experts
    const RotationPlan plan = plan_rotations({rows}, 100, 1500, 3);
    CHECK(plan.active == 2);
    CHECK(plan.rows == 8);
    REQUIRE(plan.rotations.size() == 8);  // 1500 bytes lie between two uses of the same 200
    CHECK(plan.copies == 2);
    std::vector<int> uses(16, 0);
    for (const Rotation& r : plan.rotations) {
        CHECK(r.expert_offsets.front() == 0);
        CHECK(r.expert_offsets.back() == 8);
        for (std::size_t e = 0; e < 8; ++e)
            if (const int m = r.expert_offsets[e + 1] - r.expert_offsets[e]; m > 0) {
                CHECK((m == 3 || m == 5));
                ++uses[std::size_t(r.copy) * 8 + e];
            }
    }
    CHECK(std::all_of(uses.begin(), uses.end(), [](int n) { return n == 1; }));

    const RotationPlan one = plan_rotations({rows}, 100, 0, 3);
    CHECK(one.rotations.size() == 1);
    CHECK(one.copies == 1);
    CHECK(plan_rotations({Rows{4, 4}}, 100, 100000, 3).rotations.size() == 3);  // no more copies than allowed
    CHECK(plan_rotations({Rows{0, 0}}, 100, 1000, 3).rows == 0);
}

TEST_CASE("each place of the rotations meets each draw equally often") {
    const std::vector<Rows> draws = {{0, 3, 0, 0, 5, 0, 0, 0, 0}, {2, 2, 0, 0, 0, 0, 0, 0, 4}};  // two and three of nine experts
    const RotationPlan plan = plan_rotations(draws, 100, 450, 8);  // three places
    CHECK(plan.active == 2);
    CHECK(plan.copies == 1);
    REQUIRE(plan.rotations.size() == 6);
    std::map<std::pair<std::int64_t, Rows>, int> met;  // first expert with a row, rows of the experts that have any
    for (const Rotation& r : plan.rotations) {
        Rows rows;
        std::int64_t first = -1;
        for (std::int64_t e = 0; e < 9; ++e)
            if (const int m = r.expert_offsets[std::size_t(e) + 1] - r.expert_offsets[std::size_t(e)]; m > 0) {
                if (first < 0) first = e;
                rows.push_back(m);
            }
        ++met[{first, rows}];
    }
    CHECK(met.size() == 6);
    for (const Rows& rows : {Rows{3, 5}, Rows{2, 2, 4}})
        for (const std::int64_t first : {0, 3, 6}) CHECK(met[{first, rows}] == 1);

    const std::vector<Rows> typical = typical_draws(Routing::uniform, 4, 32, 4, 3);
    REQUIRE(typical.size() == 3);
    CHECK(typical[0] == typical_route(Routing::uniform, 4, 32, 4));
    CHECK(typical[1] != typical[2]);
    for (const Rows& rows : typical) CHECK(std::accumulate(rows.begin(), rows.end(), std::int64_t(0)) == 16);
}

TEST_CASE("random weights are of the class that was asked for") {
    for (Layout layout : {Layout::native, Layout::hopper, Layout::blocks})
        for (ScaleClass c : {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain})
            CHECK(small_weights(layout, c).info.format.scale_class == c);
    const SampleWeights w = small_weights();
    CHECK(w.info.experts == 6);
    CHECK(w.distinct == 5);
    const PackedWeights all = replicate(w);
    const auto bytes = std::size_t(w.info.stored().values_bytes());
    REQUIRE(all.values.size() == 6 * bytes);
    CHECK(std::equal(all.values.begin(), all.values.begin() + std::ptrdiff_t(bytes),
                     all.values.begin() + std::ptrdiff_t(5 * bytes)));
    CHECK_FALSE(std::equal(all.values.begin(), all.values.begin() + std::ptrdiff_t(bytes),
                           all.values.begin() + std::ptrdiff_t(bytes)));

    const SampleWeights back = sample_of(all.view());
    CHECK(back.blocks == w.blocks);
    CHECK(back.scales == w.scales);
    CHECK(back.packed.values == w.packed.values);
}

TEST_CASE("a right kernel measures as verified, in every layout and scale class") {
    for (Layout layout : {Layout::native, Layout::hopper, Layout::blocks})
        for (ScaleClass scale_class : {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain}) {
            INFO(to_string(layout) << " " << to_string(scale_class));
            HostBench host(16, layout, scale_class);
            KernelConfig config =
                host.backend->default_config(host.sample.info.format, {.experts = 6, .n = 192, .k = 128, .rows = 64});
            const Measurement m = host.bench.measure(to_text(config), kShort);
            CHECK(m.rejected == "");
            CHECK(m.verified);
            CHECK(m.timing.us > 0);
            CHECK(m.relative_error > 0);
            CHECK(m.relative_error < kMostRelativeError);
            CHECK(host.bench.verify_whole(config) == "");
        }
}

TEST_CASE("a config that cannot run is a measurement, not an error") {
    HostBench host(4);
    CHECK(host.bench.measure("host/native bm3 bn65 bk64 w1 s1 k1", kShort).rejected ==
          reject_text(Reject::block_n_not_supported));
    CHECK(host.bench.measure("host/hopper bm4 bn64 bk64 w1 s1 k1", kShort).rejected ==
          reject_text(Reject::layout_not_admissible));
    const Measurement other = host.bench.measure("mma/native bm16 bn64 bk64 w4 s2 k1", kShort);
    CHECK_FALSE(other.rejected.empty());
    CHECK_FALSE(other.usable());
}

TEST_CASE("wrong results are told from right ones") {
    HostBench host(16);
    Backend& backend = *host.backend;
    const Expectation& expected = host.bench.expected();
    CHECK(expected.samples.size() >= 512);
    const auto offsets = host.problem.plan().rotations.back().expert_offsets;
    for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
        if (offsets[e] == offsets[e + 1]) continue;
        const auto sampled = [&](std::int64_t row, std::int64_t n) {
            return std::any_of(expected.samples.begin(), expected.samples.end(),
                               [&](const Sample& s) { return s.row == row && s.n == n; });
        };
        CHECK(sampled(offsets[e], 191));
        CHECK(sampled(offsets[e + 1] - 1, 191));
    }
    CHECK(compare(expected, expected.values).rejected == "");
    std::vector<float> off = expected.values;
    off[7] += float(0.1 * (expected.rms + std::abs(off[7])));
    CHECK(compare(expected, off).rejected.starts_with("wrong result: y["));
    off[7] = NAN;
    CHECK_FALSE(compare(expected, off).rejected.empty());
    for (std::size_t i = 0; i < off.size(); ++i) off[i] = expected.values[i] * 1.004f;  // no element is far off
    CHECK(compare(expected, off).rejected.starts_with("wrong result: relative error"));

    // A launch that writes nothing, one that forgets a row, and one that never repeats itself.
    CHECK_FALSE(verify_samples(backend, host.problem, expected, [](int) {}).rejected.empty());
    std::vector<std::uint16_t> y(std::size_t(host.problem.rows() * 192), 0x3F80);
    const auto write = [&](int) { backend.copy_in(host.problem.y(), y.data(), y.size() * 2); };
    CHECK(verify_whole(backend, host.problem, 0, write) == "");
    y[192 * 5 + 17] = 0xFFFF;
    CHECK(verify_whole(backend, host.problem, 0, write) == "y[5, 17] is NaN or was not written");
    y[192 * 5 + 17] = 0;
    CHECK(verify_whole(backend, host.problem, 0, [&](int rotation) {
              ++y[192 * 9];
              write(rotation);
          }) == "a second launch gives other bits");
}

TEST_CASE("the default wins ties") {
    CHECK(rank(std::vector<Measurement>{}) == -1);
    CHECK(rank(std::vector{timed(100), timed(99.5), timed(120)}) == 0);
    CHECK(rank(std::vector{timed(100), timed(98), timed(97)}) == 2);
    // Among those as fast as the fastest, the one of the largest tile.
    std::vector<Measurement> alike = {timed(100), timed(97), timed(97.4), timed(98.5)};
    for (int i = 0; i < 4; ++i) alike[std::size_t(i)].config.block_m = 8 * (i + 1);
    CHECK(rank(alike) == 2);
    // Or, where uneven routing was timed, the one that loses the least there and, twenty times as dear, elsewhere; and the default wins ties.
    const auto both = [](double us, double uneven_us) { return timed(us, true, uneven_us); };
    CHECK(rank(std::vector{both(103, 40), both(97, 20), both(98, 18), both(98.5, 10), both(99.5, 5)}) == 3);  // the last is too slow
    CHECK(rank(std::vector{both(103, 40), both(97, 12), both(98, 11), both(98.5, 10)}) == 1);
    CHECK(rank(std::vector{both(100, 20), both(99.5, 19.9), both(100.5, 19.8)}) == 0);
    CHECK(rank(std::vector{both(100, 20), both(99.5, 15)}) == 1);
    CHECK(rank(std::vector{both(100, 30), both(99.5, 15), both(101.2, 5)}) == 1);  // slower than the default is too slow
    CHECK(rank(std::vector{both(100, 30), both(101.2, 5)}) == 0);
    CHECK(rank(std::vector{timed(100), timed(50, false)}) == 0);  // its quick time does not count
    std::vector<Measurement> broken = {timed(100), timed(150)};
    broken[0].rejected = "wrong result";
    CHECK(rank(broken) == 1);
    broken[1].verified = false;
    CHECK(rank(broken) == -1);
}

TEST_CASE("who goes into the final round") {
    CHECK(finalists(std::vector<Measurement>{}, true).empty());
    std::vector<Measurement> all;
    for (const double us : {130.0, 100.0, 104.0, 101.0, 103.0, 102.0, 101.2, 101.1, 101.3, 120.0}) all.push_back(timed(us));
    for (std::size_t i = 0; i < all.size(); ++i) all[i].config.block_m = 8 * int(i + 1);
    CHECK(finalists(all, false) == std::vector<std::size_t>{0, 1, 3, 7, 6, 8});
    for (const std::size_t i : {2, 4, 5}) all[i].timing.us = 102.9;  // nearly as fast; the last, with more rows, is not
    CHECK(finalists(all, false) == std::vector<std::size_t>{0, 1, 3, 7, 6, 8});
    CHECK(finalists(all, true) == std::vector<std::size_t>{0, 1, 3, 7, 6, 8, 5, 4, 2});
    all.front().rejected = "wrong result";
    CHECK(finalists(all, true).front() == 1);
}

TEST_CASE("a pool compiles what several buckets want once") {
    const auto backend = make_host_backend({});
    const WeightsFormat format;
    KernelConfig config = backend->default_config(format, {});
    CompilePool pool(*backend, 2);
    pool.add(config, format, 0);
    pool.add(config, format, 3);
    pool.wait(config, format);
    CHECK(pool.ready(config, format));
    CHECK(pool.done() == 1);
    CHECK(pool.pending_seconds() == 0);
    config.block_m = 1;
    CHECK_FALSE(pool.ready(config, format));
    pool.wait(config, format);  // never added: it compiles here
    CHECK(pool.ready(config, format));
}

TEST_CASE("every request gets a verified winner, at once") {
    const auto backend = make_host_backend({});
    const SampleWeights weights = small_weights();
    const std::vector<TuneRequest> requests = {{&weights, 1, 4, 4, {}}, {&weights, 8, 4, 32, {}}};
    TuneOptions options;
    options.candidates = 5;
    std::size_t calls = 0;
    options.progress = [&](std::size_t, std::size_t measured, std::size_t candidates) {
        CHECK(measured <= candidates);
        ++calls;
    };
    std::vector<TuneResult> results;
    tune(*backend, requests, options, [&](const TuneResult& result) { results.push_back(result); });
    REQUIRE(results.size() == 2);
    CHECK(calls > 2);
    for (const TuneResult& result : results) {
        REQUIRE(result.winner >= 0);
        CHECK(result.shed == 0);
        CHECK(result.measurements.size() >= 5);
        CHECK(result.size.rows == requests[result.request].tokens * 4);
        CHECK(result.size.active <= 6);
        const Measurement& winner = result.measurements[std::size_t(result.winner)];
        CHECK(winner.usable());
        CHECK(winner.timing.us_p10 <= winner.timing.us);
        CHECK(winner.timing.us <= winner.timing.us_p90);
        // The first is the library's default, timed in the same round.
        const ProblemShape shape = {.experts = 6, .n = 192, .k = 128, .rows = requests[result.request].bucket_rows};
        CHECK(result.fallback().config == backend->default_config(weights.info.format, shape));
        CHECK(result.fallback().ranked);
        CHECK(winner.timing.us <= result.fallback().timing.us);
    }
}

TEST_CASE("a former winner is tried first") {
    const auto backend = make_host_backend({});
    const SampleWeights weights = small_weights();
    const KernelConfig former = parse_config("host/native bm7 bn64 bk64 w1 s1 k1");  // not in the search space
    TuneOptions options;
    options.candidates = 2;
    tune(*backend,
         std::vector<TuneRequest>{{&weights, 8, 4, 32, {former, parse_config("host/hopper bm7 bn64 bk64 w1 s1 k1")}}},
         options, [&](const TuneResult& result) {
             REQUIRE(result.measurements.size() >= 3);
             CHECK(result.measurements[1].config == former);
             CHECK(result.measurements[1].usable());
         });
}

TEST_CASE("scratch grows, and its counters are zero") {
    const auto backend = make_host_backend({});
    BenchMemory memory(*backend);
    const auto first = memory.scratch(1024, 1 << 20);
    static_cast<char*>(first.data)[0] = 1;
    const auto second = memory.scratch(4096, 1024);
    CHECK(second.counter_bytes == 4096);
    CHECK(std::all_of(static_cast<char*>(second.data), static_cast<char*>(second.data) + 4096,
                      [](char c) { return c == 0; }));
    // Room for the largest of both: neither makes it move again.
    CHECK(memory.scratch(1024, 1 << 20).data == second.data);
    CHECK(memory.scratch(4096, 1024).data == second.data);
}

TEST_CASE("no time sheds candidates, not requests") {
    const auto backend = make_host_backend({});
    const SampleWeights weights = small_weights();
    const std::vector<TuneRequest> requests = {{&weights, 1, 4, 4, {}}, {&weights, 8, 4, 32, {}}};
    TuneOptions options;
    options.budget_s = 1e-6;
    int published = 0;
    tune(*backend, requests, options, [&](const TuneResult& result) {
        ++published;
        CHECK(result.winner == 0);
        CHECK(result.measurements.size() == 1);
        CHECK(result.shed > 0);
    });
    CHECK(published == 2);
}
