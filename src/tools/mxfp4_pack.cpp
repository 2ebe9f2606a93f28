// mxfp4-pack: checkpoints -> packed files, and back.
#include <algorithm>
#include <optional>
#include <regex>

#include <fmt/format.h>

#include "core/config_text.h"
#include "pack/pack_files.h"
#include "tools/layout_arguments.h"
#include "tools/tool.h"

using namespace mxfp4;

namespace {

struct Arguments {
    std::vector<std::string> inputs;
    std::string out, layout = "native", only;
    std::optional<int> num_warps;
    int threads = 0;
    bool verify = false, unpack = false;
};

Checkpoint::Selection selection(const std::string& only) {
    if (only.empty()) return {};
    try {
        return [regex = std::regex(only)](const std::string& name) { return std::regex_search(name, regex); };
    } catch (const std::regex_error&) {
        throw UsageError("--only is no regular expression",
                         {fmt::format("'{}'", only), "an ECMAScript regular expression", ""});
    }
}

nlohmann::json describe(const FileSummary& summary) {
    nlohmann::json weights = nlohmann::json::array();
    for (const WeightsInfo& info : summary.weights) {
        const StoredShape stored = info.stored();
        weights.push_back({{"name", info.name},
                           {"layout", to_string(info.format.layout)},
                           {"num_warps", info.format.scale_warps},
                           {"experts", info.experts},
                           {"n", info.n},
                           {"k", info.k},
                           {"scale_class", to_string(info.format.scale_class)},
                           {"bytes", info.experts * (stored.values_bytes() + stored.scales_bytes())}});
    }
    return weights;
}

std::string tensors_text(std::size_t count, const char* kind) {
    return fmt::format("{} {} tensor{}", count, kind, count == 1 ? "" : "s");
}

// Progress that also ends the work when the user interrupts it.
FileOptions file_options(int threads, Progress& progress) {
    return {.threads = threads, .progress = [&progress](std::uint64_t bytes) {
                progress.advance(bytes);
                Interruptible::check();
            }};
}

int run_pack(Tool& tool, const Arguments& arguments, const PackOptions& options) {
    const Checkpoint checkpoint({arguments.inputs.begin(), arguments.inputs.end()}, selection(arguments.only));
    FileSummary summary;
    {
        const Interruptible interruptible;
        Progress progress(tool, arguments.verify ? "pack and verify" : "pack",
                          pack_work_bytes(checkpoint, options, arguments.verify), Progress::Unit::bytes);
        summary =
            pack_file(checkpoint, arguments.out, options, arguments.verify, file_options(arguments.threads, progress));
    }
    if (tool.json())
        tool.print(
            nlohmann::json{{"packed", describe(summary)}, {"skipped", checkpoint.skipped()}, {"bytes", summary.bytes}});
    tool.say(fmt::format("{}: {} in {} layout, {}{}; {} left out", arguments.out,
                         tensors_text(summary.weights.size(), "expert"), to_string(options.layout),
                         bytes_text(double(summary.bytes)), arguments.verify ? ", verified" : "",
                         tensors_text(std::size_t(checkpoint.skipped()), "other")));
    return kExitDone;
}

int run_unpack(Tool& tool, const Arguments& arguments) {
    const PackedContents packed(arguments.inputs[0]);
    const Checkpoint::Selection selected = selection(arguments.only);
    std::vector<const PackedEntry*> entries;
    for (const PackedEntry& entry : packed.entries())
        if (!selected || selected(entry.info.name)) entries.push_back(&entry);
    if (entries.empty())
        throw Error(ErrorCode::bad_file, arguments.inputs[0] + ": none of its packed weights is selected",
                    {"", "", "see --only"});
    FileSummary summary;
    {
        const Interruptible interruptible;
        Progress progress(tool, "unpack", unpack_work_bytes(entries), Progress::Unit::bytes);
        summary = unpack_file(packed, entries, arguments.out, file_options(arguments.threads, progress));
    }
    if (tool.json()) tool.print(nlohmann::json{{"unpacked", describe(summary)}, {"bytes", summary.bytes}});
    tool.say(fmt::format("{}: {} unpacked, {}", arguments.out, tensors_text(summary.weights.size(), "expert"),
                         bytes_text(double(summary.bytes))));
    return kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-pack", "Packs the MXFP4 expert tensors of a checkpoint for the kernels, or unpacks them again.");
    Arguments arguments;
    CLI::App& app = tool.app();
    app.add_option("CHECKPOINT", arguments.inputs,
                   "safetensors file, shard index or model folder (with --unpack: a packed file)")
        ->required();
    app.add_option("-o,--output", arguments.out, "File to write; it appears whole or not at all")->required();
    auto* layout = app.add_option("--layout", arguments.layout, "native, hopper or blocks [native]");
    auto* num_warps =
        app.add_option("--num-warps", arguments.num_warps, "Of the scale swizzle of hopper and blocks [8]");
    app.add_option("--only", arguments.only, "Only tensors whose name P contains this regular expression (ECMAScript)");
    auto* verify =
        app.add_flag("--verify", arguments.verify, "Open the output, unpack it and compare it with the checkpoint");
    app.add_flag("--unpack", arguments.unpack, "Packed file -> checkpoint tensors, byte for byte")
        ->excludes(layout, num_warps, verify);
    app.add_option("--threads", arguments.threads, "0: all cores [0]")->check(CLI::Range(0, 4096));

    return tool.run(argc, argv, [&] {
        if (arguments.unpack) {
            if (arguments.inputs.size() != 1)
                throw UsageError("--unpack takes one packed file",
                                 {fmt::format("{} files", arguments.inputs.size()), "1", ""});
            return run_unpack(tool, arguments);
        }
        const WeightsFormat format = format_of(arguments.layout, arguments.num_warps);
        return run_pack(tool, arguments,
                        {.layout = format.layout, .num_warps = format.scale_warps, .threads = arguments.threads});
    });
}
