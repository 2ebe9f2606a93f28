// The arguments that mxfp4-tune and mxfp4-bench share: lists of tokens, shapes, models, packed files.
#include <initializer_list>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#include "tools/selection.h"

using namespace mxfp4;

namespace {

using Tokens = std::vector<std::int64_t>;

struct Outcome {
    int code = 0;
    Selection selection;
};

Outcome select(std::initializer_list<std::string> arguments) {
    Tool tool("selection-test", "");
    SelectionArguments selection(tool);
    std::vector<std::string> texts = {"selection-test"};
    texts.insert(texts.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& text : texts) argv.push_back(text.data());
    Outcome outcome;
    outcome.code = tool.run(int(argv.size()), argv.data(), [&] {
        outcome.selection = selection.read();
        return kExitDone;
    });
    return outcome;
}

}  // namespace

TEST_CASE("lists of tokens") {
    CHECK(parse_tokens("7") == Tokens{7});
    CHECK(parse_tokens("1,2,4-64") == Tokens{1, 2, 4, 8, 16, 32, 64});
    CHECK(parse_tokens("4-64") == Tokens{4, 8, 16, 32, 64});
    CHECK(parse_tokens("3-13") == Tokens{3, 6, 12});  // up to b, not beyond
    CHECK(parse_tokens("64,1,64,2-2") == Tokens{1, 2, 64});
    CHECK(parse_tokens("1-2147483647").back() == 1 << 30);
    for (const char* bad : {"", ",", "1,", "x", "1x", "-1", "0", "1-", "-", "8-4", "1-2-3", "1 2",
                            "99999999999999999999", "2147483648"}) {
        INFO(bad);
        CHECK_THROWS_AS(parse_tokens(bad), Error);
    }
}

TEST_CASE("shapes") {
    const WeightSize size = parse_shape("8,14336,4096");
    CHECK(size.experts == 8);
    CHECK(size.n == 14336);
    CHECK(size.k == 4096);
    for (const char* bad : {"", "8,64", "8,64,64,64", "0,64,64", "8,-64,64", "8,64,33", "a,64,64", "8,64,"}) {
        INFO(bad);
        CHECK_THROWS_AS(parse_shape(bad), Error);
    }
}

TEST_CASE("models by name, gpt-oss-20b by default") {
    const Selection small = select({}).selection;
    REQUIRE(small.targets.size() == 2);
    CHECK(small.targets[0].model == "gpt-oss-20b");
    CHECK(small.targets[0].mlp == "mlp1");
    CHECK(small.targets[0].info.experts == 32);
    CHECK(small.targets[0].info.n == 5760);
    CHECK(small.targets[1].info.n == 2880);
    CHECK(small.targets[1].info.k == 2880);
    CHECK(small.targets[0].info.format == WeightsFormat{Layout::native, 0, ScaleClass::folded});
    CHECK(small.tokens.size() == 15);
    CHECK(small.tokens.back() == 16384);
    CHECK(small.top_k_of(small.targets[0]) == 4);

    const Selection large =
        select({"--model", "gpt-oss-120b", "--layout", "hopper", "--num-warps", "4", "--top-k", "2"}).selection;
    REQUIRE(large.targets.size() == 2);
    CHECK(large.targets[0].info.experts == 128);
    CHECK(large.targets[0].info.format == WeightsFormat{Layout::hopper, 4, ScaleClass::folded});
    CHECK(large.top_k_of(large.targets[0]) == 2);
}

TEST_CASE("shapes from the command line") {
    const Selection selection =
        select({"--shape", "2,64,64", "--shape", "8,128,96", "--tokens", "1,3", "--layout", "blocks"}).selection;
    REQUIRE(selection.targets.size() == 2);
    CHECK(selection.targets[1].model == "shape");
    CHECK(selection.targets[1].mlp == "8,128,96");
    CHECK(selection.targets[1].info.k == 96);
    CHECK(selection.targets[0].info.format == WeightsFormat{Layout::blocks, 8, ScaleClass::folded});
    CHECK(selection.tokens == Tokens{1, 3});
    // Fewer experts than the usual four.
    CHECK(selection.top_k_of(selection.targets[0]) == 2);
    CHECK(selection.top_k_of(selection.targets[1]) == 4);
    const SampleWeights sample = selection.targets[1].sample();
    CHECK(sample.info.experts == 8);
    CHECK(sample.info.format == selection.targets[1].info.format);
}

TEST_CASE("arguments that are wrong by themselves are exit code 2") {
    CHECK(select({"--model", "gpt-oss-7b"}).code == kExitUsage);
    CHECK(select({"--model", "gpt-oss-20b", "--shape", "2,64,64"}).code == kExitUsage);
    CHECK(select({"--model", "gpt-oss-20b", "--weights", "x"}).code == kExitUsage);
    CHECK(select({"--weights", "x", "--layout", "native"}).code == kExitUsage);
    CHECK(select({"--shape", "2,64"}).code == kExitUsage);
    CHECK(select({"--tokens", "4-2"}).code == kExitUsage);
    CHECK(select({"--layout", "marlin"}).code == kExitUsage);
    CHECK(select({"--num-warps", "8"}).code == kExitUsage);  // native
    CHECK(select({"--layout", "hopper", "--num-warps", "6"}).code == kExitUsage);
    CHECK(select({"--top-k", "0"}).code == kExitUsage);
    CHECK(select({"--top-k", "33"}).code == kExitUsage);
    CHECK(select({"--tokens", "2147483647"}).code == kExitUsage);  // too many rows
    CHECK(select({"--frobnicate"}).code == kExitUsage);
}

TEST_CASE("a file that is not there is a failure, not a wrong argument") {
    CHECK(select({"--weights", "/nonexistent/weights.safetensors"}).code == kExitFailed);
}
