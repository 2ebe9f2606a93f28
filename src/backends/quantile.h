// Medians and percentiles of replays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace mxfp4 {

// q from 0 to 1, interpolated between the two nearest of the values, which are sorted and at least one.
inline double quantile(const std::vector<double>& sorted, double q) {
    const double at = q * double(sorted.size() - 1);
    const std::size_t below = std::size_t(at), above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (at - double(below));
}

}  // namespace mxfp4
