// The call that inference engines make: a grouped matmul, served by the tuned kernel of its shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <mxfp4/packed.h>

struct CUstream_st;

namespace mxfp4 {

struct Device {
    enum class Kind { cuda, host };
    Kind kind = Kind::cuda;
    int ordinal = 0;

    static Device cuda(int ordinal = 0) { return {Kind::cuda, ordinal}; }
    static Device host() { return {Kind::host, 0}; }
};

enum class LogLevel { info, warning };
using LogCallback = std::function<void(LogLevel, const std::string&)>;

struct DispatcherOptions {
    Device device = {};
    std::filesystem::path cache = {};        // tuning database; empty: none, every choice is a fallback. A missing file is no error
    LogCallback log = {};                    // once per cause, one call at a time; must not call the dispatcher. Empty: silent
    std::filesystem::path nvrtc = {};        // libnvrtc to use; empty: searched for (docs/tuning.md says where)
    std::filesystem::path kernel_templates = {};  // a folder that overrides the embedded kernel text, while developing
};

// Weights where the kernels read them: on the device, or host memory for Device::host(). Move-only.
// They must outlive every launch on them: the destructor of uploaded weights waits for the device, so that no stream may
// be in capture then. A dispatcher's destructor waits likewise; weights may outlive it, but are of no use to another.
class Weights {
  public:
    Weights(Weights&&) noexcept;
    Weights& operator=(Weights&&) noexcept;
    ~Weights();

    const WeightsInfo& info() const;

  private:
    friend class Dispatcher;
    struct Impl;
    explicit Weights(std::unique_ptr<Impl>);
    std::unique_ptr<Impl> impl_;
};

// Tensors that the caller already holds on the device, as vLLM and triton_kernels swizzle them. Nothing is copied.
struct WrapSpec {
    const void* values = nullptr;     // [experts, value_rows, value_row_bytes]
    const void* scales = nullptr;     // [experts, scale_rows, scale_row_bytes]
    std::int64_t experts = 0, n = 0, k = 0;
    int num_warps = 8;                // of the scale swizzle
    // Stored rows of an expert and bytes of a row, where they are padded further than docs/layout.md asks for; 0: as there.
    std::int64_t value_rows = 0, value_row_bytes = 0, scale_rows = 0, scale_row_bytes = 0;
};

// Scratch for split-k. Any contents; must not be shared by launches that may overlap.
struct Workspace {
    void* data = nullptr;  // device memory, 1024-byte aligned
    std::size_t bytes = 0;
};

// y[r, :] = x[r, :] · W[e(r)]ᵀ for the rows of each group; bf16 in and out, fp32 accumulation.
struct Problem {
    const void* x;                                // [rows, k] bf16
    std::int64_t x_stride = 0;                    // elements from row to row; 0 = k
    const Weights& weights;
    const std::int32_t* expert_offsets;           // device [groups + 1], ascending; clamped to [0, rows]
    const std::int32_t* expert_ids = nullptr;     // device [groups]; null: group g is expert g. Outside [0, E): zero rows
    int groups = 0;                               // 0 = E
    std::int64_t rows;
    void* y;                                      // [rows, n] bf16
    std::int64_t y_stride = 0;                    // elements from row to row; 0 = n
    Workspace workspace = {};
};

// How a kernel was chosen: exact: tuned for this bucket on this device and this kernel text; near: tuned for a neighbour;
// fallback: the library's default.
enum class How { exact, near, fallback };
const char* to_string(How how);

struct RunInfo {
    std::string_view config;  // for example "wgmma_rs/native bm64 bn256 bk128 w12 s4 k2"; lives as long as the dispatcher
    How how = How::fallback;
};

struct PrepareOptions {
    std::int64_t max_rows = 0;
    int groups = 0;                 // most groups of a problem; 0 = E
    CUstream_st* stream = nullptr;  // scratch is made for this stream
    int graphs = 4;                 // stream captures to come that split-k scratch is set aside for (see run)
};

class Dispatcher {
  public:
    explicit Dispatcher(DispatcherOptions options);
    Dispatcher(Dispatcher&&) noexcept;
    Dispatcher& operator=(Dispatcher&&) noexcept;
    ~Dispatcher();

    Weights upload(const PackedView& packed);  // copies; thread-safe
    Weights wrap(const WrapSpec& spec);        // scans the scales once; refuses E8M0 255

    // Compiles, loads and makes scratch for every problem of up to max_rows rows, so that run() hits from the first call; but not where x or
    // y is less aligned than K and N allow (its address to 16 bytes, its stride to 8 elements).
    // Not inside a stream capture. Weights of the same format and size share what is prepared.
    void prepare(const Weights& weights, const PrepareOptions& options);
    // What Problem::workspace must hold for any such problem of so many rows and at most E groups; 0 where nothing splits k.
    std::size_t workspace_bytes(const Weights& weights, std::int64_t max_rows);

    // Asynchronous on the stream; from any thread. Everything is checked before anything is enqueued. rows = 0 launches
    // nothing. A problem of a size not met before compiles its kernel, once; meanwhile other threads get any loaded kernel
    // that can do it. A winner of an older kernel text or another compiler is first tried on the stream, against the
    // reference, and passed over if it computes wrongly. Inside a capture nothing is compiled or allocated: a loaded kernel serves, else not_prepared is thrown.
    // Split-k scratch is the workspace if it is large enough, else the stream's own; each stream of a capture takes one of
    // the buffers that prepare() set aside and keeps it for good, and where none is left a kernel that needs none serves.
    // So the graphs captured must not be replayed after the dispatcher is gone, nor one graph twice at the same time.
    RunInfo run(const Problem& problem, CUstream_st* stream = nullptr);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mxfp4
