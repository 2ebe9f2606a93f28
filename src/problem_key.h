// The cache key of a problem on a device: what the tuner files a winner under and the dispatcher asks for.
#pragma once

#include "backends/backend.h"
#include "cache/key.h"

namespace mxfp4 {

// Rows become their bucket's upper bound, groups = 0 the experts. kernel_hash stays empty: it is the winner's to fill in.
Key problem_key(const Backend& backend, const WeightsFormat& format, int layout_version, const ProblemShape& shape);

}  // namespace mxfp4
