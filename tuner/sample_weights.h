// The weights of a benchmark: a few distinct experts, as a checkpoint holds them and packed, that stand for all.
#pragma once

#include <cstdint>
#include <vector>

#include <mxfp4/packed.h>

namespace mxfp4 {

struct SampleWeights {
    WeightsInfo info;            // of the whole tensor: info.experts of them
    std::int64_t distinct = 0;   // expert e holds what distinct expert e % distinct does
    std::vector<std::uint8_t> blocks;  // [distinct, n, k/32, 16] checkpoint bytes
    std::vector<std::uint8_t> scales;  // [distinct, n, k/32] E8M0
    PackedWeights packed;              // of the distinct experts

    CheckpointView checkpoint() const;
    std::int64_t expert_bytes() const { return info.stored().values_bytes() + info.stored().scales_bytes(); }
};

// Random codes; random scales near 1 that put the weights into the scale class asked for.
SampleWeights random_weights(std::int64_t experts, std::int64_t n, std::int64_t k, const PackOptions& options,
                             ScaleClass scale_class = ScaleClass::folded, std::uint64_t seed = 1);

// The first experts of a packed tensor.
SampleWeights sample_of(const PackedView& packed);

// All info.experts of them in host memory, for Dispatcher::upload.
PackedWeights replicate(const SampleWeights& sample);

}  // namespace mxfp4
