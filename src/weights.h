// Weights where the kernels read them: uploaded, or wrapped around tensors that the caller holds.
#pragma once

#include <memory>

#include "backends/backend.h"

namespace mxfp4 {

struct DeviceWeights {
    WeightsInfo info;
    const u8* values = nullptr;           // [experts, values_expert_bytes]
    const u8* scales = nullptr;           // [experts, scales_expert_bytes]
    const float* expert_scale = nullptr;  // [experts], or null: all 1
    const i32* expert_shift = nullptr;    // [experts], or null: all 0
    i64 values_row_bytes = 0, scales_row_bytes = 0;
    i64 values_expert_bytes = 0, scales_expert_bytes = 0;
    Buffer owned_values, owned_scales, owned_expert_scale, owned_expert_shift;  // empty: the caller's memory, or null
};

// Copies. Thread-safe where the backend's copy_in is.
DeviceWeights upload_weights(Backend& backend, const PackedView& packed);
// Copies nothing but the scales, once, to look for E8M0 255 and for the scale class.
DeviceWeights wrap_weights(Backend& backend, const WrapSpec& spec);

// The members of a launch's arguments that the weights decide.
void describe_weights(const DeviceWeights& weights, MatmulArguments& arguments);

}  // namespace mxfp4
