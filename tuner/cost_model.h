// A coarse estimate of what a kernel would take, to decide which candidates are worth compiling and in which order.
// It ranks; the stopwatch decides.
#pragma once

#include <cstdint>

#include "contract/config.h"

namespace mxfp4 {

// Tiles that a problem of uniformly routed rows is expected to make, groups' sizes being binomial.
struct TileCount {
    double active = 0;     // groups that have a row
    double row_tiles = 0;  // over all groups
    double row_pairs = 0;  // two tiles of rows of one group, or its last one
    double mma_rows = 0;   // rows that the tensor cores work on, rounded up in each tile
};
TileCount expected_tiles(const ProblemShape& shape, int block_m, int round_rows_to);

// Expected rows of a group that has any.
double rows_per_group(const ProblemShape& shape);

// Microseconds on a Hopper GPU. For configs that check() admits.
double estimate_us(const KernelConfig& config, const ProblemShape& shape, const DeviceLimits& limits);

// What compiling takes, relative to other configs: a wgmma kernel holds an instance for every multiple of 8 up to
// block_m.
double compile_cost(const KernelConfig& config);

// Relative cost on the host: no unit, smaller is better.
double estimate_host_cost(const KernelConfig& config, const ProblemShape& shape, int cores);

}  // namespace mxfp4
