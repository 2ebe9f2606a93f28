// A file that appears under its name whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace mxfp4 {

// A name in the same folder, so that rename() can be atomic. No other writer has it: process numbers repeat, in containers and on
// other hosts, and whoever was killed has left his behind.
std::filesystem::path temporary_beside(const std::filesystem::path& path);

// Throws Error invalid_argument where the output is one of the inputs, by whatever names.
void refuse_overwriting(const std::filesystem::path& out, const std::vector<std::filesystem::path>& inputs);

// Written under a temporary name in the same folder until commit() renames it; without commit() it is taken away again.
class NewFile {
  public:
    // bytes: its size in the end, so that a full disk shows at once.
    NewFile(std::filesystem::path path, std::uint64_t bytes);
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    void write(std::uint64_t at, std::span<const std::uint8_t> bytes);  // from any thread
    void sync();                                                        // all that was written lies on the disk
    void commit();
    const std::filesystem::path& temporary_path() const { return temporary_; }

  private:
    std::filesystem::path path_, temporary_;
    int fd_ = -1;
};

}  // namespace mxfp4
