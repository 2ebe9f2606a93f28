#include "tuner/sample_weights.h"

#include <algorithm>
#include <cstring>

#include "tuner/random.h"

namespace mxfp4 {
namespace {

// Not a power of two: rotations move by powers of two, and an expert mistaken for another shall show.
constexpr std::int64_t kDistinctExperts = 5;

struct ScaleSpan {
    int least, most;
};
// The scales of an expert; `plain` needs a wider span than can be rebased.
constexpr ScaleSpan scale_span(ScaleClass scale_class) {
    return scale_class == ScaleClass::folded ? ScaleSpan{118, kMaxFoldedScale} : ScaleSpan{120, 130};
}

void fill_random(std::vector<std::uint8_t>& bytes, Random& random) {
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
        const std::uint64_t word = random.next();
        std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
    }
}

SampleWeights make_sample(std::int64_t experts, std::int64_t n, std::int64_t k) {
    SampleWeights w;
    w.distinct = std::min(experts, kDistinctExperts);
    w.info.experts = experts;
    w.info.n = n;
    w.info.k = k;
    w.blocks.resize(std::size_t(w.distinct * n * k / 2));
    w.scales.resize(std::size_t(w.distinct * n * k / kBlockElements));
    return w;
}

}  // namespace

CheckpointView SampleWeights::checkpoint() const {
    return {.blocks = blocks.data(), .scales = scales.data(), .experts = distinct, .n = info.n, .k = info.k};
}

SampleWeights random_weights(std::int64_t experts, std::int64_t n, std::int64_t k, const PackOptions& options,
                             ScaleClass scale_class, std::uint64_t seed) {
    SampleWeights w = make_sample(experts, n, k);
    Random random(seed);
    fill_random(w.blocks, random);
    const ScaleSpan span = scale_span(scale_class);
    for (std::uint8_t& scale : w.scales) scale = std::uint8_t(span.least + random.below(span.most - span.least + 1));
    // Every expert shows its class, however few scales it has.
    const std::size_t per_expert = w.scales.size() / std::size_t(w.distinct);
    for (std::size_t i = 0; i < w.scales.size(); i += per_expert) {
        w.scales[i] = std::uint8_t(span.most);
        if (scale_class == ScaleClass::plain && per_expert > 1) {
            w.scales[i] = 136;
            w.scales[i + 1] = 0;
        }
    }
    w.packed = pack(w.checkpoint(), options);
    w.info = w.packed.info;
    w.info.experts = experts;
    return w;
}

SampleWeights sample_of(const PackedView& packed) {
    SampleWeights w = make_sample(packed.info.experts, packed.info.n, packed.info.k);
    w.info = packed.info;
    PackedView few = packed;
    few.info.experts = w.distinct;
    unpack(few, w.blocks.data(), w.scales.data());
    const StoredShape stored = few.info.stored();
    w.packed.info = few.info;
    w.packed.values.assign(few.values, few.values + w.distinct * stored.values_bytes());
    w.packed.scales.assign(few.scales, few.scales + w.distinct * stored.scales_bytes());
    if (few.expert_scale) w.packed.expert_scale.assign(few.expert_scale, few.expert_scale + w.distinct);
    return w;
}

PackedWeights replicate(const SampleWeights& sample) {
    const auto repeat = [&](const auto& few) {
        auto all = few;
        all.clear();
        const std::size_t each = few.size() / std::size_t(sample.distinct);
        all.reserve(each * std::size_t(sample.info.experts));
        for (std::int64_t e = 0; e < sample.info.experts; ++e) {
            const auto from = few.begin() + std::ptrdiff_t(each) * (e % sample.distinct);
            all.insert(all.end(), from, from + std::ptrdiff_t(each));
        }
        return all;
    };
    return {sample.info, repeat(sample.packed.values), repeat(sample.packed.scales),
            repeat(sample.packed.expert_scale)};
}

}  // namespace mxfp4
