// The vectors of layout-contract.md, and each map against its inverse.
#include <catch2/catch_test_macros.hpp>

#include <random>
#include <vector>

#include "contract/config.h"
#include "contract/layout.h"
#include "contract/tensors.h"

using namespace mxfp4;

static_assert(packbits_encode(0x10, 0x32, 0x54, 0x76) == 0x2c5d0c14);
static_assert(packbits_encode(0x98, 0xba, 0xdc, 0xfe) == 0xfe5dde14);
static_assert(packbits_encode(0x21, 0x43, 0x65, 0x87) == 0x40a62c5d);
static_assert(packbits_encode(0xff, 0x00, 0x00, 0x00) == 0x81c081c0);
static_assert(packbits_encode(0x00, 0xff, 0x00, 0x00) == 0x10381038);
static_assert(packbits_encode(0x00, 0x00, 0xff, 0x00) == 0x02070207);
static_assert(packbits_encode(0x00, 0x00, 0x00, 0xff) == 0x6c006c00);
// Of this project alone, version 2.
static_assert(native_encode(0x10, 0x32, 0x54, 0x76) == 0x404f5608);
static_assert(native_encode(0x98, 0xba, 0xdc, 0xfe) == 0xca6dde28);
static_assert(native_encode(0xff, 0x00, 0x00, 0x00) == 0x81c181c1);
static_assert(native_encode(0x00, 0xff, 0x00, 0x00) == 0x0c1c0c1c);
static_assert(native_encode(0x00, 0x00, 0xff, 0x00) == 0x70207020);
static_assert(native_encode(0x00, 0x00, 0x00, 0xff) == 0x06010601);

TEST_CASE("E2M1 codes have the values of OCP MX") {
    const float values[8] = {0, .5f, 1, 1.5f, 2, 3, 4, 6};
    for (u32 code = 0; code < 16; ++code) CHECK(e2m1_to_float(code) == (code & 8 ? -values[code & 7] : values[code & 7]));
}

TEST_CASE("E8M0 edge values") {
    CHECK(e8m0_to_bf16_bits(0) == 0x0040);
    CHECK(e8m0_to_bf16_bits(255) == 0x7FC0);
    CHECK(e8m0_to_bf16_bits(127) == 0x3F80);
    CHECK(e8m0_to_folded_bf16_bits(0) == 0x3F00);
    CHECK(e8m0_to_folded_bf16_bits(128) == 0x7F00);
}

TEST_CASE("every byte decodes from every place of a word, in both bit orders") {
    for (u32 byte = 0; byte < 256; ++byte)
        for (int place = 0; place < 4; ++place) {
            u32 b[4] = {0x5a, 0xc3, 0x0f, 0xe1};
            b[place] = byte;
            const u32 word = packbits_encode(b[0], b[1], b[2], b[3]), native = native_encode(b[0], b[1], b[2], b[3]);
            for (int i = 0; i < 4; ++i) {
                REQUIRE(packbits_to_byte(packbits_decode(word, i)) == b[i]);
                REQUIRE(packbits_to_byte(native_decode(native, i)) == b[i]);
            }
        }
}

TEST_CASE("every word decodes to bytes that encode to it, in both bit orders") {
    const auto comes_back = [](u32 word) {
        u32 packbits[4], native[4];
        for (int i = 0; i < 4; ++i) {
            packbits[i] = packbits_to_byte(packbits_decode(word, i));
            native[i] = packbits_to_byte(native_decode(word, i));
        }
        return packbits_encode(packbits[0], packbits[1], packbits[2], packbits[3]) == word &&
               native_encode(native[0], native[1], native[2], native[3]) == word;
    };
    for (int bit = 0; bit < 32; ++bit) REQUIRE(comes_back(1u << bit));
    std::mt19937 random(1);
    for (int i = 0; i < 100000; ++i) REQUIRE(comes_back(u32(random())));
}

TEST_CASE("the value swizzle gives the contract's bytes") {
    std::vector<u8> stored(64 * 64);
    for (int n = 0; n < 64; ++n)
        for (int kb = 0; kb < 64; ++kb) {
            const Index2 to = hopper_value_swizzle(n, kb);
            stored[to.row * 256 + to.col] = u8((n * 64 + kb) & 255);
            const Index2 back = hopper_value_unswizzle(to.row, to.col);
            REQUIRE(back.row == n);
            REQUIRE(back.col == kb);
        }
    for (int i = 0; i < 4096; i += 4) {
        const u32 word = packbits_encode(stored[i], stored[i + 1], stored[i + 2], stored[i + 3]);
        for (int j = 0; j < 4; ++j) stored[i + j] = u8(word >> 8 * j);
    }
    const std::vector<u8> row0 = {0x04, 0x08, 0x00, 0x00, 0x04, 0xda, 0x00, 0x00, 0x04, 0x08, 0x49, 0x20, 0x04, 0xda, 0x49, 0x20,
                                  0x4d, 0x28, 0x00, 0x00, 0x4d, 0xfa, 0x00, 0x00, 0x4d, 0x28, 0x49, 0x20, 0x4d, 0xfa, 0x49, 0x20};
    const std::vector<u8> row1 = {0x04, 0x08, 0x00, 0xd2, 0x04, 0xda, 0x00, 0xd2, 0x04, 0x08, 0x49, 0xf2, 0x04, 0xda, 0x49, 0xf2};
    CHECK(std::vector<u8>(stored.begin(), stored.begin() + 32) == row0);
    CHECK(std::vector<u8>(stored.begin() + 256, stored.begin() + 272) == row1);
    unsigned sum = 0, fnv = 0x811c9dc5u;
    for (u8 b : stored) {
        sum += b;
        fnv = (fnv ^ b) * 16777619u;
    }
    CHECK(sum == 511488);
    CHECK(fnv == 0xe4b77345u);
}

TEST_CASE("the scale swizzle gives the contract's bytes and inverts for every w") {
    for (int w : {1, 2, 4, 8, 16})
        for (int n = 0; n < 64 * w; ++n)
            for (int kg = 0; kg < 6; ++kg) {
                const Index2 to = hopper_scale_swizzle(n, kg, w);
                const Index2 back = hopper_scale_unswizzle(to.row, to.col, w);
                REQUIRE(back.row == n);
                REQUIRE(back.col == kg);
            }
    std::vector<int> stored(8 * 128);
    for (int n = 0; n < 256; ++n)
        for (int kg = 0; kg < 4; ++kg) {
            const Index2 to = hopper_scale_swizzle(n, kg, 8);
            stored[to.row * 128 + to.col] = n * 4 + kg;
        }
    CHECK(std::vector<int>(stored.begin(), stored.begin() + 12) == std::vector<int>{0, 32, 1, 33, 4, 36, 5, 37, 8, 40, 9, 41});
    CHECK(std::vector<int>(stored.begin() + 128, stored.begin() + 134) == std::vector<int>{64, 96, 65, 97, 68, 100});
}

TEST_CASE("gpt-oss shapes are stored as the contract says") {
    const StoredShape mlp1 = stored_shape({Layout::hopper, 8}, 5760, 2880), mlp2 = stored_shape({Layout::hopper, 8}, 2880, 2880);
    CHECK((mlp1.value_rows == 1440 && mlp1.value_row_bytes == 5888 && mlp1.scale_rows == 184 && mlp1.scale_row_bytes == 2880));
    CHECK((mlp2.value_rows == 720 && mlp2.value_row_bytes == 5888 && mlp2.scale_rows == 96 && mlp2.scale_row_bytes == 2880));
}

TEST_CASE("the swizzle constraints bind who unswizzles whole scale tiles") {
    CHECK(check_scale_swizzle(8, 256, 64, true) == Reject::none);
    CHECK(check_scale_swizzle(8, 128, 64, true) == Reject::block_n_not_supported);
    CHECK(check_scale_swizzle(8, 128, 64, false) == Reject::none);
    CHECK(check_scale_swizzle(6, 192, 64, true) == Reject::scale_warps_not_power_of_two);
    CHECK(check_scale_swizzle(4, 128, 96, true) == Reject::block_k_not_multiple_of_64);
}

TEST_CASE("a box of x is the tile's rows, then zeros; never anything beyond x") {
    const KernelConfig config{.variant = Variant::wgmma_rs, .block_m = 24, .block_n = 64, .block_k = 64, .num_warps = 8, .stages = 2};
    for (int rows = 1; rows < 60; ++rows)
        for (int begin = 0; begin < rows; ++begin)
            for (int count = 1; count <= 24 && begin + count <= rows; ++count) {
                INFO("rows [" << begin << ", " << begin + count << ") of " << rows);
                const bool half = half_of_x(config, count);
                MatmulArguments a = {};
                a.rows = rows, a.k = 64, a.x_stride = 64;
                const CopiedTensor x = x_tensor(config, a, half);
                const XRows at = x_rows_at(begin, count, x_box_rows(config, half), rows);
                REQUIRE((x.strides[1] == x.strides[2] && x.box[2] == 1 && at.before >= 0 && at.before < x.sizes[2]));
                std::vector<int> copied;
                for (int i = 0; i < x.box[1]; ++i)
                    if (at.first + i < x.sizes[1]) copied.push_back(at.first + i + at.before);
                REQUIRE((i64(copied.size()) >= count && copied.front() == begin && copied.back() < rows));
                if (begin + count >= x.box[1]) CHECK(int(copied.size()) == count);
            }
}
