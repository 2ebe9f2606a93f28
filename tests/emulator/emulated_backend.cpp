#include "emulated_backend.h"

#include <cstring>
#include <system_error>

#include <sys/mman.h>

#include "tensor_map.h"

namespace mxfp4::emulator {
namespace {

constexpr std::size_t kPageBytes = 4096;

class EmulatedKernel : public Kernel {
  public:
    EmulatedKernel(const EmulatedBackend& backend, const Instance& instance) : backend_(backend), instance_(instance) {}

    const KernelConfig& config() const override { return instance_.config; }
    const CompileReport& report() const override { return report_; }
    void launch(MatmulArguments& arguments, Stream) const override {
        const KernelConfig& c = instance_.config;
        make_maps(c, instance_.format, arguments, [](TensorMap& map, const CopiedTensor& tensor) { map = encoded(tensor); });
        const int blocks = backend_.device_limits.sm_count * (is_wgmma(c.variant) ? c.ctas_per_sm : 1) / c.cluster * c.cluster;
        run({instance_.run, blocks, c.cluster, c.num_warps * 32, shared_bytes(c), backend_.timing, backend_.seed, backend_.grids_before},
            arguments);
    }

  private:
    const EmulatedBackend& backend_;
    Instance instance_;
    CompileReport report_;
};

}  // namespace

KernelPtr EmulatedBackend::load(const Instance& instance) { return std::make_shared<EmulatedKernel>(*this, instance); }

void* EmulatedBackend::allocate(std::size_t bytes) {
    const std::size_t used = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes, all = used + 2 * kPageBytes;
    void* const memory = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "allocate");
    u8* const first = static_cast<u8*>(memory) + kPageBytes;
    mprotect(first, used, PROT_READ | PROT_WRITE);
    void* const pointer = guard_below ? first : first + used - (bytes + 15) / 16 * 16;
    mapped_[pointer] = {memory, all};
    return pointer;
}

void EmulatedBackend::release(void* pointer) noexcept {
    const auto found = mapped_.find(pointer);
    munmap(found->second.first, found->second.second);
    mapped_.erase(found);
}

void EmulatedBackend::copy_in(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void EmulatedBackend::copy_out(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void EmulatedBackend::copy(void* to, const void* from, std::size_t bytes, Stream) { std::memcpy(to, from, bytes); }
void EmulatedBackend::fill(void* to, std::uint8_t byte, std::size_t bytes, Stream) { std::memset(to, byte, bytes); }

}  // namespace mxfp4::emulator
