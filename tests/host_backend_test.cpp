// The host kernel against the reference: every layout, scale class and code path, and what the arguments promise.
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "backends/backend.h"
#include "backends/host/thread_pool.h"
#include "core/config_text.h"
#include "support/map_packer.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

constexpr Layout kLayouts[] = {Layout::blocks, Layout::hopper, Layout::native};
constexpr ScaleClass kClasses[] = {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain};

WeightsFormat format_of(Random& random, Layout layout, ScaleClass scale_class) {
    return {layout, layout == Layout::native ? 0 : 1 << random() % 5, scale_class};
}

KernelConfig config_of(Layout layout, int block_m, int block_n, int block_k, int threads, int simd) {
    return {.variant = Variant::host,
            .layout = layout,
            .block_m = block_m,
            .block_n = block_n,
            .block_k = block_k,
            .num_warps = threads,
            .simd = simd};
}

bool has_simd(Backend& backend) {
    return backend.compile(config_of(Layout::native, 8, 64, 64, 1, 1), {}).rejected.empty();
}

struct Case {
    Checkpoint checkpoint;
    MapPacked packed;
    Routing routing;
    i64 rows, x_stride, y_stride;
    std::vector<u16> x;
    bool named_ids = true;

    MatmulArguments arguments(PoisonedRows& y) const {
        MatmulArguments a = arguments_of(packed, checkpoint);
        a.x = x.data();
        a.y = y.data();
        a.x_stride = x_stride;
        a.y_stride = y_stride;
        a.expert_offsets = routing.offsets.data();
        a.expert_ids = named_ids ? routing.ids.data() : nullptr;
        a.rows = i32(rows);
        a.groups = routing.groups();
        return a;
    }
    PoisonedRows run(const Kernel& kernel) const {
        PoisonedRows y(rows, checkpoint.n, y_stride);
        MatmulArguments a = arguments(y);
        kernel.launch(a, nullptr);
        return y;
    }
    std::vector<float> reference() const {
        std::vector<float> want(rows * checkpoint.n);
        reference_matmul(checkpoint.view(),
                         {x.data(), x_stride, routing.offsets.data(), named_ids ? routing.ids.data() : nullptr,
                          routing.groups(), rows},
                         want.data(), 0);
        return want;
    }
};

Case random_case(Random& random, Layout layout, ScaleClass scale_class) {
    const i64 experts = between(random, 1, 5), n = between(random, 1, 200), k = 32 * between(random, 1, 9);
    Case c{checkpoint_of(random, scale_class, experts, n, k), {}, {}, between(random, 0, 40), 0, 0, {}};
    c.packed = pack_by_maps(c.checkpoint, format_of(random, layout, scale_class));
    c.named_ids = random() % 4 != 0;
    c.routing = random_routing(random, c.rows, c.named_ids ? between(random, 1, 8) : experts, experts, true);
    c.x_stride = k + between(random, 0, 3);
    c.y_stride = n + between(random, 0, 3);
    c.x = random_bf16(random, std::size_t(c.rows * c.x_stride));
    return c;
}

}  // namespace

TEST_CASE("random ragged problems agree with the reference, whatever the layout, scale class and config") {
    const auto backend = make_host_backend({});
    const bool simd = has_simd(*backend);
    Random random(1);
    for (int i = 0; i < 360; ++i) {
        const Case c = random_case(random, kLayouts[i % 3], kClasses[i / 3 % 3]);
        const KernelConfig config =
            config_of(c.packed.format.layout, int(between(random, 1, 40)), 64 * int(between(random, 1, 4)),
                      64 * int(between(random, 1, 5)), int(between(random, 1, 3)), simd ? int(random() % 2) : 0);
        INFO("problem " << i << ": " << to_text(config) << ", w " << c.packed.format.scale_warps << ", class "
                        << to_string(c.packed.format.scale_class) << ", E " << c.checkpoint.experts << " N "
                        << c.checkpoint.n << " K " << c.checkpoint.k << " rows " << c.rows << " groups "
                        << c.routing.groups());
        REQUIRE(judge(c.run(*backend->load(config, c.packed.format)), c.reference(), c.routing.offsets) == "");
    }
}

TEST_CASE("all configs give the same bits, and give them again") {
    const auto backend = make_host_backend({});
    Random random(2);
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses) {
            Case c = random_case(random, layout, scale_class);
            c.rows = 37;
            c.x = random_bf16(random, std::size_t(c.rows * c.x_stride));
            c.routing =
                random_routing(random, c.rows, c.named_ids ? 4 : c.checkpoint.experts, c.checkpoint.experts, false);
            const PoisonedRows first = c.run(*backend->load(config_of(layout, 64, 64, 64, 1, 0), c.packed.format));
            for (const int threads : {1, 2, 5, 16})
                for (int simd = 0; simd <= int(has_simd(*backend)); ++simd)
                    for (const int block_m : {1, 7, 64}) {
                        const auto kernel =
                            backend->load(config_of(layout, block_m, 128, 192, threads, simd), c.packed.format);
                        REQUIRE(c.run(*kernel).bytes == first.bytes);
                        REQUIRE(c.run(*kernel).bytes == first.bytes);
                    }
        }
}

TEST_CASE("the identity probe shows every decoded weight exactly") {
    const auto backend = make_host_backend({});
    Random random(3);
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses) {
            Case c{checkpoint_of(random, scale_class, 1, 83, 96),
                   {},
                   {{0, 96}, {0}},
                   96,
                   96,
                   83,
                   std::vector<u16>(96 * 96)};
            // The extremes that the class allows (fp32 holds 6 * 2^125, and bf16 holds 0.5 * 2^-127 exactly).
            const int top = scale_class == ScaleClass::folded ? 128 : scale_class == ScaleClass::rebased ? 250 : 252;
            const int bottom = scale_class == ScaleClass::rebased ? top - kMaxScaleSpan : 0;
            for (std::size_t i = 0; i < c.checkpoint.scales.size(); ++i)
                c.checkpoint.scales[i] = u8(i % 3 == 0 ? top : i % 3 == 1 ? bottom : between(random, bottom, top));
            c.packed = pack_by_maps(c.checkpoint, format_of(random, layout, scale_class));
            for (i64 i = 0; i < 96; ++i) c.x[i * 96 + i] = 0x3F80;
            for (int simd = 0; simd <= int(has_simd(*backend)); ++simd) {
                const PoisonedRows y = c.run(*backend->load(config_of(layout, 16, 64, 64, 2, simd), c.packed.format));
                for (i64 k = 0; k < 96; ++k)
                    for (i64 n = 0; n < 83; ++n) {
                        const u8 byte = c.checkpoint.blocks[n * 48 + k / 2];
                        const float weight = std::ldexp(e2m1_to_float(k % 2 ? byte >> 4 : byte & 15),
                                                        c.checkpoint.scales[n * 3 + k / 32] - 127);
                        REQUIRE(bf16_to_float(y.at(k, n)) == weight);
                    }
            }
        }
}

TEST_CASE("integer-valued inputs give exact results over many k steps") {
    const auto backend = make_host_backend({});
    Random random(4);
    for (const Layout layout : kLayouts) {
        Case c{random_checkpoint(random, 2, 70, 2880, 128, 128),
               {},
               {{0, 9, 13}, {1, 0}},
               13,
               2880,
               70,
               std::vector<u16>(13 * 2880)};
        // Sparse, so that every sum is an integer that bf16 holds.
        for (u8& byte : c.checkpoint.blocks)
            if (random() % 16) byte = 0;
        for (u16& x : c.x) x = float_to_bf16(random() % 8 ? 0.0f : float(between(random, -1, 1)));
        c.packed = pack_by_maps(c.checkpoint, {layout, layout == Layout::native ? 0 : 8, ScaleClass::folded});
        const PoisonedRows y = c.run(*backend->load(backend->default_config(c.packed.format, {}), c.packed.format));
        const std::vector<float> want = c.reference();
        for (i64 r = 0; r < 13; ++r)
            for (i64 n = 0; n < 70; ++n) REQUIRE(bf16_to_float(y.at(r, n)) == want[r * 70 + n]);
    }
}

TEST_CASE("offsets are clamped and NaN stays in its row") {
    const auto backend = make_host_backend({});
    Random random(5);
    Case c{random_checkpoint(random, 2, 64, 64), {}, {{-5, 3, 1000}, {0, 1}}, 8, 64, 64, random_bf16(random, 8 * 64)};
    c.packed = pack_by_maps(c.checkpoint, {});
    const auto kernel = backend->load(backend->default_config({}, {}), {});
    CHECK(judge(c.run(*kernel), c.reference(), c.routing.offsets) == "");

    const PoisonedRows clean = c.run(*kernel);
    c.x[5 * 64 + 7] = 0x7FC0;
    const PoisonedRows y = c.run(*kernel);
    for (i64 r = 0; r < 8; ++r)
        for (i64 n = 0; n < 64; ++n)
            REQUIRE((r == 5 ? std::isnan(bf16_to_float(y.at(r, n))) : y.at(r, n) == clean.at(r, n)));
}

TEST_CASE("pad bytes of a wrapped tensor count for nothing") {
    const auto backend = make_host_backend({});
    Random random(6);
    Case c{random_checkpoint(random, 1, 40, 32), {}, {{0, 3}, {0}}, 3, 32, 40, random_bf16(random, 3 * 32)};
    c.packed = pack_by_maps(c.checkpoint, {Layout::hopper, 1, ScaleClass::plain});
    // Every byte that holds no element becomes garbage: codes by a full checkpoint of the padded shape, scales NaN.
    Checkpoint padded = random_checkpoint(random, 1, 64, 128);
    for (i64 n = 0; n < 40; ++n)
        for (i64 kb = 0; kb < 16; ++kb) padded.blocks[n * 64 + kb] = c.checkpoint.blocks[n * 16 + kb];
    c.packed.values = pack_by_maps(padded, c.packed.format).values;
    std::vector<char> own(c.packed.scales.size());
    for (i64 n = 0; n < 40; ++n) {
        const Index2 at = hopper_scale_swizzle(n, 0, 1);
        own[at.row * c.packed.stored.scale_row_bytes + at.col] = 1;
    }
    for (std::size_t i = 0; i < own.size(); ++i)
        if (!own[i]) c.packed.scales[i] = 255;
    for (int simd = 0; simd <= int(has_simd(*backend)); ++simd)
        CHECK(judge(c.run(*backend->load(config_of(Layout::hopper, 8, 64, 64, 1, simd), c.packed.format)),
                    c.reference(), c.routing.offsets) == "");
}

TEST_CASE("configs that cannot run are refused by name") {
    const auto backend = make_host_backend({});
    CHECK_THROWS_AS(backend->load(parse_config("wgmma_rs/native bm64 bn256 bk128 w12 s4 k1"), {}), Error);
    CHECK_THROWS_AS(backend->load(config_of(Layout::hopper, 8, 64, 64, 1, 0), {}), Error);
    CHECK_THROWS_AS(backend->load(config_of(Layout::native, 8, 96, 64, 1, 0), {}), Error);
    CHECK(backend->compile(config_of(Layout::native, 0, 64, 64, 1, 0), {}).rejected ==
          reject_text(Reject::block_m_not_supported));
    KernelConfig twice = config_of(Layout::native, 8, 64, 64, 1, 0);
    twice.ctas_per_sm = 2;  // means nothing here: a config has one text
    CHECK(backend->compile(twice, {}).rejected == reject_text(Reject::ctas_per_sm_not_supported));
    for (const Layout layout : kLayouts) {
        const WeightsFormat format{layout, layout == Layout::native ? 0 : 8, ScaleClass::folded};
        CHECK(check(backend->default_config(format, {}), format) == Reject::none);
    }
}

TEST_CASE("a host backend says what it is, and measures") {
    const auto backend = make_host_backend({});
    CHECK(!backend->identity().name.empty());
    CHECK(backend->identity().sm_count >= 1);
    CHECK(backend->identity().memory_bytes >= std::int64_t(1) << 30);
    CHECK(backend->kernel_hash(Variant::host).size() == 64);
    CHECK(backend->compiler_build().find("c++") == 0);
    // More than there is, and more than rounding up can hold. Sanitizers abort at the first instead of returning null,
    // unless allocator_may_return_null=1 tells them not to: tests/meson.build does.
    for (const std::size_t bytes : {std::size_t(1) << 60, ~std::size_t(0)}) {
        try {
            backend->allocate(bytes);
            FAIL(bytes << " bytes were allocated");
        } catch (const Error& error) {
            CHECK(error.value() == fmt::format("{} bytes", bytes));
        }
    }
    // No bytes need no memory.
    backend->copy_in(nullptr, nullptr, 0);
    backend->copy_out(nullptr, nullptr, 0);
    backend->copy(nullptr, nullptr, 0, nullptr);
    backend->fill(nullptr, 0, 0, nullptr);
    int calls[2] = {0, 0}, rotations_seen = 0;
    const auto spin = [](int us) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(us);
        while (std::chrono::steady_clock::now() < end) {}
    };
    const std::vector<TimedWork> work = {{[&](int r, Stream) { ++calls[0], rotations_seen |= 1 << r, spin(100); }, 3},
                                         {[&](int, Stream) { ++calls[1], spin(400); }, 1}};
    const std::vector<Timing> timings = backend->time(work, {.repeats = 5, .replay_us = 2000});
    CHECK(timings[0].us >= 100);
    CHECK(timings[1].us >= 400);
    CHECK(timings[0].us_p10 <= timings[0].us);
    CHECK(timings[0].us <= timings[0].us_p90);
    CHECK(rotations_seen == 7);
    CHECK(calls[0] == 5 * timings[0].launches + 1);
}

TEST_CASE("a job that throws is waited for, and what it threw is thrown on") {
    ThreadPool pool;
    pool.reserve(4);
    struct Context {
        std::atomic<int> begun = 0, ended = 0, throwing = 0;
    };
    for (const int throwing : {0, 3}) {  // which of them, by the order in which they begin
        Context context;
        context.throwing = throwing;
        const auto job = [](void* c) {
            auto& context = *static_cast<Context*>(c);
            const int turn = context.begun++;
            while (context.begun < 4) std::this_thread::yield();
            if (turn == context.throwing) throw std::runtime_error("no memory");
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            ++context.ended;
        };
        CHECK_THROWS_AS(pool.run(4, job, &context), std::runtime_error);
        CHECK(context.ended == 3);
    }
    std::atomic<int> calls = 0;
    pool.run(4, [](void* c) { ++*static_cast<std::atomic<int>*>(c); }, &calls);
    CHECK(calls == 4);
}
