// Looks at winners one by one, blocks and unblocks them.
#include "tools/cache_tool.h"

#include <fmt/format.h>

#include "cache/winner_json.h"

namespace mxfp4::cache_tool {

void require_there(const Path& path) {
    if (is_missing(path))
        throw Error(ErrorCode::cache, fmt::format("there is no tuning database '{}'", path.string()),
                    {"", "", "mxfp4-tune makes one; --db names another"});
}

Cache open_existing(const Path& path, Cache::Mode mode) {
    require_there(path);
    return Cache::open(path, mode);
}

std::vector<Winner> winners_of(Tool& tool, const Path& path) {
    const Cache cache = open_existing(path, Cache::Mode::read_only);
    if (const std::size_t damaged = cache.damaged().size(); damaged > 0)
        tool.warn(
            fmt::format("{} damaged rows of '{}' are left out: mxfp4-cache verify names them", damaged, path.string()));
    return cache.all();
}

std::string summary(const Winner& w) {
    return fmt::format("{}  {}  {:.2f} us (default {:.2f})  {}  {}", w.key.hash(), w.config, w.us, w.us_default,
                       to_string(w.status), w.tuned_at);
}

Json to_json(const std::vector<Finding>& findings, const char* name) {
    Json array = Json::array();
    for (const Finding& finding : findings) array.push_back({{name, finding.key}, {"reason", finding.reason}});
    return array;
}

int list(Tool& tool, Arguments& arguments) {
    const std::vector<Winner> winners = winners_of(tool, arguments.device.database());
    if (tool.json()) {
        tool.print(to_json(winners));
        return kExitDone;
    }
    for (const Winner& winner : winners) {
        tool.print(summary(winner));
        tool.print("    " + winner.key.text());
    }
    tool.say(fmt::format("{} winners in '{}'", winners.size(), arguments.device.database().string()));
    return kExitDone;
}

int show(Tool& tool, Arguments& arguments) {
    const std::vector<Winner> winners = winners_of(tool, arguments.device.database());
    const Winner& w = find_winner(winners, arguments.key);
    if (tool.json()) {
        tool.print(to_json(w));
        return kExitDone;
    }
    const auto line = [&](const std::string& name, const std::string& value) {
        tool.print(fmt::format("{:<17} {}", name, value));
    };
    line("key", w.key.text());
    line("hash", w.key.hash());
    for (const auto& [name, value] : w.key.fields()) line(name, value);
    line("config", w.config);
    line("us", fmt::format("{:.3f} (p10 {:.3f}, p90 {:.3f})", w.us, w.us_p10, w.us_p90));
    line("us_default", fmt::format("{:.3f}", w.us_default));
    line("status", to_string(w.status));
    line("tuned_at", w.tuned_at);
    line("image", w.image.empty() ? "none" : w.image);
    return kExitDone;
}

int set_status(Tool& tool, Arguments& arguments, WinnerStatus status) {
    Cache cache = open_existing(arguments.device.database(), Cache::Mode::read_write);
    const std::vector<Winner> winners = cache.all();
    const std::string key = find_winner(winners, arguments.key).key.text();
    cache.set_status(key, status);
    if (tool.json()) tool.print(Json{{"key", key}, {"status", to_string(status)}});
    tool.say(fmt::format("{}: {}", to_string(status), key));
    return kExitDone;
}

}  // namespace mxfp4::cache_tool
