// Drives mxfp4-bench on the host: the dispatcher's choice, checks, files, exit codes.
#include <filesystem>
#include <fstream>

#include <catch2/catch_test_macros.hpp>

#include "support/run_words.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

struct Bench {
    TemporaryFolder folder;
    std::string database = (folder / "tuned.sqlite").string();

    ToolRun operator()(const std::string& arguments) const {
        return run_words("MXFP4_BENCH", "--device host --db " + database + " " + arguments, folder);
    }
};

}  // namespace

TEST_CASE("untuned it times the default, tuned the winner") {
    const Bench bench;
    const std::string arguments = "--shape 4,128,64 --tokens 1,16 --json --check";
    const ToolRun before = bench(arguments);
    INFO(before.error);
    REQUIRE(before.exit_code == 0);
    auto rows = json_lines(before);
    REQUIRE(rows.size() == 2);
    for (const auto& row : rows) {
        CHECK(row["how"] == "fallback");
        CHECK(row["us"] > 0);
        CHECK(row["us_p10"] <= row["us"]);
        CHECK(row["us"] <= row["us_p90"]);
        CHECK(row["rel_err"] > 0);
        CHECK(row["rel_err"] < 2.5e-3);
    }
    CHECK(rows[1]["rows"] == 64);

    const ToolRun tuned =
        run_words("MXFP4_TUNE", "--device host --shape 4,128,64 --tokens 1,16 --budget 5 --json --db " + bench.database,
                  bench.folder);
    REQUIRE(tuned.exit_code == 0);
    const auto winners = json_lines(tuned);
    rows = json_lines(bench(arguments));
    REQUIRE(rows.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(rows[i]["how"] == "exact");
        CHECK(rows[i]["config"] == winners[i]["config"]);
    }
}

TEST_CASE("every routing gives right results") {
    const Bench bench;
    for (const char* routing : {"uniform", "skewed", "sparse", "one"}) {
        const ToolRun result =
            bench("--shape 12,64,96 --layout hopper --tokens 9 --json --check --routing " + std::string(routing));
        INFO(routing << ": " << result.error);
        CHECK(result.exit_code == 0);
        REQUIRE(json_lines(result).size() == 1);
        const int active = json_lines(result)[0]["active"];
        CHECK((routing == std::string("uniform")  ? active > 8
               : routing == std::string("skewed") ? active > 4
                                                  : active == 1));
    }
}

TEST_CASE("writes its files") {
    const Bench bench;
    const std::filesystem::path out = bench.folder / "a" / "b";
    const ToolRun result = bench("--shape 2,64,64 --tokens 1,2 --commit abc123 --out " + out.string());
    INFO(result.error);
    REQUIRE(result.exit_code == 0);
    CHECK(result.out.find("Geometric means") == std::string::npos);  // nobody measured this machine's ceilings
    const auto results = nlohmann::json::parse(std::ifstream(out / "results.json"));
    for (const char* key : {"gpu", "driver", "toolkit", "nvrtc", "commit", "date"}) CHECK(results.contains(key));
    CHECK(results["commit"] == "abc123");
    CHECK(results["rows"].size() == 2);
    CHECK(results["rows"][0]["tokens"] == 1);
    CHECK(results["rows"][0]["rel_err"].is_null());
    CHECK(results["summary"].size() == 2);
    CHECK(std::filesystem::file_size(out / "chart.svg") > 500);
    CHECK(std::filesystem::file_size(out / "table.txt") > 100);
}

TEST_CASE("times the weights of a packed file") {
    const Bench bench;
    const std::string packed = (bench.folder / "packed:1.safetensors").string();  // a colon that splits nothing
    REQUIRE(run_words("MXFP4_MAKE_CHECKPOINT",
                      "--experts 6 --hidden 64 --intermediate 96 --layers 2 --quiet -o checkpoint", bench.folder)
                .exit_code == 0);
    REQUIRE(run_words("MXFP4_PACK", "--quiet --layout blocks checkpoint -o " + packed, bench.folder).exit_code == 0);
    const ToolRun all = bench("--tokens 3 --json --check --weights " + packed);
    INFO(all.error);
    REQUIRE(all.exit_code == 0);
    const auto rows = json_lines(all);
    REQUIRE(rows.size() == 2);  // two layers hold weights of two sizes
    CHECK(rows[0]["mlp"] == "model.layers.0.mlp.experts.down_proj");
    CHECK(rows[0]["layout"] == "blocks");
    CHECK(rows[0]["n"] == 64);
    CHECK(rows[1]["n"] == 192);

    const ToolRun one =
        bench("--tokens 3 --json --check --weights " + packed + ":model.layers.1.mlp.experts.down_proj");
    INFO(one.error);
    REQUIRE(json_lines(one).size() == 1);
    CHECK(json_lines(one)[0]["mlp"] == "model.layers.1.mlp.experts.down_proj");
    const ToolRun none = bench("--tokens 3 --weights " + packed + ":nothing");
    CHECK(none.exit_code == 1);
    CHECK(none.error.find("nothing") != std::string::npos);
}

TEST_CASE("says what it cannot compare with") {
    const Bench bench;
    const ToolRun result = bench("--shape 2,64,64 --tokens 1 --json --against naive,cublas");
    CHECK(result.exit_code == 0);
    CHECK(result.error.find("--against naive") != std::string::npos);
    CHECK(result.error.find("--against cublas") != std::string::npos);
    CHECK_FALSE(json_lines(result).at(0).contains("cublas_us"));
}

TEST_CASE("wrong arguments, and what fails") {
    const Bench bench;
    for (const char* bad :
         {"--against marlin --shape 2,64,64", "--routing best --shape 2,64,64", "--shape 2,64,63", "--tokens a"}) {
        const ToolRun result = bench(bad);
        INFO(bad << ": " << result.error);
        CHECK(result.exit_code == 2);
        CHECK(result.out.empty());
        CHECK(result.error.starts_with("mxfp4-bench: "));
    }
    CHECK(bench("--shape 2,64,64 --tokens 1 --peers /nonexistent.json").exit_code == 1);
    const auto peers = bench.folder.write("peers.json", "[{]");
    CHECK(bench("--shape 2,64,64 --tokens 1 --peers " + peers.string()).exit_code == 1);
    const auto file = bench.folder.write("file", "");
    CHECK(bench("--shape 2,64,64 --tokens 1 --out " + (file / "below").string()).exit_code == 1);
    CHECK(run_words("MXFP4_BENCH", "--help", bench.folder).exit_code == 0);
}
