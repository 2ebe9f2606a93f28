#include "tuner/proven.h"

#include <algorithm>
#include <iterator>
#include <string>

#include <fmt/format.h>

#include "core/config_text.h"

namespace mxfp4 {
namespace {

// Few outputs and long stages: tiles are few, and are to come out even.
constexpr double kFewRows = 3;
constexpr const char* kOfFewRows[] = {
    "bm8 bn64 bk320 w8 s4 k1 c3",  "bm8 bn64 bk320 w8 s4 k1 c2",  "bm8 bn64 bk320 w8 s3 k1 c2", "bm8 bn64 bk256 w12 s5 k1 c2",
    "bm8 bn64 bk256 w12 s4 k1 c2", "bm8 bn64 bk192 w16 s5 k1 c2", "bm8 bn192 bk320 w16 s3 k1",  "bm8 bn128 bk320 w8 s2 k1 c2",
};

// Many outputs: x is copied once for all of a tile's. In tiles of the two smallest sizes that have room for a group's rows and some more:
// not all groups are alike.
constexpr double kMoreRows = 42, kRoom = 1.15;
constexpr int kSizes[] = {16, 24, 32, 40, 48};
constexpr const char* kOfMoreRows[] = {
    "bn512 bk192 w20 s3 k1", "bn384 bk320 w16 s2 k1", "bn384 bk192 w16 s3 k1",
    "bn256 bk320 w20 s3 k1", "bn192 bk320 w16 s3 k1", "bn128 bk320 w8 s2 k1 c3",
};

// With room for ten times as many rows, which a group has where nine in ten experts are empty.
constexpr double kMostRoom = 12;
constexpr struct {
    int size;
    const char* block;
} kWithRoom[] = {{16, "bn64 bk320 w8 s4 k1 c2"}, {24, "bn192 bk320 w16 s3 k1"}, {48, "bn192 bk320 w16 s3 k1"}, {48, "bn384 bk192 w16 s3 k1"}};

// As large as registers allow.
constexpr double kManyRows = 96, kVeryManyRows = 192;
constexpr const char* kOfManyRows[] = {
    "bm80 bn384 bk128 w16 s4 k1", "bm80 bn384 bk192 w16 s2 k1",     "bm80 bn192 bk192 w16 s4 k1",
    "bm96 bn256 bk192 w12 s3 k1", "bm96 bn256 bk192 w20 s3 k1 cl2", "bm96 bn256 bk128 w12 s4 k0",
};
constexpr const char* kOfVeryManyRows[] = {
    "bm152 bn192 bk128 w16 s3 k1 cl2",
    "bm152 bn192 bk64 w16 s5 k1 cl2",
    "bm160 bn192 bk64 w16 s5 k1 cl2",
    "bm144 bn192 bk128 w16 s4 k1",
};
constexpr const char* kOfMost[] = {
    "bm192 bn192 bk64 w16 s6 k1 cl2",  "bm192 bn192 bk64 w16 s6 k1",  "bm192 bn192 bk128 w16 s3 k1 cl2",
    "bm144 bn192 bk128 w16 s4 k1 cl2", "bm144 bn192 bk128 w16 s4 k1", "bm144 bn256 bk64 w12 s5 k1 cl2",
    "bm152 bn192 bk64 w16 s5 k1 cl2",
};

std::vector<std::string> of_few_rows(double rows) {
    std::vector<std::string> texts;
    if (rows < kFewRows)
        texts.assign(std::begin(kOfFewRows), std::end(kOfFewRows));
    else
        for (const int size : kSizes)
            if (size >= kRoom * rows && texts.size() < 2 * std::size(kOfMoreRows))
                for (const char* block : kOfMoreRows) texts.push_back(fmt::format("bm{} {}", size, block));
    for (const auto& [size, block] : kWithRoom)
        if (const std::string text = fmt::format("bm{} {}", size, block);
            size >= kRoom * rows && size <= kMostRoom * rows && std::ranges::find(texts, text) == texts.end())
            texts.push_back(text);
    return texts;
}

std::vector<std::string> proven_texts(double rows) {
    if (rows < kMoreRows) return of_few_rows(rows);
    if (rows < kManyRows) return {std::begin(kOfManyRows), std::end(kOfManyRows)};
    if (rows < kVeryManyRows) return {std::begin(kOfVeryManyRows), std::end(kOfVeryManyRows)};
    return {std::begin(kOfMost), std::end(kOfMost)};
}

}  // namespace

std::vector<KernelConfig> proven_configs(Layout layout, double rows) {
    std::vector<KernelConfig> configs;
    for (const std::string& text : proven_texts(rows)) configs.push_back(parse_config(fmt::format("wgmma_rs/{} {}", to_string(layout), text)));
    return configs;
}

}  // namespace mxfp4
