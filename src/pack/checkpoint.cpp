#include "pack/checkpoint.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/message.h"

namespace mxfp4 {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::size_t kMostIndexBytes = 100'000'000;

[[noreturn]] void bad_file(const fs::path& path, const std::string& what, ErrorDetail detail = {}) {
    throw Error(ErrorCode::bad_file, path.string() + ": " + what, std::move(detail));
}
[[noreturn]] void bad_tensor(const FileTensor& t, const std::string& what, ErrorDetail detail) {
    bad_file(t.file->path(), fmt::format("tensor {} {}", in_quotes(t->name), what), std::move(detail));
}

// Every tensor of every input, by name.
class Tensors {
  public:
    explicit Tensors(const std::vector<fs::path>& inputs) {
        for (const fs::path& input : inputs) add_input(input);
    }
    const std::map<std::string, FileTensor, std::less<>>& all() const { return tensors_; }
    const std::vector<fs::path>& files() const { return files_; }
    FileTensor find(std::string_view name) const {
        const auto found = tensors_.find(name);
        return found == tensors_.end() ? FileTensor{} : found->second;
    }

  private:
    void add_input(const fs::path& input) {
        std::error_code ignored;
        if (fs::is_directory(input, ignored)) return add_folder(input);
        if (input.extension() == ".json") return add_index(input);
        if (const auto file = open(input)) add_file(file);
    }

    void add_folder(const fs::path& folder) {
        std::vector<fs::path> indexes, files;
        try {
            for (const auto& entry : fs::directory_iterator(folder)) {
                const std::string name = entry.path().filename().string();
                if (name.ends_with(kIndexSuffix)) indexes.push_back(entry.path());
                if (name.ends_with(".safetensors") && !name.starts_with(".")) files.push_back(entry.path());
            }
        } catch (const fs::filesystem_error& error) {
            throw Error(ErrorCode::io,
                        fmt::format("{}: cannot read the folder: {}", folder.string(), error.code().message()));
        }
        if (indexes.size() > 1)
            bad_file(folder, "has several shard indexes",
                     {fmt::format("{}", indexes.size()), "one", "name the index file itself"});
        if (indexes.size() == 1) return add_index(indexes[0]);
        if (files.empty()) bad_file(folder, "has no *.safetensors file");
        std::ranges::sort(files);
        for (const fs::path& path : files)
            if (const auto file = open(path)) add_file(file);
    }

    // {"weight_map": {"tensor": "file beside the index", ...}}
    void add_index(const fs::path& path) {
        const MappedFile text(path);
        files_.push_back(path);
        if (text.bytes().size() > kMostIndexBytes)
            bad_file(path, "is too large for a shard index",
                     {fmt::format("{} bytes", text.bytes().size()), fmt::format("at most {}", kMostIndexBytes), ""});
        json index;
        try {
            index = json::parse(text.bytes().begin(), text.bytes().end());
        } catch (const json::exception&) {
            bad_file(path, "is no JSON");
        }
        const auto map = index.is_object() ? index.find("weight_map") : index.end();
        if (!index.is_object() || map == index.end() || !map->is_object())
            bad_file(path, "is no shard index: it has no weight_map");
        std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
        for (const auto& [tensor, file] : map->items()) {
            const std::string name = file.is_string() ? file.get<std::string>() : "";
            if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..")
                bad_file(path, fmt::format("has no shard for tensor {}", in_quotes(tensor)),
                         {in_quotes(name), "the name of a file beside the index", ""});
            if (!shards.contains(name)) shards[name] = open(path.parent_path() / name);
            const auto& shard = shards[name];
            if (!shard) continue;  // given twice
            const Tensor* found = shard->find(tensor);
            if (!found)
                bad_file(path, fmt::format("names a shard for tensor {} that has no such tensor", in_quotes(tensor)),
                         {in_quotes(name), "", ""});
            add(shard, *found);
        }
    }

    // Null where an input was given before, under whatever name.
    std::shared_ptr<const SafetensorsFile> open(const fs::path& path) {
        std::error_code error;
        const fs::path canonical = fs::canonical(path, error);
        if (!error && !opened_.insert(canonical).second) return nullptr;
        auto file = std::make_shared<const SafetensorsFile>(path);
        if (file->metadata().contains("mxfp4.format"))
            bad_file(path, "is packed already",
                     {"", "", "give the checkpoint that it was packed from, or --unpack it"});
        files_.push_back(path);
        return file;
    }

    void add_file(const std::shared_ptr<const SafetensorsFile>& file) {
        for (const Tensor& tensor : file->tensors()) add(file, tensor);
    }

    void add(const std::shared_ptr<const SafetensorsFile>& file, const Tensor& tensor) {
        const auto [at, is_new] = tensors_.try_emplace(tensor.name, FileTensor{file, &tensor});
        if (!is_new) bad_tensor({file, &tensor}, "was seen before, in " + at->second.file->path().string(), {});
    }

    std::map<std::string, FileTensor, std::less<>> tensors_;
    std::vector<fs::path> files_;
    std::set<fs::path> opened_;
};

// One name of a pair and the names that go with it.
struct PairNames {
    std::string name, blocks, scales, bias;
};

// What a tensor's name makes of it; an empty name: no part of a pair.
PairNames pair_of(std::string_view tensor) {
    for (const char separator : {'_', '.'})
        for (const std::string_view part : {"blocks", "scales"}) {
            if (!tensor.ends_with(part) || tensor.size() < part.size() + 2 ||
                tensor[tensor.size() - part.size() - 1] != separator)
                continue;
            PairNames pair{.name = std::string(tensor.substr(0, tensor.size() - part.size() - 1)),
                           .blocks = {},
                           .scales = {},
                           .bias = {}};
            pair.blocks = pair.name + separator + "blocks";
            pair.scales = pair.name + separator + "scales";
            constexpr std::string_view kWeight = "_weight";
            if (separator == '_')
                pair.bias = pair.name + "_bias";
            else if (pair.name.ends_with(kWeight))
                pair.bias = pair.name.substr(0, pair.name.size() - kWeight.size()) + "_bias";
            return pair;
        }
    return {};
}

void check_pair(const ExpertTensor& t) {
    for (const FileTensor* part : {&t.blocks, &t.scales})
        if ((*part)->dtype != "U8") bad_tensor(*part, "has the wrong dtype", {in_quotes((*part)->dtype), "U8", ""});
    const auto& blocks = t.blocks->shape;
    const auto& scales = t.scales->shape;
    if (blocks.size() != 4 || blocks[3] != 16 || std::ranges::count(blocks, 0))
        bad_tensor(t.blocks, "has the wrong shape", {shape_text(blocks), "[experts, n, k/32, 16], none of them 0", ""});
    const std::vector<std::int64_t> expected_scales(blocks.begin(), blocks.end() - 1);
    if (scales != expected_scales)
        bad_tensor(t.scales, "has the wrong shape",
                   {shape_text(scales), shape_text(expected_scales) + " to match its blocks", ""});
    constexpr std::int64_t kMost = (1ll << 31) - 1;
    if (blocks[0] > kMost || blocks[1] > kMost || blocks[2] > kMost / 32)
        bad_tensor(t.blocks, "is too large", {shape_text(blocks), "below 2^31 experts, n and k", ""});
    const std::vector<std::int64_t> expected_bias = {blocks[0], blocks[1]};
    if (t.bias && t.bias->shape != expected_bias)
        bad_tensor(t.bias, "has the wrong shape",
                   {shape_text(t.bias->shape), shape_text(expected_bias) + " to match its weight", ""});
    if (t.bias && dtype_bytes(t.bias->dtype) == 0)
        bad_tensor(t.bias, "has an unknown dtype", {in_quotes(t.bias->dtype), "", ""});
}

// Numbers in names count as numbers.
bool natural_less(std::string_view a, std::string_view b) {
    const auto digits = [](std::string_view s) { return std::min(s.find_first_not_of("0123456789"), s.size()); };
    while (!a.empty() && !b.empty()) {
        const std::size_t in_a = digits(a), in_b = digits(b);
        if (in_a > 0 && in_b > 0) {
            if (in_a != in_b) return in_a < in_b;
            if (const int order = a.substr(0, in_a).compare(b.substr(0, in_b)); order != 0) return order < 0;
            a.remove_prefix(in_a);
            b.remove_prefix(in_b);
            continue;
        }
        if (a[0] != b[0]) return a[0] < b[0];
        a.remove_prefix(1);
        b.remove_prefix(1);
    }
    return a.size() < b.size();
}

}  // namespace

CheckpointView ExpertTensor::view() const {
    return {.blocks = blocks->data.data(),
            .scales = scales->data.data(),
            .experts = blocks->shape[0],
            .n = blocks->shape[1],
            .k = blocks->shape[2] * kBlockElements};
}

void ExpertTensor::forget_expert(std::int64_t expert) const {
    const std::size_t bytes = blocks->data.size() / std::size_t(blocks->shape[0]);
    blocks.file->forget(blocks->data.subspan(std::size_t(expert) * bytes, bytes));
}

Checkpoint::Checkpoint(const std::vector<fs::path>& inputs, const Selection& selected) {
    const Tensors tensors(inputs);
    files_ = tensors.files();
    std::map<std::string, PairNames> pairs;
    std::int64_t pairs_left_out = 0;
    for (const auto& [name, tensor] : tensors.all()) {
        const PairNames pair = pair_of(name);
        if (pair.name.empty()) continue;
        if (selected && !selected(pair.name)) {
            ++pairs_left_out;
            continue;
        }
        const auto [at, is_new] = pairs.try_emplace(pair.name, pair);
        if (!is_new && at->second.blocks != pair.blocks)
            bad_tensor(tensor, "means the same weight as another tensor",
                       {in_quotes(pair.blocks), "", "rename one: " + in_quotes(at->second.blocks)});
    }
    std::int64_t used = 0;
    for (const auto& [name, pair] : pairs) {
        ExpertTensor expert{
            .name = name, .blocks = tensors.find(pair.blocks), .scales = tensors.find(pair.scales), .bias = {}};
        if (!pair.bias.empty()) expert.bias = tensors.find(pair.bias);
        if (!expert.blocks)
            bad_tensor(expert.scales, "has no partner", {"", "", "there is no tensor " + in_quotes(pair.blocks)});
        if (!expert.scales)
            bad_tensor(expert.blocks, "has no partner", {"", "", "there is no tensor " + in_quotes(pair.scales)});
        check_pair(expert);
        used += 2 + (expert.bias ? 1 : 0);
        experts_.push_back(std::move(expert));
    }
    std::ranges::sort(experts_, natural_less, &ExpertTensor::name);
    skipped_ = std::int64_t(tensors.all().size()) - used;
    if (experts_.empty() && pairs_left_out > 0)
        throw Error(ErrorCode::bad_file, "none of the MXFP4 expert tensors is selected", {"", "", "see --only"});
    if (experts_.empty())
        throw Error(ErrorCode::bad_file,
                    fmt::format("{}: there is no MXFP4 expert tensor", inputs.empty() ? "" : inputs[0].string()),
                    {"", "", "looked for P_blocks with P_scales, and P.blocks with P.scales"});
}

}  // namespace mxfp4
