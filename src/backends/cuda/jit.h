// KernelConfig -> cubin: the text of a specialised kernel, NVRTC, the kept images.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "backends/cuda/image_store.h"
#include "cuda/nvrtc.h"
#include "kernel_text.h"

namespace mxfp4 {

inline constexpr const char* kKernelName = "mxfp4_kernel";

// The text that NVRTC is given: an include, the config, the weights' format, one function.
std::string kernel_source(const KernelConfig& config, const WeightsFormat& format);

class Jit {
  public:
    explicit Jit(const BackendOptions& options);

    using ImagePtr = std::shared_ptr<const CompiledImage>;
    // From memory, the kept images or NVRTC. Thread-safe; one of several callers with the same key compiles, the others
    // wait. A kernel that does not compile has a report that says so; throws Error compile where there is no NVRTC.
    ImagePtr compile(const KernelConfig& config, const WeightsFormat& format);

    // "nvrtc 13.0.88"; without NVRTC that of the kept images, which then serve. Throws Error compile where there are
    // none.
    const std::string& compiler_build();
    std::string kernel_hash(Variant variant) const;  // sha256 of the variant's text and all that it includes; host: "", it has none here

  private:
    struct Compiler {
        std::shared_ptr<const Nvrtc> nvrtc;  // null: not installed, kept images alone
        std::string build, why_not;
    };
    const Compiler& compiler();
    ImagePtr find_or_make(const std::string& key, const KernelConfig& config, const std::string& source,
                          const KernelFiles& headers);
    CompiledImage make(const std::string& key, const KernelConfig& config, const std::string& source,
                       const KernelFiles& headers);
    void keep(const CompiledImage& image);
    void log(LogLevel level, const std::string& message) const;

    std::filesystem::path nvrtc_path_;
    LogCallback log_;
    KernelText text_;
    ImageStore store_;
    std::once_flag warned_;  // that images cannot be kept

    std::mutex mutex_;  // guards what follows
    std::optional<Compiler> compiler_;
    std::map<std::string, std::shared_future<ImagePtr>> images_;  // by key
};

}  // namespace mxfp4
