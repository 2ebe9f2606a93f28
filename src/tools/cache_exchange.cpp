// Winners to and from files and other databases.
#include "tools/cache_tool.h"

#include <fstream>
#include <iostream>
#include <iterator>

#include <fmt/format.h>

#include "cache/winner_json.h"
#include "core/new_file.h"

namespace mxfp4::cache_tool {

namespace {

void write_file(const Path& path, const std::string& text) {
    NewFile file(path, text.size());
    file.write(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    file.sync();
    file.commit();
}

int take(Tool& tool, const Path& path, const std::vector<Winner>& theirs) {
    Cache cache = Cache::open(path, Cache::Mode::read_write);
    const std::vector<Taken> taken = merge(cache.all(), theirs);
    std::vector<Winner> winners;
    for (const Taken& t : taken) winners.push_back(t.winner);
    cache.put(winners);
    if (tool.json()) {
        Json array = Json::array();
        for (const Taken& t : taken) array.push_back({{"key", t.winner.key.text()}, {"why", t.why}});
        tool.print(Json{{"taken", array}, {"kept", theirs.size() - taken.size()}});
        return kExitDone;
    }
    for (const Taken& t : taken) tool.print(fmt::format("{:<15} {}", t.why, t.winner.key.text()));
    tool.say(fmt::format("took {} of {} winners into '{}'", taken.size(), theirs.size(), path.string()));
    return kExitDone;
}

Json read_json(const std::string& file) {
    std::ifstream named;
    if (file != "-") named.open(file, std::ios::binary);
    std::istream& in = file == "-" ? std::cin : named;
    std::string text;
    if (in) text.assign(std::istreambuf_iterator<char>(in), {});
    if (!in) throw Error(ErrorCode::io, fmt::format("cannot read '{}'", file));
    Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded())
        throw Error(ErrorCode::bad_file, fmt::format("'{}' is no JSON", file),
                    {"", "", "mxfp4-cache export writes what import reads"});
    return json;
}

}  // namespace

int export_winners(Tool& tool, Arguments& arguments) {
    const std::vector<Winner> winners = winners_of(tool, arguments.device.database());
    const Json document = to_json(winners);
    if (arguments.output.empty() && tool.json()) {
        tool.print(document);
        return kExitDone;
    }
    const std::string text = document.dump(1, ' ', false, Json::error_handler_t::replace);
    if (arguments.output.empty()) {
        tool.print(text);
        return kExitDone;
    }
    write_file(arguments.output, text + "\n");
    if (tool.json()) tool.print(Json{{"path", arguments.output.string()}, {"winners", winners.size()}});
    tool.say(fmt::format("{} winners in '{}'", winners.size(), arguments.output.string()));
    return kExitDone;
}

int import_winners(Tool& tool, Arguments& arguments) {
    const Json json = read_json(arguments.file);
    std::vector<Winner> theirs;
    try {
        theirs = winners_from_json(json);
    } catch (const Error& error) {
        throw Error(ErrorCode::bad_file, fmt::format("'{}': {}", arguments.file, error.what()));
    }
    return take(tool, arguments.device.database(), theirs);
}

int merge_database(Tool& tool, Arguments& arguments) {
    return take(tool, arguments.device.database(), winners_of(tool, arguments.other));
}

int diff(Tool& tool, Arguments& arguments) {
    const Difference d = compare(winners_of(tool, arguments.device.database()), winners_of(tool, arguments.other));
    if (tool.json()) {
        Json here = Json::array(), there = Json::array(), changed = Json::array();
        for (const Winner& w : d.only_ours) here.push_back(w.key.text());
        for (const Winner& w : d.only_theirs) there.push_back(w.key.text());
        const auto brief = [](const Winner& w) {
            return Json{{"config", w.config}, {"us", w.us}, {"status", to_string(w.status)}, {"tuned_at", w.tuned_at}};
        };
        for (const auto& [a, b] : d.changed)
            changed.push_back({{"key", a.key.text()}, {"here", brief(a)}, {"there", brief(b)}});
        tool.print(Json{{"only_here", here}, {"only_there", there}, {"changed", changed}});
    } else {
        for (const Winner& w : d.only_ours) tool.print(fmt::format("- {}\n    {}", summary(w), w.key.text()));
        for (const Winner& w : d.only_theirs) tool.print(fmt::format("+ {}\n    {}", summary(w), w.key.text()));
        for (const auto& [a, b] : d.changed)
            tool.print(fmt::format("- {}\n+ {}\n    {}", summary(a), summary(b), a.key.text()));
    }
    return d.none() ? kExitDone : kExitFailed;
}

}  // namespace mxfp4::cache_tool
