// The one text form of a KernelConfig: "wgmma_rs/native bm64 bn256 bk128 w12 s4 k2". Reads back what it prints.
// Fields at their default that few configs set (c = ctas_per_sm, v = simd, cl = cluster) are left out when printed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "contract/config.h"

namespace mxfp4 {

const char* to_string(Variant variant);
const char* to_string(Layout layout);
const char* to_string(ScaleClass scale_class);
Variant parse_variant(std::string_view text);          // these throw Error invalid_argument naming the values there are
Layout parse_layout(std::string_view text);
ScaleClass parse_scale_class(std::string_view text);

std::string to_text(const KernelConfig& config);
KernelConfig parse_config(std::string_view text);
std::optional<KernelConfig> read_config(std::string_view text);  // nothing where another version wrote it

}  // namespace mxfp4
