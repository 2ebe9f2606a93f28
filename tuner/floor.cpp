#include "tuner/floor.h"

#include <algorithm>

#include "contract/layout.h"

namespace mxfp4 {
namespace {

// Whole names: an H100 PCIe or an H200 NVL has other memory and clocks.
constexpr DeviceCeiling kCeilings[] = {
    {"NVIDIA H100 80GB HBM3", "h100", {3.027e6, 762e6}},
    {"NVIDIA H200", "h200", {4.28e6, 797e6}},
};

}  // namespace

double problem_bytes(const ProblemSize& s) {
    return double(s.active) * double(s.n) * double(s.k) * (0.5 + 1.0 / kBlockElements) +
           double(s.rows) * double(s.k + s.n) * 2;
}

double problem_flops(const ProblemSize& s) { return 2 * double(s.rows) * double(s.n) * double(s.k); }

std::optional<DeviceCeiling> device_ceiling(std::string_view gpu_name) {
    const auto* found =
        std::find_if(std::begin(kCeilings), std::end(kCeilings), [&](const auto& c) { return c.name == gpu_name; });
    if (found == std::end(kCeilings)) return std::nullopt;
    return *found;
}

std::optional<double> floor_us(std::string_view gpu_name, const ProblemSize& size) {
    const auto ceiling = device_ceiling(gpu_name);
    if (!ceiling) return std::nullopt;
    return std::max(problem_bytes(size) / ceiling->rates.bytes_per_us, problem_flops(size) / ceiling->rates.flops_per_us);
}

}  // namespace mxfp4
