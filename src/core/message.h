// Words for messages.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace mxfp4 {

// 'text', fit for one line: control bytes and what is no ASCII escaped, the middle of a long one left out.
std::string in_quotes(std::string_view text);

// [2, 5760, 90, 16]
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace mxfp4
