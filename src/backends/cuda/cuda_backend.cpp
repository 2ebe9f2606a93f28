#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/backend.h"
#include "backends/cuda/cuda_kernel.h"
#include "backends/cuda/cuda_timing.h"
#include "backends/cuda/default_config.h"
#include "backends/cuda/jit.h"
#include "cuda/driver.h"
#include "cuda/staging.h"

namespace mxfp4 {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

bool is_hopper(CUdevice device) {
    return device_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) == 9 &&
           device_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) == 0;
}

CUdevice open_device(int ordinal) {
    int count = 0;
    check(driver().device_get_count(&count), "count the devices");
    if (ordinal < 0 || ordinal >= count)
        throw Error(ErrorCode::no_device, "there is no such CUDA device",
                    {std::to_string(ordinal), count ? fmt::format("0 to {}", count - 1) : "-: there is none",
                     "see nvidia-smi -L"});
    CUdevice device = 0;
    check(driver().device_get(&device, ordinal), "open the device");
    if (!is_hopper(device))
        throw Error(ErrorCode::no_device, fmt::format("CUDA device {} is not of compute capability 9.0", ordinal),
                    {fmt::format("{}.{}", device_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                                 device_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)),
                     "9.0 (H100, H200)", "choose another device, or the host device"});
    return device;
}

DeviceIdentity read_identity(CUdevice device) {
    char name[256] = {};
    std::size_t bytes = 0;
    check(driver().device_get_name(name, sizeof name, device), "read the device's name");
    check(driver().device_total_mem(&bytes, device), "read the device's memory");
    return {name, device_attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            std::int64_t(std::llround(double(bytes) / kGiB)) << 30};
}

DeviceLimits read_limits(CUdevice device) {
    DeviceLimits limits;
    limits.sm_count = device_attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    limits.shared_bytes_per_block = device_attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    limits.shared_bytes_per_sm = device_attribute(device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
    limits.registers_per_sm = device_attribute(device, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
    // kHz times bits, two transfers a clock. A device that does not tell keeps the default.
    const double kilobits = double(device_attribute(device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)) *
                            device_attribute(device, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
    if (kilobits > 0) limits.memory_bytes_per_us = kilobits * 2 / 8 / 1000;
    return limits;
}

// Not the legacy or the per-thread default stream.
bool is_own_stream(Stream stream) { return reinterpret_cast<std::uintptr_t>(stream) > 2; }

CUdeviceptr address(const void* pointer) { return reinterpret_cast<CUdeviceptr>(pointer); }

class CudaBackend : public Backend {
  public:
    CudaBackend(int ordinal, const BackendOptions& options)
        : ordinal_(ordinal), context_(std::make_shared<const PrimaryContext>(open_device(ordinal))),
          identity_(read_identity(context_->device())), limits_(read_limits(context_->device())), jit_(options),
          staging_(std::make_unique<Staging>()) {}

    ~CudaBackend() override {
        try {
            const CurrentContext current(context_->get());
            staging_.reset();
        } catch (const Error&) {  // at process exit the driver may be gone already
        }
    }

    Device device() const override { return Device::cuda(ordinal_); }
    const DeviceIdentity& identity() const override { return identity_; }
    const DeviceLimits& limits() const override { return limits_; }
    std::string compiler_build() const override { return jit_.compiler_build(); }
    std::string kernel_hash(Variant variant) const override { return jit_.kernel_hash(variant); }
    std::string driver_version() const override { return driver_version_text(); }

    void* allocate(std::size_t bytes) override {
        const CurrentContext current(context_->get());
        const RelaxedCapture relaxed;
        CUdeviceptr pointer = 0;
        const CUresult result = driver().mem_alloc(&pointer, std::max<std::size_t>(bytes, 1));
        if (result == CUDA_ERROR_OUT_OF_MEMORY) {
            std::size_t free = 0, total = 0;
            check(driver().mem_get_info(&free, &total), "read the free device memory");
            throw Error(
                ErrorCode::cuda, "out of device memory",
                {fmt::format("{} bytes", bytes), fmt::format("at most the {} bytes that are free of {}", free, total),
                 "free device memory or use less of it"});
        }
        check(result, "allocate device memory");
        return reinterpret_cast<void*>(pointer);
    }

    void release(void* pointer) noexcept override {
        try {
            const CurrentContext current(context_->get());
            const RelaxedCapture relaxed;
            driver().mem_free(address(pointer));
        } catch (const Error&) {  // the context is lost, and its memory with it
        }
    }

    void copy_in(void* to, const void* from, std::size_t bytes) override {
        const CurrentContext current(context_->get());
        const RelaxedCapture relaxed;
        staging_->copy_in(address(to), from, bytes);
    }

    void copy_out(void* to, const void* from, std::size_t bytes) override {
        const CurrentContext current(context_->get());
        const RelaxedCapture relaxed;
        staging_->copy_out(to, address(from), bytes);
    }

    void copy(void* to, const void* from, std::size_t bytes, Stream stream) override {
        if (bytes == 0) return;
        const CurrentContext current(context_->get());
        check(driver().memcpy_dtod_async(address(to), address(from), bytes, stream), "copy device memory");
    }

    void fill(void* to, std::uint8_t byte, std::size_t bytes, Stream stream) override {
        if (bytes == 0) return;
        const CurrentContext current(context_->get());
        check(driver().memset_d8_async(address(to), byte, bytes, stream), "fill device memory");
    }

    void synchronize() override {
        const CurrentContext current(context_->get());
        check(driver().ctx_synchronize(), "wait for the device");
    }

    void synchronize(Stream stream) override {
        const CurrentContext current(context_->get());
        std::optional<RelaxedCapture> relaxed;  // another thread's capture, of another stream, goes on
        if (is_own_stream(stream)) relaxed.emplace();
        check(driver().stream_synchronize(stream), "wait for a stream");
    }

    std::uint64_t capture_id(Stream stream) const override {
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        // A hit with split-k comes here: the cheap question first, and no context for a stream that knows its own.
        if (is_own_stream(stream) && driver().stream_is_capturing(stream, &status) == CUDA_SUCCESS &&
            status == CU_STREAM_CAPTURE_STATUS_NONE)
            return 0;
        const CurrentContext current(context_->get());
        cuuint64_t id = 0;
        const CUresult result = driver().stream_get_capture_info(stream, &status, &id, nullptr, nullptr, nullptr);
        // The legacy default stream cannot be asked while another stream is captured; nor may it be used.
        if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) return ~std::uint64_t(0);
        check(result, "ask whether a stream is captured");
        return status == CU_STREAM_CAPTURE_STATUS_NONE ? 0 : id;
    }

    CompileReport compile(const KernelConfig& config, const WeightsFormat& format) override {
        return jit_.compile(config, format)->report;
    }

    KernelPtr load(const KernelConfig& config, const WeightsFormat& format) override {
        Jit::ImagePtr image = jit_.compile(config, format);
        const CurrentContext current(context_->get());
        const RelaxedCapture relaxed;
        return load_cuda_kernel(context_, config, format, std::move(image), limits_.sm_count);
    }

    KernelConfig default_config(const WeightsFormat& format, const ProblemShape& shape) const override {
        return mxfp4::default_config(format, shape);
    }

    std::vector<Timing> time(std::span<const TimedWork> work, const TimingOptions& options) override {
        const CurrentContext current(context_->get());
        return time_by_graph_replay(work, options);
    }

  private:
    int ordinal_;
    std::shared_ptr<const PrimaryContext> context_;
    DeviceIdentity identity_;
    DeviceLimits limits_;
    mutable Jit jit_;
    std::unique_ptr<Staging> staging_;
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int ordinal, const BackendOptions& options) {
    return std::make_unique<CudaBackend>(ordinal, options);
}

int usable_cuda_devices() {
    if (!find_driver()) return 0;
    try {
        int count = 0, usable = 0;
        check(driver().device_get_count(&count), "count the devices");
        for (int i = 0; i < count; ++i) {
            CUdevice device = 0;
            check(driver().device_get(&device, i), "open the device");
            usable += is_hopper(device);
        }
        return usable;
    } catch (const Error&) {
        return 0;
    }
}

}  // namespace mxfp4
