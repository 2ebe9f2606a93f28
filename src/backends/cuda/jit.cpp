#include "backends/cuda/jit.h"

#include <chrono>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/cuda/report_text.h"
#include "core/config_text.h"
#include "core/sha256.h"

namespace mxfp4 {
namespace {

const std::vector<std::string> kOptions = {"--gpu-architecture=sm_90a", "-std=c++20", "-default-device",
                                           "--ptxas-options=-v"};

std::string file_of(Variant variant) { return fmt::format("{}.cuh", to_string(variant)); }

}  // namespace

std::string kernel_source(const KernelConfig& c, const WeightsFormat& f) {
    const char* variant = to_string(c.variant);
    return fmt::format(
        "#include \"{}\"\n"
        "constexpr mxfp4::KernelConfig kConfig{{.variant = mxfp4::Variant::{}, .layout = mxfp4::Layout::{}, "
        ".block_m = {}, .block_n = {}, .block_k = {}, .num_warps = {}, .stages = {}, .split_k = {}, "
        ".ctas_per_sm = {}, .simd = {}, .cluster = {}}};\n"
        "constexpr mxfp4::WeightsFormat kFormat{{.layout = mxfp4::Layout::{}, .scale_warps = {}, "
        ".scale_class = mxfp4::ScaleClass::{}}};\n"
        "extern \"C\" __global__ void __launch_bounds__({}, {})\n"
        "{}(const __grid_constant__ mxfp4::MatmulArguments arguments)\n"
        "{{ mxfp4::run_{}<kConfig, kFormat>(arguments); }}\n",
        file_of(c.variant), variant, to_string(c.layout), c.block_m, c.block_n, c.block_k, c.num_warps, c.stages,
        c.split_k, c.ctas_per_sm, c.simd, c.cluster, to_string(f.layout), f.scale_warps, to_string(f.scale_class),
        c.num_warps * 32, c.ctas_per_sm, kKernelName, variant);
}

Jit::Jit(const BackendOptions& options)
    : nvrtc_path_(options.nvrtc), log_(options.log), text_(options.kernel_templates), store_(options.images) {}

const Jit::Compiler& Jit::compiler() {
    const std::lock_guard lock(mutex_);
    if (compiler_) return *compiler_;
    try {
        auto nvrtc = Nvrtc::open(nvrtc_path_);
        compiler_ = Compiler{nvrtc, nvrtc->build(), ""};
    } catch (const Error& error) {
        const std::string kept = store_.compiler();
        if (kept.empty()) throw;
        log(LogLevel::warning, fmt::format("only kept images can serve: {}", error.what()));
        compiler_ = Compiler{nullptr, kept, error.what()};
    }
    return *compiler_;
}

const std::string& Jit::compiler_build() { return compiler().build; }

std::string Jit::kernel_hash(Variant variant) const { return variant == Variant::host ? "" : text_.hash(file_of(variant)); }

Jit::ImagePtr Jit::compile(const KernelConfig& config, const WeightsFormat& format) {
    if (const Reject reject = check(config, format); reject != Reject::none) {
        CompiledImage refused;
        refused.report.rejected = reject_text(reject);
        return std::make_shared<const CompiledImage>(std::move(refused));
    }
    const std::string source = kernel_source(config, format);
    const KernelFiles headers = text_.closure(file_of(config.variant));
    Sha256 sha;
    sha.field(compiler().build).field(source);
    for (const std::string& option : kOptions) sha.field(option);
    for (const auto& [name, text] : headers) sha.field(name).field(text);
    const std::string key = sha.hex();

    std::promise<ImagePtr> promise;
    {
        std::unique_lock lock(mutex_);
        if (const auto found = images_.find(key); found != images_.end()) {
            const std::shared_future<ImagePtr> image = found->second;
            lock.unlock();
            return image.get();
        }
        images_.emplace(key, promise.get_future().share());
    }
    try {
        const ImagePtr image = find_or_make(key, config, source, headers);
        promise.set_value(image);
        return image;
    } catch (...) {
        promise.set_exception(std::current_exception());
        const std::lock_guard lock(mutex_);
        images_.erase(key);  // so that a later call tries again
        throw;
    }
}

Jit::ImagePtr Jit::find_or_make(const std::string& key, const KernelConfig& config, const std::string& source,
                                const KernelFiles& headers) {
    if (auto kept = store_.get(key)) {
        kept->report.compile_ms = 0;
        return std::make_shared<const CompiledImage>(std::move(*kept));
    }
    CompiledImage image = make(key, config, source, headers);
    keep(image);
    return std::make_shared<const CompiledImage>(std::move(image));
}

CompiledImage Jit::make(const std::string& key, const KernelConfig& config, const std::string& source,
                        const KernelFiles& headers) {
    const Compiler& used = compiler();
    if (!used.nvrtc)
        throw Error(ErrorCode::compile,
                    "no image of this kernel is kept and there is no NVRTC to compile it: " + used.why_not,
                    {to_text(config), "", ""});
    const auto start = std::chrono::steady_clock::now();
    NvrtcResult result = used.nvrtc->compile(source, headers, kOptions);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    CompiledImage image{{}, std::move(result.cubin)};
    image.report.image_key = key;
    read_log(result.log, result.ok, image.report);
    image.report.shared_bytes += int(shared_bytes(config));
    image.report.compile_ms = elapsed.count();
    return image;
}

void Jit::keep(const CompiledImage& image) {
    try {
        store_.put(image);
        store_.record_compiler(compiler().build);
    } catch (const Error& error) {
        std::call_once(warned_, [&] { log(LogLevel::warning, error.what()); });
    }
}

void Jit::log(LogLevel level, const std::string& message) const {
    if (log_) log_(level, message);
}

}  // namespace mxfp4
