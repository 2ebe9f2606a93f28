#include "core/config_text.h"

#include <charconv>
#include <span>

#include <fmt/format.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

constexpr const char* kVariants[] = {"naive", "mma", "wgmma_ss", "wgmma_rs", "host"};
constexpr const char* kLayouts[] = {"blocks", "hopper", "native"};
constexpr const char* kScaleClasses[] = {"folded", "rebased", "plain"};

template <class Enum>
Enum parse_name(std::span<const char* const> names, std::string_view text, const char* what) {
    for (std::size_t i = 0; i < names.size(); ++i)
        if (text == names[i]) return Enum(i);
    throw Error(ErrorCode::invalid_argument, fmt::format("unknown {}", what),
                {fmt::format("'{}'", text), fmt::format("one of {}", fmt::join(names, ", ")), ""});
}

struct Field {
    std::string_view prefix;
    int KernelConfig::*member;
    bool optional;  // left out when printed at its default
};
constexpr Field kFields[] = {
    {"bm", &KernelConfig::block_m, false},    {"bn", &KernelConfig::block_n, false}, {"bk", &KernelConfig::block_k, false},
    {"w", &KernelConfig::num_warps, false},   {"s", &KernelConfig::stages, false},   {"k", &KernelConfig::split_k, false},
    {"c", &KernelConfig::ctas_per_sm, true},  {"v", &KernelConfig::simd, true},     {"cl", &KernelConfig::cluster, true},
};

[[noreturn]] void reject(std::string_view text, const std::string& why) {
    throw Error(ErrorCode::invalid_argument, "a config text does not read: " + why,
                {fmt::format("'{}'", text), "like 'wgmma_rs/native bm64 bn256 bk128 w12 s4 k2'", ""});
}

void parse_field(KernelConfig& config, std::string_view token, std::string_view text) {
    const auto digits = token.find_first_of("-0123456789");
    if (digits == std::string_view::npos) reject(text, fmt::format("'{}' has no number", token));
    for (const Field& field : kFields) {
        if (field.prefix != token.substr(0, digits)) continue;
        int& value = config.*field.member;
        const auto [end, error] = std::from_chars(token.data() + digits, token.data() + token.size(), value);
        if (error != std::errc{} || end != token.data() + token.size()) reject(text, fmt::format("'{}' is no number", token));
        return;
    }
    reject(text, fmt::format("'{}' is no field", token));
}

}  // namespace

const char* to_string(Variant v) { return kVariants[int(v)]; }
const char* to_string(Layout l) { return kLayouts[int(l)]; }
const char* to_string(ScaleClass c) { return kScaleClasses[int(c)]; }
Variant parse_variant(std::string_view text) { return parse_name<Variant>(kVariants, text, "kernel variant"); }
Layout parse_layout(std::string_view text) { return parse_name<Layout>(kLayouts, text, "layout"); }
ScaleClass parse_scale_class(std::string_view text) { return parse_name<ScaleClass>(kScaleClasses, text, "scale class"); }

std::string to_text(const KernelConfig& config) {
    std::string text = fmt::format("{}/{}", to_string(config.variant), to_string(config.layout));
    for (const Field& field : kFields)
        if (!field.optional || config.*field.member != KernelConfig{}.*field.member)
            text += fmt::format(" {}{}", field.prefix, config.*field.member);
    return text;
}

KernelConfig parse_config(std::string_view text) {
    KernelConfig config;
    std::string_view rest = text;
    const auto next = [&rest] {
        rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
        const std::string_view token = rest.substr(0, rest.find(' '));
        rest.remove_prefix(token.size());
        return token;
    };
    const std::string_view head = next();
    const auto slash = head.find('/');
    if (slash == std::string_view::npos) reject(text, "it must start with VARIANT/LAYOUT");
    config.variant = parse_variant(head.substr(0, slash));
    config.layout = parse_layout(head.substr(slash + 1));
    for (std::string_view token = next(); !token.empty(); token = next()) parse_field(config, token, text);
    return config;
}

std::optional<KernelConfig> read_config(std::string_view text) try {
    return parse_config(text);
} catch (const Error&) {
    return {};
}

}  // namespace mxfp4
