// Which scale class a weight has (contract/layout.h): decided from each expert's smallest and largest E8M0 scale.
#pragma once

#include <span>
#include <vector>

#include "contract/layout.h"

namespace mxfp4 {

struct ScaleRange {
    u8 smallest = 255, largest = 0;
};

struct ScaleDecision {
    ScaleClass scale_class = ScaleClass::folded;
    std::vector<i32>
        expert_shift;  // [experts] what a rebased expert's scales are lowered by; all 0 in the other classes
};

ScaleDecision decide_scale_class(std::span<const ScaleRange> experts);

}  // namespace mxfp4
