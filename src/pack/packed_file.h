// Packed safetensors files in pieces: what mxfp4-pack needs beyond mxfp4::PackedFile.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <mxfp4/packed.h>

#include "pack/safetensors.h"

namespace mxfp4 {

inline constexpr const char* kFormatKey = "mxfp4.format";
inline constexpr const char* kFormat = "1";

// What the checkpoint calls the tensors of a weight.
struct SourceNames {
    std::string blocks, scales, bias;  // bias may be empty
};

struct PackedEntry {
    WeightsInfo info;
    SourceNames source_names;
    const Tensor *values = nullptr, *scales = nullptr;
    const Tensor* bias = nullptr;     // null: there is none
    std::vector<float> expert_scale;  // native only; a copy, since a file need not align it

    PackedView view() const;
};

// The tensors that a packed weight is stored as, and its metadata text. Of all scale classes `rebased` has the longest.
Tensor values_tensor(const WeightsInfo& info);
Tensor scales_tensor(const WeightsInfo& info);
Tensor expert_scale_tensor(const WeightsInfo& info);
std::string metadata_key(const std::string& name);
std::string metadata_text(const WeightsInfo& info, const SourceNames& source_names);

// A packed file, mapped and checked: metadata, shapes, dtypes, expert scales. The values and scales are not read.
class PackedContents {
  public:
    explicit PackedContents(const std::filesystem::path& path);

    const SafetensorsFile& file() const { return file_; }
    const std::vector<PackedEntry>& entries() const { return entries_; }  // in file order
    const PackedEntry& at(const std::string& name) const;                 // throws Error naming the P that there are

  private:
    void add(const std::string& name, const std::string& text);
    void check_expert_scale(const PackedEntry& entry, const Tensor& tensor) const;

    SafetensorsFile file_;
    std::vector<PackedEntry> entries_;
};

}  // namespace mxfp4
