// safetensors files: 8 bytes header size, a JSON header, the tensors' bytes. Nothing in a header is believed unchecked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/mapped_file.h"
#include "core/new_file.h"

namespace mxfp4 {

struct Tensor {
    std::string name;
    std::string dtype;  // as the file says it: U8, BF16 ...
    std::vector<std::int64_t> shape;
    std::span<const std::uint8_t> data = {};
};

using Metadata = std::map<std::string, std::string, std::less<>>;

struct SafetensorsHeader {
    std::vector<Tensor> tensors;  // in the order of their bytes, which leave no gap and do not overlap
    Metadata metadata;
};

// Bytes of one element; 0 for a dtype that this library does not know (its tensors are skipped, their sizes unchecked).
int dtype_bytes(std::string_view dtype);

// Reads and checks a whole file's bytes; the tensors point into them. Throws Error bad_file naming file, tensor, value
// and limit.
SafetensorsHeader parse_safetensors(std::span<const std::uint8_t> file, const std::string& file_name);

class SafetensorsFile {
  public:
    explicit SafetensorsFile(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return file_.path(); }
    const std::vector<Tensor>& tensors() const { return header_.tensors; }
    const Metadata& metadata() const { return header_.metadata; }
    const Tensor* find(std::string_view name) const;  // null: there is none
    void forget(std::span<const std::uint8_t> part) const noexcept { file_.forget(part); }

  private:
    MappedFile file_;
    SafetensorsHeader header_;
    std::map<std::string_view, const Tensor*> by_name_;
};

// Writes a file whole or not at all.
class SafetensorsWriter {
  public:
    // The tensors (their data is not read) get their bytes in this order. Metadata values may be replaced later by ones
    // that are no longer.
    SafetensorsWriter(const std::filesystem::path& path, std::vector<Tensor> tensors, Metadata metadata);

    void write(std::size_t tensor, std::uint64_t at, std::span<const std::uint8_t> bytes);  // from any thread
    void set_metadata(const std::string& key, std::string value) { metadata_[key] = std::move(value); }

    void finish();  // writes the header: the whole file now lies on the disk, under temporary_path()
    void commit() { file_->commit(); }
    const std::filesystem::path& temporary_path() const { return file_->temporary_path(); }
    std::uint64_t file_bytes() const { return data_start_ + offsets_.back(); }

  private:
    std::string header_text() const;

    std::vector<Tensor> tensors_;
    Metadata metadata_;
    std::vector<std::uint64_t> offsets_;  // [tensors + 1] in the data section
    std::uint64_t data_start_ = 0;
    std::optional<NewFile> file_;
};

}  // namespace mxfp4
