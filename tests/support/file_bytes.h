// A file's bytes, as a string.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace mxfp4::test {

// Empty where there is no such file, or where it is a folder.
inline std::string text_of(const std::filesystem::path& path) {
    if (std::error_code error; std::filesystem::is_directory(path, error)) return "";
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace mxfp4::test
