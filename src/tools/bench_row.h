// One row of results, as mxfp4-tune and mxfp4-bench print and store it. Its keys are those of bench/peers.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "tuner/floor.h"

namespace mxfp4 {

struct BenchRow {
    std::string gpu, model, mlp, layout;
    std::int64_t tokens = 0;
    ProblemSize size;
    double us = 0, us_p10 = 0, us_p90 = 0;
    std::string config, how;
    std::optional<double> rel_err;                     // empty: not checked
    std::optional<double> us_default;                  // the library's default choice, timed in the same run
    std::optional<double> naive_us, cublas_us;         // what it was timed against

    std::optional<double> floor() const { return floor_us(gpu, size); }
    std::optional<double> fraction_of_floor() const;   // floor / us
    double tflops() const { return us > 0 ? problem_flops(size) / us * 1e-6 : 0; }
    double gbytes_per_second() const { return us > 0 ? problem_bytes(size) / us * 1e-3 : 0; }
};

nlohmann::json to_json(const BenchRow& row);

// A line of a table, and the line above the first.
std::string table_head();
std::string table_line(const BenchRow& row);

}  // namespace mxfp4
