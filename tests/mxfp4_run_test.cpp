// mxfp4-run on packed files that mxfp4-pack made: results, choices, and what bad input gets.
#include <catch2/catch_test_macros.hpp>

#include <nlohmann/json.hpp>

#include "contract/config.h"
#include "pack/safetensors.h"
#include "support/matmul_case.h"
#include "support/run_tool.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

template <class T>
std::span<const std::uint8_t> bytes_of(const std::vector<T>& values) {
    return {reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(T)};
}

void write_tensors(const std::filesystem::path& path, const std::vector<Tensor>& tensors) {
    SafetensorsWriter writer(path, tensors, {});
    for (std::size_t i = 0; i < tensors.size(); ++i) writer.write(i, 0, tensors[i].data);
    writer.finish();
    writer.commit();
}

const std::string kFirst = "model.layers.0.mlp.experts.gate_up_proj",
                  kSecond = "model.layers.1.mlp.experts.gate_up_proj";

// A folder with a checkpoint, its packed files (two.safetensors has two weights, one.safetensors the first), and an
// input.
struct Files {
    TemporaryFolder folder;
    Random random{11};
    Checkpoint first = random_checkpoint(random, 3, 80, 64), second = random_checkpoint(random, 2, 40, 96);
    i64 rows = 21;
    std::vector<u16> x = random_bf16(random, 21 * 64);
    std::vector<i32> offsets = {0, 5, 5, 20, 21}, ids = {2, 0, 1, 7};  // the last names no expert: its row is zero

    Files() {
        write_tensors(folder / "checkpoint.safetensors",
                      {blocks(kFirst, first), scales(kFirst, first), blocks(kSecond, second), scales(kSecond, second)});
        REQUIRE(
            run_tool("MXFP4_PACK", {"checkpoint.safetensors", "-o", "two.safetensors", "--quiet"}, folder).exit_code ==
            0);
        REQUIRE(run_tool("MXFP4_PACK",
                         {"checkpoint.safetensors", "-o", "one.safetensors", "--quiet", "--only", "layers.0"}, folder)
                    .exit_code == 0);
        write_input();
    }
    static Tensor blocks(const std::string& name, const Checkpoint& c) {
        return {name + "_blocks", "U8", {c.experts, c.n, c.k / 32, 16}, c.blocks};
    }
    static Tensor scales(const std::string& name, const Checkpoint& c) {
        return {name + "_scales", "U8", {c.experts, c.n, c.k / 32}, c.scales};
    }

    Tensor x_tensor() const { return {"x", "BF16", {rows, 64}, bytes_of(x)}; }
    Tensor offsets_tensor() const { return {"expert_offsets", "I32", {i64(offsets.size())}, bytes_of(offsets)}; }
    Tensor ids_tensor() const { return {"expert_ids", "I32", {i64(ids.size())}, bytes_of(ids)}; }
    void write_input() const { write_tensors(folder / "in.safetensors", {x_tensor(), offsets_tensor(), ids_tensor()}); }

    // Arguments that `more` does not give.
    ToolRun run(std::vector<std::string> more = {}) const {
        const std::pair<const char*, const char*> usual[] = {{"--device", "host"},
                                                             {"--db", "tuned.sqlite"},
                                                             {"--weights", "one.safetensors"},
                                                             {"--input", "in.safetensors"},
                                                             {"-o", "out.safetensors"}};
        for (const auto& [name, value] : usual)
            if (std::find(more.begin(), more.end(), name) == more.end()) more.insert(more.end(), {name, value});
        return run_tool("MXFP4_RUN", more, folder);
    }
    std::string judged() const {
        const SafetensorsFile out(folder / "out.safetensors");
        const Tensor* const tensor = out.find("y");
        if (!tensor || tensor->dtype != "BF16" || tensor->shape != std::vector<std::int64_t>{rows, 80})
            return "no y BF16 [rows, N]";
        PoisonedRows y(rows, 80, 80);
        std::copy_n(tensor->data.data(), tensor->data.size(), reinterpret_cast<std::uint8_t*>(y.data()));
        std::vector<float> want(std::size_t(rows * 80));
        reference_matmul(first.view(), {x.data(), 0, offsets.data(), ids.data(), i32(ids.size()), rows}, want.data(),
                         0);
        return judge(y, want, offsets);
    }
};

// One clear line, exit 1, and no output.
void check_refused(const Files& files, const std::string& part,
                   const std::vector<std::string>& arguments = {"--quiet"}) {
    const ToolRun run = files.run(arguments);
    INFO("stderr: " << run.error);
    CHECK(run.exit_code == 1);
    CHECK(run.one_error_line());
    CHECK(run.error.starts_with("mxfp4-run: "));
    CHECK(run.error.find(part) != std::string::npos);
    CHECK(run.out.empty());
    CHECK_FALSE(std::filesystem::exists(files.folder / "out.safetensors"));
}

}  // namespace

TEST_CASE("mxfp4-run multiplies, says what ran, and takes a config") {
    const Files files;
    const ToolRun plain = files.run();
    INFO(plain.error);
    REQUIRE(plain.exit_code == 0);
    CHECK(plain.out.find("host/native") == 0);
    CHECK(plain.out.find("fallback") != std::string::npos);
    CHECK(files.judged() == "");
    const std::string bytes = text_of(files.folder / "out.safetensors");

    const ToolRun json = files.run({"--json", "--repeat", "5"});
    REQUIRE(json.exit_code == 0);
    const auto object = nlohmann::json::parse(json.out);
    CHECK(object.at("how") == "fallback");
    CHECK(object.at("us") > 0);
    CHECK(object.size() == 3);

    const ToolRun given = files.run({"--json", "--config", "host/native bm3 bn64 bk64 w2 s1 k1"});
    REQUIRE(given.exit_code == 0);
    CHECK(nlohmann::json::parse(given.out).at("config") == "host/native bm3 bn64 bk64 w2 s1 k1");
    CHECK(nlohmann::json::parse(given.out).at("how") == "given");
    CHECK(text_of(files.folder / "out.safetensors") == bytes);
    CHECK(files.run({"--quiet"}).error.empty());
    for (const auto& entry : std::filesystem::directory_iterator(files.folder.path()))
        CHECK(entry.path().filename().string().find("tmp") == std::string::npos);
}

TEST_CASE("PACKED:P names a weight; the colon splits only where no such file exists") {
    const Files files;
    CHECK(files.run({"--weights", "two.safetensors:" + kFirst}).exit_code == 0);
    CHECK(files.judged() == "");
    std::filesystem::rename(files.folder / "one.safetensors", files.folder / "a:b");
    CHECK(files.run({"--weights", "a:b"}).exit_code == 0);
    CHECK(files.run({"--weights", "a:b:" + kFirst}).exit_code == 0);
    std::filesystem::remove(files.folder / "out.safetensors");
    check_refused(files, "gate_up_proj", {"--weights", "a:b:nothing", "--quiet"});
    check_refused(files, "none.safetensors", {"--weights", "none.safetensors", "--quiet"});
    check_refused(files, "in.safetensors", {"--weights", "in.safetensors", "--quiet"});
    check_refused(files, "K = 96", {"--weights", "two.safetensors:" + kSecond, "--quiet"});
    const ToolRun several = files.run({"--weights", "two.safetensors", "--quiet"});
    CHECK(several.exit_code == 2);
    CHECK(several.error.find(kSecond) != std::string::npos);
}

TEST_CASE("arguments that are wrong alone exit with 2") {
    const Files files;
    const std::vector<std::vector<std::string>> wrongs = {{"--frobnicate"},      {"--repeat", "0"},
                                                          {"--repeat", "many"},  {"--config", "host/native bm"},
                                                          {"--config", "quick"}, {"--device", "tpu"}};
    for (const auto& wrong : wrongs) {
        const ToolRun run = files.run(wrong);
        INFO(wrong[0] << ": " << run.error);
        CHECK(run.exit_code == 2);
        CHECK(run.one_error_line());
    }
    CHECK(run_tool("MXFP4_RUN", {"--input", "in.safetensors"}, files.folder).exit_code == 2);
    CHECK(run_tool("MXFP4_RUN", {"--help"}, files.folder).exit_code == 0);
    CHECK(run_tool("MXFP4_RUN", {"--version"}, files.folder).out.find("mxfp4-run 0.") == 0);
    CHECK_FALSE(std::filesystem::exists(files.folder / "out.safetensors"));
}

TEST_CASE("configs that cannot run here exit with 1 and say why") {
    const Files files;
    check_refused(files, reject_text(Reject::block_n_not_supported),
                  {"--config", "host/native bm8 bn100 bk64 w1 s1 k1", "--quiet"});
    check_refused(files, reject_text(Reject::layout_not_admissible),
                  {"--config", "host/hopper bm8 bn64 bk64 w1 s1 k1", "--quiet"});
    check_refused(files, "host kernels alone", {"--config", "wgmma_rs/native bm64 bn256 bk128 w12 s4 k1", "--quiet"});
}

TEST_CASE("input that is not what it must be exits with 1, and nothing is written") {
    Files files;
    const std::filesystem::path in = files.folder / "in.safetensors";
    struct Offsets {
        std::vector<i32> values;
        const char* part;
    };
    for (const Offsets& wrong :
         {Offsets{{0, 5, 4, 20, 21}, "expert_offsets[2] (is 4, must be at least 5"},
          Offsets{{-1, 5, 5, 20, 21}, "expert_offsets[0] (is -1"},
          Offsets{{1, 5, 5, 20, 21}, "expert_offsets[0] (is 1"}, Offsets{{0, 5, 5, 20, 22}, "(is 22, must be 21"},
          Offsets{{0, 5, 5, 20, 20}, "(is 20, must be 21"}, Offsets{{0}, "elements of expert_offsets"},
          Offsets{{}, "elements of expert_offsets"}, Offsets{{0, 21}, "expert_ids"}}) {
        files.offsets = wrong.values;
        files.write_input();
        check_refused(files, wrong.part);
    }
    files.offsets = {0, 5, 5, 20, 21};
    std::vector<float> floats(21 * 64);
    std::vector<i64> longs(5);
    const Tensor x = files.x_tensor(), offsets = files.offsets_tensor(), ids = files.ids_tensor();
    struct Tensors {
        std::vector<Tensor> tensors;
        const char* part;
    };
    for (const Tensors& wrong :
         {Tensors{{{"x", "F32", {21, 64}, bytes_of(floats)}, offsets, ids}, "F32"},
          Tensors{{{"x", "BF16", {21 * 64}, x.data}, offsets, ids}, "[1344]"},
          Tensors{{{"x", "BF16", {42, 32}, x.data}, offsets, ids}, "(is 32, must be K = 64"},
          Tensors{{offsets, ids}, "tensor x (is missing"}, Tensors{{x, ids}, "tensor expert_offsets (is missing"},
          Tensors{{x, {"expert_offsets", "I64", {5}, bytes_of(longs)}, ids}, "I64"},
          Tensors{{x, offsets}, "groups without expert_ids (is 4, must be at most E = 3"}}) {
        write_tensors(in, wrong.tensors);
        check_refused(files, wrong.part);
    }
    std::filesystem::resize_file(in, 30);
    check_refused(files, "in.safetensors");
    std::filesystem::resize_file(in, 0);
    check_refused(files, "in.safetensors");
    std::filesystem::remove(in);
    check_refused(files, "in.safetensors");
}

TEST_CASE("no rows give an empty y, and an output that cannot be written is an error") {
    Files files;
    files.rows = 0;
    files.offsets = {0, 0, 0, 0, 0};
    files.x.clear();
    files.write_input();
    CHECK(files.run().exit_code == 0);
    CHECK(files.judged() == "");
    const ToolRun run = files.run({"-o", "no/such/folder/out.safetensors", "--quiet"});
    CHECK(run.exit_code == 1);
    CHECK(run.one_error_line());
}

TEST_CASE("an input is not overwritten") {
    const Files files;
    for (const char* input : {"in.safetensors", "one.safetensors"}) {
        const std::string before = text_of(files.folder / input);
        check_refused(files, "would overwrite an input", {"-o", input, "--quiet"});
        CHECK(text_of(files.folder / input) == before);
    }
}

TEST_CASE("the README's lines run") {
    const Files files;
    const ToolRun run = run_tool("TEN_LINES", {"two.safetensors"}, files.folder);
    INFO(run.error);
    REQUIRE(run.exit_code == 0);
    // All x are one: y[0, 0] is the sum of the weights of the first expert's first output.
    const std::vector<u16> ones(64, 0x3F80);
    const i32 offsets[] = {0, 1}, expert = 0;
    std::vector<float> want(80);
    reference_matmul(files.first.view(), {ones.data(), 0, offsets, &expert, 1, 1}, want.data(), 0);
    CHECK(run.out.find(fmt::format("y[0, 0] = 0x{:04x}\n", float_to_bf16(want[0]))) != std::string::npos);
    CHECK(run.out.find("host/native") == 0);
    CHECK(run_tool("TEN_LINES", {"none.safetensors"}, files.folder).exit_code == 1);
}
