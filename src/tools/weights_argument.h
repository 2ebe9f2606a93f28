// What --weights names: PACKED, or PACKED:P for one weight of the file.
#pragma once

#include <optional>
#include <string>

namespace mxfp4 {

struct WeightsArgument {
    std::string file;
    std::optional<std::string> name;
};

// The colon splits only where no file has the whole name.
WeightsArgument parse_weights_argument(const std::string& text);

}  // namespace mxfp4
