// The packer against a naive one that is written from the contract's index maps, one byte at a time.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "pack/packer.h"
#include "pack/words.h"
#include "test_weights.h"

using namespace mxfp4;

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes naive_values(const TestWeights& w, const WeightsInfo& info) {
    const StoredShape stored = info.stored();
    Bytes values(std::size_t(w.experts * stored.values_bytes()));
    const auto padded = [&](std::int64_t e, std::int64_t n, std::int64_t kb) -> u32 {
        return n < w.n && kb < w.k / 2 ? w.byte(e, n, kb) : 0;
    };
    const auto store = [&](std::int64_t e, std::int64_t at, u32 word) {
        std::memcpy(values.data() + e * stored.values_bytes() + at, &word, 4);
    };
    for (std::int64_t e = 0; e < w.experts; ++e) {
        if (info.format.layout == Layout::blocks) {
            for (std::int64_t n = 0; n < w.n; ++n)
                for (std::int64_t kb = 0; kb < w.k / 2; kb += 4)
                    store(e, ((kb / 16) * w.n + n) * 16 + kb % 16,
                          packbits_encode(w.byte(e, n, kb), w.byte(e, n, kb + 1), w.byte(e, n, kb + 2),
                                          w.byte(e, n, kb + 3)));
            continue;
        }
        for (std::int64_t n = 0; n < round_up(w.n, 64); ++n)
            for (std::int64_t kb = 0; kb < round_up(w.k / 2, info.format.layout == Layout::hopper ? 64 : 32); ++kb) {
                if (n & 8 || kb & 4) continue;
                const u32 b[4] = {padded(e, n, kb), padded(e, n + 8, kb), padded(e, n, kb + 4),
                                  padded(e, n + 8, kb + 4)};
                if (info.format.layout == Layout::native) {
                    store(e, native_word_offset(n, kb, ceil_div(w.k, 64)), native_encode(b[0], b[1], b[2], b[3]));
                } else {
                    const Index2 at = hopper_value_swizzle(n, kb);
                    store(e, at.row * stored.value_row_bytes + at.col, packbits_encode(b[0], b[1], b[2], b[3]));
                }
            }
    }
    return values;
}

Bytes naive_scales(const TestWeights& w, const WeightsInfo& info, const std::vector<int>& shift) {
    const StoredShape stored = info.stored();
    Bytes scales(std::size_t(w.experts * stored.scales_bytes()));
    for (std::int64_t e = 0; e < w.experts; ++e)
        for (std::int64_t n = 0; n < w.n; ++n)
            for (std::int64_t kg = 0; kg < w.k / 32; ++kg) {
                std::uint8_t* to = scales.data() + e * stored.scales_bytes();
                if (info.format.layout == Layout::native) {
                    to[native_scale_offset(n, kg, ceil_div(w.k, 64))] = u8(native_scale_byte(
                        w.scale(e, n, kg), shift[std::size_t(e)], info.format.scale_class == ScaleClass::plain));
                } else {
                    const Index2 at = hopper_scale_swizzle(n, kg, info.format.scale_warps);
                    to[at.row * stored.scale_row_bytes + at.col] = w.scale(e, n, kg);
                }
            }
    return scales;
}

void check_unpacks(const TestWeights& w, const PackedView& packed) {
    Bytes blocks(w.blocks.size(), 0xEE), scales(w.scales.size(), 0xEE);
    unpack(packed, blocks.data(), scales.data(), 2);
    CHECK(blocks == w.blocks);
    CHECK(scales == w.scales);
}

std::string refusal(const CheckpointView& view, const PackOptions& options = {}) {
    try {
        pack(view, options);
        return "";
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::invalid_argument);
        return error.what();
    }
}

}  // namespace

TEST_CASE("each layout has the bytes that the contract's maps say, for ragged shapes, and unpacks") {
    struct Shape {
        std::int64_t experts, n, k;
    };
    for (const Shape& s : {Shape{2, 40, 32},
                           {1, 80, 96},
                           {3, 64, 64},
                           {2, 1, 32},
                           {1, 17, 2880},
                           {1, 2880, 96},
                           {1, 300, 160},
                           {2, 129, 128}}) {
        const TestWeights w(s.experts, s.n, s.k, unsigned(s.n * 7 + s.k));
        for (const PackOptions& options :
             {PackOptions{Layout::blocks}, PackOptions{Layout::hopper}, PackOptions{Layout::hopper, 1, 3},
              PackOptions{Layout::hopper, 4, 1}, PackOptions{Layout::blocks, 2}, PackOptions{Layout::native}}) {
            CAPTURE(s.n, s.k, int(options.layout), options.num_warps);
            const PackedWeights packed = pack(w.view(), options);
            CHECK(packed.info.format.scale_class == ScaleClass::folded);
            REQUIRE(packed.values == naive_values(w, packed.info));
            REQUIRE(packed.scales == naive_scales(w, packed.info, std::vector<int>(std::size_t(s.experts))));
            CHECK(packed.expert_scale ==
                  std::vector<float>(options.layout == Layout::native ? std::size_t(s.experts) : 0, 1.0f));
            check_unpacks(w, packed.view());
        }
    }
}

TEST_CASE("the contract's value vector comes out of the packer") {
    TestWeights w(1, 64, 128, 1);
    for (int n = 0; n < 64; ++n)
        for (int kb = 0; kb < 64; ++kb) w.blocks[std::size_t(n * 64 + kb)] = std::uint8_t(n * 64 + kb);
    const PackedWeights packed = pack(w.view(), {.layout = Layout::hopper});
    REQUIRE(packed.values.size() == 4096);
    const Bytes row1 = {0x04, 0x08, 0x00, 0xd2, 0x04, 0xda, 0x00, 0xd2, 0x04, 0x08, 0x49, 0xf2, 0x04, 0xda, 0x49, 0xf2};
    CHECK(Bytes(packed.values.begin() + 256, packed.values.begin() + 272) == row1);
    unsigned sum = 0, fnv = 0x811c9dc5u;
    for (const u8 b : packed.values) {
        sum += b;
        fnv = (fnv ^ b) * 16777619u;
    }
    CHECK(sum == 511488);
    CHECK(fnv == 0xe4b77345u);
}

TEST_CASE("gpt-oss shapes are padded as the contract says") {
    const TestWeights w(1, 5760, 2880, 3);
    const PackedWeights packed = pack(w.view(), {.layout = Layout::hopper});
    CHECK(packed.info.format.scale_warps == 8);
    CHECK(packed.values.size() == 1440 * 5888);
    CHECK(packed.scales.size() == 184 * 2880);
    check_unpacks(w, packed.view());
    check_unpacks(w, pack(w.view()).view());
    check_unpacks(w, pack(w.view(), {.layout = Layout::blocks}).view());
}

TEST_CASE("scalar and vector loops agree on every byte") {
    Bytes rows(kTileBytes);
    for (int round = 0; round < 64; ++round) {
        std::mt19937 random{unsigned(round)};
        for (auto& b : rows) b = std::uint8_t(random());
        const u8* from[kTileRows];
        for (int i = 0; i < kTileRows; ++i) from[i] = rows.data() + i * kTileRowBytes;
        for (const WordOrder order : {WordOrder::packbits, WordOrder::native}) {
            Bytes stored(1024, 1), expected(1024, 1);
            word_loops().encode_tile(order, from, stored.data(), 200);
            scalar_word_loops().encode_tile(order, from, expected.data(), 200);
            REQUIRE(stored == expected);
            for (const WordLoops* loops : {&word_loops(), &scalar_word_loops()}) {
                Bytes back(kTileBytes);
                u8* to[kTileRows];
                for (int i = 0; i < kTileRows; ++i) to[i] = back.data() + i * kTileRowBytes;
                loops->decode_tile(order, stored.data(), 200, to);
                REQUIRE(back == rows);
            }
        }
        for (const int count : {1, 2, 5, 16}) {
            Bytes stored(512, 1), expected(512, 1), back(kTileBytes);
            u8* to[kTileRows];
            for (int i = 0; i < kTileRows; ++i) to[i] = back.data() + i * kTileRowBytes;
            word_loops().encode_blocks(from, count, stored.data());
            scalar_word_loops().encode_blocks(from, count, expected.data());
            REQUIRE(stored == expected);
            for (const WordLoops* loops : {&word_loops(), &scalar_word_loops()}) {
                loops->decode_blocks(stored.data(), count, to);
                for (int i = 0; i < count; ++i) REQUIRE(std::equal(to[i], to[i] + 16, from[i]));
            }
        }
    }
}

TEST_CASE("strided views pack like contiguous ones") {
    const TestWeights w(2, 50, 96, 11);
    struct Strides {
        std::int64_t blocks[4], scales[3];
    };
    // Padded rows; experts innermost; bytes two apart; a view that runs backwards over rows.
    for (const Strides& s : {Strides{{50 * 64, 64, 16, 1}, {50 * 5, 5, 1}},
                             {{1, 96 * 2, 32, 2}, {1, 6, 2}},
                             {{50 * 96, 96, 32, 2}, {50 * 9, 9, 3}},
                             {{50 * 48, 48, 16, 1}, {3, 6, 1}},
                             {{50 * 60, 60, 20, 1}, {150, 3, 1}},
                             {{2400, -48, 16, 1}, {150, -3, 1}}}) {
        Bytes blocks(20000), scales(2000);
        CheckpointView view = w.view();
        const std::int64_t block_start = s.blocks[1] < 0 ? 49 * 48 : 0, scale_start = s.scales[1] < 0 ? 49 * 3 : 0;
        for (std::int64_t e = 0; e < 2; ++e)
            for (std::int64_t n = 0; n < 50; ++n)
                for (std::int64_t kg = 0; kg < 3; ++kg) {
                    for (int i = 0; i < 16; ++i)
                        blocks[std::size_t(block_start + e * s.blocks[0] + n * s.blocks[1] + kg * s.blocks[2] +
                                           i * s.blocks[3])] = w.byte(e, n, kg * 16 + i);
                    scales[std::size_t(scale_start + e * s.scales[0] + n * s.scales[1] + kg * s.scales[2])] =
                        w.scale(e, n, kg);
                }
        view.blocks = blocks.data() + block_start;
        view.scales = scales.data() + scale_start;
        std::copy(s.blocks, s.blocks + 4, view.blocks_strides);
        std::copy(s.scales, s.scales + 3, view.scales_strides);
        for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native}) {
            const PackedWeights packed = pack(view, {.layout = layout}), expected = pack(w.view(), {.layout = layout});
            CHECK(packed.values == expected.values);
            CHECK(packed.scales == expected.scales);
        }
    }
}

TEST_CASE("the scale class follows the largest scale and the span, and every class unpacks") {
    struct Case {
        std::vector<std::pair<int, int>> experts;  // smallest, largest scale
        ScaleClass scale_class;
        std::vector<int> shift;
    };
    for (const Case& c : {Case{{{0, 128}, {5, 9}}, ScaleClass::folded, {0, 0}},
                          {{{0, 128}, {0, 129}}, ScaleClass::rebased, {0, 1}},
                          {{{120, 129}, {100, 120}}, ScaleClass::rebased, {1, 0}},
                          {{{121, 254}, {0, 133}}, ScaleClass::rebased, {126, 5}},
                          {{{120, 254}, {0, 10}}, ScaleClass::plain, {0, 0}},
                          {{{0, 134}, {0, 10}}, ScaleClass::plain, {0, 0}},
                          {{{0, 254}, {130, 140}}, ScaleClass::plain, {0, 0}}}) {
        TestWeights w(2, 70, 96, 5);
        for (std::int64_t e = 0; e < 2; ++e)
            for (std::int64_t n = 0; n < 70; ++n)
                for (std::int64_t kg = 0; kg < 3; ++kg) {
                    const auto [smallest, largest] = c.experts[std::size_t(e)];
                    const int step = int(n * 3 + kg);
                    w.scale(e, n, kg) = std::uint8_t(step == 0   ? largest
                                                     : step == 1 ? smallest
                                                                 : smallest + step % (largest - smallest + 1));
                }
        for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native}) {
            CAPTURE(int(layout), c.experts[0].second, c.experts[1].second);
            const PackedWeights packed = pack(w.view(), {.layout = layout});
            CHECK(packed.info.format.scale_class == c.scale_class);
            CHECK(packed.scales == naive_scales(w, packed.info, c.shift));
            if (layout == Layout::native)
                for (std::size_t e = 0; e < 2; ++e) CHECK(packed.expert_scale[e] == std::ldexp(1.0f, c.shift[e]));
            check_unpacks(w, packed.view());
        }
    }
}

TEST_CASE("shapes, options and scales outside the format are refused") {
    TestWeights w(2, 40, 64, 9);
    const auto with = [&](auto change) {
        CheckpointView view = w.view();
        change(view);
        return refusal(view);
    };
    CHECK(with([](auto& v) { v.experts = 0; }).find("experts") != std::string::npos);
    CHECK(with([](auto& v) { v.n = 0; }).find("bad n") != std::string::npos);
    CHECK(with([](auto& v) { v.n = -5; }).find("is -5") != std::string::npos);
    CHECK(with([](auto& v) { v.k = 0; }).find("bad k") != std::string::npos);
    CHECK(with([](auto& v) { v.k = 48; }).find("must be a multiple of 32") != std::string::npos);
    CHECK(with([](auto& v) { v.experts = 1ll << 40; }).find("experts") != std::string::npos);
    CHECK(with([](auto& v) { v.blocks = nullptr; }).find("no data") != std::string::npos);
    CHECK(refusal(w.view(), {.layout = Layout::native, .num_warps = 8}).find("native layout has no num_warps") !=
          std::string::npos);
    CHECK(refusal(w.view(), {.layout = Layout::hopper, .num_warps = 6}).find("power of two") != std::string::npos);
    CHECK(refusal(w.view(), {.layout = Layout::hopper, .num_warps = 64}).find("is 64") != std::string::npos);
    CHECK(refusal(w.view(), {.layout = Layout::blocks, .num_warps = -1}).find("is -1") != std::string::npos);
    w.scale(1, 33, 1) = 255;
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native})
        CHECK(refusal(w.view(), {.layout = layout}).find("expert 1, row 33, block 1") != std::string::npos);
}

TEST_CASE("damaged packed scales are refused, not wrapped around") {
    const TestWeights w(1, 16, 64, 9);
    Bytes blocks(w.blocks.size()), scales(w.scales.size());
    const auto unpacks = [&](const PackedWeights& packed) {
        try {
            unpack(packed.view(), blocks.data(), scales.data());
            return true;
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::bad_file);
            return false;
        }
    };
    PackedWeights native = pack(w.view());
    CHECK(unpacks(native));
    native.scales[0] = 3;
    CHECK(!unpacks(native));
    native = pack(w.view());
    for (const float scale : {0.0f, 3.0f, -1.0f, 0.5f, INFINITY, NAN, std::ldexp(1.0f, 127)}) {
        native.expert_scale[0] = scale;
        CHECK(!unpacks(native));
    }
    PackedWeights hopper = pack(w.view(), {.layout = Layout::hopper});
    hopper.scales[0] = 255;
    CHECK(!unpacks(hopper));
}
