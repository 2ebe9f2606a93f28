// Compiled images on disk: FOLDER/<sha256 of what went in>, each with a checksum and its compile report.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

struct CompiledImage {
    CompileReport report;
    std::string cubin;  // empty where the report rejects a kernel that does not compile
};

class ImageStore {
  public:
    explicit ImageStore(std::filesystem::path folder) : folder_(std::move(folder)) {}  // empty: keeps nothing

    // Nothing where there is no such image, or it is damaged; put() then replaces it.
    std::optional<CompiledImage> get(const std::string& key) const;
    void put(const CompiledImage& image) const;  // whole or not at all; throws Error io

    // The NVRTC build of the images put last: it finds them where NVRTC is not installed. Empty: none.
    std::string compiler() const;
    void record_compiler(const std::string& build) const;

  private:
    std::filesystem::path folder_;
};

struct KeptImage {
    std::string key;
    std::uint64_t bytes = 0;
    std::string problem;   // empty: fine
    CompileReport report;  // where it reads
};
// Every image, in the order of their keys; a missing folder has none.
std::vector<KeptImage> verify_images(const std::filesystem::path& folder);
bool remove_image(const std::filesystem::path& folder, const std::string& key);

}  // namespace mxfp4
