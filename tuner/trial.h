// Does a loaded kernel compute the right thing? For kernels that nobody verified since their text or compiler changed.
#pragma once

#include <string>

#include "backends/backend.h"

namespace mxfp4 {

// Launches the kernel once on a small random ragged problem of its own, with tails in rows, outputs and k, and compares
// with the reference: every output written, a few in each row right, no other row touched. Waits for the stream, and
// for nothing else; the stream must not be in capture. Empty: fine; else what is wrong.
std::string try_kernel(Backend& backend, const Kernel& kernel, const WeightsFormat& format, Stream stream);

}  // namespace mxfp4
