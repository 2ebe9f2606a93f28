// The physical floor of a problem: its bytes over the memory's copy bandwidth, or its flops over the tensor cores'
// peak, whichever takes longer. Both ceilings are measured ones (copy kernel; cuBLAS 8192^3), known for a few GPUs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mxfp4 {

struct ProblemSize {
    std::int64_t active = 0;  // experts that got a row
    std::int64_t rows = 0, n = 0, k = 0;
};

double problem_bytes(const ProblemSize& size);  // active weights and their scales, x in, y out
double problem_flops(const ProblemSize& size);

struct Ceilings {
    double bytes_per_us = 0;  // of a copy within the GPU's memory: read and written
    double flops_per_us = 0;  // of cuBLAS, BF16, 8192^3
};
struct DeviceCeiling {
    std::string_view name;        // as the driver names the GPU
    std::string_view short_name;  // as bench/peers.json does
    Ceilings rates;
};
std::optional<DeviceCeiling> device_ceiling(std::string_view gpu_name);  // empty: not measured

std::optional<double> floor_us(std::string_view gpu_name, const ProblemSize& size);

}  // namespace mxfp4
