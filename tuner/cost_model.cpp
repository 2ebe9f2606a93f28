#include "tuner/cost_model.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mxfp4 {
namespace {

// Hopper at its usual clock. The ranking needs ratios, not exact figures.
constexpr double kClockPerUs = 1700;
constexpr double kMemoryShare = 0.95;               // of what memory could give
constexpr double kL2BytesPerUs = 5.5e6;
constexpr double kFmaPerClock = 2048;               // of an SM's tensor cores, bf16
constexpr double kDecodedPerClockAndWarpgroup = 26;  // weights, of one consumer warpgroup
constexpr double kDecodedPerClockAndSm = 56;
constexpr double kBytesInFlight = 60 * 1024;        // an SM needs for full bandwidth
constexpr double kManyBytesInFlight = 70 * 1024;    // more make the first ones wait
constexpr double kBytesPerWeight = 0.5 + 1.0 / kBlockElements;
constexpr double kSmBandwidthShare = 1.6;           // one SM alone draws this many times its share
constexpr double kTileOverheadClocks = 600;         // descriptors, barrier round trips, the tail of the store
constexpr double kStageOverheadClocks = 300;        // waiting for, and giving back, a stage
constexpr double kShortPipeline = 0.1;              // what a stall of two stages costs
constexpr double kWithoutLoadingAhead = 1.07;       // seen: 5 to 8 % (tiles of 152 rows and 256 outputs)
constexpr double kSplitOverheadUs = 3;
constexpr double kSplitSlowdown = 1.06;             // seen: evenness gains less than it should

std::int64_t groups_of(const ProblemShape& s) { return s.groups ? s.groups : s.experts; }

// Calls visit(rows, probability) over the distribution of one group's rows.
template <class Visit>
void for_each_group_size(const ProblemShape& shape, Visit visit) {
    const double groups = double(groups_of(shape)), mean = double(shape.rows) / groups;
    if (groups == 1) return visit(shape.rows, 1.0);
    if (mean < 48) {  // Poisson
        double probability = std::exp(-mean);
        double left = 1;
        for (std::int64_t m = 0; left > 1e-6 && m < 256; ++m) {
            visit(m, probability);
            left -= probability;
            probability *= mean / double(m + 1);
        }
        return;
    }
    // Sixteen equally likely quantiles of the normal distribution.
    constexpr std::array<double, 8> kQuantiles = {0.078, 0.237, 0.402, 0.579, 0.776, 1.010, 1.318, 1.863};
    const double sigma = std::sqrt(mean * (1 - 1 / groups));
    for (double q : kQuantiles)
        for (double sign : {-1.0, 1.0}) visit(std::int64_t(std::llround(mean + sign * q * sigma)), 1.0 / 16);
}

// Tiles of y, counted by the time that blocks spend on them: a cluster takes the last of an odd number of columns two tiles of rows at a
// time, and where there is but one, its two blocks share it out and decode its weights twice.
double tiles_of_blocks(const KernelConfig& c, const TileCount& count, i64 n_tiles) {
    if (c.cluster == 1) return count.row_tiles * double(n_tiles);
    return 2 * (count.row_tiles * double(n_tiles / 2) + count.row_pairs * double(n_tiles % 2));
}

}  // namespace

TileCount expected_tiles(const ProblemShape& shape, int block_m, int round_rows_to) {
    TileCount count;
    for_each_group_size(shape, [&](std::int64_t m, double probability) {
        if (m <= 0) return;
        const std::int64_t whole = m / block_m, rest = m % block_m;
        count.active += probability;
        count.row_tiles += probability * double(whole + (rest > 0));
        count.row_pairs += probability * double((whole + (rest > 0) + 1) / 2);
        count.mma_rows += probability * double(whole * block_m + round_up(rest, round_rows_to));
    });
    const double groups = double(groups_of(shape));
    return {count.active * groups, count.row_tiles * groups, count.row_pairs * groups, count.mma_rows * groups};
}

double rows_per_group(const ProblemShape& shape) {
    return double(shape.rows) / std::max(1.0, expected_tiles(shape, 1, 1).active);
}

double estimate_us(const KernelConfig& c, const ProblemShape& shape, const DeviceLimits& limits) {
    const bool wgmma = is_wgmma(c.variant);
    const TileCount count = expected_tiles(shape, c.block_m, wgmma ? 8 : c.block_m);
    const double sms = limits.sm_count;
    const i64 n_tiles = ceil_div(shape.n, c.block_n);
    const double n = double(n_tiles * c.block_n), k = double(round_up(shape.k, c.block_k));
    const double tiles = tiles_of_blocks(c, count, n_tiles);

    // How evenly tiles fall on the SMs. Kernels without a persistent grid have as many blocks an SM as fit.
    const int blocks_per_sm = wgmma ? c.ctas_per_sm : std::clamp(32 / c.num_warps, 1, 8);
    const double slots = sms * blocks_per_sm;
    const double pieces = tiles * std::max(1, c.split_k);
    const double busiest = c.split_k == 0 ? pieces / slots : std::ceil(pieces / slots - 1e-9);
    const double unevenness = std::max(1.0, busiest * slots / std::max(pieces, 1e-9));  // busiest SM over the mean

    // Arithmetic of one SM: decoding and multiplying overlap, but not wholly.
    const double decoders = wgmma ? consumer_warpgroups(c) * c.ctas_per_sm : c.num_warps * blocks_per_sm / 4.0;
    const double decode_rate = std::min(kDecodedPerClockAndSm, kDecodedPerClockAndWarpgroup * decoders);
    const double mma_rate = wgmma ? kFmaPerClock : kFmaPerClock / 2;
    const double least_rows = 16;  // narrower products leave tensor cores waiting for issue
    const double mma = std::max(count.mma_rows, count.row_tiles * least_rows) * n * k / mma_rate;
    double decode = tiles * c.block_n * k / decode_rate;
    if (c.variant == Variant::wgmma_ss) decode *= 1.3;  // the decoded tile goes through shared memory
    const double arithmetic = std::max(mma, decode) + 0.25 * std::min(mma, decode);
    const double overhead =
        tiles * (kTileOverheadClocks + k / c.block_k * kStageOverheadClocks + c.block_m * c.block_n / 32.0) /
        blocks_per_sm;
    const double sm_us = (arithmetic + overhead) / sms * unevenness / kClockPerUs;

    // Memory: every active expert once from HBM, every tile's operands through L2.
    const double weight_bytes = count.active * double(shape.n) * k * kBytesPerWeight;
    const double row_bytes = double(shape.rows) * double(shape.k + shape.n) * 2;
    const double in_flight =
        double(shared_bytes(c)) * blocks_per_sm * std::max(1, c.stages - 1) / c.stages;  // one stage is being read
    const double hbm_us = (weight_bytes + row_bytes) / (kMemoryShare * limits.memory_bytes_per_us) *
                          (1 + kBytesInFlight / 8 / in_flight + 0.1 * std::max(0.0, in_flight / kManyBytesInFlight - 1));
    const double tile_bytes = tiles * k * c.block_n * kBytesPerWeight + count.mma_rows * double(n_tiles) * k * 2 / c.cluster;
    const double l2_us = tile_bytes / kL2BytesPerUs;
    const double slowest_sm_us = hbm_us * unevenness / kSmBandwidthShare;

    // The longest of them, and a little of the others: they overlap, but not wholly.
    double us =
        std::pow(std::pow(sm_us, 4) + std::pow(hbm_us, 4) + std::pow(l2_us, 4) + std::pow(slowest_sm_us, 4), 0.25);
    us *= 1 + kShortPipeline / ((c.stages - 1) * std::max(1, c.stages - 1));
    // Tiles much larger than the groups take shared memory from the pipeline and registers from the decoder.
    us *= 1 + 0.01 * std::abs(std::log2(c.block_m / std::clamp(1.5 * rows_per_group(shape), 8.0, 256.0)));
    if (c.variant == Variant::wgmma_rs && !loads_ahead(c)) us *= kWithoutLoadingAhead;
    if (c.split_k != 1) {  // partial sums go out and come back
        const double partials = c.split_k == 0 ? std::min(slots, pieces) : pieces;
        us = us * kSplitSlowdown + kSplitOverheadUs +
              partials * std::min(double(c.block_m), rows_per_group(shape)) * c.block_n * 8 / kL2BytesPerUs;
    }
    return us;
}

double compile_cost(const KernelConfig& c) {
    const double instances = is_wgmma(c.variant) ? c.block_m / 8.0 : 1;
    return 1 + instances * instances / 40;  // each of them the longer, the wider it is
}

double estimate_host_cost(const KernelConfig& c, const ProblemShape& shape, int cores) {
    const TileCount count = expected_tiles(shape, c.block_m, 1);
    const double tiles = count.row_tiles * double(ceil_div(shape.n, c.block_n));
    const double threads = std::min(c.num_warps, cores);
    const double unevenness = std::ceil(tiles / threads) * threads / tiles;
    const double decode = count.row_tiles * double(round_up(shape.n, c.block_n)) * 4;  // each tile decodes its weights
    const double multiply = double(shape.rows) * double(shape.n);
    const double start = 20000.0 * (c.num_warps - 1) / double(shape.k);  // waking a thread
    return (decode + multiply) * (c.simd ? 1 : 4) / threads * unevenness + start;
}

}  // namespace mxfp4
