// The slow oracle: straight from checkpoint bytes to fp32 results. Shares nothing with the packed path but the types of
// its arguments: its own tables of E2M1 and E8M0, no packer, no layout maps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <mxfp4/packed.h>

namespace mxfp4 {

// y[r, :] = x[r, :] · W[e(r)]ᵀ as dispatcher.h's Problem says, in host memory.
struct ReferenceProblem {
    const std::uint16_t* x = nullptr;              // [rows, k] bf16 bits
    std::int64_t x_stride = 0;                     // elements from row to row; 0 = k
    const std::int32_t* expert_offsets = nullptr;  // [groups + 1]; clamped to [0, rows]
    const std::int32_t* expert_ids = nullptr;      // [groups]; null: group g is expert g. Outside [0, E): zero rows
    int groups = 0;                                // 0 = E
    std::int64_t rows = 0;
};

// y [rows, n], rows y_stride elements apart (0 = n). Rows in no group are not written. Sums of 32 products are fp32,
// the sum over blocks is double. threads = 0: all cores.
void reference_matmul(const CheckpointView& weights, const ReferenceProblem& problem, float* y, std::int64_t y_stride,
                      int threads = 0);

struct Sample {
    std::int64_t row = 0, n = 0;
};

// y at these places alone. A row in no group gives NaN.
std::vector<float> reference_samples(const CheckpointView& weights, const ReferenceProblem& problem,
                                     std::span<const Sample> samples);

}  // namespace mxfp4
