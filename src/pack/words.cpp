#include "pack/words.h"

#include <bit>
#include <cstring>

#include "pack/word_tables.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mxfp4 {
namespace {

static_assert(std::endian::native == std::endian::little, "stored words are little-endian, and loaded as they lie");

constexpr int kRuns = 4;  // of a tile

// ---- scalar: four table lookups a word -----------------------------------------------------------------------------

void encode_tile_scalar(WordOrder order, const u8* const rows[kTileRows], u8* stored, i64 run_stride) {
    const WordTable& table = order == WordOrder::native ? kNativeEncode : kPackbitsEncode;
    for (int g = 0; g < 8; ++g) {
        const u8 *row = rows[g], *row8 = rows[g + 8];
        u8* to = stored + (g >> 1) * run_stride + (g & 1) * 64;
        for (int c = 0; c < 4; ++c)
            for (int j = 0; j < 4; ++j, to += 4) {
                const u32 word = table(row[j * 8 + c], row8[j * 8 + c], row[j * 8 + 4 + c], row8[j * 8 + 4 + c]);
                std::memcpy(to, &word, 4);
            }
    }
}

void decode_tile_scalar(WordOrder order, const u8* stored, i64 run_stride, u8* const rows[kTileRows]) {
    const WordTable& table = order == WordOrder::native ? kNativeDecode : kPackbitsDecode;
    for (int g = 0; g < 8; ++g) {
        u8 *row = rows[g], *row8 = rows[g + 8];
        const u8* from = stored + (g >> 1) * run_stride + (g & 1) * 64;
        for (int c = 0; c < 4; ++c)
            for (int j = 0; j < 4; ++j, from += 4) {
                u32 word;
                std::memcpy(&word, from, 4);
                const u32 bytes = table(word);
                row[j * 8 + c] = u8(bytes);
                row8[j * 8 + c] = u8(bytes >> 8);
                row[j * 8 + 4 + c] = u8(bytes >> 16);
                row8[j * 8 + 4 + c] = u8(bytes >> 24);
            }
    }
}

void map_block(const WordTable& table, const u8* from, u8* to) {
    u32 words[4];
    std::memcpy(words, from, 16);
    for (u32& word : words) word = table(word);
    std::memcpy(to, words, 16);
}

void encode_blocks_scalar(const u8* const* blocks, int count, u8* stored) {
    for (int i = 0; i < count; ++i) map_block(kPackbitsEncode, blocks[i], stored + 16 * i);
}

void decode_blocks_scalar(const u8* stored, int count, u8* const* blocks) {
    for (int i = 0; i < count; ++i) map_block(kPackbitsDecode, stored + 16 * i, blocks[i]);
}

// ---- AVX2: eight words at a time -----------------------------------------------------------------------------------
#if defined(__x86_64__)

using V = __m256i;

[[gnu::target("avx2")]] V all(u32 value) { return _mm256_set1_epi32(int(value)); }
[[gnu::target("avx2")]] V keep(V v, u32 mask) { return _mm256_and_si256(v, all(mask)); }
[[gnu::target("avx2")]] V any(V a, V b) { return _mm256_or_si256(a, b); }
[[gnu::target("avx2")]] V differ(V a, V b) { return _mm256_xor_si256(a, b); }
template <int By>
[[gnu::target("avx2")]] V left(V v) {
    return _mm256_slli_epi32(v, By);
}
template <int By>
[[gnu::target("avx2")]] V right(V v) {
    return _mm256_srli_epi32(v, By);
}

// packbits_pair() of byte Byte of each 32-bit lane. Both half-words get the byte; the low one keeps its low nibble, the
// high one its high nibble, 16 times as large; one multiply then moves a nibble c to c << 6 | c << 12.
template <int Byte>
[[gnu::target("avx2")]] V pair_of_byte(V lanes) {
    const V spread = _mm256_add_epi8(
        _mm256_set1_epi32(int(0x80008000u | Byte << 16 | Byte)),
        _mm256_setr_epi32(0, 0x00040004, 0x00080008, 0x000c000c, 0, 0x00040004, 0x00080008, 0x000c000c));
    const V nibbles = keep(_mm256_shuffle_epi8(lanes, spread), 0x00F0000F);
    return keep(_mm256_mullo_epi16(nibbles, all(260u << 16 | 4160u)), kPackbitsMask);
}

// The code bytes that pairs stand for.
[[gnu::target("avx2")]] V byte_of_pair(V pair) {
    const V codes = any(keep(right<6>(pair), 0x00070007), keep(right<12>(pair), 0x00080008));
    return keep(any(codes, right<12>(codes)), 0xFF);
}

// What native_encode() and packbits_encode() do.
template <WordOrder Order>
[[gnu::target("avx2")]] V word_of_pairs(V p0, V p1, V p2, V p3) {
    if constexpr (Order == WordOrder::native) {
        const V fourth = any(right<6>(keep(p3, 0x80C080C0)), left<2>(keep(p3, 0x01000100)));
        V w = any(any(any(p0, right<4>(p1)), any(right<10>(p2), left<22>(p2))), fourth);
        w = differ(w, any(keep(right<8>(w), 0x00030203), keep(left<8>(w), 0x04000400)));
        return differ(w, keep(right<16>(w), 0x00000202));
    } else {
        const V fourth =
            any(any(right<1>(keep(p3, 0x80008000)), left<3>(keep(p3, 0x01800180))), left<7>(keep(p3, 0x00400040)));
        return any(any(p0, right<3>(p1)), any(right<6>(p2), fourth));
    }
}

template <WordOrder Order, int Register>
[[gnu::target("avx2")]] V pair_of_word(V w) {
    if constexpr (Register == 0) return keep(w, kPackbitsMask);
    if constexpr (Order == WordOrder::native) {
        if constexpr (Register == 1) return keep(left<4>(w), kPackbitsMask);
        if constexpr (Register == 2) return keep(any(left<10>(w), right<22>(w)), kPackbitsMask);
        if constexpr (Register == 3) return keep(differ(left<6>(w), right<2>(w)), kPackbitsMask);
    } else {
        if constexpr (Register == 1) return keep(left<3>(w), kPackbitsMask);
        if constexpr (Register == 2) return keep(left<6>(w), kPackbitsMask);
        if constexpr (Register == 3)
            return any(any(keep(left<1>(w), 0x80008000), keep(right<3>(w), 0x01800180)), keep(right<7>(w), 0x00400040));
    }
}

// Two rows' 32 bytes -> their even 4-byte groups (kb & 4 == 0) and their odd ones, the first row in the low half.
struct Groups {
    V even, odd;
};
[[gnu::target("avx2")]] Groups load_groups(const u8* row, const u8* next_row) {
    const V order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const V a = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const V*>(row)), order);
    const V b = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const V*>(next_row)), order);
    return {_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
}
[[gnu::target("avx2")]] void store_groups(const Groups& groups, u8* row, u8* next_row) {
    const V order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const V a = _mm256_permute2x128_si256(groups.even, groups.odd, 0x20),
            b = _mm256_permute2x128_si256(groups.even, groups.odd, 0x31);
    _mm256_storeu_si256(reinterpret_cast<V*>(row), _mm256_permutevar8x32_epi32(a, order));
    _mm256_storeu_si256(reinterpret_cast<V*>(next_row), _mm256_permutevar8x32_epi32(b, order));
}

// Words of column C (of 4) for two rows: 16 bytes of each row's 64.
template <WordOrder Order, int C>
[[gnu::target("avx2")]] void encode_column(const Groups& rows, const Groups& rows8, u8* run) {
    const V words = word_of_pairs<Order>(pair_of_byte<C>(rows.even), pair_of_byte<C>(rows8.even),
                                         pair_of_byte<C>(rows.odd), pair_of_byte<C>(rows8.odd));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(run + C * 16), _mm256_castsi256_si128(words));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(run + 64 + C * 16), _mm256_extracti128_si256(words, 1));
}

template <WordOrder Order, int C>
[[gnu::target("avx2")]] void decode_column(const u8* run, Groups& rows, Groups& rows8) {
    const V words = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(run + 64 + C * 16),
                                        reinterpret_cast<const __m128i*>(run + C * 16));
    rows.even = any(rows.even, left<8 * C>(byte_of_pair(pair_of_word<Order, 0>(words))));
    rows8.even = any(rows8.even, left<8 * C>(byte_of_pair(pair_of_word<Order, 1>(words))));
    rows.odd = any(rows.odd, left<8 * C>(byte_of_pair(pair_of_word<Order, 2>(words))));
    rows8.odd = any(rows8.odd, left<8 * C>(byte_of_pair(pair_of_word<Order, 3>(words))));
}

template <WordOrder Order>
[[gnu::target("avx2")]] void encode_tile_avx2(const u8* const rows[kTileRows], u8* stored, i64 run_stride) {
    for (int r = 0; r < kRuns; ++r, stored += run_stride) {
        const Groups low = load_groups(rows[2 * r], rows[2 * r + 1]),
                     high = load_groups(rows[2 * r + 8], rows[2 * r + 9]);
        encode_column<Order, 0>(low, high, stored);
        encode_column<Order, 1>(low, high, stored);
        encode_column<Order, 2>(low, high, stored);
        encode_column<Order, 3>(low, high, stored);
    }
}

template <WordOrder Order>
[[gnu::target("avx2")]] void decode_tile_avx2(const u8* stored, i64 run_stride, u8* const rows[kTileRows]) {
    for (int r = 0; r < kRuns; ++r, stored += run_stride) {
        Groups low = {all(0), all(0)}, high = low;
        decode_column<Order, 0>(stored, low, high);
        decode_column<Order, 1>(stored, low, high);
        decode_column<Order, 2>(stored, low, high);
        decode_column<Order, 3>(stored, low, high);
        store_groups(low, rows[2 * r], rows[2 * r + 1]);
        store_groups(high, rows[2 * r + 8], rows[2 * r + 9]);
    }
}

void encode_tile_either(WordOrder order, const u8* const rows[kTileRows], u8* stored, i64 run_stride) {
    if (order == WordOrder::native) return encode_tile_avx2<WordOrder::native>(rows, stored, run_stride);
    encode_tile_avx2<WordOrder::packbits>(rows, stored, run_stride);
}

void decode_tile_either(WordOrder order, const u8* stored, i64 run_stride, u8* const rows[kTileRows]) {
    if (order == WordOrder::native) return decode_tile_avx2<WordOrder::native>(stored, run_stride, rows);
    decode_tile_avx2<WordOrder::packbits>(stored, run_stride, rows);
}

[[gnu::target("avx2")]] void encode_blocks_avx2(const u8* const* blocks, int count, u8* stored) {
    for (int i = 0; i + 2 <= count; i += 2) {
        const V v = _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(blocks[i + 1]),
                                        reinterpret_cast<const __m128i*>(blocks[i]));
        const V words = word_of_pairs<WordOrder::packbits>(pair_of_byte<0>(v), pair_of_byte<1>(v), pair_of_byte<2>(v),
                                                           pair_of_byte<3>(v));
        _mm256_storeu_si256(reinterpret_cast<V*>(stored + 16 * i), words);
    }
    if (count % 2) encode_blocks_scalar(blocks + count - 1, 1, stored + 16 * (count - 1));
}

[[gnu::target("avx2")]] void decode_blocks_avx2(const u8* stored, int count, u8* const* blocks) {
    constexpr auto kOrder = WordOrder::packbits;
    for (int i = 0; i + 2 <= count; i += 2) {
        const V words = _mm256_loadu_si256(reinterpret_cast<const V*>(stored + 16 * i));
        const V low =
            any(byte_of_pair(pair_of_word<kOrder, 0>(words)), left<8>(byte_of_pair(pair_of_word<kOrder, 1>(words))));
        const V high = any(left<16>(byte_of_pair(pair_of_word<kOrder, 2>(words))),
                           left<24>(byte_of_pair(pair_of_word<kOrder, 3>(words))));
        _mm256_storeu2_m128i(reinterpret_cast<__m128i*>(blocks[i + 1]), reinterpret_cast<__m128i*>(blocks[i]),
                             any(low, high));
    }
    if (count % 2) decode_blocks_scalar(stored + 16 * (count - 1), 1, blocks + count - 1);
}

#endif

}  // namespace

const WordLoops& scalar_word_loops() {
    static constexpr WordLoops loops = {encode_tile_scalar, decode_tile_scalar, encode_blocks_scalar,
                                        decode_blocks_scalar};
    return loops;
}

const WordLoops& word_loops() {
#if defined(__x86_64__)
    static constexpr WordLoops avx2 = {encode_tile_either, decode_tile_either, encode_blocks_avx2, decode_blocks_avx2};
    if (__builtin_cpu_supports("avx2")) return avx2;
#endif
    return scalar_word_loops();
}

}  // namespace mxfp4
