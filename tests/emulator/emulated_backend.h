// The emulator as a backend, for the test support that drives kernels through one.
#pragma once

#include <functional>
#include <map>

#include "backends/backend.h"
#include "block.h"

namespace mxfp4::emulator {

// A kernel that a test has instantiated.
struct Instance {
    KernelConfig config;
    WeightsFormat format;
    void (*run)(const MatmulArguments& arguments);
};

class EmulatedBackend : public Backend {
  public:
    DeviceLimits device_limits{.sm_count = 4};  // the grid of a launch
    When timing = When::random;
    unsigned seed = 1;
    bool guard_below = false;
    std::function<void(bool ended)> grids_before;  // Launch::grids_before

    KernelPtr load(const Instance& instance);

    // Memory ends at a page that is not mapped (guard_below: begins at one), so that access outside is a crash.
    void* allocate(std::size_t bytes) override;
    void release(void* pointer) noexcept override;
    void copy_in(void* to, const void* from, std::size_t bytes) override;
    void copy_out(void* to, const void* from, std::size_t bytes) override;
    void copy(void* to, const void* from, std::size_t bytes, Stream) override;
    void fill(void* to, std::uint8_t byte, std::size_t bytes, Stream) override;
    void synchronize() override {}
    void synchronize(Stream) override {}
    const DeviceLimits& limits() const override { return device_limits; }

    // What no test of a kernel asks for.
    Device device() const override { return Device::host(); }
    const DeviceIdentity& identity() const override { return identity_; }
    std::string compiler_build() const override { return ""; }
    std::string kernel_hash(Variant) const override { return ""; }
    std::string driver_version() const override { return ""; }
    std::uint64_t capture_id(Stream) const override { return 0; }
    CompileReport compile(const KernelConfig&, const WeightsFormat&) override { return {}; }
    KernelPtr load(const KernelConfig&, const WeightsFormat&) override { return nullptr; }
    KernelConfig default_config(const WeightsFormat&, const ProblemShape&) const override { return {}; }
    std::vector<Timing> time(std::span<const TimedWork>, const TimingOptions&) override { return {}; }

  private:
    DeviceIdentity identity_;
    std::map<void*, std::pair<void*, std::size_t>> mapped_;  // what was mapped for it
};

}  // namespace mxfp4::emulator
