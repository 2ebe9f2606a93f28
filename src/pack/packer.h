// pack() and unpack() in pieces, for who streams a tensor expert by expert.
#pragma once

#include <string>

#include <mxfp4/packed.h>

#include "pack/scale_class.h"

namespace mxfp4 {

inline constexpr int kMostScaleWarps = 32;  // w of the scale swizzle: a thread block has no more warps
inline constexpr int kMostExpertShift = kScaleNan - 1 - kMaxFoldedScale;

// Throws Error invalid_argument, beginning with what they are called, for warps that no scale swizzle has.
void check_scale_warps(int warps, const std::string& called);
// The stored format that the options ask for, the scale class still open. Throws Error invalid_argument.
WeightsFormat checked_format(const PackOptions& options);

struct PackPlan {
    WeightsInfo info;
    std::vector<i32> expert_shift;  // [experts]

    std::vector<float> expert_scale() const;  // [experts] 2^expert_shift
};

// Checks shape and options, scans every scale and decides the scale class. Throws Error invalid_argument.
PackPlan plan_pack(const CheckpointView& checkpoint, const PackOptions& options);

// One expert; values and scales are that expert's. The caller has set the bytes of scales to zero.
void pack_expert(const CheckpointView& checkpoint, const PackPlan& plan, std::int64_t expert, std::uint8_t* values,
                 std::uint8_t* scales);

// One expert back; blocks [n, k/32, 16] and scales [n, k/32] are contiguous. Throws Error bad_file where a stored scale
// or expert_scale stands for no E8M0 scale.
void unpack_expert(const PackedView& packed, std::int64_t expert, std::uint8_t* blocks, std::uint8_t* scales);

}  // namespace mxfp4
