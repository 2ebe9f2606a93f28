#include "emulated/wgmma_rs.cuh"
#include "instances.h"

namespace mxfp4::emulator {
namespace {

template <KernelConfig kConfig, WeightsFormat kFormat>
Instance rs() {
    constexpr KernelConfig kWhole = with(kConfig, kFormat.layout);
    return {kWhole, kFormat, run_wgmma_rs<kWhole, kFormat>};
}

constexpr KernelConfig kDecode = config(Variant::wgmma_rs, 8, 128, 128, 12, 8, 1);
constexpr KernelConfig kDecodeTwoSlabs = config(Variant::wgmma_rs, 8, 128, 192, 8, 3, 1, 2);
constexpr KernelConfig kTwoBlocks = config(Variant::wgmma_rs, 16, 64, 64, 8, 6, 0, 2);
constexpr KernelConfig kThreeGroups = config(Variant::wgmma_rs, 16, 192, 192, 16, 4, 0);
constexpr KernelConfig kTwoSlabs = config(Variant::wgmma_rs, 64, 256, 128, 12, 4, 2);
constexpr KernelConfig kTwoStages = config(Variant::wgmma_rs, 32, 128, 320, 8, 2, 3);
constexpr KernelConfig kManyRows = config(Variant::wgmma_rs, 128, 64, 64, 8, 3, 1);
constexpr KernelConfig kThreeParts = config(Variant::wgmma_rs, 8, 64, 192, 16, 6, 1);
constexpr KernelConfig kTwoParts = config(Variant::wgmma_rs, 32, 128, 256, 20, 3, 0);
constexpr KernelConfig kPartsOfTwo = config(Variant::wgmma_rs, 16, 64, 128, 12, 4, 2, 2);

// With tall tiles.
constexpr KernelConfig kHalves = config(Variant::wgmma_rs, 16, 128, 64, 8, 4, 1);
constexpr KernelConfig kHalvesOfThree = config(Variant::wgmma_rs, 40, 384, 192, 16, 2, 1);
constexpr KernelConfig kDeepHalves = config(Variant::wgmma_rs, 24, 256, 320, 12, 2, 1);

constexpr KernelConfig kPairs = in_pairs(config(Variant::wgmma_rs, 32, 128, 128, 12, 4, 1));
constexpr KernelConfig kNarrowPairs = in_pairs(config(Variant::wgmma_rs, 64, 64, 64, 8, 5, 1));
constexpr KernelConfig kDeepPairs = in_pairs(config(Variant::wgmma_rs, 48, 128, 192, 12, 3, 1));

}  // namespace

std::vector<Instance> wgmma_rs_instances() {
    return {rs<kDecode, kNative>(),
            rs<kDecode, with(kHopper, ScaleClass::rebased)>(),
            rs<kDecodeTwoSlabs, kNative>(),
            rs<kDecodeTwoSlabs, with(kHopper, ScaleClass::plain)>(),
            rs<kTwoBlocks, with(kNative, ScaleClass::plain)>(),
            rs<kTwoBlocks, kHopper>(),
            rs<kThreeGroups, with(kNative, ScaleClass::rebased)>(),
            rs<kTwoSlabs, with(kHopper, ScaleClass::plain)>(),
            rs<kTwoSlabs, kNative>(),
            rs<kTwoStages, kHopper1>(),
            rs<kTwoStages, with(kNative, ScaleClass::rebased)>(),
            rs<kManyRows, kNative>(),
            rs<kThreeParts, kNative>(),
            rs<kTwoParts, with(kHopper, ScaleClass::rebased)>(),
            rs<kPartsOfTwo, with(kNative, ScaleClass::plain)>(),
            rs<kHalves, kNative>(),
            rs<kHalves, with(kHopper, ScaleClass::rebased)>(),
            rs<kHalvesOfThree, with(kNative, ScaleClass::plain)>(),
            rs<kDeepHalves, kHopper1>(),
            rs<kDeepHalves, kNative>(),
            rs<kPairs, kNative>(),
            rs<kNarrowPairs, with(kNative, ScaleClass::rebased)>(),
            rs<kDeepPairs, kHopper>()};
}

}  // namespace mxfp4::emulator
