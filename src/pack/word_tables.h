// Each bit of a word is the XOR of some bits of its four code bytes (in packbits, it is one of them), and the other way
// round: so a word is the XOR of four table entries, one a byte. The tables come from the contract's own functions.
#pragma once

#include <array>

#include "contract/layout.h"

namespace mxfp4 {

struct WordTable {
    std::array<std::array<u32, 256>, 4> entries;

    constexpr u32 operator()(u32 b0, u32 b1, u32 b2, u32 b3) const {
        return entries[0][b0] ^ entries[1][b1] ^ entries[2][b2] ^ entries[3][b3];
    }
    constexpr u32 operator()(u32 word) const {
        return (*this)(word & 255, word >> 8 & 255, word >> 16 & 255, word >> 24);
    }
};

// f(b0, b1, b2, b3) -> word
template <class F>
constexpr WordTable make_word_table(F f) {
    WordTable table{};
    for (u32 b = 0; b < 256; ++b) {
        table.entries[0][b] = f(b, 0, 0, 0);
        table.entries[1][b] = f(0, b, 0, 0);
        table.entries[2][b] = f(0, 0, b, 0);
        table.entries[3][b] = f(0, 0, 0, b);
    }
    return table;
}

// Four code bytes -> stored word.
inline constexpr WordTable kPackbitsEncode = make_word_table(packbits_encode);
inline constexpr WordTable kNativeEncode = make_word_table(native_encode);

// Stored word, given as its four bytes -> the four code bytes, b0 lowest.
template <u32 (*Decode)(u32, int)>
constexpr u32 decode_word_bytes(u32 b0, u32 b1, u32 b2, u32 b3) {
    const u32 word = b0 | b1 << 8 | b2 << 16 | b3 << 24;
    u32 bytes = 0;
    for (int i = 0; i < 4; ++i) bytes |= packbits_to_byte(Decode(word, i)) << 8 * i;
    return bytes;
}
inline constexpr WordTable kPackbitsDecode = make_word_table(decode_word_bytes<packbits_decode>);
inline constexpr WordTable kNativeDecode = make_word_table(decode_word_bytes<native_decode>);

}  // namespace mxfp4
