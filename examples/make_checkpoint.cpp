// Writes a small checkpoint in gpt-oss's shape with random weights, to try the tools on.
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include <fmt/format.h>

#include "pack/safetensors.h"
#include "tools/tool.h"

using namespace mxfp4;

namespace {

struct Arguments {
    std::filesystem::path out;
    std::int64_t experts = 4, hidden = 256, intermediate = 256, layers = 2, shards = 1;
    std::string naming = "hf";
    unsigned seed = 1;
};

using Bytes = std::vector<std::uint8_t>;

struct NewTensor {
    Tensor tensor;
    Bytes bytes;
};

// Random E2M1 codes; E8M0 scales 2^-7 .. 2^-1, the middle ones more often; small BF16 values.
Bytes random_codes(std::int64_t count, std::mt19937& random) {
    Bytes bytes(static_cast<std::size_t>(count));
    for (auto& b : bytes) b = std::uint8_t(random());
    return bytes;
}
Bytes random_scales(std::int64_t count, std::mt19937& random) {
    Bytes bytes(static_cast<std::size_t>(count));
    for (auto& b : bytes) b = std::uint8_t(120 + random() % 4 + random() % 4);
    return bytes;
}
Bytes random_bf16(std::int64_t count, std::mt19937& random) {
    Bytes bytes;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::uint32_t bits = random();
        const auto exponent = std::uint32_t(118 + bits % 8);
        const auto value = (bits & 0x80000000u) >> 16 | exponent << 7 | (bits >> 8 & 0x7F);
        bytes.push_back(std::uint8_t(value));
        bytes.push_back(std::uint8_t(value >> 8));
    }
    return bytes;
}

class Builder {
  public:
    Builder(const Arguments& arguments) : a_(arguments), random_(arguments.seed) {}

    std::vector<NewTensor> build() {
        const bool hf = a_.naming == "hf";
        plain(hf ? "model.embed_tokens.weight" : "embedding.weight", {64, a_.hidden});
        for (std::int64_t layer = 0; layer < a_.layers; ++layer) {
            const std::string prefix =
                hf ? fmt::format("model.layers.{}.mlp.", layer) : fmt::format("block.{}.mlp.", layer);
            plain(prefix + (hf ? "router.weight" : "gate.weight"), {a_.experts, a_.hidden});
            expert(prefix, hf ? "experts.gate_up_proj" : "mlp1", 2 * a_.intermediate, a_.hidden);
            expert(prefix, hf ? "experts.down_proj" : "mlp2", a_.hidden, a_.intermediate);
        }
        plain(hf ? "model.norm.weight" : "norm.scale", {a_.hidden});
        return std::move(tensors_);
    }

  private:
    void plain(const std::string& name, std::vector<std::int64_t> shape) {
        std::int64_t count = 1;
        for (const std::int64_t size : shape) count *= size;
        tensors_.push_back({{.name = name, .dtype = "BF16", .shape = std::move(shape)}, random_bf16(count, random_)});
    }
    void expert(const std::string& prefix, const std::string& name, std::int64_t n, std::int64_t k) {
        const bool hf = a_.naming == "hf";
        const std::string p = prefix + name + (hf ? "_" : "_weight.");
        tensors_.push_back({{.name = p + "blocks", .dtype = "U8", .shape = {a_.experts, n, k / 32, 16}},
                            random_codes(a_.experts * n * k / 2, random_)});
        tensors_.push_back({{.name = p + "scales", .dtype = "U8", .shape = {a_.experts, n, k / 32}},
                            random_scales(a_.experts * n * k / 32, random_)});
        plain(prefix + name + "_bias", {a_.experts, n});
    }

    const Arguments& a_;
    std::mt19937 random_;
    std::vector<NewTensor> tensors_;
};

std::uint64_t write_file(const std::filesystem::path& path, const std::vector<const NewTensor*>& tensors) {
    std::vector<Tensor> specs;
    for (const NewTensor* t : tensors) specs.push_back(t->tensor);
    SafetensorsWriter writer(path, specs, {{"format", "pt"}});
    for (std::size_t i = 0; i < tensors.size(); ++i) writer.write(i, 0, tensors[i]->bytes);
    writer.finish();
    writer.commit();
    return writer.file_bytes();
}

int write_checkpoint(Tool& tool, const Arguments& a) {
    if (a.hidden % 32 != 0 || a.intermediate % 32 != 0)
        throw UsageError("--hidden and --intermediate are reduction sizes",
                         {fmt::format("{} and {}", a.hidden, a.intermediate), "multiples of 32", ""});
    const std::vector<NewTensor> tensors = Builder(a).build();
    std::filesystem::create_directories(a.out);
    std::uint64_t bytes = 0;
    nlohmann::ordered_json map;
    for (std::int64_t shard = 0; shard < a.shards; ++shard) {
        const std::string name =
            a.shards == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, a.shards);
        std::vector<const NewTensor*> part;
        const auto begin = std::size_t(shard) * tensors.size() / std::size_t(a.shards),
                   end = std::size_t(shard + 1) * tensors.size() / std::size_t(a.shards);
        for (std::size_t i = begin; i < end; ++i) {
            part.push_back(&tensors[i]);
            map[tensors[i].tensor.name] = name;
        }
        bytes += write_file(a.out / name, part);
    }
    if (a.shards > 1) {
        std::ofstream index(a.out / "model.safetensors.index.json");
        index << nlohmann::ordered_json{{"metadata", {{"total_size", bytes}}}, {"weight_map", map}}.dump(2) << "\n";
        if (!index.flush()) throw Error(ErrorCode::io, a.out.string() + ": cannot write the shard index");
    }
    tool.say(fmt::format("{}: {} tensors, {}", a.out.string(), tensors.size(), bytes_text(double(bytes))));
    return kExitDone;
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-make-checkpoint", "Writes a small gpt-oss-shaped MXFP4 checkpoint with random weights.");
    Arguments a;
    CLI::App& app = tool.app();
    const CLI::Range sizes(1, 1 << 20);
    app.add_option("-o,--output", a.out, "Folder to write into")->required();
    app.add_option("--experts", a.experts, "Experts of a layer")->check(sizes)->capture_default_str();
    app.add_option("--hidden", a.hidden, "K of gate_up_proj, N of down_proj")->check(sizes)->capture_default_str();
    app.add_option("--intermediate", a.intermediate, "K of down_proj, half the N of gate_up_proj")
        ->check(sizes)
        ->capture_default_str();
    app.add_option("--layers", a.layers, "Layers")->check(sizes)->capture_default_str();
    app.add_option("--shards", a.shards, "Files")->check(CLI::Range(1, 99))->capture_default_str();
    app.add_option("--naming", a.naming, "hf: P_blocks, P_scales; openai: P.blocks, P.scales")
        ->check(CLI::IsMember({"hf", "openai"}))
        ->capture_default_str();
    app.add_option("--seed", a.seed, "Of the random weights")->capture_default_str();
    return tool.run(argc, argv, [&] { return write_checkpoint(tool, a); });
}
