#include "mutations.h"

#include "instances.h"
#include "mutated/mma.cuh"
#include "mutated/wgmma_rs.cuh"
#include "mutated/wgmma_ss.cuh"

int mutation = 0;

namespace mxfp4::emulator {
namespace {

constexpr KernelConfig kEven = with(config(Variant::wgmma_rs, 40, 64, 192, 8, 2, 0), Layout::native);
constexpr KernelConfig kCopied = with(config(Variant::wgmma_rs, 8, 128, 192, 12, 3, 1), Layout::hopper);
constexpr KernelConfig kParts = with(config(Variant::wgmma_rs, 16, 64, 128, 12, 3, 1), Layout::native);
constexpr KernelConfig kWarps = with(config(Variant::wgmma_rs, 8, 64, 256, 12, 3, 1), Layout::native);
constexpr KernelConfig kDecoded = with(config(Variant::wgmma_ss, 40, 64, 64, 8, 2, 2), Layout::hopper);
constexpr KernelConfig kPairs = with(in_pairs(config(Variant::wgmma_rs, 16, 64, 128, 8, 2, 1)), Layout::native);
constexpr KernelConfig kHalves = with(config(Variant::wgmma_rs, 16, 128, 64, 8, 2, 1), Layout::native);
constexpr KernelConfig kMma = with(config(Variant::mma, 16, 64, 64, 4, 2, 1), Layout::native);

}  // namespace

std::vector<Instance> mutated_instances() {
    return {{kPairs, kNative, run_wgmma_rs<kPairs, kNative>},
            {kEven, kNative, run_wgmma_rs<kEven, kNative>},
            {kCopied, kHopper, run_wgmma_rs<kCopied, kHopper>},
            {kParts, kNative, run_wgmma_rs<kParts, kNative>},
            {kWarps, kNative, run_wgmma_rs<kWarps, kNative>},
            {kHalves, kNative, run_wgmma_rs<kHalves, kNative>},
            {kDecoded, kHopper, run_wgmma_ss<kDecoded, kHopper>},
            {kMma, kNative, run_mma<kMma, kNative>}};
}

}  // namespace mxfp4::emulator
