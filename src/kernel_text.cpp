#include "kernel_text.h"

#include <fstream>
#include <iterator>
#include <vector>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/sha256.h"

namespace mxfp4 {
namespace {

std::string read_text(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in)
        throw Error(ErrorCode::io, "a kernel template cannot be read", {path.string(), "", "check its permissions"});
    return text;
}

// Names in the #include "..." lines of a text.
std::vector<std::string> included(std::string_view text) {
    constexpr std::string_view kDirective = "#include \"";
    std::vector<std::string> names;
    for (std::size_t at = text.find(kDirective); at != text.npos; at = text.find(kDirective, at)) {
        at += kDirective.size();
        const std::size_t end = text.find_first_of("\"\n", at);
        if (end == text.npos) break;
        names.emplace_back(text.substr(at, end - at));
    }
    return names;
}

}  // namespace

KernelText::KernelText(const std::filesystem::path& override_folder) {
    for (const EmbeddedFile& file : embedded_kernel_files()) files_.emplace(file.name, file.text);
    if (override_folder.empty()) return;
    std::error_code error;
    std::filesystem::recursive_directory_iterator entries(override_folder, error);
    if (error)
        throw Error(ErrorCode::io, "the folder of kernel templates cannot be read: " + error.message(),
                    {override_folder.string(), "", "give an existing folder, or none for the embedded text"});
    for (const auto& entry : entries) {
        const auto extension = entry.path().extension();
        if (entry.is_regular_file() && (extension == ".h" || extension == ".cuh"))
            files_[entry.path().lexically_relative(override_folder).generic_string()] = read_text(entry.path());
    }
}

const std::string& KernelText::get(std::string_view name) const {
    const auto found = files_.find(name);
    if (found == files_.end())
        throw Error(
            ErrorCode::compile, "a kernel template is missing",
            {fmt::format("'{}'", name), "", "it is neither embedded in the library nor in the override folder"});
    return found->second;
}

KernelFiles KernelText::closure(std::string_view name) const {
    KernelFiles seen;
    std::vector<std::string> open{std::string(name)};
    while (!open.empty()) {
        const std::string next = std::move(open.back());
        open.pop_back();
        if (seen.contains(next)) continue;
        const std::string& text = seen[next] = get(next);
        for (std::string& include : included(text)) open.push_back(std::move(include));
    }
    return seen;
}

std::string KernelText::hash(std::string_view name) const {
    Sha256 sha;
    for (const auto& [file, text] : closure(name)) sha.field(file).field(text);
    return sha.hex();
}

}  // namespace mxfp4
