// Tuning databases for dispatchers to choose from.
#pragma once

#include <filesystem>
#include <string>

#include "backends/backend.h"
#include "cache/cache.h"
#include "cache/problem_key.h"
#include "mxfp4/packed.h"

namespace mxfp4::test {

// Files a config as the backend's winner for these weights and rows, as the tuner would. kernel_hash: of the config's kernel text.
inline void put_winner(const std::filesystem::path& database, const Backend& backend, const WeightsInfo& info, i64 rows,
                       const std::string& config, const std::string& kernel_hash) {
    Winner winner;
    winner.key = problem_key(backend, info.format, info.layout_version, {info.experts, info.n, info.k, rows});
    winner.key.kernel_hash = kernel_hash;
    winner.config = config;
    winner.us = winner.us_p10 = winner.us_p90 = winner.us_default = 1;
    Cache::open(database, Cache::Mode::read_write).put(winner);
}

}  // namespace mxfp4::test
