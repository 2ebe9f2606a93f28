// Every admissible pair of layout and kernel on a GPU, against the reference.
#include <catch2/catch_test_macros.hpp>

#include <map>

#include "core/config_text.h"
#include "core/parallel.h"
#include "device_case.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

Backend& gpu() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0, {});
    return *backend;
}

// Tile shapes, pipelines, splits and grids of every kernel; each is tried with every layout that it reads.
constexpr const char* kTails[] = {
    "naive bm64 bn64 bk64 w1 s1 k1",
    "mma bm16 bn64 bk128 w4 s4 k1",
    "mma bm8 bn128 bk64 w8 s2 k1",
    "mma bm64 bn128 bk64 w4 s3 k1",
    "wgmma_ss bm128 bn128 bk64 w12 s3 k1",
    "wgmma_ss bm64 bn64 bk128 w8 s3 k0",
    "wgmma_rs bm8 bn128 bk128 w12 s8 k1",
    "wgmma_rs bm16 bn64 bk64 w8 s6 k0 c2",
    "wgmma_rs bm16 bn192 bk192 w16 s4 k0",
    "wgmma_rs bm64 bn256 bk128 w12 s4 k2",
    "wgmma_rs bm32 bn128 bk320 w8 s2 k3",
    "wgmma_rs bm192 bn192 bk64 w16 s5 k1",
    "wgmma_rs bm256 bn128 bk64 w12 s4 k1",
};
constexpr Layout kLayouts[] = {Layout::blocks, Layout::hopper, Layout::native};
constexpr ScaleClass kClasses[] = {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain};

WeightsFormat format_of(Layout layout, ScaleClass scale_class, int w = 8) {
    return {layout, layout == Layout::native ? 0 : w, scale_class};
}

std::vector<KernelConfig> configs_of(const WeightsFormat& format) {
    std::vector<KernelConfig> configs;
    for (const std::string tail : kTails) {
        const auto space = tail.find(' ');
        const KernelConfig config = parse_config(fmt::format("{}/{}{}", tail.substr(0, space), to_string(format.layout), tail.substr(space)));
        const Reject reject = check(config, format);
        if (reject == Reject::none)
            configs.push_back(config);
        else
            REQUIRE((reject == Reject::layout_not_admissible && format.layout == Layout::blocks));
    }
    return configs;
}

// Images stay in the backend's memory: compile all of a format's kernels side by side before the first is loaded.
void compile_ahead() {
    std::vector<std::pair<KernelConfig, WeightsFormat>> jobs;
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses)
            for (const int w : {8, 2}) {
                const WeightsFormat format = format_of(layout, scale_class, w);
                if (w != 8 && (layout == Layout::native || scale_class != ScaleClass::folded)) continue;
                for (const KernelConfig& config : configs_of(format)) jobs.push_back({config, format});
            }
    parallel_for(0, std::int64_t(jobs.size()), [&](std::int64_t i) { gpu().compile(jobs[i].first, jobs[i].second); });
}

KernelPtr kernel_of(const KernelConfig& config, const WeightsFormat& format) {
    static std::map<std::string, KernelPtr> loaded;
    if (loaded.empty()) compile_ahead();
    KernelPtr& kernel = loaded[fmt::format("{} {} {}", to_text(config), format.scale_warps, int(format.scale_class))];
    if (!kernel) kernel = gpu().load(config, format);
    return kernel;
}

std::string describe(const DeviceCase& c, const KernelConfig& config) {
    return fmt::format("{}, w {}, class {}, E {} N {} K {} rows {} groups {}", to_text(config), c.packed.format.scale_warps,
                       to_string(c.packed.format.scale_class), c.checkpoint.experts, c.checkpoint.n, c.checkpoint.k, c.rows,
                       c.routing.groups());
}

}  // namespace

TEST_CASE("the identity probe shows every decoded weight exactly", "[probe]") {
    Random random(3);
    for (const Layout layout : kLayouts)
        for (const ScaleClass scale_class : kClasses) {
            Checkpoint checkpoint = checkpoint_of(random, scale_class, 1, 83, 96);
            // The extremes that the class allows: 6 * 2^125 fits bf16, and 0.5 * 2^-127 is a bf16 subnormal.
            const int top = scale_class == ScaleClass::folded ? 128 : scale_class == ScaleClass::rebased ? 250 : 252;
            const int bottom = scale_class == ScaleClass::rebased ? top - kMaxScaleSpan : 0;
            for (std::size_t i = 0; i < checkpoint.scales.size(); ++i)
                checkpoint.scales[i] = u8(i % 3 == 0 ? top : i % 3 == 1 ? bottom : between(random, bottom, top));
            DeviceCase c{checkpoint, pack_by_maps(checkpoint, format_of(layout, scale_class)), {{0, 96}, {0}}, 96, 96, 83,
                         std::vector<u16>(96 * 96)};
            for (i64 i = 0; i < 96; ++i) c.x[i * 96 + i] = 0x3F80;
            DeviceRun device(gpu(), c);
            for (const KernelConfig& config : configs_of(c.packed.format)) {
                INFO(describe(c, config));
                const PoisonedRows y = device.run(*kernel_of(config, c.packed.format));
                int wrong = 0;
                for (i64 k = 0; k < 96; ++k)
                    for (i64 n = 0; n < 83; ++n) {
                        const u8 byte = checkpoint.blocks[n * 48 + k / 2];
                        const float weight = std::ldexp(e2m1_to_float(k % 2 ? byte >> 4 : byte & 15),
                                                        checkpoint.scales[n * 3 + k / 32] - 127);
                        const float got = bf16_to_float(y.at(k, n));
                        if (got != weight && ++wrong <= 5)
                            UNSCOPED_INFO(fmt::format("W[{}, {}] is {}, shown as {}", n, k, weight, got));
                    }
                CHECK(wrong == 0);
                CHECK(y.guards_intact());
            }
        }
}

TEST_CASE("random ragged problems agree with the reference", "[random]") {
    Random random(1);
    for (int i = 0; i < 36; ++i) {
        const Layout layout = kLayouts[i % 3];
        const ScaleClass scale_class = kClasses[i / 3 % 3];
        const i64 experts = between(random, 1, 40), n = between(random, 1, 700), k = 32 * between(random, 1, 24);
        const i64 rows = i % 4 == 0 ? between(random, 300, 1500) : between(random, 0, 120);
        const Checkpoint checkpoint = checkpoint_of(random, scale_class, experts, n, k);
        DeviceCase c{checkpoint, pack_by_maps(checkpoint, format_of(layout, scale_class, scale_class == ScaleClass::folded && random() % 2 ? 2 : 8)), {}, rows, 0, 0, {}};
        c.named_ids = random() % 4 != 0;
        c.routing = random_routing(random, rows, c.named_ids ? between(random, 1, 80) : experts, experts, true);
        c.x_stride = k + (random() % 2 ? 0 : between(random, 0, 9));
        c.y_stride = n + (random() % 2 ? 0 : between(random, 0, 9));
        c.x = random_bf16(random, std::size_t(rows * c.x_stride));
        const i64 shift = random() % 3 ? 0 : between(random, 1, 7);
        const std::vector<float> want = c.reference();
        DeviceRun device(gpu(), c, shift, shift);
        for (const KernelConfig& config : configs_of(c.packed.format)) {
            if (rows == 0) continue;
            INFO("problem " << i << ": " << describe(c, config) << " x_stride " << c.x_stride << " y_stride " << c.y_stride << " shift " << shift);
            const auto kernel = kernel_of(config, c.packed.format);
            const PoisonedRows y = device.run(*kernel);
            CHECK(judge(y, want, c.routing.offsets) == "");
            CHECK(device.counters_left_zero());
            for (int again = 0; again < 3; ++again) CHECK((device.run(*kernel).bytes == y.bytes));
        }
    }
}

TEST_CASE("integer-valued inputs give exact results over many k steps", "[integer]") {
    Random random(4);
    for (const Layout layout : kLayouts)
        for (const i64 rows : {13, 700}) {
            Checkpoint checkpoint = random_checkpoint(random, 3, 320, 2880, 128, 128);
            DeviceCase c{checkpoint, pack_by_maps(checkpoint, format_of(layout, ScaleClass::folded)), {{0, 9, 11, i32(rows)}, {1, 0, 2}},
                         rows, 2880, 320, std::vector<u16>(rows * 2880)};
            for (u16& x : c.x) x = float_to_bf16(float(between(random, -3, 3)));  // every partial sum is an integer below 2^24
            const std::vector<float> want = c.reference();
            DeviceRun device(gpu(), c);
            for (const KernelConfig& config : configs_of(c.packed.format)) {
                INFO(describe(c, config));
                const auto kernel = kernel_of(config, c.packed.format);
                for (int again = 0; again < 4; ++again) {
                    const PoisonedRows y = device.run(*kernel);
                    i64 wrong = 0;
                    for (i64 r = 0; r < rows; ++r)
                        for (i64 n = 0; n < 320; ++n) wrong += y.at(r, n) != float_to_bf16(want[r * 320 + n]);
                    CHECK(wrong == 0);
                }
            }
        }
}

TEST_CASE("offsets are clamped, NaN stays in its row, padding counts for nothing", "[edges]") {
    Random random(5);
    for (const Layout layout : kLayouts) {
        const Checkpoint checkpoint = random_checkpoint(random, 2, 72, 96, 118, 128);
        DeviceCase c{checkpoint, pack_by_maps(checkpoint, format_of(layout, ScaleClass::folded)), {{-5, 3, 1000}, {0, 1}}, 8, 96, 72,
                     random_bf16(random, 8 * 96)};
        if (layout != Layout::native) {  // a wrapped tensor's padding may hold anything
            std::vector<char> own(c.packed.scales.size());
            for (i64 e = 0; e < 2; ++e)
                for (i64 n = 0; n < 72; ++n)
                    for (i64 kg = 0; kg < 3; ++kg) {
                        const Index2 at = hopper_scale_swizzle(n, kg, 8);
                        own[e * c.packed.stored.scales_bytes() + at.row * c.packed.stored.scale_row_bytes + at.col] = 1;
                    }
            for (std::size_t i = 0; i < own.size(); ++i)
                if (!own[i]) c.packed.scales[i] = i % 2 ? 255 : 129;
        }
        DeviceCase spoiled = c;
        spoiled.x[5 * 96 + 7] = 0x7FC0;
        DeviceRun device(gpu(), c), spoiled_device(gpu(), spoiled);
        for (const KernelConfig& config : configs_of(c.packed.format)) {
            INFO(describe(c, config));
            const auto kernel = kernel_of(config, c.packed.format);
            const PoisonedRows clean = device.run(*kernel);
            CHECK(judge(clean, c.reference(), c.routing.offsets) == "");
            const PoisonedRows y = spoiled_device.run(*kernel);
            int wrong = 0;
            for (i64 r = 0; r < 8; ++r)
                for (i64 n = 0; n < 72; ++n) wrong += r == 5 ? !std::isnan(bf16_to_float(y.at(r, n))) : y.at(r, n) != clean.at(r, n);
            CHECK(wrong == 0);
        }
    }
}
