// What other libraries take on the same GPU and shapes (bench/peers.json), and how a run compares, band by band.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/bench_row.h"

namespace mxfp4 {

struct Peer {
    std::string gpu;  // short: h100, h200
    std::string model, mlp;
    std::int64_t tokens = 0;
    std::map<std::string, double> us;  // by column: triton_us, humming_us, marlin_us, best_us ...
};

std::string_view embedded_peers();                   // the text of bench/peers.json
std::vector<Peer> parse_peers(std::string_view json);  // throws Error bad_file

// The peers' row for a row's GPU, model, mlp and tokens; null where nobody measured it.
const Peer* find_peer(std::span<const Peer> peers, const BenchRow& row);

// Geometric means over rows of a band of token counts.
struct BandSummary {
    std::string name;                      // "1 .. 8"
    int rows = 0;
    std::optional<double> fraction;        // of the floor
    std::optional<double> against_best;    // best peer's time over ours: above 1 is faster
    std::optional<double> against_triton;
    std::string slowest;                   // the row that compares worst with the best peer, in words
};
std::vector<BandSummary> summarise(std::span<const BenchRow> rows, std::span<const Peer> peers);  // bands without rows are left out
nlohmann::json to_json(const BandSummary& band);
std::string to_text(std::span<const BandSummary> bands);

}  // namespace mxfp4
