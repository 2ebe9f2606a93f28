// Times launches on a GPU by replaying CUDA graphs.
#pragma once

#include <span>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

// The device's context must be current.
std::vector<Timing> time_by_graph_replay(std::span<const TimedWork> work, const TimingOptions& options);

}  // namespace mxfp4
