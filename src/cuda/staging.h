// Host <-> device copies through pinned memory: two buffers take turns, so that the memcpy into one overlaps the
// transfer of the other. Thread-safe: each copy borrows its own lane.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/driver.h"

namespace mxfp4 {

// The device's context must be current in every call, the destructor included.
class Staging {
  public:
    void copy_in(CUdeviceptr to, const void* from, std::size_t bytes);
    void copy_out(void* to, CUdeviceptr from, std::size_t bytes);

  private:
    struct Half {
        PinnedMemory memory;
        Event done;
    };
    struct Lane {
        OwnedStream stream;
        Half halves[2];
    };
    static Lane make_lane();
    template <class Copy>
    void with_lane(Copy copy);

    std::mutex mutex_;
    std::vector<Lane> idle_;
};

}  // namespace mxfp4
