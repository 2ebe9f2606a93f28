// mxfp4-compile: compiles configs without a GPU and prints what the compiler said of each. Behind scripts/compile-all.
#include <fstream>
#include <iostream>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/cuda/compile_many.h"
#include "backends/cuda/report_text.h"
#include "core/config_text.h"
#include "tools/nvrtc_of_environment.h"
#include "tools/tool.h"

using namespace mxfp4;

namespace {

struct Arguments {
    std::vector<std::string> configs;
    std::string file, images, nvrtc, templates, scale_class = "folded";
    int threads = 0, scale_warps = 8;
    bool sample = false;
};

std::vector<std::string> lines_of(const std::string& file) {
    std::ifstream named;
    if (file != "-") named.open(file);
    std::istream& in = file == "-" ? std::cin : named;
    if (!in) throw Error(ErrorCode::io, "the list of configs cannot be read", {file, "", ""});
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);)
        if (!line.empty() && line[0] != '#') lines.push_back(line);
    return lines;
}

std::vector<CompileJob> jobs_of(const Arguments& arguments) {
    std::vector<std::string> texts = arguments.configs;
    if (!arguments.file.empty())
        for (std::string& line : lines_of(arguments.file)) texts.push_back(std::move(line));
    std::vector<CompileJob> jobs;
    if (arguments.sample) jobs = sample_jobs();
    const ScaleClass scale_class = parse_scale_class(arguments.scale_class);
    for (const std::string& text : texts) {
        const KernelConfig config = parse_config(text);
        const int scale_warps = config.layout == Layout::native ? 0 : arguments.scale_warps;
        jobs.push_back({config, {config.layout, scale_warps, scale_class}});
    }
    if (jobs.empty()) throw UsageError("nothing to compile", {"", "", "give config texts, --file or --sample"});
    return jobs;
}

std::string name_of(const CompileJob& job) {
    return fmt::format("{} {}", to_text(job.config), to_string(job.format.scale_class));
}

std::string row(const CompileJob& job, const CompileReport& report) {
    return fmt::format("{:<60} {:>4} {:>6} {:>7} {:>4} {:>7.0f}", name_of(job), report.registers, report.spill_bytes,
                       report.shared_bytes, report.warnings.size(), report.compile_ms);
}

nlohmann::json json_row(const CompileJob& job, const CompileReport& report) {
    nlohmann::json object = nlohmann::json::parse(report_to_json(report));
    object["config"] = to_text(job.config);
    object["scale_class"] = to_string(job.format.scale_class);
    return object;
}

int compile(Tool& tool, const Arguments& arguments) {
    BackendOptions options;
    options.images = arguments.images;
    options.kernel_templates = arguments.templates;
    options.nvrtc = arguments.nvrtc.empty() ? nvrtc_of_environment() : std::filesystem::path(arguments.nvrtc);
    options.log = [&tool](LogLevel, const std::string& message) { tool.warn(message); };
    Jit jit(options);
    const std::vector<CompileJob> jobs = from_arguments([&] { return jobs_of(arguments); });
    tool.say(fmt::format("{} kernels, {}", jobs.size(), jit.compiler_build()));
    if (!tool.json())
        tool.print(
            fmt::format("{:<60} {:>4} {:>6} {:>7} {:>4} {:>7}", "config", "regs", "spills", "shared", "warn", "ms"));
    int bad = 0;
    compile_many(jit, jobs, arguments.threads, [&](std::size_t i, const CompileReport& report) {
        bad += !report.rejected.empty() || report.spill_bytes > 0;
        if (tool.json())
            tool.print(json_row(jobs[i], report));
        else
            tool.print(row(jobs[i], report));
        if (!report.rejected.empty()) tool.say(fmt::format("rejected: {}: {}", name_of(jobs[i]), report.rejected));
        for (const std::string& warning : report.warnings)
            tool.say(fmt::format("warning: {}: {}", name_of(jobs[i]), warning));
    });
    if (bad) tool.warn(fmt::format("{} of {} kernels are rejected or spill", bad, jobs.size()));
    return bad ? kExitFailed : kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-compile",
              "Compiles kernel configs with NVRTC; no GPU is needed. Exit 1 if one is rejected or spills.");
    Arguments a;
    CLI::App& app = tool.app();
    app.add_option("configs", a.configs, "Config texts, like 'wgmma_rs/native bm64 bn256 bk128 w12 s4 k2'");
    app.add_option("--file", a.file, "A config text a line; - is stdin");
    app.add_flag("--sample", a.sample, "The fixed sample of CI and every default config");
    app.add_option("--scale-class", a.scale_class, "folded, rebased or plain")->capture_default_str();
    app.add_option("--scale-warps", a.scale_warps, "Of the scale swizzle (hopper, blocks)")->capture_default_str();
    app.add_option("--threads", a.threads, "0: one a core")->capture_default_str();
    app.add_option("--images", a.images, "Folder that keeps the images");
    app.add_option("--nvrtc", a.nvrtc, "libnvrtc, or a folder of it");
    app.add_option("--kernel-templates", a.templates, "Folder that overrides the embedded kernel text");
    return tool.run(argc, argv, [&] { return compile(tool, a); });
}
