// --device, --db and the developer's options of every tool that launches kernels.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "tools/tool.h"

namespace mxfp4 {

class DeviceArguments {
  public:
    explicit DeviceArguments(Tool& tool);  // adds the options

    // After parsing. The device is looked for once, and messages go to the tool's stderr.
    Device device();
    std::filesystem::path database() const;
    BackendOptions backend_options() const;  // images beside the database
    DispatcherOptions dispatcher_options();

  private:
    std::filesystem::path nvrtc() const;
    LogCallback log() const;

    Tool& tool_;
    std::string device_ = "auto", db_, nvrtc_, kernel_templates_;
    std::optional<Device> found_;
};

}  // namespace mxfp4
