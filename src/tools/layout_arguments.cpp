#include "tools/layout_arguments.h"

#include <fmt/format.h>

#include "core/config_text.h"
#include "tools/tool.h"

namespace mxfp4 {

WeightsFormat format_of(const std::string& layout, std::optional<int> num_warps) {
    WeightsFormat format{from_arguments([&] { return parse_layout(layout); }), 0, ScaleClass::folded};
    if (format.layout == Layout::native) {
        if (num_warps)
            throw UsageError("--num-warps does not go with the native layout",
                             {"", "", "leave it out, or name --layout hopper or blocks"});
        return format;
    }
    format.scale_warps = num_warps.value_or(8);
    if (!is_power_of_two(format.scale_warps))
        throw UsageError("--num-warps", {fmt::to_string(format.scale_warps), "a power of two", ""});
    return format;
}

}  // namespace mxfp4
