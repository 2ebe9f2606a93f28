// Checkpoints found in files, packed files written, opened, and refused where they lie.
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>

#include "pack/pack_files.h"
#include "pack/packer.h"
#include "test_file.h"
#include "support/temporary_folder.h"
#include "test_weights.h"

using namespace mxfp4;
using nlohmann::json;

namespace {

std::string text_of(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

HandTensor blocks_tensor(const std::string& name, const TestWeights& w) {
    return {name, "U8", {w.experts, w.n, w.k / 32, 16}, text_of(w.blocks)};
}
HandTensor scales_tensor(const std::string& name, const TestWeights& w) {
    return {name, "U8", {w.experts, w.n, w.k / 32}, text_of(w.scales)};
}
HandTensor bias_tensor(const std::string& name, const TestWeights& w) {
    return {name, "BF16", {w.experts, w.n}, std::string(std::size_t(2 * w.experts * w.n), 'b')};
}

// The message of the Error that f throws.
std::string refusal(const std::function<void()>& f, ErrorCode code = ErrorCode::bad_file) {
    try {
        f();
        return "nothing was thrown";
    } catch (const Error& error) {
        CHECK(error.code() == code);
        return error.what();
    }
}
void check_says(const std::string& what, const std::string& part) {
    INFO(what);
    CHECK(what.find(part) != std::string::npos);
}

void check_same(const PackedView& packed, const PackedWeights& expected) {
    CHECK(packed.info.format == expected.info.format);
    CHECK(packed.info.layout_version == expected.info.layout_version);
    REQUIRE(packed.info.stored().values_bytes() * packed.info.experts == std::int64_t(expected.values.size()));
    CHECK(std::memcmp(packed.values, expected.values.data(), expected.values.size()) == 0);
    CHECK(std::memcmp(packed.scales, expected.scales.data(), expected.scales.size()) == 0);
    REQUIRE((packed.expert_scale != nullptr) == !expected.expert_scale.empty());
    if (packed.expert_scale)
        CHECK(std::memcmp(packed.expert_scale, expected.expert_scale.data(), 4 * expected.expert_scale.size()) == 0);
}

const std::string kHf = "model.layers.0.mlp.experts.gate_up_proj", kOpenAi = "block.0.mlp.mlp1_weight";

}  // namespace

TEST_CASE("both naming schemes are found, shards and folders too, and packed files hold what pack() says") {
    const TemporaryFolder folder;
    const TestWeights hf(3, 40, 96, 1), openai(2, 80, 64, 2, 60, 133), tenth(1, 8, 32, 3, 0, 254);
    write_safetensors(folder / "model-1.safetensors", {{"other", "F32", {1}, "1234"},
                                                       blocks_tensor(kHf + "_blocks", hf),
                                                       scales_tensor("model.layers.10.x_scales", tenth),
                                                       bias_tensor("block.0.mlp.mlp1_bias", openai)});
    write_safetensors(folder / "model-2.safetensors", {bias_tensor(kHf + "_bias", hf),
                                                       scales_tensor(kHf + "_scales", hf),
                                                       blocks_tensor(kOpenAi + ".blocks", openai),
                                                       scales_tensor(kOpenAi + ".scales", openai),
                                                       blocks_tensor("model.layers.10.x_blocks", tenth),
                                                       {"blocks", "U8", {1}, "b"}});
    json map;
    for (const char* file : {"model-1.safetensors", "model-2.safetensors"}) {
        const FileParts parts(folder / file);
        for (const auto& [name, value] : parts.header.items()) map[name] = file;
    }
    const auto write_index = [&](const json& weight_map) {
        std::ofstream(folder / "model.safetensors.index.json") << json{{"weight_map", weight_map}}.dump();
    };

    const auto check_found = [&](const Checkpoint& checkpoint) {
        REQUIRE(checkpoint.experts().size() == 3);
        CHECK(checkpoint.experts()[0].name == kOpenAi);
        CHECK(checkpoint.experts()[1].name == kHf);
        CHECK(checkpoint.experts()[2].name == "model.layers.10.x");
        CHECK(checkpoint.experts()[0].bias->name == "block.0.mlp.mlp1_bias");
        CHECK(checkpoint.experts()[1].bias->name == kHf + "_bias");
        CHECK(!checkpoint.experts()[2].bias);
        CHECK(checkpoint.skipped() == 2);
    };
    check_found(Checkpoint({folder / ""}));  // no index yet: every file
    check_found(Checkpoint(
        {folder / "model-2.safetensors", folder / "model-1.safetensors", folder / "." / "model-1.safetensors"}));
    write_index(map);
    check_found(Checkpoint({folder / ""}));
    check_found(Checkpoint({folder / "model.safetensors.index.json"}));
    const Checkpoint only({folder / ""}, [](const std::string& name) { return name == kHf; });
    CHECK(only.experts().size() == 1);
    CHECK(only.skipped() == 7);

    const Checkpoint checkpoint({folder / ""});
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native}) {
        const PackOptions options{.layout = layout, .num_warps = layout == Layout::hopper ? 4 : 0};
        std::atomic<std::uint64_t> progress = 0;
        const FileOptions file_options{.threads = 2, .progress = [&](std::uint64_t bytes) { progress += bytes; }};
        const FileSummary summary = pack_file(checkpoint, folder / "packed", options, true, file_options);
        CHECK(summary.bytes == std::filesystem::file_size(folder / "packed"));
        CHECK(progress == pack_work_bytes(checkpoint, options, true));

        const PackedFile file = PackedFile::open(folder / "packed");
        CHECK(file.names() == std::vector<std::string>{kOpenAi, kHf, "model.layers.10.x"});
        check_same(file[kOpenAi], pack(openai.view(), options));
        check_same(file[kHf], pack(hf.view(), options));
        check_same(file["model.layers.10.x"], pack(tenth.view(), options));
        CHECK(file[kOpenAi].info.format.scale_class == ScaleClass::rebased);
        CHECK(file["model.layers.10.x"].info.format.scale_class == ScaleClass::plain);
        REQUIRE(file.bias(kHf));
        CHECK(file.bias(kHf)->dtype == "BF16");
        CHECK(file.bias(kHf)->shape == std::vector<std::int64_t>{3, 40});
        CHECK(file.bias(kHf)->data[239] == 'b');
        CHECK(!file.bias("model.layers.10.x"));
        check_says(refusal([&] { file["nothing"]; }, ErrorCode::invalid_argument),
                   "is 'nothing', must be one of '" + kOpenAi + "', '" + kHf);
        check_says(refusal([&] { Checkpoint({folder / "packed"}); }), "is packed already");

        const PackedContents contents(folder / "packed");
        std::vector<const PackedEntry*> entries;
        for (const PackedEntry& entry : contents.entries()) entries.push_back(&entry);
        unpack_file(contents, entries, folder / "back", {});
        const SafetensorsFile back(folder / "back");
        for (const char* name : {"model-1.safetensors", "model-2.safetensors"}) {
            const SafetensorsFile source(folder / name);
            for (const Tensor& tensor : source.tensors()) {
                if (tensor.name == "other" || tensor.name == "blocks") continue;
                const Tensor* found = back.find(tensor.name);
                REQUIRE(found);
                CHECK(found->dtype == tensor.dtype);
                CHECK(found->shape == tensor.shape);
                CHECK(std::ranges::equal(found->data, tensor.data));
            }
        }
        CHECK(back.tensors().size() == 8);
    }
    for (const char* input : {"model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"})
        check_says(refusal([&] { pack_file(checkpoint, folder / input, {}, false, {}); }, ErrorCode::invalid_argument),
                   "overwrite an input");

    // Indexes that lie.
    const auto index_refusal = [&](const json& weight_map) {
        write_index(weight_map);
        return refusal([&] { Checkpoint({folder / ""}); });
    };
    check_says(index_refusal({{"a", "model-1.safetensors"}}), "shard for tensor 'a' that has no such tensor");
    check_says(index_refusal({{"a", "../model-1.safetensors"}}),
               "no shard for tensor 'a' (is '../model-1.safetensors'");
    check_says(index_refusal({{"a", 3}}), "no shard for tensor 'a'");
    check_says(index_refusal("x"), "has no weight_map");
    std::ofstream(folder / "model.safetensors.index.json") << "{";
    check_says(refusal([&] { Checkpoint({folder / ""}); }), "is no JSON");
    write_index({{"a", "model-3.safetensors"}});
    check_says(refusal([&] { Checkpoint({folder / ""}); }, ErrorCode::io),
               "model-3.safetensors: cannot open: No such file");
    std::ofstream(folder / "second.safetensors.index.json") << "{}";
    check_says(refusal([&] { Checkpoint({folder / ""}); }), "several shard indexes");
}

TEST_CASE("pairs of wrong shape, dtype or without a partner are refused by name") {
    const TemporaryFolder folder;
    const TestWeights w(2, 8, 64, 1);
    const auto why = [&](const std::vector<HandTensor>& tensors) {
        write_safetensors(folder / "a.safetensors", tensors);
        return refusal([&] { Checkpoint({folder / "a.safetensors"}); });
    };
    const HandTensor blocks = blocks_tensor("p_blocks", w), scales = scales_tensor("p_scales", w);
    const auto shaped = [](HandTensor t, const std::vector<std::int64_t>& shape, const std::string& dtype = "U8") {
        t.shape = shape;
        t.dtype = dtype;
        return t;
    };
    check_says(why({blocks}), "tensor 'p_blocks' has no partner: there is no tensor 'p_scales'");
    check_says(why({scales}), "tensor 'p_scales' has no partner: there is no tensor 'p_blocks'");
    check_says(why({shaped(blocks, {2, 8, 32}), scales}), "'p_blocks' has the wrong shape (is [2, 8, 32]");
    check_says(why({shaped(blocks, {2, 8, 4, 8}), scales}), "'p_blocks' has the wrong shape");
    check_says(why({blocks, shaped(scales, {2, 16})}),
               "'p_scales' has the wrong shape (is [2, 16], must be [2, 8, 2] to match its blocks)");
    check_says(why({blocks, shaped(scales, {8, 2, 2})}), "'p_scales' has the wrong shape");
    check_says(why({shaped(blocks, {2, 8, 2, 16}, "I8"), scales}),
               "'p_blocks' has the wrong dtype (is 'I8', must be U8)");
    check_says(why({blocks, shaped(scales, {2, 8, 2}, "F8_E8M0")}), "'p_scales' has the wrong dtype");
    check_says(why({blocks, scales, shaped(bias_tensor("p_bias", w), {16}, "BF16")}), "'p_bias' has the wrong shape");
    check_says(why({{"p_blocks", "U8", {0, 8, 2, 16}, ""}, {"p_scales", "U8", {0, 8, 2}, ""}}), "none of them 0");
    check_says(why({{"p_blocks", "U8", {2, 8, 0, 16}, ""}, {"p_scales", "U8", {2, 8, 0}, ""}}), "none of them 0");
    check_says(why({blocks, scales, blocks_tensor("p.blocks", w), scales_tensor("p.scales", w)}),
               "means the same weight");
    check_says(why({{"x", "U8", {1}, "1"}}), "no MXFP4 expert tensor");
    std::filesystem::create_directory(folder / "empty");
    check_says(refusal([&] { Checkpoint({folder / "empty"}); }), "has no *.safetensors file");
    write_safetensors(folder / "a.safetensors", {blocks, scales});
    write_safetensors(folder / "b.safetensors", {blocks});
    check_says(refusal([&] {
                   Checkpoint({folder / "a.safetensors", folder / "b.safetensors"});
               }),
               "was seen before, in " + (folder / "a.safetensors").string());
    check_says(refusal([&] { Checkpoint({folder / "a.safetensors"}, [](const std::string&) { return false; }); }),
               "none of the MXFP4 expert tensors is selected");

    TestWeights nan = w;
    nan.scale(1, 3, 1) = 255;
    write_safetensors(folder / "nan.safetensors", {blocks_tensor("p_blocks", nan), scales_tensor("p_scales", nan)});
    const Checkpoint checkpoint({folder / "nan.safetensors"});
    check_says(refusal([&] { pack_file(checkpoint, folder / "out", {}, false, {}); }),
               "tensor 'p_scales': a scale is NaN: expert 1, row 3, block 1");
    CHECK(folder.files() == std::vector<std::string>{"a.safetensors", "b.safetensors", "empty", "nan.safetensors"});
}

TEST_CASE("packed files that lie are refused, keys of later versions are not") {
    const TemporaryFolder folder;
    const TestWeights w(2, 70, 96, 1, 100, 130);
    write_safetensors(folder / "a.safetensors",
                      {blocks_tensor("p_blocks", w), scales_tensor("p_scales", w), bias_tensor("p_bias", w)});
    const Checkpoint checkpoint({folder / "a.safetensors"});
    pack_file(checkpoint, folder / "native", {}, false, {});
    pack_file(checkpoint, folder / "hopper", {.layout = Layout::hopper}, false, {});

    using Change = std::function<void(FileParts&)>;
    const auto with = [&](const char* layout, const Change& change) {
        FileParts parts(folder / layout);
        change(parts);
        write_safetensors(folder / "changed", parts.header, parts.data);
        return folder / "changed";
    };
    const auto why = [&](const char* layout, const Change& change, ErrorCode code = ErrorCode::bad_file) {
        const auto path = with(layout, change);
        return refusal([&] { PackedFile::open(path); }, code);
    };
    const auto set = [](const char* key, const json& value) {
        return [=](FileParts& parts) {
            auto& text = parts.header["__metadata__"]["mxfp4.p"];
            json object = json::parse(text.get<std::string>());
            object[key] = value;
            text = object.dump();
        };
    };
    const auto erase = [](const char* key) {
        return [=](FileParts& parts) {
            auto& text = parts.header["__metadata__"]["mxfp4.p"];
            json object = json::parse(text.get<std::string>());
            object.erase(key);
            text = object.dump();
        };
    };

    for (const Change& change :
         {Change(set("later", 7)), Change(set("row_order", "identity")), Change(erase("row_order")),
          Change(erase("source_names")), Change(erase("num_warps")), Change(set("source_names", 4))})
        CHECK(PackedFile::open(with("native", change)).names() == std::vector<std::string>{"p"});
    CHECK(PackedFile::open(with("native", [](FileParts& f) { f.header["__metadata__"]["mxfp4.made_by"] = "x"; }))
              .names()
              .size() == 1);

    check_says(refusal([&] { PackedFile::open(folder / "a.safetensors"); }), "is no packed file");
    check_says(
        why(
            "native", [](FileParts& f) { f.header["__metadata__"]["mxfp4.format"] = "2"; }, ErrorCode::unsupported),
        "unknown mxfp4.format (is '2'");
    check_says(why("native", [](FileParts& f) { f.header["__metadata__"].erase("mxfp4.p"); }), "has no packed weight");
    check_says(why("native", [](FileParts& f) { f.header["__metadata__"]["mxfp4.p"] = "{"; }),
               "'p' has metadata that is no JSON object");
    check_says(why("native", set("layout_version", 1), ErrorCode::unsupported),
               "unknown layout_version (is 1, must be 2): pack the checkpoint again");
    check_says(why("hopper", set("layout_version", 2), ErrorCode::unsupported),
               "unknown layout_version (is 2, must be 1)");
    check_says(why("native", set("layout", "hopper2"), ErrorCode::unsupported), "unknown layout (is 'hopper2'");
    check_says(why("native", set("scale_class", "x"), ErrorCode::unsupported), "unknown scale_class");
    check_says(why("native", set("row_order", "sorted"), ErrorCode::unsupported),
               "unknown row_order (is 'sorted', must be identity)");
    for (const char* key : {"layout", "layout_version", "scale_class", "experts", "n", "k"})
        check_says(why("native", erase(key)), std::string("has no ") + key);
    check_says(why("hopper", erase("num_warps")), "has no num_warps");
    check_says(why("native", set("layout", 3)), "bad layout");
    check_says(why("native", set("n", "70")), "bad n");
    check_says(why("native", set("n", -70)), "bad n");
    check_says(why("native", set("n", 18446744073709551615ull)), "bad n");
    check_says(why("native", set("k", 90)), "bad k (is 90, must be a multiple of 32)");
    check_says(why("native", set("n", 2147483647)), "does not fit its tensor 'p.values'");
    check_says(why("native", set("experts", 3)),
               "does not fit its tensor 'p.values' (is U8 [2, 2, 2, 2048], must be U8 [3, 2, 2, 2048])");
    check_says(why("native", set("num_warps", 8)), "bad num_warps");
    check_says(why("hopper", set("num_warps", 6)), "bad num_warps");
    check_says(why("hopper", set("num_warps", 1 << 30)), "bad num_warps");
    check_says(why("hopper", set("num_warps", 4)), "does not fit its tensor 'p.scales'");
    check_says(why("hopper", set("layout", "blocks")), "does not fit its tensor 'p.values'");
    const auto rename = [](const char* from, const char* to) {
        return [=](FileParts& f) {
            f.header[to] = f.header[from];
            f.header.erase(from);
        };
    };
    check_says(why("native", rename("p.values", "q.values")), "has no tensor 'p.values'");
    check_says(why("native", rename("p.scales", "q.scales")), "has no tensor 'p.scales'");
    check_says(why("native", rename("p.expert_scale", "q")), "has no tensor 'p.expert_scale'");
    check_says(why("native", [](FileParts& f) { f.header["p.values"]["dtype"] = "I8"; }),
               "does not fit its tensor 'p.values' (is I8");
    check_says(why("native", [](FileParts& f) { f.header["p.bias"]["shape"] = {70, 2}; }), "does not fit its bias");
    check_says(why("native", [](FileParts& f) { f.data.pop_back(); }), "past the end of the file");
    const auto set_expert_scale = [](float value) {
        return [=](FileParts& f) {
            std::memcpy(f.data.data() + f.header["p.expert_scale"]["data_offsets"][0].get<std::size_t>() + 4, &value,
                        4);
        };
    };
    CHECK(PackedFile::open(with("native", set_expert_scale(8)))["p"].expert_scale[1] == 8);
    for (const float bad : {3.0f, 0.0f, -2.0f, 0.5f})
        check_says(why("native", set_expert_scale(bad)), "bad entry 1 in 'p.expert_scale'");
    check_says(why("native", set("scale_class", "folded")), "bad entry 0 in 'p.expert_scale' (is 4, must be 1)");
    check_says(why("native", set("scale_class", "plain")), "bad entry 0");

    // Source names that would make a checkpoint that lies.
    const auto path = with("native", set("source_names", {{"blocks", "same"}, {"scales", "same"}}));
    const PackedContents contents(path);
    check_says(refusal([&] { unpack_file(contents, {&contents.entries()[0]}, folder / "back", {}); },
                       ErrorCode::invalid_argument),
               "two tensors would have the same name (is 'same')");
    CHECK(!std::filesystem::exists(folder / "back"));
}

TEST_CASE("work that is broken off leaves nothing") {
    const TemporaryFolder folder;
    const TestWeights w(4, 64, 64, 1);
    write_safetensors(folder / "a.safetensors", {blocks_tensor("p_blocks", w), scales_tensor("p_scales", w)});
    const Checkpoint checkpoint({folder / "a.safetensors"});
    const FileOptions options{.threads = 2, .progress = [](std::uint64_t) { throw Error(ErrorCode::io, "stop"); }};
    check_says(refusal([&] { pack_file(checkpoint, folder / "out", {}, false, options); }, ErrorCode::io), "stop");
    CHECK(folder.files() == std::vector<std::string>{"a.safetensors"});
}

TEST_CASE("verification finds a single wrong byte before the file gets its name") {
    const TemporaryFolder folder;
    const TestWeights w(2, 64, 64, 1);
    write_safetensors(folder / "a.safetensors",
                      {blocks_tensor("p_blocks", w), scales_tensor("p_scales", w), bias_tensor("p_bias", w)});
    const Checkpoint checkpoint({folder / "a.safetensors"});
    for (const auto& [at, part] : {std::pair<std::int64_t, const char*>{0, "blocks of expert 0"},
                                   {2048, "blocks of expert 1"},
                                   {4096, "scales of expert 0"},
                                   {4096 + 128, "scales of expert 1"}}) {
        int calls = 0;
        const FileOptions damage{.threads = 1, .progress = [&](std::uint64_t) {
                                     if (++calls != 2) return;  // both experts are written now
                                     const std::string name = folder.files()[0];
                                     REQUIRE(name.starts_with(".out."));
                                     const auto start = std::int64_t(std::filesystem::file_size(folder / name)) -
                                                        (4096 + 256 + 8 + 256);
                                     std::fstream file(folder / name, std::ios::binary | std::ios::in | std::ios::out);
                                     file.seekg(start + at);
                                     const char byte = char(file.peek() ^ 1);
                                     file.seekp(start + at);
                                     file.put(byte);
                                 }};
        check_says(refusal([&] { pack_file(checkpoint, folder / "out", {}, true, damage); }), part);
        CHECK(folder.files() == std::vector<std::string>{"a.safetensors"});
    }
}
