// --routing, of the tools that time: how tokens choose their experts.
#pragma once

#include <string>

#include "tuner/routing.h"

namespace mxfp4 {

class Tool;

class RoutingOption {
  public:
    // note: what this tool has to say about it.
    explicit RoutingOption(Tool& tool, const std::string& note = "");

    Routing read() const;  // throws UsageError

  private:
    std::string text_ = to_string(Routing::uniform);
};

}  // namespace mxfp4
