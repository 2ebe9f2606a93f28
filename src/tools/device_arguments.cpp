#include "tools/device_arguments.h"

#include <cstdlib>

#include "cache/cache.h"
#include "cuda/nvrtc.h"
#include "tools/device_option.h"

namespace mxfp4 {

DeviceArguments::DeviceArguments(Tool& tool) : tool_(tool) {
    tool.app().add_option("--device", device_, "auto, cuda, cuda:N or host")->capture_default_str();
    tool.app().add_option("--db", db_, "Tuning database (default: $MXFP4_DB, else mxfp4/tuned.sqlite in the user's cache)");
    tool.app().add_option("--nvrtc", nvrtc_, "libnvrtc, or a folder that has it (default: searched for)");
    tool.app().add_option("--kernel-templates", kernel_templates_, "Folder that overrides the embedded kernel text");
}

Device DeviceArguments::device() {
    if (!found_) found_ = device_from_option(tool_, device_);
    return *found_;
}

std::filesystem::path DeviceArguments::database() const { return db_.empty() ? default_database() : std::filesystem::path(db_); }

BackendOptions DeviceArguments::backend_options() const {
    return {.images = image_folder(database()), .nvrtc = nvrtc(), .kernel_templates = kernel_templates_, .log = log()};
}

DispatcherOptions DeviceArguments::dispatcher_options() {
    return {.device = device(), .cache = database(), .log = log(), .nvrtc = nvrtc(), .kernel_templates = kernel_templates_};
}

std::filesystem::path DeviceArguments::nvrtc() const {
    const char* cuda_home = std::getenv("CUDA_HOME");
    return nvrtc_.empty() && cuda_home ? nvrtc_in(cuda_home) : std::filesystem::path(nvrtc_);
}

LogCallback DeviceArguments::log() const {
    return [&tool = tool_](LogLevel level, const std::string& message) {
        if (level == LogLevel::warning)
            tool.warn(message);
        else
            tool.say(message);
    };
}

}  // namespace mxfp4
