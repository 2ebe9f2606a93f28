#include "backends/backend.h"

namespace mxfp4 {

std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options) {
    return device.kind == Device::Kind::cuda ? make_cuda_backend(device.ordinal, options) : make_host_backend(options);
}

}  // namespace mxfp4
