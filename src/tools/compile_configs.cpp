// mxfp4-compile: compiles configs without a GPU and prints what the compiler said of each. Behind scripts/compile-all.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <mxfp4/mxfp4.h>

#include "backends/cuda/compile_many.h"
#include "backends/cuda/report_text.h"
#include "core/config_text.h"

using namespace mxfp4;

namespace {

struct Arguments {
    std::vector<std::string> configs;
    std::string file, images, nvrtc, templates, scale_class = "folded";
    int threads = 0, scale_warps = 8;
    bool sample = false, json = false, quiet = false;
};

CompileJob job_of(const std::string& text, const Arguments& arguments) {
    const KernelConfig config = parse_config(text);
    return {config, {config.layout, config.layout == Layout::native ? 0 : arguments.scale_warps, parse_scale_class(arguments.scale_class)}};
}

std::vector<CompileJob> jobs_of(const Arguments& arguments) {
    std::vector<CompileJob> jobs;
    if (arguments.sample) jobs = sample_jobs();
    for (const std::string& text : arguments.configs) jobs.push_back(job_of(text, arguments));
    if (!arguments.file.empty()) {
        std::ifstream named;
        if (arguments.file != "-") named.open(arguments.file);
        std::istream& in = arguments.file == "-" ? std::cin : named;
        if (!in) throw Error(ErrorCode::io, "the list of configs cannot be read", {arguments.file, "", ""});
        for (std::string line; std::getline(in, line);)
            if (!line.empty() && line[0] != '#') jobs.push_back(job_of(line, arguments));
    }
    return jobs;
}

std::string name_of(const CompileJob& job) { return fmt::format("{} {}", to_text(job.config), to_string(job.format.scale_class)); }

void print_row(const CompileJob& job, const CompileReport& report) {
    fmt::print("{:<60} {:>4} {:>6} {:>7} {:>4} {:>7.0f}\n", name_of(job), report.registers, report.spill_bytes, report.shared_bytes,
               report.warnings.size(), report.compile_ms);
}

void print_problems(const CompileJob& job, const CompileReport& report) {
    if (!report.rejected.empty()) fmt::print(stderr, "rejected: {}: {}\n", name_of(job), report.rejected);
    for (const std::string& warning : report.warnings) fmt::print(stderr, "warning: {}: {}\n", name_of(job), warning);
}

int run(const Arguments& arguments) {
    const char* cuda_home = std::getenv("CUDA_HOME");
    BackendOptions options;
    options.images = arguments.images;
    options.kernel_templates = arguments.templates;
    options.nvrtc = arguments.nvrtc;
    if (options.nvrtc.empty() && cuda_home) options.nvrtc = nvrtc_in(cuda_home);
    Jit jit(options);
    const std::vector<CompileJob> jobs = jobs_of(arguments);
    if (!arguments.quiet) fmt::print(stderr, "{} kernels, {}\n", jobs.size(), jit.compiler_build());
    if (!arguments.json) fmt::print("{:<60} {:>4} {:>6} {:>7} {:>4} {:>7}\n", "config", "regs", "spills", "shared", "warn", "ms");
    int bad = 0;
    compile_many(jit, jobs, arguments.threads, [&](std::size_t i, const CompileReport& report) {
        bad += !report.rejected.empty() || report.spill_bytes > 0;
        if (arguments.json)
            fmt::print("{{\"config\":\"{}\",\"scale_class\":\"{}\",\"report\":{}}}\n", to_text(jobs[i].config),
                       to_string(jobs[i].format.scale_class), report_to_json(report));
        else
            print_row(jobs[i], report);
        std::fflush(stdout);
        if (!arguments.quiet) print_problems(jobs[i], report);
    });
    if (bad) fmt::print(stderr, "{} of {} kernels are rejected or spill\n", bad, jobs.size());
    return bad ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app{"Compiles kernel configs with NVRTC; no GPU is needed. Exit 1 if one is rejected or spills.", "mxfp4-compile"};
    app.set_version_flag("--version", mxfp4::version());
    app.add_option("configs", arguments.configs, "config texts, like 'wgmma_rs/native bm64 bn256 bk128 w12 s4 k2'");
    app.add_option("--file", arguments.file, "a config text a line; - is stdin");
    app.add_flag("--sample", arguments.sample, "the fixed sample and every default config");
    app.add_option("--scale-class", arguments.scale_class, "folded, rebased or plain")->capture_default_str();
    app.add_option("--scale-warps", arguments.scale_warps, "of the scale swizzle (hopper, blocks)")->capture_default_str();
    app.add_option("--threads", arguments.threads, "0: one a core")->capture_default_str();
    app.add_option("--images", arguments.images, "folder that keeps the images");
    app.add_option("--nvrtc", arguments.nvrtc, "libnvrtc, or a folder of it");
    app.add_option("--kernel-templates", arguments.templates, "folder that overrides the embedded kernel text");
    app.add_flag("--json", arguments.json, "one JSON object a kernel");
    app.add_flag("--quiet", arguments.quiet, "no messages");
    try {
        app.parse(argc, argv);
        if (arguments.configs.empty() && arguments.file.empty() && !arguments.sample)
            throw CLI::ValidationError("give config texts, --file or --sample");
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    try {
        return run(arguments);
    } catch (const Error& error) {
        fmt::print(stderr, "mxfp4-compile: {}\n", error.what());
        return error.code() == ErrorCode::invalid_argument ? 2 : 1;
    }
}
