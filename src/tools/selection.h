// Which weights and how many tokens: the arguments that mxfp4-tune and mxfp4-bench share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <mxfp4/packed.h>

#include "tools/tool.h"
#include "tuner/sample_weights.h"

namespace mxfp4 {

// "1,2,4-1024": a-b means a, 2a, 4a ... up to b. Ascending, none twice. These throw Error invalid_argument.
std::vector<std::int64_t> parse_tokens(std::string_view text);

struct WeightSize {
    std::int64_t experts = 0, n = 0, k = 0;
};
WeightSize parse_shape(std::string_view text);  // "E,N,K"

// One weight to tune or time.
struct Target {
    std::string model;  // gpt-oss-20b; of a file: its name; of a shape: "shape"
    std::string mlp;    // mlp1, mlp2; of a file: P; of a shape: E,N,K
    WeightsInfo info;
    std::optional<PackedFile> file;  // where info.name is read from

    SampleWeights sample() const;
};

struct Selection {
    std::vector<Target> targets;  // of a file: one for each format and size
    std::vector<std::int64_t> tokens;
    std::optional<int> top_k;

    int top_k_of(const Target& target) const;  // by default 4, or as many as there are experts
};

class SelectionArguments {
  public:
    explicit SelectionArguments(Tool& tool);  // adds the options

    Selection read() const;  // after parsing; throws UsageError

  private:
    void add_file(Selection& selection) const;

    std::string model_, weights_, tokens_ = "1-16384", layout_ = "native";
    std::vector<std::string> shapes_;
    std::optional<int> top_k_, num_warps_;
    CLI::Option* layout_option_;
};

}  // namespace mxfp4
