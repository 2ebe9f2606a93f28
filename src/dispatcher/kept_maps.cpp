#include "dispatcher/kept_maps.h"

#include <algorithm>

#include "contract/tensors.h"

namespace mxfp4 {

void KeptMaps::keep(const Kernel& kernel, const MatmulArguments& arguments) {
    if (!maps_weights(kernel.config()) || count_.load(std::memory_order_relaxed) == kMost) return;
    const std::lock_guard lock(mutex_);
    const int count = count_.load(std::memory_order_relaxed);
    if (count == kMost || std::count(kernels_.begin(), kernels_.begin() + count, &kernel)) return;
    kernels_[std::size_t(count)] = &kernel;
    maps_[std::size_t(count)] = {arguments.values_map, arguments.scales_map};
    count_.store(count + 1, std::memory_order_release);
}

}  // namespace mxfp4
