// mxfp4-cache: looks into the tuning database, explains its choices and keeps it in order.
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "backends/cuda/jit.h"
#include "cache/problem_key.h"
#include "cache/upkeep.h"
#include "cache/winner_json.h"
#include "core/config_text.h"
#include "core/new_file.h"
#include "tools/device_arguments.h"
#include "tools/tool.h"

using namespace mxfp4;
using Json = nlohmann::json;
using Path = std::filesystem::path;

namespace {

struct Arguments {
    explicit Arguments(Tool& tool) : device(tool) {}

    DeviceArguments device;
    Path other, output;
    std::string key, file, layout = "native", scale_class = "folded";
    std::vector<std::int64_t> shape;
    std::int64_t rows = 0, groups = 0;
    std::optional<int> num_warps;
    bool unaligned_x = false, unaligned_y = false, dry_run = false;
};

// ---- The database ---------------------------------------------------------------------------------------------------

void require_there(const Path& path) {
    if (std::error_code error; !std::filesystem::exists(path, error) && !error)
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

// Of the kernel text that this program would compile, whatever device there is.
std::string current_kernel_hash(Variant variant, const BackendOptions& options) {
    if (variant == Variant::host) return make_host_backend(options)->kernel_hash(variant);
    return Jit(options).kernel_hash(variant);
}

// ---- Looking --------------------------------------------------------------------------------------------------------

std::string summary(const Winner& w) {
    return fmt::format("{}  {}  {:.2f} us (default {:.2f})  {}  {}", w.key.hash(), w.config, w.us, w.us_default,
                       to_string(w.status), w.tuned_at);
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

// ---- explain --------------------------------------------------------------------------------------------------------

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
    return from_arguments([&] {
        const WeightsFormat format{parse_layout(arguments.layout), 0, parse_scale_class(arguments.scale_class)};
        if (format.layout == Layout::native) {
            if (arguments.num_warps)
                throw UsageError("--num-warps does not go with the native layout",
                                 {"", "", "leave it out, or name --layout hopper or blocks"});
            return format;
        }
        const int num_warps = arguments.num_warps.value_or(8);
        if (!is_power_of_two(num_warps))
            throw UsageError("--num-warps", {fmt::to_string(num_warps), "a power of two", ""});
        return WeightsFormat{format.layout, num_warps, format.scale_class};
    });
}

ProblemShape shape_of(Arguments& arguments) {
    const ProblemShape shape{.experts = arguments.shape[0],
                             .n = arguments.shape[1],
                             .k = arguments.shape[2],
                             .rows = arguments.rows,
                             .groups = arguments.groups,
                             .x_aligned = !arguments.unaligned_x,
                             .y_aligned = !arguments.unaligned_y && arguments.shape[1] % 8 == 0};
    if (check_shape(shape) != Reject::none)
        throw UsageError(
            "--shape, --rows and --groups are no problem",
            {fmt::format("E {} N {} K {} rows {} groups {}", shape.experts, shape.n, shape.k, shape.rows, shape.groups),
             "E, N, K positive, K a multiple of 32, rows and groups not negative", ""});
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

int explain(Tool& tool, Arguments& arguments) {
    const WeightsFormat format = format_of(arguments);
    const ProblemShape shape = shape_of(arguments);
    const Path path = arguments.device.database();
    std::vector<Winner> winners;
    if (std::filesystem::exists(path))
        winners = winners_of(tool, path);
    else
        tool.say(fmt::format("there is no tuning database '{}'", path.string()));
    const auto backend = make_backend(arguments.device.device(), arguments.device.backend_options());
    const Explanation e = explain_choice(winners, *backend, format, shape);
    if (tool.json()) {
        Json refused = Json::array();
        for (const Finding& finding : e.refused) refused.push_back({{"key", finding.key}, {"reason", finding.reason}});
        Json closest;
        if (e.nearest) closest = {{"key", e.nearest->winner.key.text()}, {"differs", e.nearest->differs}};
        tool.print(Json{{"how", to_string(e.how)},
                        {"config", e.config},
                        {"key", e.key.text()},
                        {"nearest", closest},
                        {"refused", refused}});
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

// ---- verify and gc --------------------------------------------------------------------------------------------------

int verify_database(Tool& tool, Arguments& arguments) {
    const Path path = arguments.device.database();
    require_there(path);
    std::vector<Finding> bad;
    try {
        bad = verify(Cache::open(path, Cache::Mode::read_only), verify_images(image_folder(path)));
    } catch (const Error& error) {
        // A file that does not open at all is what this verb is there to find.
        if (error.code() != ErrorCode::cache) throw;
        bad.push_back({"", error.what()});
    }
    for (const Finding& finding : bad)
        tool.warn(finding.key.empty() ? finding.reason : fmt::format("{}: {}", finding.key, finding.reason));
    if (tool.json()) {
        Json array = Json::array();
        for (const Finding& finding : bad) array.push_back({{"key", finding.key}, {"reason", finding.reason}});
        tool.print(Json{{"ok", bad.empty()}, {"bad", array}});
    } else if (bad.empty()) {
        tool.print(fmt::format("'{}' is sound", path.string()));
    }
    return bad.empty() ? kExitDone : kExitFailed;
}

int gc(Tool& tool, Arguments& arguments) {
    const Path path = arguments.device.database();
    Cache cache = open_existing(path, arguments.dry_run ? Cache::Mode::read_only : Cache::Mode::read_write);
    const std::vector<KeptImage> images = verify_images(image_folder(path));
    Garbage garbage = find_garbage(cache.all(), images, [&](Variant variant) {
        return current_kernel_hash(variant, arguments.device.backend_options());
    });
    std::vector<std::string> keys;
    for (const Finding& row : garbage.rows) keys.push_back(row.key);
    for (const std::string& key : cache.damaged()) garbage.rows.push_back({key, "the row's checksum does not match"});
    std::set<std::string> image_keys;
    for (const Finding& image : garbage.images) image_keys.insert(image.key);
    std::uint64_t bytes = 0;
    for (const KeptImage& image : images)
        if (image_keys.contains(image.key)) bytes += image.bytes;
    if (!arguments.dry_run) {
        cache.remove_damaged();
        cache.remove(keys);
        for (const std::string& key : image_keys) remove_image(image_folder(path), key);
    }
    if (garbage.images_unknown) tool.say("some winners do not say which image they need: only damaged images go");
    if (tool.json()) {
        Json rows = Json::array(), gone = Json::array();
        for (const Finding& f : garbage.rows) rows.push_back({{"key", f.key}, {"reason", f.reason}});
        for (const Finding& f : garbage.images) gone.push_back({{"image", f.key}, {"reason", f.reason}});
        tool.print(Json{{"rows", rows}, {"images", gone}, {"bytes", bytes}, {"dry_run", arguments.dry_run}});
        return kExitDone;
    }
    for (const Finding& f : garbage.rows) tool.print(fmt::format("row    {}  {}", f.key, f.reason));
    for (const Finding& f : garbage.images) tool.print(fmt::format("image  {}  {}", f.key, f.reason));
    tool.say(fmt::format("{}{} rows and {} images ({})", arguments.dry_run ? "would remove " : "removed ",
                         garbage.rows.size(), garbage.images.size(), bytes_text(double(bytes))));
    return kExitDone;
}

// ---- Between databases ----------------------------------------------------------------------------------------------

void write_file(const Path& path, const std::string& text) {
    NewFile file(path, text.size());
    file.write(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    file.sync();
    file.commit();
}

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

// ---- block and unblock ----------------------------------------------------------------------------------------------

int set_status(Tool& tool, Arguments& arguments, WinnerStatus status) {
    Cache cache = open_existing(arguments.device.database(), Cache::Mode::read_write);
    const std::vector<Winner> winners = cache.all();
    const std::string key = find_winner(winners, arguments.key).key.text();
    cache.set_status(key, status);
    if (tool.json()) tool.print(Json{{"key", key}, {"status", to_string(status)}});
    tool.say(fmt::format("{}: {}", to_string(status), key));
    return kExitDone;
}

// ---- Arguments ------------------------------------------------------------------------------------------------------

using Verb = std::function<int()>;

// The verb that was asked for is put into chosen.
CLI::App* add_verb(Tool& tool, Verb& chosen, const char* name, const char* description, Verb verb) {
    CLI::App* sub = tool.app().add_subcommand(name, description);
    sub->callback([&chosen, verb = std::move(verb)] { chosen = verb; });
    return sub;
}

void add_verbs(Tool& tool, Arguments& a, Verb& chosen) {
    const auto add = [&](const char* name, const char* description, Verb verb) {
        return add_verb(tool, chosen, name, description, std::move(verb));
    };
    const auto with_key = [&](CLI::App* sub) {
        sub->add_option("KEY", a.key, "The key as list prints it, or the beginning of its hash")->required();
    };
    const auto with_other = [&](CLI::App* sub) {
        sub->add_option("OTHER", a.other, "Another tuning database")->required();
    };

    add("list", "Every winner", [&] { return list(tool, a); });
    with_key(add("show", "One winner, field by field", [&] { return show(tool, a); }));

    CLI::App* why = add("explain", "What would serve a problem, and why", [&] { return explain(tool, a); });
    why->add_option("--shape", a.shape, "Experts, outputs and reduction")
        ->type_name("E,N,K")
        ->delimiter(',')
        ->expected(3)
        ->required();
    why->add_option("--rows", a.rows, "Rows of the problem: tokens x experts a token")->required();
    why->add_option("--groups", a.groups, "Groups of the problem; 0: one for each expert");
    why->add_option("--layout", a.layout, "native, hopper or blocks")->capture_default_str();
    why->add_option("--num-warps", a.num_warps, "Of the scale swizzle (hopper, blocks); 8");
    why->add_option("--scale-class", a.scale_class, "folded, rebased or plain")->capture_default_str();
    why->add_flag("--unaligned-x", a.unaligned_x, "x or its row stride is no multiple of 16 bytes");
    why->add_flag("--unaligned-y", a.unaligned_y, "y or its row stride is no multiple of 16 bytes");

    add("verify", "Checks every row and every compiled image; exit 1 where one is bad",
        [&] { return verify_database(tool, a); });
    CLI::App* out = add("export", "All winners as JSON", [&] { return export_winners(tool, a); });
    out->add_option("-o,--output", a.output, "A file instead of standard output");
    CLI::App* in = add("import", "Takes what is new or newer from an export", [&] { return import_winners(tool, a); });
    in->add_option("FILE", a.file, "What export wrote; - is standard input")->required();
    with_other(
        add("merge", "Takes what is new or newer from another database", [&] { return merge_database(tool, a); }));
    with_other(add("diff", "Compares with another database; exit 1 where they differ", [&] { return diff(tool, a); }));
    CLI::App* sweep = add("gc", "Removes winners that no longer serve as exact, and images that nobody needs",
                          [&] { return gc(tool, a); });
    sweep->add_flag("--dry-run", a.dry_run, "Say what would go, and leave it");
    with_key(add("block", "Never serve this winner", [&] { return set_status(tool, a, WinnerStatus::blocked); }));
    with_key(add("unblock", "Serve it again", [&] { return set_status(tool, a, WinnerStatus::ok); }));
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-cache", "Looks into the tuning database, explains its choices and keeps it in order.");
    Arguments arguments(tool);
    Verb chosen;
    tool.app().require_subcommand(1);
    tool.app().fallthrough();  // --db, --device, --json and --quiet may follow the verb
    add_verbs(tool, arguments, chosen);
    return tool.run(argc, argv, [&] { return chosen(); });
}
