// The emulator's own tensor maps: what it writes into the 128 opaque bytes.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "shared_memory.h"

namespace mxfp4::emulator {

// A matrix of bf16 in boxes of box_rows x 64, under the 128-byte swizzle.
struct Map {
    u64 mark;
    const u8* base;
    i64 columns, rows, row_bytes;
    i64 box_rows;
};

// x_map as a launch makes it.
TensorMap map_of_x(const KernelConfig& config, const MatmulArguments& arguments);
Map decoded(const TensorMap& map);  // throws where it is none
void copy_box(const SharedMemory& shared, u32 to, const Map& map, int column, int row);

}  // namespace mxfp4::emulator
