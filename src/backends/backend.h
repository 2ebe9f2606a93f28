// What dispatcher, tuner and tools need of a device: memory, kernels, time. Two exist: cuda and host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mxfp4/dispatcher.h>

#include "contract/arguments.h"
#include "contract/config.h"

namespace mxfp4 {

using Stream = CUstream_st*;

// Names the device in a cache key: two devices with the same identity share winners. Never a UUID.
struct DeviceIdentity {
    std::string name;  // "NVIDIA H100 80GB HBM3"; host: the CPU's model name
    int sm_count = 0;  // host: cores
    std::int64_t memory_bytes = 0;  // rounded to GiB
};

// What the compiler said of one specialised kernel. Kept beside the image.
struct CompileReport {
    std::string image_key;      // sha256 of source, options and NVRTC build; empty on the host
    int registers = 0;          // a thread
    int spill_bytes = 0;        // in local memory, a thread: spill stores + loads, or the stack frame if that is more
    int shared_bytes = 0;       // static + dynamic
    std::vector<std::string> warnings;
    double compile_ms = 0;      // 0: the image was kept from before
    std::string rejected;       // why this kernel may not be used (spills, serialised wgmma, compile error); empty: fine
};

// A loaded, launchable kernel. Immutable; safe from many threads.
class Kernel {
  public:
    virtual ~Kernel() = default;
    virtual const KernelConfig& config() const = 0;
    virtual const CompileReport& report() const = 0;
    // Asynchronous, no allocation. Makes the tensor maps that the arguments lack, in place: they are much to copy.
    virtual void launch(MatmulArguments& arguments, Stream stream) const = 0;
};
using KernelPtr = std::shared_ptr<const Kernel>;

// One candidate's work for time(): launches rotation r (weights, x, y of that rotation) on the stream.
struct TimedWork {
    std::function<void(int rotation, Stream stream)> launch;
    int rotations = 1;
};
struct TimingOptions {
    int repeats = 7;            // timed replays of each candidate, interleaved with the others'
    double replay_us = 3000;    // launches in a replay are chosen so that one lasts about this long
};
struct Timing {
    double us = 0, us_p10 = 0, us_p90 = 0;  // a launch: median and spread over replays
    int launches = 0;                       // in one replay
};

class Backend {
  public:
    virtual ~Backend() = default;

    virtual Device device() const = 0;
    virtual const DeviceIdentity& identity() const = 0;
    virtual const DeviceLimits& limits() const = 0;
    virtual std::string compiler_build() const = 0;                // "nvrtc 13.0.88"; host: the compiler and its target
    virtual std::string kernel_hash(Variant variant) const = 0;    // of that variant's text and all it includes (hex)
    virtual std::string driver_version() const = 0;                // "580.159 (CUDA 13.0)"; host: ""

    // Memory, asynchronous where a stream is given. allocate() throws Error naming the bytes asked for and those free.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* pointer) noexcept = 0;
    virtual void copy_in(void* to, const void* from, std::size_t bytes) = 0;    // synchronous, through pinned memory, thread-safe
    virtual void copy_out(void* to, const void* from, std::size_t bytes) = 0;   // synchronous
    virtual void copy(void* to, const void* from, std::size_t bytes, Stream stream) = 0;  // within the device
    virtual void fill(void* to, std::uint8_t byte, std::size_t bytes, Stream stream) = 0;
    virtual void synchronize() = 0;                     // waits for the whole device
    virtual void synchronize(Stream stream) = 0;
    // Names the capture that the stream is in, unlike any other of the process; 0: it is in none.
    virtual std::uint64_t capture_id(Stream stream) const = 0;
    bool is_capturing(Stream stream) const { return capture_id(stream) != 0; }

    // Compiles (or finds the kept image) and says what came of it; needs no device. Thread-safe, so that candidates
    // compile in parallel. Never throws for a kernel that does not compile: the report says so.
    virtual CompileReport compile(const KernelConfig& config, const WeightsFormat& format) = 0;
    // compile(), then load onto the device. Throws Error compile when the report rejects it. Each call loads anew.
    virtual KernelPtr load(const KernelConfig& config, const WeightsFormat& format) = 0;
    // Configs worth trying for a shape are enumerated by the tuner; this one always works: the library's default.
    virtual KernelConfig default_config(const WeightsFormat& format, const ProblemShape& shape) const = 0;

    // Times all candidates, interleaved: A B C A B C. CUDA: graph replay. The launches must already be warm.
    virtual std::vector<Timing> time(std::span<const TimedWork> work, const TimingOptions& options) = 0;
};

struct BackendOptions {
    std::filesystem::path images = {};            // folder of compiled images (cubin/ beside the database); empty: none are kept
    std::filesystem::path nvrtc = {};             // see DispatcherOptions
    std::filesystem::path kernel_templates = {};  // see DispatcherOptions
    LogCallback log = {};
};

std::unique_ptr<Backend> make_backend(Device device, const BackendOptions& options);
std::unique_ptr<Backend> make_cuda_backend(int ordinal, const BackendOptions& options);
std::unique_ptr<Backend> make_host_backend(const BackendOptions& options);
int usable_cuda_devices();  // 0 where there is no driver, no GPU or none of compute capability 9.0; never throws

// Memory of a backend, owned.
class Buffer {
  public:
    Buffer() = default;
    Buffer(Backend& backend, std::size_t bytes) : backend_(&backend), data_(backend.allocate(bytes)), bytes_(bytes) {}
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() {
        if (data_) backend_->release(data_);
    }
    void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }

  private:
    void swap(Buffer& other) {
        std::swap(backend_, other.backend_);
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
    }
    Backend* backend_ = nullptr;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

}  // namespace mxfp4
