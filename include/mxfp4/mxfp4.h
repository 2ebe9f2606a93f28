// mxfp4: MXFP4 mixture-of-experts weights on NVIDIA Hopper. Include this one.
#pragma once

#include <mxfp4/dispatcher.h>
#include <mxfp4/error.h>
#include <mxfp4/packed.h>

namespace mxfp4 {

const char* version();  // "0.1.0"

}  // namespace mxfp4
