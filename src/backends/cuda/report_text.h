// Compile reports: read out of NVRTC's log, written to and read from JSON.
#pragma once

#include <string>
#include <string_view>

#include "backends/backend.h"

namespace mxfp4 {

// A kernel that spills more than this, stores and loads a thread together, is rejected.
inline constexpr int kMaxSpillBytes = 64;

// Fills registers, spills, shared memory (static only), warnings and, where they forbid the kernel, rejected.
void read_log(std::string_view log, bool compiled, CompileReport& report);

std::string report_to_json(const CompileReport& report);
CompileReport report_from_json(const std::string& text);  // throws Error bad_file

}  // namespace mxfp4
