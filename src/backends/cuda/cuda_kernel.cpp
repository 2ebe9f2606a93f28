#include "backends/cuda/cuda_kernel.h"

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "contract/tensors.h"
#include "core/config_text.h"

namespace mxfp4 {
namespace {

class CudaKernel : public Kernel {
  public:
    CudaKernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config, const WeightsFormat& format,
               Jit::ImagePtr image, int sm_count);
    CudaKernel(const CudaKernel&) = delete;
    CudaKernel& operator=(const CudaKernel&) = delete;
    ~CudaKernel() override;

    const KernelConfig& config() const override { return config_; }
    const CompileReport& report() const override { return image_->report; }
    void launch(MatmulArguments& arguments, Stream stream) const override;

  private:
    std::shared_ptr<const PrimaryContext> context_;
    KernelConfig config_;
    WeightsFormat format_;
    Jit::ImagePtr image_;
    Module module_;
    CUfunction function_ = nullptr;
    CUlaunchAttribute attributes_[2] = {};
    CUlaunchConfig launch_ = {};  // but for the stream
};

CudaKernel::CudaKernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config,
                       const WeightsFormat& format, Jit::ImagePtr image, int sm_count)
    : context_(std::move(context)), config_(config), format_(format), image_(std::move(image)) {
    const Driver& cuda = driver();
    const int threads = config.num_warps * 32, shared = int(shared_bytes(config));
    check(cuda.module_load_data(module_.out(), image_->cubin.data()), "load a kernel");
    check(cuda.module_get_function(&function_, module_.get(), kKernelName), "find the kernel in its image");
    check(cuda.func_set_attribute(function_, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared),
          "give the kernel its shared memory");
    int resident = 0;
    check(cuda.occupancy_max_active_blocks_per_multiprocessor(&resident, function_, threads, std::size_t(shared)),
          "ask how many blocks fit an SM");
    // Every kernel is persistent: its blocks loop over the tiles. Those of the wgmma kernels are as many to an SM as their config says.
    const int wanted = is_wgmma(config.variant) ? config.ctas_per_sm : 1;
    if (resident < wanted)
        throw Error(
            ErrorCode::compile, "the kernel does not fit the device: " + to_text(config),
            {fmt::format("{} blocks an SM", resident), fmt::format("at least {}", wanted), "take a smaller config"});
    const int blocks = sm_count * (is_wgmma(config.variant) ? wanted : resident) / config.cluster * config.cluster;

    // The kernel may come onto the SMs while the one before it in the stream still leaves them; it waits for its end itself
    // (ptx::wait_for_grids_before) before it touches what that one may write.
    attributes_[0].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attributes_[0].value.programmaticStreamSerializationAllowed = 1;
    attributes_[1].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes_[1].value.clusterDim = {unsigned(config.cluster), 1, 1};
    launch_.gridDimX = unsigned(blocks);
    launch_.blockDimX = unsigned(threads);
    launch_.gridDimY = launch_.gridDimZ = launch_.blockDimY = launch_.blockDimZ = 1;
    launch_.sharedMemBytes = unsigned(shared);
    launch_.attrs = attributes_;
    launch_.numAttrs = config.cluster > 1 ? 2 : 1;
}

CudaKernel::~CudaKernel() {
    // A module is unloaded in its context. Failing here, at process exit say, leaves nothing to do.
    try {
        const CurrentContext current(context_->get());
        const RelaxedCapture relaxed;  // unloading would invalidate another thread's capture
        module_ = Module();
    } catch (const Error&) {}
}

// Encoding is arithmetic on the host, some 90 ns.
void encode(TensorMap& map, const CopiedTensor& tensor) {
    static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) == alignof(CUtensorMap));
    cuuint64_t sizes[5], strides[5];
    cuuint32_t box[5], steps[5];
    for (int i = 0; i < tensor.rank; ++i) {
        sizes[i] = cuuint64_t(tensor.sizes[i]);
        strides[i] = cuuint64_t(tensor.strides[i]);
        box[i] = cuuint32_t(tensor.box[i]);
        steps[i] = 1;
    }
    const auto type = tensor.element_bytes == 8   ? CU_TENSOR_MAP_DATA_TYPE_INT64
                      : tensor.element_bytes == 2 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                  : CU_TENSOR_MAP_DATA_TYPE_UINT8;
    const auto swizzle = tensor.swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE;
    check(driver().tensor_map_encode_tiled(reinterpret_cast<CUtensorMap*>(&map), type, cuuint32_t(tensor.rank),
                                           const_cast<void*>(tensor.base), sizes, strides + 1, box, steps,
                                           CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "describe a tensor to the copy engine");
}

void CudaKernel::launch(MatmulArguments& arguments, Stream stream) const {
    const CurrentContext current(context_->get());
    make_maps(config_, format_, arguments, encode);
    CUlaunchConfig launch = launch_;
    launch.hStream = stream;
    void* parameters[] = {&arguments};
    check(driver().launch_kernel_ex(&launch, function_, parameters, nullptr), "launch a kernel");
}

}  // namespace

KernelPtr load_cuda_kernel(std::shared_ptr<const PrimaryContext> context, const KernelConfig& config,
                           const WeightsFormat& format, Jit::ImagePtr image, int sm_count) {
    if (!image->report.rejected.empty())
        throw Error(ErrorCode::compile, "a kernel was rejected: " + image->report.rejected, {to_text(config), "", ""});
    return std::make_shared<const CudaKernel>(std::move(context), config, format, std::move(image), sm_count);
}

}  // namespace mxfp4
