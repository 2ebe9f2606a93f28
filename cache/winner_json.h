// Winners as JSON: what mxfp4-cache prints and what export and import exchange.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "cache/cache.h"

namespace mxfp4 {

nlohmann::json to_json(const Key& key);  // {field: value}, numbers as numbers
nlohmann::json to_json(const Winner& winner);
// {"format": "mxfp4.winners", "version": 1, "winners": [...]}
nlohmann::json to_json(const std::vector<Winner>& winners);

// The way back; fields that were derived from the key, and unknown ones, are not looked at. Throws Error bad_file naming
// the winner that is wrong.
std::vector<Winner> winners_from_json(const nlohmann::json& document);

}  // namespace mxfp4
