// An SVG chart of a benchmark: microseconds and fraction of the floor over tokens, one pair of panels for each weight, the peers as
// thinner lines.
#pragma once

#include <span>
#include <string>

#include "tools/bench_row.h"
#include "tools/peers.h"

namespace mxfp4 {

std::string chart_svg(std::span<const BenchRow> rows, std::span<const Peer> peers, const std::string& title);

}  // namespace mxfp4
