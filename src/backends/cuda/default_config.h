// The config that always works: what the library runs before anything was tuned.
#pragma once

#include <vector>

#include "contract/config.h"

namespace mxfp4 {

KernelConfig default_config(const WeightsFormat& format, const ProblemShape& shape);
std::vector<KernelConfig> default_configs(const WeightsFormat& format);  // every one that default_config() may return

}  // namespace mxfp4
