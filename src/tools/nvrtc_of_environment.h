// What tools and tests give as BackendOptions::nvrtc: libnvrtc under CUDA_HOME, else nothing: the library then searches.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "cuda/nvrtc.h"

namespace mxfp4 {

inline std::filesystem::path nvrtc_of_environment() {
    const char* cuda_home = std::getenv("CUDA_HOME");
    return cuda_home ? nvrtc_in(cuda_home) : std::filesystem::path();
}

}  // namespace mxfp4
