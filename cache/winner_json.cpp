#include "cache/winner_json.h"

#include <cmath>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/config_text.h"

namespace mxfp4 {
namespace {

constexpr const char* kFormat = "mxfp4.winners";
constexpr int kVersion = 1;

double time_of(const nlohmann::json& json, const char* name, double otherwise) {
    const double us = json.value(name, otherwise);
    if (!std::isfinite(us) || us < 0)
        throw Error(ErrorCode::bad_file, name, {fmt::to_string(us), "finite and not negative", ""});
    return us;
}

// In the form of utc_now(): times are compared as texts.
std::string date_of(const nlohmann::json& json) {
    const std::string text = json.at("tuned_at").get<std::string>();
    constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
    bool ok = text.size() == kForm.size();
    for (std::size_t i = 0; ok && i < kForm.size(); ++i)
        ok = kForm[i] == '0' ? text[i] >= '0' && text[i] <= '9' : text[i] == kForm[i];
    if (!ok) throw Error(ErrorCode::bad_file, "tuned_at", {fmt::format("'{}'", text), "like 2026-01-31T12:00:00Z", ""});
    return text;
}

Winner winner_from_json(const nlohmann::json& json) {
    Winner winner;
    winner.key = Key::parse(json.at("key").get<std::string>());
    winner.config = to_text(parse_config(json.at("config").get<std::string>()));
    winner.us = time_of(json, "us", NAN);
    winner.us_p10 = time_of(json, "us_p10", winner.us);
    winner.us_p90 = time_of(json, "us_p90", winner.us);
    winner.us_default = time_of(json, "us_default", winner.us);
    winner.status = parse_winner_status(json.value("status", to_string(WinnerStatus::ok)));
    winner.tuned_at = date_of(json);
    winner.image = json.value("image", "");
    return winner;
}

}  // namespace

nlohmann::json to_json(const Key& key) {
    return {
        {"device", key.device},
        {"sm_count", key.sm_count},
        {"memory_gib", key.memory_gib},
        {"compiler", key.compiler},
        {"kernel_hash", key.kernel_hash},
        {"measuring_policy", key.measuring_policy},
        {"layout", to_string(key.layout)},
        {"layout_version", key.layout_version},
        {"scale_warps", key.scale_warps},
        {"scale_class", to_string(key.scale_class)},
        {"experts", key.experts},
        {"n", key.n},
        {"k", key.k},
        {"groups", key.groups},
        {"rows", key.rows},
        {"x_aligned", key.x_aligned},
        {"y_aligned", key.y_aligned},
        {"prologue", key.prologue},
        {"epilogue", key.epilogue},
    };
}

nlohmann::json to_json(const Winner& w) {
    return {
        {"key", w.key.text()},
        {"hash", w.key.hash()},
        {"fields", to_json(w.key)},
        {"config", w.config},
        {"us", w.us},
        {"us_p10", w.us_p10},
        {"us_p90", w.us_p90},
        {"us_default", w.us_default},
        {"tuned_at", w.tuned_at},
        {"image", w.image},
        {"status", to_string(w.status)},
    };
}

nlohmann::json to_json(const std::vector<Winner>& winners) {
    nlohmann::json array = nlohmann::json::array();
    for (const Winner& winner : winners) array.push_back(to_json(winner));
    return {{"format", kFormat}, {"version", kVersion}, {"winners", array}};
}

std::vector<Winner> winners_from_json(const nlohmann::json& document) {
    if (!document.is_object() || document.value("format", nlohmann::json()) != kFormat ||
        !document.contains("winners") || !document["winners"].is_array())
        throw Error(ErrorCode::bad_file, "this is no list of winners", {"", "what mxfp4-cache export writes", ""});
    if (const nlohmann::json version = document.value("version", nlohmann::json()); version != kVersion)
        throw Error(ErrorCode::bad_file, "this list of winners has another version",
                    {version.dump(), fmt::to_string(kVersion), "use the mxfp4-cache that wrote it, or a newer one"});
    std::vector<Winner> winners;
    for (const nlohmann::json& json : document["winners"]) {
        try {
            winners.push_back(winner_from_json(json));
        } catch (const std::exception& error) {
            throw Error(ErrorCode::bad_file,
                        fmt::format("winner {} of the list: {}", winners.size() + 1, error.what()),
                        {"", "what mxfp4-cache export writes", ""});
        }
    }
    return winners;
}

}  // namespace mxfp4
