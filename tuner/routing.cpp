#include "tuner/routing.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mxfp4/error.h>

#include "contract/layout.h"
#include "tuner/random.h"

namespace mxfp4 {
namespace {

constexpr const char* kRoutings[] = {"uniform", "skewed", "sparse", "one"};
constexpr std::size_t kMostRotations = 64;

// Each token chooses top_k different experts of the given ones.
void choose_top_k(std::vector<std::int64_t>& rows, std::vector<std::int64_t> experts, std::int64_t tokens, int top_k,
                  Random& random) {
    const std::int64_t count = std::int64_t(experts.size());
    for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t i = 0; i < top_k; ++i) {  // the head of a shuffle
            std::swap(experts[std::size_t(i)], experts[std::size_t(i + random.below(count - i))]);
            ++rows[std::size_t(experts[std::size_t(i)])];
        }
}

void scatter_rows(std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& experts, std::int64_t count,
                  Random& random) {
    for (std::int64_t r = 0; r < count; ++r)
        ++rows[std::size_t(experts[std::size_t(random.below(std::int64_t(experts.size())))])];
}

}  // namespace

const char* to_string(Routing routing) { return kRoutings[int(routing)]; }

Routing parse_routing(std::string_view text) {
    const auto* found = std::find(std::begin(kRoutings), std::end(kRoutings), text);
    if (found != std::end(kRoutings)) return Routing(found - std::begin(kRoutings));
    throw Error(ErrorCode::invalid_argument, "unknown routing",
                {fmt::format("'{}'", text), fmt::format("one of {}", fmt::join(kRoutings, ", ")), ""});
}

std::vector<std::int64_t> route(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k,
                                std::uint64_t seed) {
    if (tokens < 0 || experts < 1 || top_k < 1 || top_k > experts)
        throw Error(ErrorCode::invalid_argument, "tokens cannot be routed",
                    {fmt::format("{} tokens, top-{} of {} experts", tokens, top_k, experts),
                     "top-k of 1 to the number of experts", ""});
    Random random(seed + std::uint64_t(7919 * tokens + experts));
    std::vector<std::int64_t> rows(std::size_t(experts), 0), all(rows);
    std::iota(all.begin(), all.end(), 0);
    const std::int64_t total = tokens * top_k, middle = experts / 2;
    switch (routing) {
        case Routing::uniform: choose_top_k(rows, all, tokens, top_k, random); break;
        case Routing::skewed:
            rows[std::size_t(middle)] = total / 2;
            if (experts > 1) all.erase(all.begin() + middle);
            scatter_rows(rows, all, total - total / 2, random);
            break;
        case Routing::sparse: {
            for (std::size_t i = 0; i < all.size(); ++i)
                std::swap(all[i], all[i + std::size_t(random.below(experts - std::int64_t(i)))]);
            all.resize(std::size_t(std::max<std::int64_t>(1, experts / 10)));
            scatter_rows(rows, all, total, random);
            break;
        }
        case Routing::one: rows[std::size_t(middle)] = total; break;
    }
    return rows;
}

std::vector<std::int64_t> route_to_active(std::int64_t tokens, std::int64_t experts, int top_k, std::int64_t active) {
    constexpr std::uint64_t kTries = 5000;
    for (std::uint64_t seed = kRoutingSeed; seed < kRoutingSeed + kTries; ++seed)
        if (auto rows = route(Routing::uniform, tokens, experts, top_k, seed); active_experts(rows) == active)
            return rows;
    return route(Routing::uniform, tokens, experts, top_k);
}

std::vector<std::int64_t> typical_route(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k) {
    if (routing != Routing::uniform || experts < 1) return route(routing, tokens, experts, top_k);
    const double idle = std::pow(1 - double(top_k) / double(experts), double(tokens));  // the chance of an expert
    return route_to_active(tokens, experts, top_k, std::lround(double(experts) * (1 - idle)));
}

std::vector<std::vector<std::int64_t>> typical_draws(Routing routing, std::int64_t tokens, std::int64_t experts, int top_k, int count) {
    std::vector<std::vector<std::int64_t>> draws = {typical_route(routing, tokens, experts, top_k)};
    for (int i = 1; i < count; ++i) draws.push_back(route(routing, tokens, experts, top_k, kRoutingSeed + std::uint64_t(i)));
    return draws;
}

std::int64_t active_experts(const std::vector<std::int64_t>& rows_of_expert) {
    return std::int64_t(rows_of_expert.size()) - std::count(rows_of_expert.begin(), rows_of_expert.end(), 0);
}

RotationPlan plan_rotations(const std::vector<std::vector<std::int64_t>>& draws, std::int64_t expert_bytes, std::int64_t cold_bytes,
                            int most_copies) {
    RotationPlan plan;
    const std::int64_t experts = std::int64_t(draws.front().size());
    plan.active = active_experts(draws.front());
    plan.rows = std::accumulate(draws.front().begin(), draws.front().end(), std::int64_t(0));
    std::int64_t most_active = 0;
    for (const std::vector<std::int64_t>& rows : draws) most_active = std::max(most_active, active_experts(rows));

    const std::int64_t disjoint = most_active > 0 ? experts / most_active : 1;
    const std::int64_t bytes = std::max<std::int64_t>(1, plan.active * expert_bytes);
    const std::int64_t wanted = std::clamp<std::int64_t>(cold_bytes / bytes + 1, 1, kMostRotations);
    plan.copies = int(std::clamp<std::int64_t>(ceil_div(wanted, disjoint), 1, std::max(1, most_copies)));
    const std::int64_t places = std::min(wanted, disjoint * plan.copies), count = std::int64_t(draws.size());
    for (std::int64_t r = 0; r < std::lcm(places, count); ++r) {
        const std::int64_t place = r % places;
        std::vector<std::int64_t> rows = draws[std::size_t(r % count)];
        if (disjoint > 1) {  // the active experts side by side, then the next as many
            std::erase(rows, 0);
            rows.insert(rows.begin(), std::size_t(place % disjoint * most_active), 0);
            rows.resize(std::size_t(experts), 0);
        }
        Rotation rotation{int(place / disjoint), {0}};
        for (std::int64_t m : rows) rotation.expert_offsets.push_back(rotation.expert_offsets.back() + std::int32_t(m));
        plan.rotations.push_back(std::move(rotation));
    }
    return plan;
}

}  // namespace mxfp4
