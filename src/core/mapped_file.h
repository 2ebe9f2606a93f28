// A file's bytes, mapped read-only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace mxfp4 {

// Throws Error io: "PATH: cannot WHAT: why", why from errno.
[[noreturn]] void throw_errno(const std::filesystem::path& path, std::string_view what, std::string_view remedy = {});

class MappedFile {
  public:
    explicit MappedFile(std::filesystem::path path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::span<const std::uint8_t> bytes() const { return {data_, size_}; }

    // The pages wholly inside these bytes are not needed for now: the process gives up their memory. They stay
    // readable.
    void forget(std::span<const std::uint8_t> part) const noexcept;

  private:
    std::filesystem::path path_;
    const std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace mxfp4
