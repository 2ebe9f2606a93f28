#include "emulated/wgmma_ss.cuh"
#include "instances.h"

namespace mxfp4::emulator {
namespace {

template <KernelConfig kConfig, WeightsFormat kFormat>
Instance ss() {
    constexpr KernelConfig kWhole = with(kConfig, kFormat.layout);
    return {kWhole, kFormat, run_wgmma_ss<kWhole, kFormat>};
}

constexpr KernelConfig kEven = config(Variant::wgmma_ss, 64, 64, 128, 8, 3, 0);
constexpr KernelConfig kTwoGroups = config(Variant::wgmma_ss, 32, 128, 64, 12, 3, 1);
constexpr KernelConfig kSplit = config(Variant::wgmma_ss, 16, 128, 192, 8, 2, 2);

}  // namespace

std::vector<Instance> wgmma_ss_instances() {
    return {ss<kEven, kNative>(),
            ss<kTwoGroups, with(kHopper1, ScaleClass::plain)>(),
            ss<kSplit, with(kBlocks, ScaleClass::rebased)>(),
            ss<kSplit, with(kNative, ScaleClass::plain)>(),
            ss<kEven, with(kHopper, ScaleClass::rebased)>(),
            ss<kTwoGroups, kBlocks>()};
}

}  // namespace mxfp4::emulator
