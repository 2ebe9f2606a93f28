// Configs that need no model to be worth trying.
#pragma once

#include <vector>

#include "contract/config.h"

namespace mxfp4 {

// What won, or came within a percent of it, at gpt-oss-20b's and 120b's matmuls (docs/performance.md): where every admissible config of
// a grid was timed, some 250 for each of 1 to 16 tokens on an H100 and an H200, and for each of 32 to 256 (20b) and 128 to 1024 (120b)
// on an H200; with more rows than those had, on two machines of either kind. (One, with stream-k, at E 8 N 14336 K 4096.) And, for few rows,
// what did well there and has room for ten times as many. rows: of a group that has any. Not all pass check().
std::vector<KernelConfig> proven_configs(Layout layout, double rows);

}  // namespace mxfp4
