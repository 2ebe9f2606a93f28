// Random problems, and y judged against the reference. Shared by the tests of host backend, dispatcher and GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <mxfp4/packed.h>

#include "core/bf16.h"
#include "reference/reference.h"

namespace mxfp4::test {

using Random = std::mt19937;

inline i64 between(Random& random, i64 low, i64 high) { return std::uniform_int_distribution<i64>(low, high)(random); }

struct Checkpoint {
    i64 experts, n, k;
    std::vector<u8> blocks;  // [experts, n, k/32, 16]
    std::vector<u8> scales;  // [experts, n, k/32]

    CheckpointView view() const { return {blocks.data(), scales.data(), experts, n, k}; }
};

// Scales between the two, of each expert; experts of odd number get `odd_lift` more.
inline Checkpoint random_checkpoint(Random& random, i64 experts, i64 n, i64 k, int low = 119, int high = 129,
                                    int odd_lift = 0) {
    Checkpoint c{experts, n, k, std::vector<u8>(experts * n * k / 2), std::vector<u8>(experts * n * k / 32)};
    for (u8& byte : c.blocks) byte = u8(random());
    const i64 per_expert = n * k / 32;
    for (i64 i = 0; i < i64(c.scales.size()); ++i)
        c.scales[i] = u8(between(random, low, high) + (i / per_expert % 2 ? odd_lift : 0));
    return c;
}

inline std::vector<u16> random_bf16(Random& random, std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<u16> values(count);
    for (u16& v : values) v = float_to_bf16(normal(random));
    return values;
}

struct Routing {
    std::vector<i32> offsets;  // [groups + 1]
    std::vector<i32> ids;      // [groups]
    i32 groups() const { return i32(ids.size()); }
};

// Ragged groups, many of them empty or of one row; ids may repeat, and a few lie outside [0, experts).
inline Routing random_routing(Random& random, i64 rows, i64 groups, i64 experts, bool wild_ids) {
    Routing routing;
    for (i64 g = 0; g <= groups; ++g) routing.offsets.push_back(i32(g == groups ? rows : between(random, 0, rows)));
    for (i64 g = 1; g < groups; ++g)
        if (random() % 3 == 0) routing.offsets[g] = routing.offsets[g - 1];
    routing.offsets[0] = 0;
    std::sort(routing.offsets.begin(), routing.offsets.end());
    for (i64 g = 0; g < groups; ++g)
        routing.ids.push_back(
            i32(wild_ids && random() % 6 == 0 ? between(random, -3, experts + 2) : between(random, 0, experts - 1)));
    return routing;
}

// Offsets that other groups of rows might have had.
inline std::vector<i32> other_offsets(Random& random, const Routing& routing, i64 rows) {
    std::vector<i32> offsets = routing.offsets;
    const bool nearly_the_same = random() % 2;  // groups that end a little earlier: tiles that begin alike, with fewer rows
    for (i32& offset : offsets) offset = nearly_the_same ? offset - i32(random() % 2 * std::min(offset, 2)) : i32(between(random, 0, rows));
    std::sort(offsets.begin(), offsets.end());
    return offsets;
}

// What a few of many groups have of rows, and had before: {group: rows}.
struct FarGroups {
    std::map<int, int> rows, before;
    static constexpr int kGroups = 200, kExperts = 2;

    Routing routing() const { return {offsets(rows), ids()}; }
    static std::vector<i32> offsets(const std::map<int, int>& rows) {
        std::vector<i32> all{0};
        for (int g = 0; g < kGroups; ++g) all.push_back(all.back() + (rows.contains(g) ? rows.at(g) : 0));
        return all;
    }
    static std::vector<i32> ids() {
        std::vector<i32> all;
        for (int g = 0; g < kGroups; ++g) all.push_back(g % kExperts);
        return all;
    }
};
// A wgmma_rs producer keeps 32 or 128 of the groups that it has gone by, and compares them once the grids before have ended.
inline const FarGroups kFarGroups[] = {
    {{{5, 3}, {70, 2}}, {{5, 3}, {91, 2}}},           // the first 32 are what they were
    {{{151, 4}}, {{140, 4}}},                         // the first 128 are
    {{{5, 3}, {70, 2}}, {{5, 3}, {70, 1}, {71, 1}}},  // the first 32 are, but in all there was a tile more
};

// A y matrix between guard zones, poisoned.
struct PoisonedRows {
    static constexpr u16 kPoison = 0x7FB1;  // a NaN that no kernel writes
    static constexpr i64 kGuard = 512;      // 1024 bytes: y stays as aligned as the buffer
    i64 rows, n, stride;
    std::vector<u16> bytes;

    PoisonedRows(i64 rows_, i64 n_, i64 stride_)
        : rows(rows_), n(n_), stride(stride_), bytes(2 * kGuard + rows_ * stride_, kPoison) {}
    u16* data() { return bytes.data() + kGuard; }
    u16 at(i64 r, i64 c) const { return bytes[kGuard + r * stride + c]; }

    // Everything but y's own elements is still poison.
    bool guards_intact() const {
        for (i64 i = 0; i < i64(bytes.size()); ++i) {
            const i64 inside = i - kGuard;
            const bool own = inside >= 0 && inside < rows * stride && inside % stride < n;
            if (!own && bytes[i] != kPoison) return false;
        }
        return true;
    }
};

// Empty where y is as exact as it must be, else what is wrong. Rows in no group must still be poison.
inline std::string judge(const PoisonedRows& y, const std::vector<float>& want, const std::vector<i32>& offsets) {
    std::vector<char> covered(y.rows);
    for (std::size_t g = 0; g + 1 < offsets.size(); ++g)
        for (i64 r = std::clamp<i64>(offsets[g], 0, y.rows); r < std::clamp<i64>(offsets[g + 1], 0, y.rows); ++r)
            covered[r] = 1;
    double square = 0, error = 0;
    i64 count = 0;
    for (i64 r = 0; r < y.rows; ++r)
        for (i64 c = 0; c < y.n; ++c) {
            if (!covered[r]) {
                if (y.at(r, c) != PoisonedRows::kPoison) return fmt::format("row {} is in no group but was written", r);
                continue;
            }
            const double w = want[r * y.n + c], d = bf16_to_float(y.at(r, c)) - w;
            square += w * w;
            error += d * d;
            ++count;
        }
    if (!y.guards_intact()) return "a guard zone was written";
    if (count == 0) return "";
    const double rms = std::sqrt(square / double(count)), relative = std::sqrt(error / std::max(square, 1e-300));
    if (count >= 128 && !(relative <= 2.5e-3)) return fmt::format("relative Frobenius error {}", relative);
    for (i64 r = 0; r < y.rows; ++r)
        for (i64 c = 0; c < y.n && covered[r]; ++c) {
            const double w = want[r * y.n + c], got = bf16_to_float(y.at(r, c));
            if (!(std::abs(got - w) <= 2e-2 * (rms + std::abs(w))))
                return fmt::format("y[{}, {}] is {}, the reference says {}", r, c, got, w);
        }
    return "";
}

}  // namespace mxfp4::test
