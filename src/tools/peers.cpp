#include "tools/peers.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

struct Band {
    const char* name;
    std::int64_t first, last;
};
constexpr Band kBands[] = {
    {"1 .. 8", 1, 8},
    {"16 .. 64", 16, 64},
    {"128 .. 512", 128, 512},
    {"1024 .. 16384", 1024, 16384},
    {"all", 0, std::numeric_limits<std::int64_t>::max()},
};

class GeometricMean {
  public:
    void add(double value) {
        log_sum_ += std::log(value);
        ++count_;
    }
    std::optional<double> get() const {
        return count_ > 0 ? std::optional(std::exp(log_sum_ / count_)) : std::nullopt;
    }

  private:
    double log_sum_ = 0;
    int count_ = 0;
};

std::optional<double> peer_us(const Peer* peer, const char* column) {
    if (!peer || !peer->us.contains(column)) return std::nullopt;
    return peer->us.at(column);
}

BandSummary summarise(const Band& band, std::span<const BenchRow> rows, std::span<const Peer> peers) {
    BandSummary summary;
    summary.name = band.name;
    GeometricMean fraction, best, triton;
    double slowest = 0;
    for (const BenchRow& row : rows) {
        if (row.tokens < band.first || row.tokens > band.last) continue;
        ++summary.rows;
        if (const auto f = row.fraction_of_floor()) fraction.add(*f);
        const Peer* peer = find_peer(peers, row);
        if (const auto us = peer_us(peer, "triton_us")) triton.add(*us / row.us);
        if (const auto us = peer_us(peer, "best_us")) {
            best.add(*us / row.us);
            if (row.us / *us > slowest) {
                slowest = row.us / *us;
                summary.slowest = fmt::format("{} {} {} tokens: {:.2f} times the best peer", row.model, row.mlp, row.tokens, slowest);
            }
        }
    }
    summary.fraction = fraction.get();
    summary.against_best = best.get();
    summary.against_triton = triton.get();
    return summary;
}

}  // namespace

std::vector<Peer> parse_peers(std::string_view text) try {
    std::vector<Peer> peers;
    for (const nlohmann::json& row : nlohmann::json::parse(text)) {
        Peer peer{row.at("gpu"), row.at("model"), row.at("mlp"), row.at("tokens"), {}};
        for (const auto& [key, value] : row.items())
            if (key.ends_with("_us") && key != "floor_us" && value.is_number()) peer.us[key] = value;
        peers.push_back(std::move(peer));
    }
    return peers;
} catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::bad_file, std::string("the peers' figures do not read: ") + error.what(), {"", "rows like bench/peers.json's", ""});
}

const Peer* find_peer(std::span<const Peer> peers, const BenchRow& row) {
    const auto ceiling = device_ceiling(row.gpu);
    if (!ceiling) return nullptr;
    const auto found = std::find_if(peers.begin(), peers.end(), [&](const Peer& p) {
        return p.gpu == ceiling->short_name && p.model == row.model && p.mlp == row.mlp && p.tokens == row.tokens;
    });
    return found == peers.end() ? nullptr : &*found;
}

std::vector<BandSummary> summarise(std::span<const BenchRow> rows, std::span<const Peer> peers) {
    std::vector<BandSummary> summaries;
    for (const Band& band : kBands)
        if (BandSummary summary = summarise(band, rows, peers); summary.rows > 0) summaries.push_back(std::move(summary));
    return summaries;
}

nlohmann::json to_json(const BandSummary& band) {
    const auto number = [](std::optional<double> value) -> nlohmann::json {
        if (!value) return nullptr;
        return std::round(*value * 1e4) / 1e4;
    };
    return {{"tokens", band.name},
            {"rows", band.rows},
            {"fraction_of_floor", number(band.fraction)},
            {"best_peer_over_us", number(band.against_best)},
            {"triton_over_us", number(band.against_triton)},
            {"slowest", band.slowest.empty() ? nlohmann::json() : nlohmann::json(band.slowest)}};
}

std::string to_text(std::span<const BandSummary> bands) {
    std::string text = fmt::format("{:<14} {:>5} {:>9} {:>14} {:>11}  {}\n", "tokens", "rows", "of floor", "vs best peer", "vs triton", "slowest");
    const auto factor = [](std::optional<double> value) { return value ? fmt::format("{:.2f}x", *value) : std::string("-"); };
    for (const BandSummary& band : bands)
        text += fmt::format("{:<14} {:>5} {:>9} {:>14} {:>11}  {}\n", band.name, band.rows,
                            band.fraction ? fmt::format("{:.1f} %", 100 * *band.fraction) : "-", factor(band.against_best),
                            factor(band.against_triton), band.slowest.empty() ? "-" : band.slowest);
    return text;
}

}  // namespace mxfp4
