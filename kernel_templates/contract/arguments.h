// What a launch passes to a kernel, by value; the host backend takes the same struct with CPU pointers.
#pragma once

#include "contract/layout.h"

namespace mxfp4 {

// A CUtensorMap: 128 opaque bytes that the copy engine reads.
struct alignas(128) TensorMap {
    u64 words[16];
};

struct MatmulArguments {
    // Made at launch (contract/tensors.h): of x where it is aligned and the kernel a wgmma one, of weights for wgmma_rs.
    TensorMap x_maps[2], values_map, scales_map;
    const void* x;               // [rows, k] bf16, rows x_stride elements apart
    void* y;                     // [rows, n] bf16, rows y_stride elements apart
    const u8* values;            // [experts, ...] as stored_shape() says
    const u8* scales;            // [experts, ...]
    const float* expert_scale;   // [experts] 2^expert_shift, or null: all 1
    const i32* expert_shift;     // [experts] what a rebased hopper or blocks expert subtracts from its scales, or null: all 0
    const i32* expert_offsets;   // [groups + 1] ascending rows; clamped to [0, rows] by the kernel
    const i32* expert_ids;       // [groups], or null: group g is expert g
    void* workspace;             // counters (zero before and after each launch), then fp32 partial tiles
    i64 x_stride, y_stride;
    i64 values_expert_bytes, scales_expert_bytes;  // from one expert to the next
    i64 values_row_bytes, scales_row_bytes;        // of a stored row (a wrapped tensor may be padded further)
    i64 workspace_counter_bytes;                   // where the partial tiles start
    i32 rows, n, k, experts, groups;
    i32 x_aligned, y_aligned;    // 16-byte aligned base and stride
    i32 weights_constant;        // nothing writes the weights: they may be read before the grids before this one have ended
};

}  // namespace mxfp4
