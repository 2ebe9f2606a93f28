#include "tools/cublas.h"

#include <dlfcn.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mxfp4/error.h>

#include "cuda/driver.h"

namespace mxfp4 {
namespace {

// From cublas_api.h and library_types.h, which need not be installed.
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kBf16 = 14;         // CUDA_R_16BF
constexpr int kComputeFp32 = 68;  // CUBLAS_COMPUTE_32F
constexpr int kDefaultAlgorithm = -1;
constexpr std::size_t kWorkspaceBytes = 64 << 20;

constexpr const char* kNames[] = {"libcublas.so.13", "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so", "libcublas.so"};

}  // namespace

struct Cublas::Library {
    void* library = nullptr;
    int (*create)(void** handle);
    int (*destroy)(void* handle);
    int (*set_stream)(void* handle, CUstream stream);
    int (*set_workspace)(void* handle, void* workspace, std::size_t bytes);
    int (*gemm_ex)(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a, int a_type,
                   int lda, const void* b, int b_type, int ldb, const void* beta, void* c, int c_type, int ldc, int compute, int algorithm);

    template <class Function>
    void find(const char* name, Function& function) {
        function = reinterpret_cast<Function>(dlsym(library, name));
        if (!function) throw Error(ErrorCode::unsupported, "a cuBLAS lacks an entry point", {name, "", "use cuBLAS 12 or newer"});
    }

    Library() {
        for (const char* name : kNames)
            if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (!library)
            throw Error(ErrorCode::unsupported, "there is no cuBLAS to compare with",
                        {"", fmt::format("looked for {}", fmt::join(kNames, ", ")), "put its folder into LD_LIBRARY_PATH"});
        find("cublasCreate_v2", create);
        find("cublasDestroy_v2", destroy);
        find("cublasSetStream_v2", set_stream);
        find("cublasSetWorkspace_v2", set_workspace);
        find("cublasGemmEx", gemm_ex);
    }
};

namespace {

void check_cublas(int status, const char* what) {
    if (status != 0) throw Error(ErrorCode::cuda, fmt::format("cuBLAS failed to {}", what), {fmt::format("status {}", status), "", ""});
}

// cuBLAS works on whatever context is current; the backend's is the device's primary one.
class OnDevice {
  public:
    explicit OnDevice(int ordinal) : context_(device(ordinal)), current_(context_.get()) {}

  private:
    static CUdevice device(int ordinal) {
        CUdevice device = 0;
        check(driver().device_get(&device, ordinal), "open the device");
        return device;
    }
    PrimaryContext context_;
    CurrentContext current_;
};

}  // namespace

Cublas::Cublas(Backend& backend) : library_(std::make_unique<Library>()), backend_(backend), workspace_(backend, kWorkspaceBytes) {
    const OnDevice on(backend.device().ordinal);
    check_cublas(library_->create(&handle_), "start");
}

Cublas::~Cublas() {
    try {
        const OnDevice on(backend_.device().ordinal);
        library_->destroy(handle_);
    } catch (const Error&) {  // the device is lost, and the handle with it
    }
}

void Cublas::matmul(const void* x, const void* w, void* y, std::int64_t rows, std::int64_t n, std::int64_t k, Stream stream) {
    const OnDevice on(backend_.device().ordinal);
    check_cublas(library_->set_stream(handle_, stream), "take a stream");
    check_cublas(library_->set_workspace(handle_, workspace_.data(), workspace_.bytes()), "take a workspace");
    const float one = 1, zero = 0;
    // Column-major: yᵀ [n, rows] = (wᵀ [k, n])ᵀ · xᵀ [k, rows].
    check_cublas(library_->gemm_ex(handle_, kTranspose, kNoTranspose, int(n), int(rows), int(k), &one, w, kBf16, int(k), x, kBf16, int(k), &zero,
                                   y, kBf16, int(n), kComputeFp32, kDefaultAlgorithm),
                 "multiply");
}

}  // namespace mxfp4
