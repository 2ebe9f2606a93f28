// The key of a winner: an ordered list of named fields with one canonical text. It holds everything that can change
// which config is fastest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "contract/config.h"

namespace mxfp4 {

// Raise when timing changes in a way that could change a winner.
inline constexpr int kMeasuringPolicy = 5;

// Rows that share a winner: 0, 1, 2, 3, then powers of two and the midpoint between two of them (4 6 8 12 16 24 32 ...).
// The one mapper that tuner and dispatcher both use; returns the bucket's upper bound. Throws Error invalid_argument for
// rows outside [0, kMaxRows].
inline constexpr std::int64_t kMaxRows = (1ll << 31) - 256;  // rounded up to a tile they are 32 bits still; also the last bucket
std::int64_t rows_bucket(std::int64_t rows);
std::vector<std::int64_t> rows_buckets(std::int64_t max_rows);  // every bucket that 0 .. max_rows fall into, ascending

struct Key {
    // device
    std::string device;         // name
    int sm_count = 0;
    std::int64_t memory_gib = 0;
    // code
    std::string compiler;       // NVRTC build; host: compiler and target
    std::string kernel_hash;    // of the winner's variant text; not part of lookup (see same_problem)
    int measuring_policy = kMeasuringPolicy;
    // weight
    Layout layout = Layout::native;
    int layout_version = kLayoutVersion[int(layout)];
    int scale_warps = 0;
    ScaleClass scale_class = ScaleClass::folded;
    std::int64_t experts = 0, n = 0, k = 0;
    // problem
    std::int64_t groups = 0, rows = 0;  // rows: a bucket's upper bound
    bool x_aligned = true, y_aligned = true;
    std::string prologue = "none", epilogue = "none";

    std::vector<std::pair<std::string, std::string>> fields() const;  // in canonical order
    // "device=NVIDIA%20H100;sm_count=132;...": a key has one text, a text has one key.
    std::string text() const;
    static Key parse(std::string_view text);                         // throws Error invalid_argument
    std::string hash() const;                                        // 16 hex digits of the text's sha256
    WeightsFormat format() const { return {layout, scale_warps, scale_class}; }
    ProblemShape shape() const { return {experts, n, k, rows, groups, x_aligned, y_aligned}; }
    bool operator==(const Key&) const = default;
};

// Equal in all but kernel_hash: what a lookup asks for.
bool same_problem(const Key& a, const Key& b);

}  // namespace mxfp4
