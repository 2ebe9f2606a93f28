// The grouped matmul on the CPU: the same packed bytes, the same arguments, the same answers as the kernels'.
#pragma once

#include <memory>

#include "backends/backend.h"
#include "backends/host/thread_pool.h"

namespace mxfp4 {

// Raise when a change could make another config the fastest.
inline constexpr const char* kHostKernelVersion = "host kernel 1";

std::string host_kernel_rejects(const KernelConfig& config, const WeightsFormat& format);  // empty: it runs here
KernelPtr make_host_kernel(const KernelConfig& config, const WeightsFormat& format, std::shared_ptr<ThreadPool> pool);

}  // namespace mxfp4
