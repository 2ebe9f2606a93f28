// libcuda, opened at run time: packing, compiling and inspecting work where there is no driver.
#pragma once

#include <cuda.h>

#include <memory>
#include <source_location>
#include <string>
#include <utility>

namespace mxfp4 {

// The entry points used, typed from cuda.h.
struct Driver {
    decltype(&cuInit) init;
    decltype(&cuDriverGetVersion) driver_get_version;
    decltype(&cuGetErrorName) get_error_name;
    decltype(&cuGetErrorString) get_error_string;

    decltype(&cuDeviceGetCount) device_get_count;
    decltype(&cuDeviceGet) device_get;
    decltype(&cuDeviceGetName) device_get_name;
    decltype(&cuDeviceGetAttribute) device_get_attribute;
    decltype(&cuDeviceTotalMem_v2) device_total_mem;
    decltype(&cuDevicePrimaryCtxRetain) device_primary_ctx_retain;
    decltype(&cuDevicePrimaryCtxRelease_v2) device_primary_ctx_release;

    decltype(&cuCtxGetCurrent) ctx_get_current;
    decltype(&cuCtxPushCurrent_v2) ctx_push_current;
    decltype(&cuCtxPopCurrent_v2) ctx_pop_current;
    decltype(&cuCtxSynchronize) ctx_synchronize;
    decltype(&cuThreadExchangeStreamCaptureMode) thread_exchange_stream_capture_mode;

    decltype(&cuMemAlloc_v2) mem_alloc;
    decltype(&cuMemFree_v2) mem_free;
    decltype(&cuMemGetInfo_v2) mem_get_info;
    decltype(&cuMemHostAlloc) mem_host_alloc;
    decltype(&cuMemFreeHost) mem_free_host;
    decltype(&cuMemcpyHtoDAsync_v2) memcpy_htod_async;
    decltype(&cuMemcpyDtoHAsync_v2) memcpy_dtoh_async;
    decltype(&cuMemcpyDtoDAsync_v2) memcpy_dtod_async;
    decltype(&cuMemsetD8Async) memset_d8_async;

    decltype(&cuModuleLoadData) module_load_data;
    decltype(&cuModuleUnload) module_unload;
    decltype(&cuModuleGetFunction) module_get_function;
    decltype(&cuFuncSetAttribute) func_set_attribute;
    decltype(&cuOccupancyMaxActiveBlocksPerMultiprocessor) occupancy_max_active_blocks_per_multiprocessor;
    decltype(&cuLaunchKernelEx) launch_kernel_ex;
    decltype(&cuTensorMapEncodeTiled) tensor_map_encode_tiled;

    decltype(&cuStreamCreate) stream_create;
    decltype(&cuStreamDestroy_v2) stream_destroy;
    decltype(&cuStreamSynchronize) stream_synchronize;
    decltype(&cuStreamIsCapturing) stream_is_capturing;
    // Spelled out: which of its versions cuda.h declares depends on the toolkit. This one has been there since CUDA 11.3.
    CUresult (*stream_get_capture_info)(CUstream, CUstreamCaptureStatus*, cuuint64_t* id, CUgraph*, const CUgraphNode**, std::size_t*);
    decltype(&cuStreamBeginCapture_v2) stream_begin_capture;
    decltype(&cuStreamEndCapture) stream_end_capture;
    decltype(&cuGraphInstantiateWithFlags) graph_instantiate_with_flags;
    decltype(&cuGraphLaunch) graph_launch;
    decltype(&cuGraphDestroy) graph_destroy;
    decltype(&cuGraphExecDestroy) graph_exec_destroy;
    decltype(&cuEventCreate) event_create;
    decltype(&cuEventDestroy_v2) event_destroy;
    decltype(&cuEventRecord) event_record;
    decltype(&cuEventSynchronize) event_synchronize;
    decltype(&cuEventElapsedTime) event_elapsed_time;
};

// Opened and initialised on first use, never closed. Throws Error no_device where that fails.
const Driver& driver();
const Driver* find_driver() noexcept;  // null instead

// Throws Error cuda unless the call went well: names the call, the code, what to do and the place.
void check(CUresult result, const char* what, std::source_location where = std::source_location::current());

// An owned handle; Release is the driver call that ends it, for example Unique<CUmodule, &Driver::module_unload>.
template <class Handle, auto Release>
class Unique {
  public:
    Unique() = default;
    explicit Unique(Handle handle) : handle_(handle) {}
    Unique(Unique&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
    Unique& operator=(Unique&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Unique() {
        if (handle_) (driver().*Release)(handle_);
    }
    Handle get() const { return handle_; }
    Handle* out() { return &handle_; }  // where a creating call puts it; only while empty

  private:
    Handle handle_{};
};

using Module = Unique<CUmodule, &Driver::module_unload>;
using OwnedStream = Unique<CUstream, &Driver::stream_destroy>;
using Event = Unique<CUevent, &Driver::event_destroy>;
using Graph = Unique<CUgraph, &Driver::graph_destroy>;
using GraphExec = Unique<CUgraphExec, &Driver::graph_exec_destroy>;
using PinnedMemory = Unique<void*, &Driver::mem_free_host>;

// A device's primary context, the one that the CUDA runtime (PyTorch, vLLM) uses too.
class PrimaryContext {
  public:
    explicit PrimaryContext(CUdevice device);
    PrimaryContext(const PrimaryContext&) = delete;
    PrimaryContext& operator=(const PrimaryContext&) = delete;
    ~PrimaryContext();
    CUcontext get() const { return context_; }
    CUdevice device() const { return device_; }

  private:
    CUdevice device_;
    CUcontext context_ = nullptr;
};

// Makes a context current for a scope; pushes it only where it is not.
class CurrentContext {
  public:
    explicit CurrentContext(CUcontext context, std::source_location where = std::source_location::current());
    CurrentContext(const CurrentContext&) = delete;
    CurrentContext& operator=(const CurrentContext&) = delete;
    ~CurrentContext();

  private:
    bool pushed_ = false;
};

// Lets this thread allocate, load and copy while another thread captures a stream: without it such calls would break
// a capture in global mode. Nothing inside the scope may touch a capturing stream or the legacy default stream.
class RelaxedCapture {
  public:
    RelaxedCapture();
    RelaxedCapture(const RelaxedCapture&) = delete;
    RelaxedCapture& operator=(const RelaxedCapture&) = delete;
    ~RelaxedCapture();

  private:
    CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

int device_attribute(CUdevice device, CUdevice_attribute attribute);
std::string driver_version_text();  // "580.159.03 (CUDA 13.0)"

}  // namespace mxfp4
