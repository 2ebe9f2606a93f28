#include "tools/routing_option.h"

#include "tools/tool.h"

namespace mxfp4 {

RoutingOption::RoutingOption(Tool& tool, const std::string& note) {
    tool.app()
        .add_option("--routing", text_,
                    "uniform, skewed (one expert takes half of the rows), sparse (9 of 10 experts empty) or one" + note)
        ->capture_default_str();
}

Routing RoutingOption::read() const {
    return from_arguments([&] { return parse_routing(text_); });
}

}  // namespace mxfp4
