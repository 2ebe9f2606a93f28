// What a launch passes to a kernel, by value; the host backend takes the same struct with CPU pointers.
#pragma once

#include "contract/layout.h"

namespace mxfp4 {

// A CUtensorMap: 128 opaque bytes that the copy engine reads.
struct alignas(128) TensorMap {
    u64 words[16];
};

// All zero, but for the maps: they are most of it, and a launch makes those that it needs and is not given.
struct MatmulArguments {
    // Of x where it is aligned and the kernel a wgmma one, of weights for wgmma_rs (contract/tensors.h).
    TensorMap x_maps[2], values_map, scales_map;
    const void* x = nullptr;              // [rows, k] bf16, rows x_stride elements apart
    void* y = nullptr;                    // [rows, n] bf16, rows y_stride elements apart
    const u8* values = nullptr;           // [experts, ...] as stored_shape() says
    const u8* scales = nullptr;           // [experts, ...]
    const float* expert_scale = nullptr;  // [experts] 2^expert_shift, or null: all 1
    const i32* expert_shift = nullptr;    // [experts] what a rebased hopper or blocks expert subtracts from its scales, or null: all 0
    const i32* expert_offsets = nullptr;  // [groups + 1] ascending rows; clamped to [0, rows] by the kernel
    const i32* expert_ids = nullptr;      // [groups], or null: group g is expert g
    void* workspace = nullptr;            // counters (zero before and after each launch), then fp32 partial tiles
    i64 x_stride = 0, y_stride = 0;
    i64 values_expert_bytes = 0, scales_expert_bytes = 0;  // from one expert to the next
    i64 values_row_bytes = 0, scales_row_bytes = 0;        // of a stored row (a wrapped tensor may be padded further)
    i64 workspace_counter_bytes = 0;                       // where the partial tiles start
    i32 rows = 0, n = 0, k = 0, experts = 0, groups = 0;
    i32 x_aligned = 0, y_aligned = 0;  // 16-byte aligned base and stride
    i32 weights_constant = 0;          // nothing writes the weights: they may be read before the grids before this one have ended
    i32 weights_mapped = 0;            // values_map and scales_map are there: the kernel's launches on the same weights share them
};

}  // namespace mxfp4
