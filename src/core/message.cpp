#include "core/message.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mxfp4 {

std::string in_quotes(std::string_view text) {
    constexpr std::size_t kMost = 160;
    std::string out = "'";
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.size() > kMost && i == kMost / 2) {
            out += "...";
            i = text.size() - kMost / 2;
        }
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte >= 0x7f)
            out += fmt::format("\\x{:02x}", byte);
        else
            out += text[i];
    }
    return out + "'";
}

std::string shape_text(std::span<const std::int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace mxfp4
