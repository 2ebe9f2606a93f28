// What would serve a problem, and why.
#include "tools/cache_tool.h"

#include <set>

#include <fmt/format.h>

#include "cache/problem_key.h"
#include "core/config_text.h"
#include "tools/layout_arguments.h"

namespace mxfp4::cache_tool {

namespace {

struct Explanation {
    How how = How::fallback;
    std::string config;
    Key key;
    std::optional<Candidate> nearest;
    std::vector<Finding> refused;  // candidates that check() does not admit
};

Explanation explain_choice(const std::vector<Winner>& winners, const Backend& backend, const WeightsFormat& format,
                           const ProblemShape& shape) {
    Explanation explanation;
    explanation.key = problem_key(backend, format, kLayoutVersion[int(format.layout)], shape);
    const ProblemShape bucket = explanation.key.shape();
    const KernelHash hash = [&](Variant variant) { return backend.kernel_hash(variant); };
    KernelConfig config = backend.default_config(format, bucket);
    for (const Candidate& candidate : choose(winners, explanation.key, hash)) {
        const KernelConfig tuned = parse_config(candidate.winner.config);
        if (const Reject reject = check(tuned, format, bucket, backend.limits()); reject != Reject::none) {
            explanation.refused.push_back({candidate.winner.key.text(), reject_text(reject)});
            continue;
        }
        config = tuned;
        explanation.how = candidate.how;
        explanation.nearest = candidate;
        break;
    }
    if (!explanation.nearest) explanation.nearest = nearest(winners, explanation.key, hash);
    explanation.config = to_text(config);
    explanation.key.kernel_hash = hash(config.variant);
    return explanation;
}

WeightsFormat format_of(Arguments& arguments) {
    WeightsFormat format = mxfp4::format_of(arguments.layout, arguments.num_warps);
    format.scale_class = from_arguments([&] { return parse_scale_class(arguments.scale_class); });
    return format;
}

ProblemShape shape_of(Arguments& arguments) {
    const ProblemShape shape{.experts = arguments.shape[0],
                             .n = arguments.shape[1],
                             .k = arguments.shape[2],
                             .rows = arguments.rows,
                             .groups = arguments.groups,
                             .x_aligned = !arguments.unaligned_x,
                             .y_aligned = !arguments.unaligned_y && arguments.shape[1] % 8 == 0};
    if (check_shape(shape) != Reject::none || shape.rows > kMaxRows)
        throw UsageError(
            "--shape, --rows and --groups are no problem",
            {fmt::format("E {} N {} K {} rows {} groups {}", shape.experts, shape.n, shape.k, shape.rows, shape.groups),
             fmt::format("E, N, K positive, K a multiple of 32, rows 0 .. {}, groups not negative", kMaxRows), ""});
    return shape;
}

// "rows (48, wanted 64)" for each field that differs.
std::string describe_differences(const Candidate& candidate, const Key& wanted) {
    if (candidate.differs.empty()) return "nothing";
    const auto fields = candidate.winner.key.fields(), asked = wanted.fields();
    const std::set<std::string> differs(candidate.differs.begin(), candidate.differs.end());
    std::vector<std::string> parts;
    for (std::size_t i = 0; i < fields.size(); ++i)
        if (differs.contains(fields[i].first))
            parts.push_back(fields[i].first == "kernel_hash" ? "kernel_hash (the kernel's text has changed)"
                                                             : fmt::format("{} ({}, wanted {})", fields[i].first,
                                                                           fields[i].second, asked[i].second));
    if (differs.contains("status")) parts.push_back(fmt::format("status ({})", to_string(candidate.winner.status)));
    return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

int explain(Tool& tool, Arguments& arguments) {
    const WeightsFormat format = format_of(arguments);
    const ProblemShape shape = shape_of(arguments);
    const Path path = arguments.device.database();
    std::vector<Winner> winners;
    if (is_missing(path))
        tool.say(fmt::format("there is no tuning database '{}'", path.string()));
    else
        winners = winners_of(tool, path);
    const auto backend = make_backend(arguments.device.device(), arguments.device.backend_options());
    const Explanation e = explain_choice(winners, *backend, format, shape);
    if (tool.json()) {
        Json closest;
        if (e.nearest) closest = {{"key", e.nearest->winner.key.text()}, {"differs", e.nearest->differs}};
        tool.print(Json{{"how", to_string(e.how)},
                        {"config", e.config},
                        {"key", e.key.text()},
                        {"nearest", closest},
                        {"refused", to_json(e.refused)}});
        return kExitDone;
    }
    tool.print(fmt::format("how      {}", to_string(e.how)));
    tool.print(fmt::format("config   {}", e.config));
    tool.print(fmt::format("key      {}", e.key.text()));
    for (const Finding& finding : e.refused) tool.print(fmt::format("refused  {} ({})", finding.key, finding.reason));
    if (e.nearest) {
        tool.print(fmt::format("nearest  {}", e.nearest->winner.key.text()));
        tool.print(fmt::format("differs  {}", describe_differences(*e.nearest, e.key)));
    } else {
        tool.print(std::string("nearest  none: nothing is tuned"));
    }
    return kExitDone;
}

}  // namespace mxfp4::cache_tool
