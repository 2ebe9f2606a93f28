#include "backends/cuda/image_store.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/cuda/report_text.h"
#include "core/new_file.h"
#include "core/sha256.h"

namespace mxfp4 {
namespace {

// An image: "mxfp4 image 1 <sha256 of all that follows this line>\n", the report as one line of JSON, the cubin.
constexpr std::string_view kMagic = "mxfp4 image 1 ";
constexpr std::size_t kShaDigits = 64;
constexpr const char* kCompilerFile = "compiler";

bool is_key(std::string_view name) {
    return name.size() == kShaDigits && name.find_first_not_of("0123456789abcdef") == name.npos;
}

// Temporary name and rename: readers see the old file or the new one, never a part.
void write_whole(const std::filesystem::path& path, std::string_view head, std::string_view body) {
    const std::filesystem::path temporary = temporary_beside(path);
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    std::ofstream out(temporary, std::ios::binary);
    out.write(head.data(), std::streamsize(head.size()));
    out.write(body.data(), std::streamsize(body.size()));
    out.close();
    if (out) std::filesystem::rename(temporary, path, error);
    if (out && !error) return;
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw Error(ErrorCode::io, "a compiled image cannot be kept",
                {path.string(), "", "make the folder writable, or free space on the disk"});
}

struct Parsed {
    CompiledImage image;
    std::string problem;  // empty: fine
};

Parsed parse_image(const std::string& text, const std::string& key) {
    const std::size_t head = kMagic.size() + kShaDigits + 1;
    if (!std::string_view(text).starts_with(kMagic) || text.size() < head || text[head - 1] != '\n')
        return {{}, "is no image of this version"};
    const std::string_view rest = std::string_view(text).substr(head);
    if (sha256_hex(rest) != std::string_view(text).substr(kMagic.size(), kShaDigits))
        return {{}, "checksum does not match"};
    const std::size_t end = rest.find('\n');
    if (end == rest.npos) return {{}, "has no report"};
    try {
        Parsed parsed{{report_from_json(std::string(rest.substr(0, end))), std::string(rest.substr(end + 1))}, ""};
        if (parsed.image.report.image_key != key) parsed.problem = "is kept under another image's name";
        return parsed;
    } catch (const Error& error) {
        return {{}, error.what()};
    }
}

std::optional<std::string> read_whole(const std::filesystem::path& path) {
    if (std::error_code error; !std::filesystem::is_regular_file(path, error)) return std::nullopt;
    std::ifstream in(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) return std::nullopt;
    return text;
}

}  // namespace

std::optional<CompiledImage> ImageStore::get(const std::string& key) const {
    if (folder_.empty()) return std::nullopt;
    const auto text = read_whole(folder_ / key);
    if (!text) return std::nullopt;
    Parsed parsed = parse_image(*text, key);
    if (!parsed.problem.empty()) return std::nullopt;
    return std::move(parsed.image);
}

void ImageStore::put(const CompiledImage& image) const {
    if (folder_.empty()) return;
    const std::string body = report_to_json(image.report) + "\n" + image.cubin;
    write_whole(folder_ / image.report.image_key, fmt::format("{}{}\n", kMagic, sha256_hex(body)), body);
}

std::string ImageStore::compiler() const {
    std::string build;
    if (!folder_.empty())
        if (std::ifstream in(folder_ / kCompilerFile); in) std::getline(in, build);
    return build;
}

void ImageStore::record_compiler(const std::string& build) const {
    if (!folder_.empty() && compiler() != build) write_whole(folder_ / kCompilerFile, build, "\n");
}

std::vector<KeptImage> verify_images(const std::filesystem::path& folder) {
    std::vector<KeptImage> images;
    std::error_code error;
    for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        KeptImage kept{it->path().filename().string(), 0, "", {}};
        if (!is_key(kept.key)) continue;
        if (const auto text = read_whole(it->path())) {
            Parsed parsed = parse_image(*text, kept.key);
            kept.bytes = text->size();
            kept.problem = std::move(parsed.problem);
            kept.report = std::move(parsed.image.report);
        } else {
            kept.problem = "cannot be read";
        }
        images.push_back(std::move(kept));
    }
    if (error && error != std::errc::no_such_file_or_directory)
        throw Error(ErrorCode::io, fmt::format("compiled images in '{}' cannot be looked at: {}", folder.string(), error.message()),
                    {"", "", "check the permissions"});
    std::sort(images.begin(), images.end(), [](const KeptImage& a, const KeptImage& b) { return a.key < b.key; });
    return images;
}

bool remove_image(const std::filesystem::path& folder, const std::string& key) {
    std::error_code error;
    return is_key(key) && std::filesystem::remove(folder / key, error);
}

}  // namespace mxfp4
