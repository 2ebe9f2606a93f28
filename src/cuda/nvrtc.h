// libnvrtc, opened at run time. Its few C prototypes are stable and declared in nvrtc.cpp: no header is needed.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernel_text.h"

namespace mxfp4 {

struct NvrtcResult {
    bool ok = false;  // false: the program does not compile, the log says why
    std::string log;
    std::string cubin;
};

class Nvrtc {
  public:
    // where: libnvrtc itself, or a folder that nvrtc_in() searches; empty: the loader's path, /usr/local/cuda*, PyPI
    // wheels. Throws Error compile naming what was tried.
    static std::shared_ptr<const Nvrtc> open(const std::filesystem::path& where = {});

    const std::string& build() const { return build_; }  // "nvrtc 13.0.88"
    const std::string& path() const { return path_; }

    // Thread-safe, and parallel. Throws Error compile where NVRTC itself fails.
    NvrtcResult compile(const std::string& source, const KernelFiles& headers,
                        const std::vector<std::string>& options) const;

  private:
    struct Table;
    Nvrtc(std::shared_ptr<const Table> table, std::string path);

    std::shared_ptr<const Table> table_;
    std::string path_, build_;
};

// libnvrtc under a toolkit's root (what CUDA_HOME names), a site-packages folder or a plain folder; empty if there is
// none.
std::filesystem::path nvrtc_in(const std::filesystem::path& folder);

}  // namespace mxfp4
