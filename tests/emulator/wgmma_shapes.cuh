// kernel_templates/wgmma_shapes.cuh for the emulator: any n at once.
#pragma once

#include <cstring>

#include "block.h"
#include "contract/layout.h"

namespace mxfp4::ptx {

template <int kN>
struct Wgmma {
    static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);

    static void rs(float (&d)[kN / 2], const u32 (&a)[4], u64 b) { issue("wgmma rs", {d, a, 0, b}); }
    static void ss(float (&d)[kN / 2], u64 a, u64 b) { issue("wgmma ss", {d, nullptr, a, b}); }

  private:
    struct Lane {
        float* d;
        const u32* a;
        u64 a_descriptor, b_descriptor;
    };
    static void issue(const char* what, Lane mine) {
        emulator::Block::current().meet(what, &mine, [](emulator::Block& block, void* const* lanes) {
            const Lane& first = *static_cast<const Lane*>(lanes[0]);
            emulator::Product product{kN, first.a != nullptr, {}, {}, first.a_descriptor, first.b_descriptor};
            for (int i = 0; i < 32; ++i) {
                const Lane& lane = *static_cast<const Lane*>(lanes[i]);
                if (lane.a_descriptor != first.a_descriptor || lane.b_descriptor != first.b_descriptor)
                    throw emulator::Error("the lanes of a warp give WGMMA different descriptors");
                product.d[i] = lane.d;
                if (lane.a) std::memcpy(product.a[i], lane.a, sizeof product.a[i]);
            }
            block.issue(product);
        });
    }
};

}  // namespace mxfp4::ptx
