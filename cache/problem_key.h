// The key of a problem on a device: the one place that tuner, dispatcher and tools get it from.
#pragma once

#include "backends/backend.h"
#include "cache/key.h"

namespace mxfp4 {

// kernel_hash stays empty: it belongs to a winner's variant (Backend::kernel_hash). Rows become their bucket, groups of 0
// the number of experts.
Key problem_key(const Backend& backend, const WeightsFormat& format, int layout_version, const ProblemShape& shape);

}  // namespace mxfp4
