// Device::host(): memory is memory, a launch runs on the caller's thread and a pool's, and returns when it is done.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "backends/backend.h"
#include "backends/host/host_kernel.h"
#include "backends/host/tile.h"
#include "backends/quantile.h"
#include "core/config_text.h"
#include "core/sha256.h"

namespace mxfp4 {
namespace {

std::string cpu_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const auto colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "unknown CPU";
}

std::int64_t pages(int name) { return std::int64_t(sysconf(name)) * sysconf(_SC_PAGESIZE); }

DeviceIdentity this_machine() {
    const std::int64_t gib = std::int64_t(1) << 30;
    const int cores = std::max(1, int(std::thread::hardware_concurrency()));
    return {cpu_name(), cores, (pages(_SC_PHYS_PAGES) + gib / 2) / gib * gib};
}

class HostBackend final : public Backend {
  public:
    HostBackend() : identity_(this_machine()) { limits_.sm_count = identity_.sm_count; }

    Device device() const override { return Device::host(); }
    const DeviceIdentity& identity() const override { return identity_; }
    const DeviceLimits& limits() const override { return limits_; }
    std::string compiler_build() const override {
#if defined(__x86_64__)
        return "c++ " __VERSION__ " x86_64";
#else
        return "c++ " __VERSION__;
#endif
    }
    std::string kernel_hash(Variant) const override { return sha256_hex(kHostKernelVersion); }
    std::string driver_version() const override { return ""; }

    void* allocate(std::size_t bytes) override {
        const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
        if (void* const pointer = rounded >= bytes ? std::aligned_alloc(kAlign, rounded) : nullptr) return pointer;
        throw Error(ErrorCode::invalid_argument, "not enough memory",
                    {fmt::format("{} bytes", bytes),
                     fmt::format("at most the {} bytes that are free", pages(_SC_AVPHYS_PAGES)), ""});
    }
    void release(void* pointer) noexcept override { std::free(pointer); }
    // Nothing may be copied from or to null, an empty vector's data say; memcpy may not even then.
    void copy_in(void* to, const void* from, std::size_t bytes) override {
        if (bytes > 0) std::memcpy(to, from, bytes);
    }
    void copy_out(void* to, const void* from, std::size_t bytes) override { copy_in(to, from, bytes); }
    void copy(void* to, const void* from, std::size_t bytes, Stream) override { copy_in(to, from, bytes); }
    void fill(void* to, std::uint8_t byte, std::size_t bytes, Stream) override {
        if (bytes > 0) std::memset(to, byte, bytes);
    }
    void synchronize() override {}
    void synchronize(Stream) override {}
    std::uint64_t capture_id(Stream) const override { return 0; }

    CompileReport compile(const KernelConfig& config, const WeightsFormat& format) override {
        CompileReport report;
        report.rejected = host_kernel_rejects(config, format);
        return report;
    }
    KernelPtr load(const KernelConfig& config, const WeightsFormat& format) override {
        if (const std::string why = host_kernel_rejects(config, format); !why.empty())
            throw Error(ErrorCode::compile, "a kernel cannot be used: " + why, {to_text(config), "", ""});
        return make_host_kernel(config, format, pool_);
    }
    KernelConfig default_config(const WeightsFormat& format, const ProblemShape&) const override {
        KernelConfig config{.variant = Variant::host, .layout = format.layout};
        config.block_m = 64;
        config.block_n = 128;
        config.block_k = 256;  // 64 KiB of decoded weights: they stay in a core's second-level cache
        config.num_warps = std::min(identity_.sm_count, 1024);
        config.simd = simd_tile_code() ? 1 : 0;
        return config;
    }

    std::vector<Timing> time(std::span<const TimedWork> work, const TimingOptions& options) override {
        std::vector<Timing> timings(work.size());
        std::vector<std::vector<double>> samples(work.size());
        std::vector<int> rotation(work.size());
        const auto replay = [&](std::size_t i) {
            const auto start = std::chrono::steady_clock::now();
            for (int launch = 0; launch < timings[i].launches; ++launch)
                work[i].launch(rotation[i]++ % work[i].rotations, nullptr);
            const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
            return elapsed.count() / timings[i].launches;
        };
        for (std::size_t i = 0; i < work.size(); ++i) {
            timings[i].launches = 1;
            timings[i].launches = int(std::clamp(options.replay_us / std::max(replay(i), 0.1), 1.0, 10000.0));
        }
        for (int repeat = 0; repeat < std::max(options.repeats, 1); ++repeat)
            for (std::size_t i = 0; i < work.size(); ++i) samples[i].push_back(replay(i));
        for (std::size_t i = 0; i < work.size(); ++i) {
            std::sort(samples[i].begin(), samples[i].end());
            timings[i].us = quantile(samples[i], 0.5);
            timings[i].us_p10 = quantile(samples[i], 0.1);
            timings[i].us_p90 = quantile(samples[i], 0.9);
        }
        return timings;
    }

  private:
    static constexpr std::size_t kAlign = 1024;  // what Workspace asks for

    const DeviceIdentity identity_;
    DeviceLimits limits_;
    const std::shared_ptr<ThreadPool> pool_ = std::make_shared<ThreadPool>();
};

}  // namespace

std::unique_ptr<Backend> make_host_backend(const BackendOptions&) { return std::make_unique<HostBackend>(); }

}  // namespace mxfp4
