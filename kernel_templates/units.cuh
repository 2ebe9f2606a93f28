// A lane's packed weights in a stage of the ring, for the kernels that decode into registers. A unit is one slab and one chunk: 64
// outputs, 64 k, of which a lane has four words and the scales that go with them.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "pipeline.cuh"
#include "ptx.cuh"

namespace mxfp4 {

struct Unit {
    ptx::Word4 words;
    u32 scale_word;
};

// The units of a stage that are a warpgroup's: slabs [slab, slab + kSlabs) of chunks part, part + kParts, ...; the slabs of a chunk one
// after the other. Those of a chunk that the stage has not may be loaded, and are not to be used.
template <KernelConfig kConfig, WeightsFormat kFormat>
struct Units {
    static constexpr int kSlabs = slabs_per_warpgroup(kConfig);
    static constexpr int kParts = k_parts(kConfig);
    static constexpr int kCount = kSlabs * Shared<kConfig>::kChunks / kParts;

    u32 words, scales;  // where this lane's lie

    __device__ Units(const Ring<kConfig>& ring, u32 stage, int slab, int part) {
        const int thread = int(threadIdx.x) & 127;
        words = ring.w(stage, slab, part) + thread * 16;
        scales = ring.scales(stage, slab, part) + thread / 4 * 4;
    }
    // The s'th slab of the c'th chunk.
    __device__ Unit load(int s, int c) const {
        const int tile = s * Shared<kConfig>::kChunks + c * kParts;
        return {ptx::load_shared16(words + tile * kNativeValueTileBytes), ptx::load_shared4(scales + tile * kNativeScaleTileBytes)};
    }
};

// The scales of a chunk of 64 k; hopper's without those that are padding.
template <WeightsFormat kFormat>
__device__ inline u32 scales_of_chunk(u32 scale_word, int chunk, const MatmulArguments& arguments) {
    return kFormat.layout == Layout::hopper ? without_padding(scale_word, chunk, arguments.k / kBlockElements) : scale_word;
}

}  // namespace mxfp4
