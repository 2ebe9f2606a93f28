// How mxfp4-bench times.
#pragma once

#include <span>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

// Times them interleaved, eleven replays of 20 ms. A GPU that comes from other work is slower (docs/performance.md): it rests for half a
// second before, as the peers did, between whose timings Python set up the next.
std::vector<Timing> time_rested(Backend& backend, std::span<const TimedWork> work);

}  // namespace mxfp4
