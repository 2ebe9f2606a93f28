#include "tools/layout_arguments.h"

#include "core/config_text.h"
#include "pack/packer.h"
#include "tools/tool.h"

namespace mxfp4 {

WeightsFormat format_of(const std::string& layout, std::optional<int> num_warps) {
    const Layout parsed = from_arguments([&] { return parse_layout(layout); });
    if (num_warps && parsed == Layout::native)
        throw UsageError("--num-warps does not go with the native layout",
                         {"", "", "leave it out, or name --layout hopper or blocks"});
    if (num_warps) from_arguments([&] { check_scale_warps(*num_warps, "--num-warps"); });  // 0 too, which PackOptions has for the default
    return checked_format({.layout = parsed, .num_warps = num_warps.value_or(0)});
}

}  // namespace mxfp4
