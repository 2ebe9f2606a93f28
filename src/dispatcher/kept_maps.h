// The tensor maps of some weights, for the kernels that have launched on them: making them anew takes the driver 300 ns a launch.
#pragma once

#include <array>
#include <atomic>
#include <mutex>

#include "backends/backend.h"

namespace mxfp4 {

class KeptMaps {
  public:
    static constexpr int kMost = 32;  // kernels; those that come later make their maps at each launch

    // Gives the arguments the maps of weights that the kernel needs. False where they are not kept. Takes no lock.
    bool find(const Kernel& kernel, MatmulArguments& arguments) const {
        const int count = count_.load(std::memory_order_acquire);
        for (int i = 0; i < count; ++i)
            if (kernels_[i] == &kernel) {
                arguments.values_map = maps_[i].values;
                arguments.scales_map = maps_[i].scales;
                arguments.weights_mapped = 1;
                return true;
            }
        return false;
    }
    // Of arguments that the kernel has launched with. Allocates nothing, since a hit may come here.
    void keep(const Kernel& kernel, const MatmulArguments& arguments);

  private:
    struct Maps {
        TensorMap values, scales;
    };
    std::atomic<int> count_ = 0;  // what lies before it never changes
    std::array<const Kernel*, kMost> kernels_ = {};
    std::array<Maps, kMost> maps_;
    std::mutex mutex_;  // guards adding
};

}  // namespace mxfp4
