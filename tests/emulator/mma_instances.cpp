#include "emulated/mma.cuh"
#include "emulated/naive.cuh"
#include "instances.h"

namespace mxfp4::emulator {
namespace {

template <KernelConfig kConfig, WeightsFormat kFormat>
Instance naive() {
    constexpr KernelConfig kWhole = with(kConfig, kFormat.layout);
    return {kWhole, kFormat, run_naive<kWhole, kFormat>};
}
template <KernelConfig kConfig, WeightsFormat kFormat>
Instance mma() {
    constexpr KernelConfig kWhole = with(kConfig, kFormat.layout);
    return {kWhole, kFormat, run_mma<kWhole, kFormat>};
}

constexpr KernelConfig kNaive = config(Variant::naive, 64, 64, 64, 1, 1, 1);
constexpr KernelConfig kDeep = config(Variant::mma, 16, 64, 128, 4, 4, 1);
constexpr KernelConfig kSmall = config(Variant::mma, 8, 128, 64, 8, 2, 1);
constexpr KernelConfig kLarge = config(Variant::mma, 64, 128, 64, 4, 3, 1);

}  // namespace

std::vector<Instance> mma_instances() {
    return {naive<kNaive, kNative>(),
            naive<kNaive, with(kHopper, ScaleClass::plain)>(),
            naive<kNaive, with(kBlocks, ScaleClass::rebased)>(),
            mma<kDeep, with(kNative, ScaleClass::plain)>(),
            mma<kDeep, with(kHopper, ScaleClass::rebased)>(),
            mma<kDeep, kBlocks>(),
            mma<kSmall, with(kNative, ScaleClass::rebased)>(),
            mma<kLarge, kHopper>(),
            mma<kSmall, with(kBlocks, ScaleClass::plain)>()};
}

}  // namespace mxfp4::emulator
