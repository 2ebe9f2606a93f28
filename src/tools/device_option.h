// --device auto|cuda[:N]|host, as every tool takes it.
#pragma once

#include <string>

#include "backends/backend.h"
#include "tools/tool.h"

namespace mxfp4 {

// auto is the first GPU if there is a usable one, else the host; which one it is goes to stderr. Throws UsageError for a
// text that names no device.
Device device_from_option(Tool& tool, const std::string& text);

}  // namespace mxfp4
