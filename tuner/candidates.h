// Which configs are worth trying for a shape.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <mxfp4/dispatcher.h>

#include "contract/config.h"

namespace mxfp4 {

struct CandidateList {
    std::vector<KernelConfig> configs;        // the proven first, then the best first by the cost model, so that a budget cuts the tail
    std::map<Reject, std::int64_t> rejected;  // configs of the search space that check() refused, by reason
    std::int64_t admissible = 0;              // those that it let through, before pruning
};

inline constexpr int kMostCandidates = 20;  // of a bucket

CandidateList enumerate_candidates(const WeightsFormat& format, const ProblemShape& shape, const DeviceLimits& limits,
                                   Device::Kind kind, int most = kMostCandidates);

}  // namespace mxfp4
