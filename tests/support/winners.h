// Winners as the tuner files them, all of one weight on one device; the tests change what they are about.
#pragma once

#include <string>

#include "cache/cache.h"

namespace mxfp4::test {

inline const std::string kConfig = "wgmma_rs/native bm64 bn256 bk128 w12 s4 k2";
inline const std::string kSmallConfig = "mma/native bm16 bn64 bk64 w4 s2 k1";

// The hash of a variant's kernel text "now".
inline std::string current(Variant variant) { return variant == Variant::mma ? "mma-2" : "rs-2"; }

inline Key problem(std::int64_t rows) {
    return {.device = "NVIDIA H100 80GB HBM3",
            .sm_count = 132,
            .memory_gib = 80,
            .compiler = "nvrtc 13.0.88",
            .kernel_hash = "",
            .experts = 32,
            .n = 5760,
            .k = 2880,
            .groups = 32,
            .rows = rows};
}

inline Winner tuned(std::int64_t rows, const std::string& config = kConfig) {
    Winner winner;
    winner.key = problem(rows);
    winner.key.kernel_hash = current(config == kSmallConfig ? Variant::mma : Variant::wgmma_rs);
    winner.config = config;
    winner.us = 10.5;
    winner.us_p10 = 10;
    winner.us_p90 = 11;
    winner.us_default = 12.25;
    winner.tuned_at = "2026-01-31T12:00:00Z";
    winner.image = std::string(64, 'a');
    return winner;
}

template <class Change>
Winner changed(Winner winner, Change&& change) {
    change(winner);
    return winner;
}

}  // namespace mxfp4::test
