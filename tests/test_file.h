// safetensors files written by hand, so that they can lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/file_bytes.h"

inline void write_safetensors(const std::filesystem::path& path, const nlohmann::ordered_json& header,
                              const std::string& data) {
    const std::string text = header.dump();
    std::ofstream out(path, std::ios::binary);
    for (int i = 0; i < 8; ++i) out.put(char(text.size() >> 8 * i));
    out << text << data;
}

struct HandTensor {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::string data;
};

inline void write_safetensors(const std::filesystem::path& path, const std::vector<HandTensor>& tensors) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    std::string data;
    for (const HandTensor& t : tensors) {
        header[t.name] = {
            {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.data.size()}}};
        data += t.data;
    }
    write_safetensors(path, header, data);
}

// The header and the data of a file, to be changed and written again.
struct FileParts {
    nlohmann::ordered_json header;
    std::string data;

    explicit FileParts(const std::filesystem::path& path) {
        const std::string text = mxfp4::test::text_of(path);
        std::uint64_t size = 0;
        for (int i = 7; i >= 0; --i) size = size << 8 | std::uint8_t(text[std::size_t(i)]);
        header = nlohmann::ordered_json::parse(text.substr(8, size));
        data = text.substr(8 + size);
    }
};
