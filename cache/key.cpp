#include "cache/key.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/config_text.h"
#include "core/sha256.h"

namespace mxfp4 {
namespace {

[[noreturn]] void reject(std::string_view text, const std::string& why) {
    throw Error(ErrorCode::invalid_argument, "a cache key does not read: " + why,
                {fmt::format("'{}'", text), "as mxfp4-cache list prints it", ""});
}

// Letters and digits by hand: isalnum() would ask the locale.
bool stands_for_itself(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-' || c == '+' || c == ':' || c == '/';
}

std::string escape(std::string_view value) {
    std::string text;
    for (const char c : value) text += stands_for_itself(c) ? std::string(1, c) : fmt::format("%{:02X}", u8(c));
    return text;
}

std::string unescape(std::string_view value, std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < value.size(); ++i) {
        if (value[i] != '%') {
            plain += value[i];
            continue;
        }
        u8 byte = 0;
        const std::string_view hex = value.substr(i + 1, 2);
        const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), byte, 16);
        if (hex.size() != 2 || error != std::errc{} || end != hex.data() + 2) reject(text, "a bad percent escape");
        plain += char(byte);
        i += 2;
    }
    return plain;
}

template <class Integer>
Integer parse_integer(const std::string& value, std::string_view text) {
    Integer number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size())
        reject(text, fmt::format("'{}' is no number", value));
    return number;
}

bool parse_bool(const std::string& value, std::string_view text) {
    if (value != "true" && value != "false") reject(text, fmt::format("'{}' is neither true nor false", value));
    return value == "true";
}

// Takes "name=value;" off the front of rest; the canonical order leaves no choice of the name.
std::string take(std::string_view& rest, std::string_view name, std::string_view text) {
    const std::string_view field = rest.substr(0, rest.find(';'));
    if (!field.starts_with(name) || field.substr(name.size(), 1) != "=")
        reject(text, fmt::format("'{}=' is missing", name));
    rest.remove_prefix(std::min(rest.size(), field.size() + 1));
    return unescape(field.substr(name.size() + 1), text);
}

}  // namespace

std::int64_t rows_bucket(std::int64_t rows) {
    if (rows < 0 || rows > kMaxRows)
        throw Error(ErrorCode::invalid_argument, "rows of a problem",
                    {fmt::to_string(rows), fmt::format("0 .. {}", kMaxRows), ""});
    if (rows <= 3) return rows;
    const std::int64_t power = std::int64_t(std::bit_ceil(std::uint64_t(rows)));
    const std::int64_t midpoint = power / 4 * 3;
    return std::min(rows <= midpoint ? midpoint : power, kMaxRows);
}

std::vector<std::int64_t> rows_buckets(std::int64_t max_rows) {
    const std::int64_t last = rows_bucket(max_rows);
    std::vector<std::int64_t> buckets = {0};
    while (buckets.back() < last) buckets.push_back(rows_bucket(buckets.back() + 1));
    return buckets;
}

std::vector<std::pair<std::string, std::string>> Key::fields() const {
    const auto number = [](std::int64_t v) { return fmt::to_string(v); };
    const auto boolean = [](bool v) { return v ? "true" : "false"; };
    return {
        {"device", device},
        {"sm_count", number(sm_count)},
        {"memory_gib", number(memory_gib)},
        {"compiler", compiler},
        {"kernel_hash", kernel_hash},
        {"measuring_policy", number(measuring_policy)},
        {"layout", to_string(layout)},
        {"layout_version", number(layout_version)},
        {"scale_warps", number(scale_warps)},
        {"scale_class", to_string(scale_class)},
        {"experts", number(experts)},
        {"n", number(n)},
        {"k", number(k)},
        {"groups", number(groups)},
        {"rows", number(rows)},
        {"x_aligned", boolean(x_aligned)},
        {"y_aligned", boolean(y_aligned)},
        {"prologue", prologue},
        {"epilogue", epilogue},
    };
}

std::string Key::text() const {
    std::string text;
    for (const auto& [name, value] : fields())
        text += fmt::format("{}{}={}", text.empty() ? "" : ";", name, escape(value));
    return text;
}

Key Key::parse(std::string_view text) {
    std::string_view rest = text;
    const auto word = [&](const char* name) { return take(rest, name, text); };
    const auto number = [&](const char* name) { return parse_integer<std::int64_t>(word(name), text); };
    const auto small = [&](const char* name) { return parse_integer<int>(word(name), text); };
    const auto boolean = [&](const char* name) { return parse_bool(word(name), text); };
    Key key;
    key.device = word("device");
    key.sm_count = small("sm_count");
    key.memory_gib = number("memory_gib");
    key.compiler = word("compiler");
    key.kernel_hash = word("kernel_hash");
    key.measuring_policy = small("measuring_policy");
    key.layout = parse_layout(word("layout"));
    key.layout_version = small("layout_version");
    key.scale_warps = small("scale_warps");
    key.scale_class = parse_scale_class(word("scale_class"));
    key.experts = number("experts");
    key.n = number("n");
    key.k = number("k");
    key.groups = number("groups");
    key.rows = number("rows");
    key.x_aligned = boolean("x_aligned");
    key.y_aligned = boolean("y_aligned");
    key.prologue = word("prologue");
    key.epilogue = word("epilogue");
    // One key, one text: "007", "%41" and anything after the last field do not come back as they were.
    if (key.text() != text) reject(text, "it is not in canonical form");
    return key;
}

std::string Key::hash() const { return sha256_hex(text()).substr(0, 16); }

bool same_problem(const Key& a, const Key& b) {
    Key other = b;
    other.kernel_hash = a.kernel_hash;
    return a == other;
}

}  // namespace mxfp4
