// Checkpoint bytes -> packed weights, in memory and in files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <mxfp4/error.h>

#include "contract/layout.h"

namespace mxfp4 {

// An expert tensor as a checkpoint holds it. Strides in bytes; 0 means contiguous.
struct CheckpointView {
    const std::uint8_t* blocks = nullptr;  // [experts, n, k/32, 16] two E2M1 codes a byte, low nibble first
    const std::uint8_t* scales = nullptr;  // [experts, n, k/32] E8M0
    std::int64_t experts = 0, n = 0, k = 0;
    std::int64_t blocks_strides[4] = {0, 0, 0, 0};
    std::int64_t scales_strides[3] = {0, 0, 0};
};

struct PackOptions {
    Layout layout = Layout::native;
    int num_warps = 0;  // w of the scale swizzle; 0 = 8 for hopper and blocks, none for native
    int threads = 0;    // 0 = all cores
};

// What a packed weight is, without its bytes.
struct WeightsInfo {
    std::string name;  // P, for example model.layers.0.mlp.experts.gate_up_proj
    WeightsFormat format;
    int layout_version = kLayoutVersion[int(format.layout)];
    std::int64_t experts = 0, n = 0, k = 0;

    StoredShape stored() const { return stored_shape(format, n, k); }
};

// A packed weight's bytes, owned by someone else.
struct PackedView {
    WeightsInfo info;
    const std::uint8_t* values = nullptr;  // [experts, stored().value_rows, stored().value_row_bytes]
    const std::uint8_t* scales = nullptr;  // [experts, stored().scale_rows, stored().scale_row_bytes]
    const float* expert_scale = nullptr;   // [experts] 2^expert_shift; native only, else null
};

struct PackedWeights {
    WeightsInfo info;
    std::vector<std::uint8_t> values, scales;
    std::vector<float> expert_scale;

    PackedView view() const;
};

// Packs one expert tensor. Throws Error invalid_argument for a shape or scale (E8M0 255, named by expert, row and block)
// that the format does not allow.
PackedWeights pack(const CheckpointView& checkpoint, const PackOptions& options = {});

// The way back, byte for byte. blocks [experts, n, k/32, 16] and scales [experts, n, k/32] are contiguous.
void unpack(const PackedView& packed, std::uint8_t* blocks, std::uint8_t* scales, int threads = 0);

// A packed safetensors file, mapped read-only. Views live as long as the file object (copies share the mapping).
class PackedFile {
  public:
    static PackedFile open(const std::filesystem::path& path);

    const std::vector<std::string>& names() const;            // every P, in file order
    PackedView operator[](const std::string& name) const;     // throws Error naming the P that the file has
    struct Bias {
        std::string dtype;                                    // safetensors name, for example BF16
        std::vector<std::int64_t> shape;
        const std::uint8_t* data = nullptr;
    };
    std::optional<Bias> bias(const std::string& name) const;  // carried from the checkpoint where there was one

  private:
    struct Contents;
    std::shared_ptr<const Contents> contents_;
};

}  // namespace mxfp4
