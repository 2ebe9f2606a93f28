// SHA-256 of bytes in memory, as 64 lower-case hex digits.
#pragma once

#include <string>
#include <string_view>

namespace mxfp4 {

std::string sha256_hex(std::string_view bytes);

}  // namespace mxfp4
