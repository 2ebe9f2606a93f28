#include "tools/weights_argument.h"

#include <filesystem>
#include <system_error>

namespace mxfp4 {

WeightsArgument parse_weights_argument(const std::string& text) {
    const auto colon = text.rfind(':');
    std::error_code ignored;
    if (colon == std::string::npos || std::filesystem::exists(text, ignored)) return {text, {}};
    return {text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace mxfp4
