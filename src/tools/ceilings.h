// What the GPU at hand does at best: the two rates that a floor is made of, measured. GPUs of one kind differ in them, and by more where
// they are at their power limit (docs/performance.md).
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tools/cublas.h"
#include "tuner/bench_problem.h"
#include "tuner/floor.h"

namespace mxfp4 {

// Timed by graph replay, random bf16 in normal distribution, one after the other; before each the GPU rests.
Ceilings measure_ceilings(BenchMemory& memory, Cublas& cublas);

nlohmann::json to_json(const Ceilings& ceilings);
std::string to_text(const Ceilings& ceilings);

}  // namespace mxfp4
