#include "pack/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <fmt/format.h>
#include <mxfp4/error.h>
#include <nlohmann/json.hpp>

#include "core/message.h"

namespace mxfp4 {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // as the safetensors library has it
constexpr const char* kMetadataName = "__metadata__";
constexpr std::size_t kMostNameBytes = 4096;  // of a tensor; std::regex needs stack for each
constexpr std::uint64_t kDataAlign = 64;      // of the first byte of data in files that we write

class Parser {
  public:
    Parser(std::span<const std::uint8_t> file, const std::string& file_name) : file_(file), file_name_(file_name) {}

    SafetensorsHeader parse() {
        const json header = parse_json(header_text());
        if (!header.is_object()) bad("its header is no JSON object");
        SafetensorsHeader result;
        for (const auto& [name, value] : header.items()) {
            if (name == kMetadataName)
                result.metadata = metadata(value);
            else
                result.tensors.push_back(tensor(name, value));
        }
        std::ranges::sort(result.tensors, {}, [](const Tensor& t) { return std::pair(t.data.data(), t.data.size()); });
        check_cover(result.tensors);
        return result;
    }

  private:
    [[noreturn]] void bad(const std::string& what, ErrorDetail detail = {}) const {
        throw Error(ErrorCode::bad_file, file_name_ + ": " + what, std::move(detail));
    }
    [[noreturn]] void bad_tensor(std::string_view name, const std::string& what, ErrorDetail detail = {}) const {
        bad(fmt::format("tensor {} {}", in_quotes(name), what), std::move(detail));
    }

    std::string_view header_text() {
        constexpr std::string_view kLfs = "version https://git-lfs";
        const std::string_view text(reinterpret_cast<const char*>(file_.data()), file_.size());
        if (text.starts_with(kLfs)) bad("is a Git LFS pointer, not the file itself", {"", "", "run 'git lfs pull'"});
        if (file_.size() < 8)
            bad("is too short for a safetensors file", {fmt::format("{} bytes", file_.size()), "at least 8 bytes", ""});
        std::uint64_t bytes = 0;
        for (int i = 7; i >= 0; --i) bytes = bytes << 8 | file_[i];
        if (bytes > kMostHeaderBytes)
            bad("is no safetensors file: its header size makes no sense",
                {fmt::format("{} bytes", bytes), fmt::format("at most {}", kMostHeaderBytes), ""});
        if (bytes > file_.size() - 8)
            bad("its header ends past the end of the file",
                {fmt::format("{} bytes", bytes), fmt::format("at most {}", file_.size() - 8),
                 "the file is truncated or no safetensors file"});
        data_ = file_.subspan(8 + bytes);
        return text.substr(8, bytes);
    }

    // nlohmann::json keeps the last of equal names; a header that says two things of one tensor is refused instead.
    json parse_json(std::string_view text) const {
        std::set<std::string, std::less<>> seen[2];
        const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
            if (depth > 3) bad("its header nests too deep");
            if (event == json::parse_event_t::object_start && depth < 2) seen[depth].clear();
            if (event == json::parse_event_t::key && depth <= 2) {
                const auto& name = parsed.get_ref<const std::string&>();
                if (!seen[depth - 1].insert(name).second) bad(fmt::format("its header says {} twice", in_quotes(name)));
            }
            return true;
        };
        try {
            return json::parse(text.begin(), text.end(), watch);
        } catch (const json::parse_error& error) {
            bad(fmt::format("its header is no JSON at byte {}", error.byte));
        } catch (const json::exception&) {
            bad("its header is no JSON: a number is out of range");
        }
    }

    Metadata metadata(const json& value) const {
        if (!value.is_object()) bad("its __metadata__ is no JSON object");
        Metadata result;
        for (const auto& [key, text] : value.items()) {
            if (!text.is_string()) bad(fmt::format("its __metadata__ entry {} is no string", in_quotes(key)));
            result[key] = text.get<std::string>();
        }
        return result;
    }

    std::uint64_t number(std::string_view name, const json& value, const char* what) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t(INT64_MAX))
            bad_tensor(name, fmt::format("has a bad {}", what),
                       {in_quotes(value.dump(-1, ' ', true, json::error_handler_t::replace)),
                        "an integer from 0 to 2^63 - 1", ""});
        return value.get<std::uint64_t>();
    }

    Tensor tensor(const std::string& name, const json& value) const {
        if (name.size() > kMostNameBytes)
            bad_tensor(name, "has too long a name",
                       {fmt::format("{} bytes", name.size()), fmt::format("at most {}", kMostNameBytes), ""});
        if (!value.is_object()) bad_tensor(name, "is described by no JSON object");
        const auto member = [&](const char* key, json::value_t type) -> const json& {
            const auto found = value.find(key);
            if (found == value.end()) bad_tensor(name, fmt::format("has no {}", key));
            if (found->type() != type) bad_tensor(name, fmt::format("has a {} of the wrong type", key));
            return *found;
        };
        Tensor result{.name = name, .dtype = member("dtype", json::value_t::string).get<std::string>(), .shape = {}};
        std::uint64_t elements = 1;
        bool overflow = false;
        for (const json& size : member("shape", json::value_t::array)) {
            const std::uint64_t s = number(name, size, "shape");
            overflow |= __builtin_mul_overflow(elements, s, &elements);
            result.shape.push_back(std::int64_t(s));
        }
        const json& offsets = member("data_offsets", json::value_t::array);
        if (offsets.size() != 2)
            bad_tensor(name, "has bad data_offsets", {fmt::format("{} numbers", offsets.size()), "2", ""});
        const std::uint64_t begin = number(name, offsets[0], "data_offsets"),
                            end = number(name, offsets[1], "data_offsets");
        if (begin > end)
            bad_tensor(name, "ends before it begins",
                       {fmt::format("{} to {}", begin, end), "ascending data_offsets", ""});
        if (end > data_.size())
            bad_tensor(name, "ends past the end of the file",
                       {fmt::format("data byte {}", end), fmt::format("at most {}", data_.size()),
                        "the file is truncated or its header lies"});
        if (const int size = dtype_bytes(result.dtype); size != 0) {
            std::uint64_t bytes = 0;
            overflow |= __builtin_mul_overflow(elements, std::uint64_t(size), &bytes);
            if (overflow) bad_tensor(name, "has a shape whose size overflows", {shape_text(result.shape), "", ""});
            if (bytes != end - begin)
                bad_tensor(name, "does not fill its data_offsets",
                           {fmt::format("{} bytes", end - begin),
                            fmt::format("{} for {} {}", bytes, result.dtype, shape_text(result.shape)), ""});
        }
        result.data = data_.subspan(begin, end - begin);
        return result;
    }

    void check_cover(const std::vector<Tensor>& tensors) const {
        const std::uint8_t* at = data_.data();
        for (const Tensor& tensor : tensors) {
            if (tensor.data.data() < at)
                bad_tensor(tensor.name, "overlaps the tensor before it",
                           {fmt::format("data byte {}", tensor.data.data() - data_.data()),
                            fmt::format("at least {}", at - data_.data()), ""});
            if (tensor.data.data() > at)
                bad_tensor(tensor.name, "leaves a gap before it",
                           {fmt::format("data byte {}", tensor.data.data() - data_.data()),
                            fmt::format("{}", at - data_.data()), ""});
            at = tensor.data.data() + tensor.data.size();
        }
        if (const auto left = data_.data() + data_.size() - at; left != 0)
            bad("has bytes behind its last tensor", {fmt::format("{} bytes", left), "0", ""});
    }

    std::span<const std::uint8_t> file_, data_;
    const std::string& file_name_;
};

std::uint64_t tensor_bytes(const Tensor& tensor) {
    auto bytes = std::uint64_t(dtype_bytes(tensor.dtype));
    for (const std::int64_t size : tensor.shape)
        if (__builtin_mul_overflow(bytes, std::uint64_t(size), &bytes))
            throw Error(ErrorCode::invalid_argument, fmt::format("tensor {} is too large", in_quotes(tensor.name)),
                        {shape_text(tensor.shape), "", ""});
    return bytes;
}

}  // namespace

int dtype_bytes(std::string_view dtype) {
    struct Entry {
        std::string_view name;
        int bytes;
    };
    constexpr Entry kDtypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
                                 {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},     {"I32", 4},
                                 {"F32", 4},  {"U64", 8}, {"I64", 8}, {"F64", 8}};
    const auto found = std::ranges::find(kDtypes, dtype, &Entry::name);
    return found == std::end(kDtypes) ? 0 : found->bytes;
}

SafetensorsHeader parse_safetensors(std::span<const std::uint8_t> file, const std::string& file_name) {
    return Parser(file, file_name).parse();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path),
      header_(parse_safetensors(file_.bytes(), path.string())) {
    for (const Tensor& tensor : header_.tensors) by_name_[tensor.name] = &tensor;
}

const Tensor* SafetensorsFile::find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<Tensor> tensors, Metadata metadata)
    : tensors_(std::move(tensors)),
      metadata_(std::move(metadata)),
      offsets_{0} {
    std::set<std::string_view> names = {kMetadataName};
    for (const Tensor& tensor : tensors_) {
        if (!names.insert(tensor.name).second)
            throw Error(ErrorCode::invalid_argument, path.string() + ": two tensors would have the same name",
                        {in_quotes(tensor.name), "", ""});
        offsets_.push_back(offsets_.back() + tensor_bytes(tensor));
    }
    data_start_ = (8 + header_text().size() + kDataAlign - 1) / kDataAlign * kDataAlign;
    file_.emplace(path, file_bytes());
}

std::string SafetensorsWriter::header_text() const {
    nlohmann::ordered_json header;
    header[kMetadataName] = metadata_;
    for (std::size_t i = 0; i < tensors_.size(); ++i)
        header[tensors_[i].name] = {{"dtype", tensors_[i].dtype},
                                    {"shape", tensors_[i].shape},
                                    {"data_offsets", {offsets_[i], offsets_[i + 1]}}};
    return header.dump();
}

void SafetensorsWriter::write(std::size_t tensor, std::uint64_t at, std::span<const std::uint8_t> bytes) {
    file_->write(data_start_ + offsets_[tensor] + at, bytes);
}

void SafetensorsWriter::finish() {
    std::string text = header_text();
    const std::uint64_t bytes = data_start_ - 8;
    if (text.size() > bytes)
        throw Error(ErrorCode::invalid_argument, "the metadata of a file grew while it was written");
    text.append(bytes - text.size(), ' ');
    std::string start;
    for (int i = 0; i < 8; ++i) start += char(bytes >> 8 * i);
    start += text;
    file_->write(0, {reinterpret_cast<const std::uint8_t*>(start.data()), start.size()});
    file_->sync();
}

}  // namespace mxfp4
