#include "cuda/driver.h"

#include <dlfcn.h>

#include <fstream>
#include <string_view>

#include <fmt/format.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

struct Opened {
    Driver table{};
    std::string why_not;  // empty: usable
};

template <class Function>
void find(void* library, const char* name, Function& function, std::string& missing) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (!function && missing.empty()) missing = name;
}

// The names are those that cuda.h maps to; dlsym knows no macros.
std::string fill(void* library, Driver& d) {
    std::string missing;
    const auto entry = [&](const char* name, auto& function) { find(library, name, function, missing); };
    entry("cuInit", d.init);
    entry("cuDriverGetVersion", d.driver_get_version);
    entry("cuGetErrorName", d.get_error_name);
    entry("cuGetErrorString", d.get_error_string);
    entry("cuDeviceGetCount", d.device_get_count);
    entry("cuDeviceGet", d.device_get);
    entry("cuDeviceGetName", d.device_get_name);
    entry("cuDeviceGetAttribute", d.device_get_attribute);
    entry("cuDeviceTotalMem_v2", d.device_total_mem);
    entry("cuDevicePrimaryCtxRetain", d.device_primary_ctx_retain);
    entry("cuDevicePrimaryCtxRelease_v2", d.device_primary_ctx_release);
    entry("cuCtxGetCurrent", d.ctx_get_current);
    entry("cuCtxPushCurrent_v2", d.ctx_push_current);
    entry("cuCtxPopCurrent_v2", d.ctx_pop_current);
    entry("cuCtxSynchronize", d.ctx_synchronize);
    entry("cuThreadExchangeStreamCaptureMode", d.thread_exchange_stream_capture_mode);
    entry("cuMemAlloc_v2", d.mem_alloc);
    entry("cuMemFree_v2", d.mem_free);
    entry("cuMemGetInfo_v2", d.mem_get_info);
    entry("cuMemHostAlloc", d.mem_host_alloc);
    entry("cuMemFreeHost", d.mem_free_host);
    entry("cuMemcpyHtoDAsync_v2", d.memcpy_htod_async);
    entry("cuMemcpyDtoHAsync_v2", d.memcpy_dtoh_async);
    entry("cuMemcpyDtoDAsync_v2", d.memcpy_dtod_async);
    entry("cuMemsetD8Async", d.memset_d8_async);
    entry("cuModuleLoadData", d.module_load_data);
    entry("cuModuleUnload", d.module_unload);
    entry("cuModuleGetFunction", d.module_get_function);
    entry("cuFuncSetAttribute", d.func_set_attribute);
    entry("cuOccupancyMaxActiveBlocksPerMultiprocessor", d.occupancy_max_active_blocks_per_multiprocessor);
    entry("cuLaunchKernelEx", d.launch_kernel_ex);
    entry("cuTensorMapEncodeTiled", d.tensor_map_encode_tiled);
    entry("cuStreamCreate", d.stream_create);
    entry("cuStreamDestroy_v2", d.stream_destroy);
    entry("cuStreamSynchronize", d.stream_synchronize);
    entry("cuStreamIsCapturing", d.stream_is_capturing);
    entry("cuStreamGetCaptureInfo_v2", d.stream_get_capture_info);
    entry("cuStreamBeginCapture_v2", d.stream_begin_capture);
    entry("cuStreamEndCapture", d.stream_end_capture);
    entry("cuGraphInstantiateWithFlags", d.graph_instantiate_with_flags);
    entry("cuGraphLaunch", d.graph_launch);
    entry("cuGraphDestroy", d.graph_destroy);
    entry("cuGraphExecDestroy", d.graph_exec_destroy);
    entry("cuEventCreate", d.event_create);
    entry("cuEventDestroy_v2", d.event_destroy);
    entry("cuEventRecord", d.event_record);
    entry("cuEventSynchronize", d.event_synchronize);
    entry("cuEventElapsedTime", d.event_elapsed_time);
    return missing;
}

Opened open_driver() {
    Opened opened;
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        opened.why_not = "libcuda.so.1 cannot be opened";
        return opened;
    }
    if (const std::string missing = fill(library, opened.table); !missing.empty()) {
        opened.why_not = "libcuda.so.1 has no " + missing;
        return opened;
    }
    if (const CUresult result = opened.table.init(0); result != CUDA_SUCCESS) {
        const char* name = nullptr;
        opened.table.get_error_name(result, &name);
        opened.why_not = fmt::format("cuInit failed with {} ({})", name ? name : "an unknown code", int(result));
    }
    return opened;
}

const Opened& opened_driver() {
    static const Opened opened = open_driver();
    return opened;
}

const char* remedy_of(CUresult result) {
    switch (result) {
        case CUDA_ERROR_OUT_OF_MEMORY: return "free device memory or use less of it";
        case CUDA_ERROR_NO_BINARY_FOR_GPU: return "kernels are for compute capability 9.0 (H100, H200)";
        case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
        case CUDA_ERROR_INVALID_IMAGE: return "the compiler may be too new for this driver: update the driver";
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_LAUNCH_FAILED:
            return "a kernel before this call failed: check the pointers and sizes given to it, or run under "
                   "compute-sanitizer; "
                   "the context is lost, restart the process";
        case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
        case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
        case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
            return "not possible while a stream is captured: do it before the capture";
        case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
            return "the config asks for more registers or shared memory than the device has";
        default: return "see the CUDA driver API's list of CUresult codes";
    }
}

}  // namespace

const Driver* find_driver() noexcept { return opened_driver().why_not.empty() ? &opened_driver().table : nullptr; }

const Driver& driver() {
    const Opened& opened = opened_driver();
    if (!opened.why_not.empty())
        throw Error(ErrorCode::no_device, "no usable CUDA driver: " + opened.why_not,
                    {"", "", "install the NVIDIA driver, or use the host device"});
    return opened.table;
}

void check(CUresult result, const char* what, std::source_location where) {
    if (result == CUDA_SUCCESS) [[likely]]
        return;
    const char *name = nullptr, *text = nullptr;
    driver().get_error_name(result, &name);
    driver().get_error_string(result, &text);
    const std::string_view path = where.file_name();
    throw Error(ErrorCode::cuda,
                fmt::format("cannot {}: {} [{}:{}]", what, text ? text : "unknown error",
                            path.substr(path.rfind('/') + 1), where.line()),
                {fmt::format("{} = {}", name ? name : "CUresult", int(result)), "CUDA_SUCCESS", remedy_of(result)});
}

PrimaryContext::PrimaryContext(CUdevice device) : device_(device) {
    check(driver().device_primary_ctx_retain(&context_, device), "retain the primary context");
}

PrimaryContext::~PrimaryContext() { driver().device_primary_ctx_release(device_); }

CurrentContext::CurrentContext(CUcontext context, std::source_location where) {
    CUcontext current = nullptr;
    check(driver().ctx_get_current(&current), "read the current context", where);
    if (current == context) return;
    check(driver().ctx_push_current(context), "make the context current", where);
    pushed_ = true;
}

CurrentContext::~CurrentContext() {
    CUcontext popped;
    if (pushed_) driver().ctx_pop_current(&popped);
}

RelaxedCapture::RelaxedCapture() {
    check(driver().thread_exchange_stream_capture_mode(&mode_), "relax the capture mode");
}
RelaxedCapture::~RelaxedCapture() { driver().thread_exchange_stream_capture_mode(&mode_); }

int device_attribute(CUdevice device, CUdevice_attribute attribute) {
    int value = 0;
    check(driver().device_get_attribute(&value, attribute, device), "read a device attribute");
    return value;
}

std::string driver_version_text() {
    int cuda = 0;
    check(driver().driver_get_version(&cuda), "read the driver's version");
    // The kernel module's own version: the first word that starts with a digit and has a dot.
    std::ifstream proc("/proc/driver/nvidia/version");
    std::string word;
    while (proc >> word)
        if (word[0] >= '0' && word[0] <= '9' && word.find('.') != word.npos) break;
    const std::string release = proc ? word + " " : "";
    return fmt::format("{}(CUDA {}.{})", release, cuda / 1000, cuda % 1000 / 10);
}

}  // namespace mxfp4
