#include "tuner/proven.h"

#include <iterator>

namespace mxfp4 {
namespace {

struct Block {
    int block_n, block_k, num_warps, stages, ctas_per_sm = 1, cluster = 1, split_k = 1;
};
struct Tile {
    int block_m;
    Block block;
};

// Few outputs and long stages: tiles are few, and are to come out even.
constexpr double kFewRows = 3;
constexpr Tile kOfFewRows[] = {{8, {64, 320, 8, 4, 3}},  {8, {64, 320, 8, 4, 2}},  {8, {64, 320, 8, 3, 2}},  {8, {64, 256, 12, 5, 2}},
                               {8, {64, 256, 12, 4, 2}}, {8, {64, 192, 16, 5, 2}}, {8, {192, 320, 16, 3}},   {8, {128, 320, 8, 2, 2}}};

// Many outputs: x is copied once for all of a tile's. In tiles of the two smallest sizes that have room for a group's rows and some more:
// not all groups are alike.
constexpr double kMoreRows = 42, kRoom = 1.15;
constexpr int kSizes[] = {16, 24, 32, 40, 48};
constexpr Block kOfMoreRows[] = {{512, 192, 20, 3}, {384, 320, 16, 2}, {384, 192, 16, 3},
                                 {256, 320, 20, 3}, {192, 320, 16, 3}, {128, 320, 8, 2, 3}};

// As large as registers allow.
constexpr double kManyRows = 96, kVeryManyRows = 192;
constexpr Tile kOfManyRows[] = {{80, {384, 128, 16, 4}}, {80, {384, 192, 16, 2}},       {80, {192, 192, 16, 4}},
                                {96, {256, 192, 12, 3}}, {96, {256, 192, 20, 3, 1, 2}}, {96, {256, 128, 12, 4, 1, 1, 0}}};
constexpr Tile kOfVeryManyRows[] = {
    {152, {192, 128, 16, 3, 1, 2}}, {152, {192, 64, 16, 5, 1, 2}}, {160, {192, 64, 16, 5, 1, 2}}, {144, {192, 128, 16, 4}}};
constexpr Tile kOfMost[] = {{192, {192, 64, 16, 6, 1, 2}},  {192, {192, 64, 16, 6}},      {192, {192, 128, 16, 3, 1, 2}},
                            {144, {192, 128, 16, 4, 1, 2}}, {144, {192, 128, 16, 4}},     {144, {256, 64, 12, 5, 1, 2}},
                            {152, {192, 64, 16, 5, 1, 2}}};

std::vector<Tile> proven_tiles(double rows) {
    if (rows < kFewRows) return {std::begin(kOfFewRows), std::end(kOfFewRows)};
    if (rows < kMoreRows) {
        std::vector<Tile> tiles;
        for (const int size : kSizes)
            if (size >= kRoom * rows && tiles.size() < 2 * std::size(kOfMoreRows))
                for (const Block& block : kOfMoreRows) tiles.push_back({size, block});
        return tiles;
    }
    if (rows < kManyRows) return {std::begin(kOfManyRows), std::end(kOfManyRows)};
    if (rows < kVeryManyRows) return {std::begin(kOfVeryManyRows), std::end(kOfVeryManyRows)};
    return {std::begin(kOfMost), std::end(kOfMost)};
}

}  // namespace

std::vector<KernelConfig> proven_configs(Layout layout, double rows) {
    std::vector<KernelConfig> configs;
    for (const auto& [block_m, block] : proven_tiles(rows))
        configs.push_back({.variant = Variant::wgmma_rs,
                           .layout = layout,
                           .block_m = block_m,
                           .block_n = block.block_n,
                           .block_k = block.block_k,
                           .num_warps = block.num_warps,
                           .stages = block.stages,
                           .split_k = block.split_k,
                           .ctas_per_sm = block.ctas_per_sm,
                           .cluster = block.cluster});
    return configs;
}

}  // namespace mxfp4
