#include "pack/packed_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/config_text.h"
#include "core/message.h"
#include "pack/packer.h"

namespace mxfp4 {
namespace {

using nlohmann::json;

constexpr std::string_view kKeyPrefix = "mxfp4.";
constexpr const char* kRowOrder = "identity";  // rows lie as the checkpoint has them

[[noreturn]] void bad(const std::filesystem::path& path, const std::string& name, const std::string& what,
                      ErrorDetail detail = {}) {
    throw Error(ErrorCode::bad_file, fmt::format("{}: packed weight {} {}", path.string(), in_quotes(name), what),
                std::move(detail));
}

// Reads one metadata object; what is missing or of the wrong type is refused by its key.
class Fields {
  public:
    Fields(const std::filesystem::path& path, const std::string& name, const json& object)
        : path_(path),
          name_(name),
          object_(object) {}

    std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const {
        const json& value = member(key);
        if (!value.is_number_integer() ||
            (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t(INT64_MAX)) ||
            value.get<std::int64_t>() < least || value.get<std::int64_t>() > most)
            bad(path_, name_, fmt::format("has a bad {}", key),
                {dumped(value), fmt::format("{} to {}", least, most), ""});
        return value.get<std::int64_t>();
    }
    std::string text(const char* key) const {
        const json& value = member(key);
        if (!value.is_string()) bad(path_, name_, fmt::format("has a bad {}", key), {dumped(value), "a text", ""});
        return value.get<std::string>();
    }
    // A name of a fixed list that may grow: what this version does not know is unsupported.
    template <class Parse>
    auto choice(const char* key, Parse parse) const {
        const std::string value = text(key);
        try {
            return parse(value);
        } catch (const Error& error) {
            throw Error(ErrorCode::unsupported,
                        fmt::format("{}: packed weight {} has an unknown {}", path_.string(), in_quotes(name_), key),
                        {in_quotes(value), error.limit(), "a newer mxfp4 may read it"});
        }
    }
    bool has(const char* key) const { return object_.contains(key); }
    const json& member(const char* key) const {
        const auto found = object_.find(key);
        if (found == object_.end()) bad(path_, name_, fmt::format("has no {} in its metadata", key));
        return *found;
    }

  private:
    static std::string dumped(const json& value) {
        return in_quotes(value.dump(-1, ' ', true, json::error_handler_t::replace));
    }

    const std::filesystem::path& path_;
    const std::string& name_;
    const json& object_;
};

WeightsInfo read_info(const std::filesystem::path& path, const std::string& name, const Fields& fields) {
    constexpr std::int64_t kMost = (1ll << 31) - 1;
    WeightsInfo info{.name = name, .format = {}};
    info.format.layout = fields.choice("layout", parse_layout);
    const int known = kLayoutVersion[int(info.format.layout)];
    info.layout_version = int(fields.integer("layout_version", 0, kMost));
    if (info.layout_version != known)
        throw Error(ErrorCode::unsupported,
                    fmt::format("{}: packed weight {} has an unknown layout_version", path.string(), in_quotes(name)),
                    {fmt::format("{}", info.layout_version), fmt::format("{}", known),
                     "pack the checkpoint again, or use a newer mxfp4"});
    if (fields.has("row_order"))
        fields.choice("row_order", [](const std::string& order) {
            if (order != kRowOrder) throw Error(ErrorCode::unsupported, "", {"", kRowOrder, ""});
            return 0;
        });
    info.format.scale_class = fields.choice("scale_class", parse_scale_class);
    info.experts = fields.integer("experts", 1, kMost);
    info.n = fields.integer("n", 1, kMost);
    info.k = fields.integer("k", 1, kMost);
    if (info.k % kBlockElements != 0)
        bad(path, name, "has a bad k", {fmt::format("{}", info.k), "a multiple of 32", ""});
    if (info.format.layout == Layout::native) {
        if (fields.has("num_warps")) fields.integer("num_warps", 0, 0);
        return info;
    }
    info.format.scale_warps = int(fields.integer("num_warps", 1, kMostScaleWarps));
    if (!is_power_of_two(info.format.scale_warps))
        bad(path, name, "has a bad num_warps", {fmt::format("{}", info.format.scale_warps), "a power of two", ""});
    return info;
}

SourceNames read_source_names(const std::string& name, const json& object) {
    SourceNames names{name + "_blocks", name + "_scales", name + "_bias"};
    const auto found = object.find("source_names");
    if (found == object.end() || !found->is_object()) return names;
    const auto read = [&](const char* key, std::string& to) {
        if (const auto text = found->find(key); text != found->end() && text->is_string())
            to = text->get<std::string>();
    };
    read("blocks", names.blocks);
    read("scales", names.scales);
    read("bias", names.bias);
    return names;
}

}  // namespace

PackedView PackedEntry::view() const {
    return {info, values->data.data(), scales->data.data(), expert_scale.empty() ? nullptr : expert_scale.data()};
}

Tensor values_tensor(const WeightsInfo& info) {
    const StoredShape s = info.stored();
    Tensor tensor{
        .name = info.name + ".values", .dtype = "U8", .shape = {info.experts, s.value_rows, s.value_row_bytes}};
    if (info.format.layout == Layout::blocks) tensor.shape = {info.experts, s.value_rows, info.n, 16};
    if (info.format.layout == Layout::native)
        tensor.shape = {info.experts, s.value_rows, s.value_row_bytes / kNativeValueTileBytes, kNativeValueTileBytes};
    return tensor;
}

Tensor scales_tensor(const WeightsInfo& info) {
    const StoredShape s = info.stored();
    Tensor tensor{
        .name = info.name + ".scales", .dtype = "U8", .shape = {info.experts, s.scale_rows, s.scale_row_bytes}};
    if (info.format.layout == Layout::native)
        tensor.shape = {info.experts, s.scale_rows, s.scale_row_bytes / kNativeScaleTileBytes, kNativeScaleTileBytes};
    return tensor;
}

Tensor expert_scale_tensor(const WeightsInfo& info) {
    return {.name = info.name + ".expert_scale", .dtype = "F32", .shape = {info.experts}};
}

std::string metadata_key(const std::string& name) { return std::string(kKeyPrefix) + name; }

std::string metadata_text(const WeightsInfo& info, const SourceNames& source_names) {
    nlohmann::ordered_json object;
    object["layout"] = to_string(info.format.layout);
    object["layout_version"] = info.layout_version;
    object["num_warps"] = info.format.scale_warps;
    object["experts"] = info.experts;
    object["n"] = info.n;
    object["k"] = info.k;
    object["scale_class"] = to_string(info.format.scale_class);
    object["row_order"] = kRowOrder;
    object["source_names"] = {{"blocks", source_names.blocks}, {"scales", source_names.scales}};
    if (!source_names.bias.empty()) object["source_names"]["bias"] = source_names.bias;
    return object.dump();
}

PackedContents::PackedContents(const std::filesystem::path& path) : file_(path) {
    const auto format = file_.metadata().find(kFormatKey);
    if (format == file_.metadata().end())
        throw Error(ErrorCode::bad_file, path.string() + ": is no packed file",
                    {"", "", "pack the checkpoint with mxfp4-pack"});
    if (format->second != kFormat)
        throw Error(ErrorCode::unsupported, path.string() + ": has an unknown mxfp4.format",
                    {in_quotes(format->second), in_quotes(kFormat), "a newer mxfp4 may read it"});
    for (const auto& [key, text] : file_.metadata())
        if (key.starts_with(kKeyPrefix) && key != kFormatKey) add(key.substr(kKeyPrefix.size()), text);
    std::ranges::sort(entries_, {}, [](const PackedEntry& e) { return e.values->data.data(); });
    if (entries_.empty()) throw Error(ErrorCode::bad_file, path.string() + ": has no packed weight");
}

void PackedContents::add(const std::string& name, const std::string& text) {
    const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
    const Tensor* values = file_.find(name + ".values");
    if (!object.is_object()) {
        if (values) bad(file_.path(), name, "has metadata that is no JSON object");
        return;  // a key of a later version
    }
    PackedEntry entry{.info = read_info(file_.path(), name, Fields(file_.path(), name, object)),
                      .source_names = read_source_names(name, object),
                      .expert_scale = {}};
    const auto find = [&](const Tensor& expected) {
        const Tensor* found = file_.find(expected.name);
        if (!found) bad(file_.path(), name, fmt::format("has no tensor {}", in_quotes(expected.name)));
        if (found->dtype != expected.dtype || found->shape != expected.shape)
            bad(file_.path(), name, fmt::format("does not fit its tensor {}", in_quotes(expected.name)),
                {found->dtype + " " + shape_text(found->shape), expected.dtype + " " + shape_text(expected.shape), ""});
        return found;
    };
    entry.values = find(values_tensor(entry.info));
    entry.scales = find(scales_tensor(entry.info));
    if (entry.info.format.layout == Layout::native) {
        const Tensor* scale = find(expert_scale_tensor(entry.info));
        entry.expert_scale.resize(std::size_t(entry.info.experts));
        std::memcpy(entry.expert_scale.data(), scale->data.data(), scale->data.size());
        check_expert_scale(entry, *scale);
    }
    entry.bias = file_.find(name + ".bias");
    if (!entry.bias) entry.source_names.bias.clear();
    const std::vector<std::int64_t> bias_shape = {entry.info.experts, entry.info.n};
    if (entry.bias && (entry.bias->shape != bias_shape || dtype_bytes(entry.bias->dtype) == 0))
        bad(file_.path(), name, "does not fit its bias",
            {entry.bias->dtype + " " + shape_text(entry.bias->shape), shape_text(bias_shape), ""});
    entries_.push_back(std::move(entry));
}

void PackedContents::check_expert_scale(const PackedEntry& entry, const Tensor& tensor) const {
    const bool rebased = entry.info.format.scale_class == ScaleClass::rebased;
    for (std::size_t e = 0; e < entry.expert_scale.size(); ++e) {
        const float scale = entry.expert_scale[e];
        int exponent = 0;
        const bool power = std::isfinite(scale) && std::frexp(scale, &exponent) == 0.5f;
        if (power && exponent >= 1 && exponent - 1 <= (rebased ? kMostExpertShift : 0)) continue;
        bad(file_.path(), entry.info.name, fmt::format("has a bad entry {} in {}", e, in_quotes(tensor.name)),
            {fmt::format("{}", scale), rebased ? "a power of two from 1 to 2^126" : "1", ""});
    }
}

const PackedEntry& PackedContents::at(const std::string& name) const {
    for (const PackedEntry& entry : entries_)
        if (entry.info.name == name) return entry;
    std::string there;
    constexpr std::size_t kMostListed = 8;
    for (std::size_t i = 0; i < entries_.size() && i < kMostListed; ++i)
        there += (i ? ", " : "") + in_quotes(entries_[i].info.name);
    if (entries_.size() > kMostListed) there += fmt::format(" and {} more", entries_.size() - kMostListed);
    throw Error(ErrorCode::invalid_argument, file_.path().string() + ": has no such packed weight",
                {in_quotes(name), entries_.size() == 1 ? there : "one of " + there, ""});
}

struct PackedFile::Contents : PackedContents {
    explicit Contents(const std::filesystem::path& path) : PackedContents(path) {
        for (const PackedEntry& entry : entries()) names.push_back(entry.info.name);
    }
    std::vector<std::string> names;
};

PackedFile PackedFile::open(const std::filesystem::path& path) {
    PackedFile file;
    file.contents_ = std::make_shared<const Contents>(path);
    return file;
}

const std::vector<std::string>& PackedFile::names() const { return contents_->names; }

PackedView PackedFile::operator[](const std::string& name) const { return contents_->at(name).view(); }

std::optional<PackedFile::Bias> PackedFile::bias(const std::string& name) const {
    const Tensor* bias = contents_->at(name).bias;
    if (!bias) return std::nullopt;
    return Bias{bias->dtype, bias->shape, bias->data.data()};
}

}  // namespace mxfp4
