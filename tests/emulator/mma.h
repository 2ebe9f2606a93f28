// Matrix products of a warp, in the fragment orders of the PTX ISA.
#pragma once

#include "block.h"

namespace mxfp4::emulator {

// m16n8k16: d[16 x 8] += a · b, from each lane's registers.
void multiply_m16n8k16(float* const (&d)[32], const u32* const (&a)[32], const u32 (&b)[32][2]);

// The part of a wgmma m64nNk16 that belongs to one warp: rows 16 * warp .. + 15.
void multiply(const SharedMemory& shared, const Product& product, int warp);

u32 pack_bf16x2(float lo, float hi);
u32 multiply_bf16x2(u32 a, u32 b);

}  // namespace mxfp4::emulator
