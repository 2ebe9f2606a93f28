// What --layout and --num-warps ask for, of the tools that pack, or that take a problem rather than a file.
#pragma once

#include <optional>
#include <string>

#include "contract/layout.h"

namespace mxfp4 {

// Folded. num_warps, of the scale swizzle: 8 unless given. Throws UsageError.
WeightsFormat format_of(const std::string& layout, std::optional<int> num_warps);

}  // namespace mxfp4
