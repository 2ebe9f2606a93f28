// Runs independent tasks on a few threads.
#pragma once

#include <cstdint>
#include <functional>

namespace mxfp4 {

// Calls task(i) for i = 0 .. tasks-1, on at most `threads` threads (0 = all cores), the caller's among them. The first
// exception ends the rest and is thrown on.
void parallel_for(int threads, std::int64_t tasks, const std::function<void(std::int64_t)>& task);

}  // namespace mxfp4
