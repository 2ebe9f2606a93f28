#include "backends/cuda/cuda_kernel.h"

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/config_text.h"

namespace mxfp4 {
namespace {

class CudaKernel : public Kernel {
  public:
    CudaKernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config, Jit::ImagePtr image, int sm_count);
    ~CudaKernel() override;

    const KernelConfig& config() const override { return config_; }
    const CompileReport& report() const override { return image_->report; }
    void launch(const MatmulArguments& arguments, Stream stream) const override;

  private:
    std::shared_ptr<const PrimaryContext> context_;
    KernelConfig config_;
    Jit::ImagePtr image_;
    Module module_;
    CUfunction function_ = nullptr;
    unsigned blocks_ = 0, threads_ = 0, shared_bytes_ = 0;
};

CudaKernel::CudaKernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config, Jit::ImagePtr image, int sm_count)
    : context_(std::move(context)), config_(config), image_(std::move(image)), threads_(unsigned(config.num_warps) * 32),
      shared_bytes_(unsigned(shared_bytes(config))) {
    const Driver& cuda = driver();
    check(cuda.module_load_data(module_.out(), image_->cubin.data()), "load a kernel");
    check(cuda.module_get_function(&function_, module_.get(), kKernelName), "find the kernel in its image");
    check(cuda.func_set_attribute(function_, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(shared_bytes_)),
          "give the kernel its shared memory");
    int resident = 0;
    check(cuda.occupancy_max_active_blocks_per_multiprocessor(&resident, function_, int(threads_), shared_bytes_),
          "ask how many blocks fit an SM");
    // Every kernel is persistent: its blocks loop over the tiles. Those of the wgmma kernels may wait for one another, so
    // that all must be resident.
    const int wanted = is_wgmma(config.variant) ? config.ctas_per_sm : 1;
    if (resident < wanted)
        throw Error(ErrorCode::compile, "the kernel does not fit the device: " + to_text(config),
                    {fmt::format("{} blocks an SM", resident), fmt::format("at least {}", wanted), "take a smaller config"});
    blocks_ = unsigned(sm_count * (is_wgmma(config.variant) ? wanted : resident));
}

CudaKernel::~CudaKernel() {
    // A module is unloaded in its context. Failing here, at process exit say, leaves nothing to do.
    try {
        const CurrentContext current(context_->get());
        module_ = Module();
    } catch (const Error&) {
    }
}

void CudaKernel::launch(const MatmulArguments& arguments, Stream stream) const {
    const CurrentContext current(context_->get());
    void* parameters[] = {const_cast<MatmulArguments*>(&arguments)};
    check(driver().launch_kernel(function_, blocks_, 1, 1, threads_, 1, 1, shared_bytes_, stream, parameters, nullptr),
          "launch a kernel");
}

}  // namespace

KernelPtr load_cuda_kernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config, Jit::ImagePtr image,
                           int sm_count) {
    if (!image->report.rejected.empty())
        throw Error(ErrorCode::compile, "a kernel was rejected: " + image->report.rejected, {to_text(config), "", ""});
    return std::make_shared<const CudaKernel>(std::move(context), config, std::move(image), sm_count);
}

}  // namespace mxfp4
