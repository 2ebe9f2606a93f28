#include "pack/scale_class.h"

#include <algorithm>

namespace mxfp4 {

ScaleDecision decide_scale_class(std::span<const ScaleRange> experts) {
    ScaleDecision decision{ScaleClass::folded, std::vector<i32>(experts.size(), 0)};
    if (std::ranges::all_of(experts, [](ScaleRange r) { return r.largest <= kMaxFoldedScale; })) return decision;
    if (std::ranges::any_of(experts, [](ScaleRange r) { return r.largest - r.smallest > kMaxScaleSpan; })) {
        decision.scale_class = ScaleClass::plain;
        return decision;
    }
    decision.scale_class = ScaleClass::rebased;
    for (std::size_t e = 0; e < experts.size(); ++e)
        decision.expert_shift[e] = std::max(0, experts[e].largest - kMaxFoldedScale);
    return decision;
}

}  // namespace mxfp4
