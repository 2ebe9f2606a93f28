// The MXFP4 expert tensors of a checkpoint, wherever its files split them.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <mxfp4/packed.h>

#include "pack/safetensors.h"

namespace mxfp4 {

// A tensor and the file that holds it.
struct FileTensor {
    std::shared_ptr<const SafetensorsFile> file;
    const Tensor* tensor = nullptr;  // null: there is none

    explicit operator bool() const { return tensor != nullptr; }
    const Tensor* operator->() const { return tensor; }
};

// A pair of checked shape and dtype: blocks U8 [experts, n, k/32, 16], scales U8 [experts, n, k/32].
struct ExpertTensor {
    std::string name;  // P
    FileTensor blocks, scales, bias;

    CheckpointView view() const;
    void forget_expert(std::int64_t expert) const;  // gives up the memory of its mapped bytes
};

class Checkpoint {
  public:
    using Selection = std::function<bool(const std::string& name)>;

    // Inputs are safetensors files, shard indexes (.json) and model folders. Both naming schemes: P_blocks, P_scales,
    // P_bias, and P.blocks, P.scales with P ending in _weight, whose bias ends in _bias instead. Pairs that `selected`
    // does not want are neither checked nor kept. Throws Error naming what is wrong with which tensor of which file.
    explicit Checkpoint(const std::vector<std::filesystem::path>& inputs, const Selection& selected = {});

    const std::vector<ExpertTensor>& experts() const { return experts_; }       // layer 2 before layer 10
    std::int64_t skipped() const { return skipped_; }                           // tensors that are left out
    const std::vector<std::filesystem::path>& files() const { return files_; }  // all that were read

  private:
    std::vector<ExpertTensor> experts_;
    std::vector<std::filesystem::path> files_;
    std::int64_t skipped_ = 0;
};

}  // namespace mxfp4
