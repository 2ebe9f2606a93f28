// A kernel on the device.
#pragma once

#include <memory>

#include "backends/backend.h"
#include "backends/cuda/jit.h"
#include "cuda/driver.h"

namespace mxfp4 {

// The device's context must be current. Throws Error compile where the image is rejected or does not fit the device.
KernelPtr load_cuda_kernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config, const WeightsFormat& format,
                           Jit::ImagePtr image, int sm_count);

}  // namespace mxfp4
