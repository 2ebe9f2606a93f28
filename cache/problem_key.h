// The key of a problem on a device: the one place that tuner, dispatcher and tools get it from.
#pragma once

#include "backends/backend.h"
#include "cache/key.h"

namespace mxfp4 {

// Groups that share a winner: one for each expert (also when groups is 0), else a bucket, as for rows.
std::int64_t groups_bound(std::int64_t groups, std::int64_t experts);

// kernel_hash stays empty: it belongs to a winner's variant (Backend::kernel_hash). Rows and groups become buckets.
Key problem_key(const Backend& backend, const WeightsFormat& format, int layout_version, const ProblemShape& shape);

}  // namespace mxfp4
