#include "tools/device_option.h"

#include <charconv>

#include <fmt/format.h>

namespace mxfp4 {

Device device_from_option(Tool& tool, const std::string& text) {
    if (text == "host") return Device::host();
    if (text == "cuda") return Device::cuda();
    if (text == "auto") {
        const bool gpu = usable_cuda_devices() > 0;
        tool.say(gpu ? "device: cuda:0" : "device: host (there is no usable GPU)");
        return gpu ? Device::cuda() : Device::host();
    }
    constexpr std::string_view kPrefix = "cuda:";
    int ordinal = -1;
    if (text.starts_with(kPrefix)) {
        const auto [end, error] = std::from_chars(text.data() + kPrefix.size(), text.data() + text.size(), ordinal);
        if (error == std::errc{} && end == text.data() + text.size() && ordinal >= 0) return Device::cuda(ordinal);
    }
    throw UsageError("--device names no device", {fmt::format("'{}'", text), "auto, cuda, cuda:N or host", ""});
}

}  // namespace mxfp4
