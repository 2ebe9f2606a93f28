// What every kernel must do, whichever backend runs it: the tests on a GPU and those of the emulator share this.
#pragma once

#include <catch2/catch_test_macros.hpp>

#include <functional>

#include "core/config_text.h"
#include "support/device_case.h"

namespace mxfp4::test {

using Kernels = std::vector<KernelPtr>;
using BeforeRun = std::function<void(int run)>;

inline std::string describe(const DeviceCase& c, const KernelConfig& config) {
    return fmt::format("{}, w {}, class {}, E {} N {} K {} rows {} groups {} x_stride {} y_stride {}", to_text(config),
                       c.packed.format.scale_warps, to_string(c.packed.format.scale_class), c.checkpoint.experts,
                       c.checkpoint.n, c.checkpoint.k, c.rows, c.routing.groups(), c.x_stride, c.y_stride);
}

// A random ragged problem, and what comes of it.
struct RandomProblem {
    Checkpoint checkpoint;
    DeviceCase c;
    i64 shift;  // of x and y, in elements
    std::vector<float> want;

    RandomProblem(Random& random, const WeightsFormat& format, i64 experts, i64 n, i64 k, i64 rows, i64 most_groups)
        : checkpoint(checkpoint_of(random, format.scale_class, experts, n, k)),
          c{checkpoint, pack_by_maps(checkpoint, format), {}, rows, 0, 0, {}} {
        c.named_ids = random() % 4 != 0;
        c.routing = random_routing(random, rows, c.named_ids ? between(random, 1, most_groups) : experts, experts, true);
        c.x_stride = k + (random() % 2 ? 0 : between(random, 0, 9));
        c.y_stride = n + (random() % 2 ? 0 : between(random, 0, 9));
        c.x = random_bf16(random, std::size_t(rows * c.x_stride));
        for (i32 g = 0; c.named_ids && g < c.routing.groups(); ++g)  // rows of no expert become zero, whatever they hold
            if (c.routing.ids[g] < 0 || c.routing.ids[g] >= experts)
                for (i64 r = c.routing.offsets[g]; r < c.routing.offsets[g + 1]; ++r) c.x[r * c.x_stride] = 0x7FC0;
        shift = random() % 3 ? 0 : between(random, 1, 7);
        want = c.reference();
    }
    // Of these groups; x is aligned.
    RandomProblem(Random& random, const WeightsFormat& format, const FarGroups& groups)
        : checkpoint(checkpoint_of(random, format.scale_class, FarGroups::kExperts, 64, 256)),
          c{checkpoint, pack_by_maps(checkpoint, format), groups.routing(), groups.routing().offsets.back(), 256, 64, {}},
          shift(0) {
        c.x = random_bf16(random, std::size_t(c.rows * c.x_stride));
        want = c.reference();
    }
    RandomProblem(const RandomProblem&) = delete;  // c refers to checkpoint
    RandomProblem& operator=(const RandomProblem&) = delete;
};

// Agrees with the reference, and every run gives the same bits.
inline void check_random_problem(Backend& backend, const RandomProblem& problem, const Kernels& kernels, int runs,
                                 const BeforeRun& before_run = [](int) {}) {
    const DeviceCase& c = problem.c;
    DeviceRun device(backend, c, problem.shift, problem.shift);
    for (const KernelPtr& kernel : kernels) {
        std::vector<u16> first;
        for (int run = 0; run < runs; ++run) {
            INFO(describe(c, kernel->config()) << " shift " << problem.shift << ", run " << run);
            before_run(run);
            const PoisonedRows y = device.run(*kernel, run % 3 != 1);
            if (run == 0) first = y.bytes;
            CHECK(judge(y, problem.want, c.routing.offsets) == "");
            CHECK(device.counters_left_zero());
            CHECK((y.bytes == first));
        }
    }
}

// x is the identity: y shows every decoded weight, exactly.
inline void check_identity(Backend& backend, Random& random, const WeightsFormat& format, const Kernels& kernels) {
    Checkpoint checkpoint = checkpoint_of(random, format.scale_class, 1, 83, 96);
    // The extremes that the class allows: 6 * 2^125 fits bf16, and 0.5 * 2^-127 is a bf16 subnormal.
    const int top = format.scale_class == ScaleClass::folded ? 128 : format.scale_class == ScaleClass::rebased ? 250 : 252;
    const int bottom = format.scale_class == ScaleClass::rebased ? top - kMaxScaleSpan : 0;
    for (std::size_t i = 0; i < checkpoint.scales.size(); ++i)
        checkpoint.scales[i] = u8(i % 3 == 0 ? top : i % 3 == 1 ? bottom : between(random, bottom, top));
    DeviceCase c{checkpoint, pack_by_maps(checkpoint, format), {{0, 96}, {0}}, 96, 96, 83, std::vector<u16>(96 * 96)};
    for (i64 i = 0; i < 96; ++i) c.x[i * 96 + i] = 0x3F80;
    DeviceRun device(backend, c);
    for (const KernelPtr& kernel : kernels) {
        INFO(describe(c, kernel->config()));
        const PoisonedRows y = device.run(*kernel);
        int wrong = 0;
        for (i64 k = 0; k < 96; ++k)
            for (i64 n = 0; n < 83; ++n) {
                const u8 byte = checkpoint.blocks[n * 48 + k / 2];
                const float weight =
                    std::ldexp(e2m1_to_float(k % 2 ? byte >> 4 : byte & 15), checkpoint.scales[n * 3 + k / 32] - 127);
                const float got = bf16_to_float(y.at(k, n));
                if (got != weight && ++wrong <= 5)
                    UNSCOPED_INFO(fmt::format("W[{}, {}] is {}, shown as {}", n, k, weight, got));
            }
        CHECK(wrong == 0);
        CHECK(y.guards_intact());
    }
}

// Integer-valued inputs, so that every partial sum is exact: any lost or doubled product shows.
inline void check_integers(Backend& backend, Random& random, const WeightsFormat& format, i64 n, i64 k, i64 rows,
                           const Kernels& kernels, int runs, const BeforeRun& before_run = [](int) {}) {
    const Checkpoint checkpoint = random_checkpoint(random, 3, n, k, 128, 128);
    DeviceCase c{checkpoint, pack_by_maps(checkpoint, format), {{0, 9, 11, i32(rows)}, {1, 0, 2}}, rows, k, n,
                 std::vector<u16>(rows * k)};
    for (u16& x : c.x) x = float_to_bf16(float(between(random, -3, 3)));  // every partial sum is an integer below 2^24
    const std::vector<float> want = c.reference();
    DeviceRun device(backend, c);
    for (const KernelPtr& kernel : kernels)
        for (int run = 0; run < runs; ++run) {
            INFO(describe(c, kernel->config()) << ", run " << run);
            before_run(run);
            const PoisonedRows y = device.run(*kernel);
            i64 wrong = 0;
            for (i64 r = 0; r < rows; ++r)
                for (i64 o = 0; o < n; ++o) wrong += y.at(r, o) != float_to_bf16(want[r * n + o]);
            CHECK(wrong == 0);
        }
}

// Offsets are clamped, NaN stays in its row, padding counts for nothing.
inline void check_edges(Backend& backend, Random& random, const WeightsFormat& format, const Kernels& kernels) {
    const Checkpoint checkpoint = random_checkpoint(random, 2, 72, 96, 118, 128);
    DeviceCase c{checkpoint, pack_by_maps(checkpoint, format), {{-5, 3, 1000}, {0, 1}}, 8, 96, 72, random_bf16(random, 8 * 96)};
    if (format.layout != Layout::native) {  // a wrapped tensor's padding may hold anything
        std::vector<char> own(c.packed.scales.size());
        for (i64 e = 0; e < 2; ++e)
            for (i64 n = 0; n < 72; ++n)
                for (i64 kg = 0; kg < 3; ++kg) {
                    const Index2 at = hopper_scale_swizzle(n, kg, format.scale_warps);
                    own[e * c.packed.stored.scales_bytes() + at.row * c.packed.stored.scale_row_bytes + at.col] = 1;
                }
        for (std::size_t i = 0; i < own.size(); ++i)
            if (!own[i]) c.packed.scales[i] = i % 2 ? 255 : 129;
    }
    DeviceCase spoiled = c;
    spoiled.x[5 * 96 + 7] = 0x7FC0;
    DeviceRun device(backend, c), spoiled_device(backend, spoiled);
    for (const KernelPtr& kernel : kernels) {
        INFO(describe(c, kernel->config()));
        const PoisonedRows clean = device.run(*kernel);
        CHECK(judge(clean, c.reference(), c.routing.offsets) == "");
        const PoisonedRows y = spoiled_device.run(*kernel);
        int wrong = 0;
        for (i64 r = 0; r < 8; ++r)
            for (i64 n = 0; n < 72; ++n)
                wrong += r == 5 ? !std::isnan(bf16_to_float(y.at(r, n))) : y.at(r, n) != clean.at(r, n);
        CHECK(wrong == 0);
    }
}

}  // namespace mxfp4::test
