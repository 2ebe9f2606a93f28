// The innermost loops of packing: code bytes <-> packbits words, scalar and with AVX2.
#pragma once

#include "contract/layout.h"

namespace mxfp4 {

inline constexpr int kTileRows = 16;
inline constexpr int kTileRowBytes = 32;  // code bytes of a row, one chunk of 64 k
inline constexpr int kTileBytes = kTileRows * kTileRowBytes;

enum class WordOrder { packbits, native };  // which of the contract's two bit orders

struct WordLoops {
    // 16 rows x 32 code bytes <-> their words in A fragment order: four runs of 128 bytes, one for rows 2r, 2r+1, 2r+8,
    // 2r+9, run_stride apart. hopper and native order their words alike inside such a tile.
    void (*encode_tile)(WordOrder order, const u8* const rows[kTileRows], u8* stored, i64 run_stride);
    void (*decode_tile)(WordOrder order, const u8* stored, i64 run_stride, u8* const rows[kTileRows]);
    // count blocks of 16 code bytes <-> 16 stored bytes each, adjacent: each 4 bytes a packbits word.
    void (*encode_blocks)(const u8* const* blocks, int count, u8* stored);
    void (*decode_blocks)(const u8* stored, int count, u8* const* blocks);
};

const WordLoops& scalar_word_loops();
const WordLoops& word_loops();  // the fastest that this CPU runs

}  // namespace mxfp4
