// Which expert gets how many rows, and how a benchmark moves the active experts about so that weights come from memory
// rather than from a cache that still holds the previous launch's.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace mxfp4 {

enum class Routing {
    uniform,  // each token chooses top_k experts at random
    skewed,   // one expert takes half of the rows, the others share the rest at random
    sparse,   // nine in ten experts are empty
    one,      // one expert takes all rows
};
inline constexpr std::uint64_t kRoutingSeed = 1234;

const char* to_string(Routing routing);
Routing parse_routing(std::string_view text);  // throws Error invalid_argument naming the values there are

// Rows of each expert; they add up to tokens * top_k. The same arguments give the same rows.
std::vector<std::int64_t> route(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k,
                                std::uint64_t seed = kRoutingSeed);

// Uniform routing in which so many experts get a row: what it takes to compare with figures of another generator, whose
// bytes were those of its own active experts. Where no seed of a few thousand gives that number, the first seed's rows.
std::vector<std::int64_t> route_to_active(std::int64_t tokens, std::int64_t experts, int top_k, std::int64_t active);
// The routing that stands for all of its kind: a uniform one in which as many experts get a row as do on average. What is fastest
// hangs on that number where it decides how many waves of tiles there are; one draw may be far off.
std::vector<std::int64_t> typical_route(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k);
// The typical one, and other draws of the same kind: what is fastest for all of them together does not hang on one draw.
std::vector<std::vector<std::int64_t>> typical_draws(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k, int count);
std::int64_t active_experts(const std::vector<std::int64_t>& rows_of_expert);

// A draw's rows on other experts, and possibly on another copy of all weights.
struct Rotation {
    int copy = 0;
    std::vector<std::int32_t> expert_offsets;  // [experts + 1]
};
struct RotationPlan {
    std::vector<Rotation> rotations;
    int copies = 1;           // of the weights
    std::int64_t active = 0;  // experts that got a row, in the first draw
    std::int64_t rows = 0;
};
// Rotations over disjoint experts, then over copies of the weights, until more than cold_bytes lie between two uses of
// the same byte; and so often that each of these places meets each draw equally often. draws: rows of each expert, one draw at
// least, all of as many experts and rows. cold_bytes = 0: one place. Never more copies than most_copies.
RotationPlan plan_rotations(const std::vector<std::vector<std::int64_t>>& draws, std::int64_t expert_bytes, std::int64_t cold_bytes,
                            int most_copies);

}  // namespace mxfp4
