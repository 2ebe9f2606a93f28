#include "tools/rested_timing.h"

#include <chrono>
#include <thread>

namespace mxfp4 {

std::vector<Timing> time_rested(Backend& backend, std::span<const TimedWork> work) {
    if (backend.device().kind == Device::Kind::cuda) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return backend.time(work, {.repeats = 11, .replay_us = 20000});
}

}  // namespace mxfp4
