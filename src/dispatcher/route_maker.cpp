#include "dispatcher/route_maker.h"

#include <algorithm>

#include <fmt/format.h>

#include "cache/choose.h"
#include "cache/problem_key.h"
#include "core/config_text.h"

namespace mxfp4 {
namespace {

// The tuner verified other machine code than would be loaded now.
bool has_changed(const Candidate& candidate) {
    const auto of_the_code = [](const std::string& field) { return field == "kernel_hash" || field == "compiler"; };
    return std::any_of(candidate.differs.begin(), candidate.differs.end(), of_the_code);
}

}  // namespace

std::vector<RouteMaker::Choice> RouteMaker::choices(const WeightShape& shape, const RouteKey& key) const {
    const ProblemShape problem = shape_of(shape, key);
    std::vector<Choice> found;
    if (!winners_.empty()) {
        const Key wanted = problem_key(backend_, shape.format, shape.layout_version, problem);
        for (const Candidate& candidate :
             choose(winners_, wanted, [this](Variant v) { return backend_.kernel_hash(v); })) {
            const KernelConfig config = parse_config(candidate.winner.config);
            if (const Reject reject = check(config, shape.format, problem, backend_.limits()); reject == Reject::none)
                found.push_back({config, candidate.how, has_changed(candidate)});
            else
                log_(LogLevel::warning, fmt::format("a tuned kernel is passed over: {}: {}", candidate.winner.config,
                                                    reject_text(reject)));
        }
    }
    if (found.empty())
        log_(LogLevel::info,
             fmt::format("nothing is tuned for E {} N {} K {} {}: the library's default serves. mxfp4-tune finds better",
                         shape.experts, shape.n, shape.k, to_string(shape.format.layout)));
    found.push_back({backend_.default_config(shape.format, problem), How::fallback, false});
    return found;
}

std::unique_ptr<Route> RouteMaker::make(const WeightShape& shape, const RouteKey& key, Stream stream) const {
    for (const auto& [config, how, changed] : choices(shape, key)) {
        const auto trial = changed ? std::optional(stream) : std::nullopt;
        if (const LoadedKernel* const kernel = load(config, shape.format, key.rows, how, trial))
            return std::make_unique<Route>(
                Route{key, kernel, how, scratch_need(config, shape_of(shape, key), backend_.limits().sm_count)});
    }
    throw Error(ErrorCode::unsupported, "no kernel can serve this problem",
                {fmt::format("E {} N {} K {}", shape.experts, shape.n, shape.k), "", ""});
}

const LoadedKernel* RouteMaker::load(const KernelConfig& config, const WeightsFormat& format, i64 rows, How how,
                                     std::optional<Stream> trial) const {
    try {
        return &kernels_.get(config, format, rows, how, trial);
    } catch (const Error& error) {
        if (how == How::fallback) throw;
        log_(LogLevel::warning, fmt::format("a tuned kernel is passed over: {}", error.what()));
        return nullptr;
    }
}

}  // namespace mxfp4
