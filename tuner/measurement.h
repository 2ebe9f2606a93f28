// What came of one candidate.
#pragma once

#include <string>

#include "backends/backend.h"

namespace mxfp4 {

struct Measurement {
    KernelConfig config;
    CompileReport report;
    bool verified = false;       // against the reference
    double relative_error = 0;   // of the sampled outputs
    Timing timing;               // of the last round that it took part in; us = 0: never timed
    double uneven_us = 0;        // the same, median, where nine in ten experts are empty; 0: never timed
    bool ranked = false;         // took part in the final round, interleaved with the default: only these compare
    std::string rejected;        // why it is out: refused by the compiler, wrong results; empty: it is not
    bool wrong = false;          // its results were: a fault of the kernel

    bool usable() const { return rejected.empty() && verified && timing.us > 0; }
};

}  // namespace mxfp4
