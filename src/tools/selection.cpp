#include "tools/selection.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "cache/key.h"
#include "contract/config.h"
#include "core/config_text.h"
#include "tools/layout_arguments.h"
#include "tools/weights_argument.h"

namespace mxfp4 {
namespace {

constexpr std::int64_t kMostTokens = (1ll << 31) - 1;
constexpr int kDefaultTopK = 4;

struct ModelWeight {
    const char *model, *mlp;
    WeightSize size;
};
constexpr ModelWeight kModels[] = {
    {"gpt-oss-20b", "mlp1", {32, 5760, 2880}},
    {"gpt-oss-20b", "mlp2", {32, 2880, 2880}},
    {"gpt-oss-120b", "mlp1", {128, 5760, 2880}},
    {"gpt-oss-120b", "mlp2", {128, 2880, 2880}},
};

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        const auto end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return parts;
        text.remove_prefix(end + 1);
    }
}

[[noreturn]] void reject(const std::string& message, std::string_view value, const std::string& limit) {
    throw Error(ErrorCode::invalid_argument, message, {fmt::format("'{}'", value), limit, ""});
}

std::int64_t parse_count(std::string_view text, std::string_view whole, const char* what, const std::string& form) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size())
        reject(fmt::format("{} do not read", what), whole, form);
    if (value < 1 || value > kMostTokens)
        reject(fmt::format("{} are out of range", what), text, fmt::format("1 to {}", kMostTokens));
    return value;
}

Target make_target(std::string model, std::string mlp, const WeightSize& size, const WeightsFormat& format) {
    Target target{std::move(model), std::move(mlp), {}, {}};
    target.info.format = format;
    target.info.layout_version = kLayoutVersion[int(format.layout)];
    target.info.experts = size.experts;
    target.info.n = size.n;
    target.info.k = size.k;
    return target;
}

}  // namespace

std::vector<std::int64_t> parse_tokens(std::string_view text) {
    const std::string form = "a list like 1,2,4-1024";
    std::set<std::int64_t> tokens;
    for (std::string_view part : split(text, ',')) {
        const auto ends = split(part, '-');
        if (ends.size() > 2) reject("tokens do not read", text, form);
        const std::int64_t first = parse_count(ends.front(), text, "tokens", form),
                           last = parse_count(ends.back(), text, "tokens", form);
        if (last < first) reject("a range of tokens runs backwards", part, "a-b with a <= b");
        for (std::int64_t t = first; t <= last; t *= 2) tokens.insert(t);
    }
    return {tokens.begin(), tokens.end()};
}

WeightSize parse_shape(std::string_view text) {
    const std::string form = "E,N,K like 32,5760,2880";
    const auto parts = split(text, ',');
    if (parts.size() != 3) reject("a shape does not read", text, form);
    std::int64_t sizes[3];
    for (int i = 0; i < 3; ++i) sizes[i] = parse_count(parts[std::size_t(i)], text, "a shape's numbers", form);
    if (sizes[2] % kBlockElements != 0) reject("K of a shape", parts[2], "a multiple of 32");
    return {sizes[0], sizes[1], sizes[2]};
}

SampleWeights Target::sample() const {
    if (file) return sample_of((*file)[info.name]);
    return random_weights(info.experts, info.n, info.k,
                          {.layout = info.format.layout, .num_warps = info.format.scale_warps},
                          info.format.scale_class);
}

int Selection::top_k_of(const Target& target) const {
    return top_k ? *top_k : int(std::min<std::int64_t>(kDefaultTopK, target.info.experts));
}

SelectionArguments::SelectionArguments(Tool& tool) {
    auto* model = tool.app().add_option("--model", model_, "gpt-oss-20b (the default) or gpt-oss-120b");
    auto* weights = tool.app().add_option("--weights", weights_, "Packed file, or FILE:P for one weight of it");
    auto* shapes =
        tool.app().add_option("--shape", shapes_, "Experts, outputs and inputs: E,N,K; may be given several times");
    model->excludes(weights)->excludes(shapes);
    weights->excludes(shapes);
    shapes->allow_extra_args(false);  // one a flag
    tool.app()
        .add_option("--tokens", tokens_, "Tokens: a list like 1,2,4-1024 (a-b: a, 2a, 4a ... up to b)")
        ->capture_default_str();
    tool.app().add_option("--top-k", top_k_, "Experts that a token chooses (default: 4)");
    layout_option_ = tool.app().add_option("--layout", layout_, "native, hopper or blocks")->capture_default_str();
    tool.app().add_option("--num-warps", num_warps_, "Of the scale swizzle of hopper and blocks (default: 8)");
}

void SelectionArguments::add_file(Selection& selection) const {
    if (layout_option_->count() > 0 || num_warps_)
        throw UsageError("--layout and --num-warps are what the file of --weights says");
    const WeightsArgument wanted = parse_weights_argument(weights_);
    const std::filesystem::path path = wanted.file;
    const PackedFile file = PackedFile::open(path);
    const std::string only = wanted.name.value_or("");
    const std::vector<std::string> names = only.empty() ? file.names() : std::vector<std::string>{only};
    for (const std::string& name : names) {
        const WeightsInfo& info = file[name].info;
        const auto same = [&](const Target& t) {
            return t.info.format == info.format && t.info.experts == info.experts && t.info.n == info.n &&
                   t.info.k == info.k;
        };
        if (std::any_of(selection.targets.begin(), selection.targets.end(), same)) continue;
        Target target{path.filename().string(), name, info, file};
        target.info.name = name;
        selection.targets.push_back(std::move(target));
    }
}

Selection SelectionArguments::read() const {
    Selection selection;
    selection.top_k = top_k_;
    selection.tokens = from_arguments([&] { return parse_tokens(tokens_); });
    if (!weights_.empty()) {
        add_file(selection);
    } else if (!shapes_.empty()) {
        for (const std::string& text : shapes_)
            selection.targets.push_back(
                make_target("shape", text, from_arguments([&] { return parse_shape(text); }), format_of(layout_, num_warps_)));
    } else {
        const std::string model = model_.empty() ? "gpt-oss-20b" : model_;
        for (const ModelWeight& weight : kModels)
            if (model == weight.model)
                selection.targets.push_back(make_target(model, weight.mlp, weight.size, format_of(layout_, num_warps_)));
        if (selection.targets.empty())
            throw UsageError("unknown model", {fmt::format("'{}'", model), "gpt-oss-20b or gpt-oss-120b", ""});
    }
    for (const Target& target : selection.targets) {
        const int top_k = selection.top_k_of(target);
        if (top_k < 1 || top_k > target.info.experts)
            throw UsageError(
                "--top-k",
                {fmt::to_string(top_k), fmt::format("1 to the {} experts of {}", target.info.experts, target.mlp), ""});
        if (selection.tokens.back() > kMaxRows / top_k)
            throw UsageError(
                "--tokens", {fmt::to_string(selection.tokens.back()), fmt::format("at most {} rows", kMaxRows), ""});
    }
    return selection;
}

}  // namespace mxfp4
