// The emulator's own tensor maps: what it writes into the 128 opaque bytes.
#pragma once

#include "contract/tensors.h"
#include "shared_memory.h"

namespace mxfp4::emulator {

// Holds no more than fits the 128 bytes.
struct Map {
    u32 mark;
    u8 element_bytes, swizzled, rank;
    const u8* base;
    u32 sizes[5];
    i64 strides[5];  // bytes
    u16 box[5];

    u32 box_bytes() const;
};

TensorMap encoded(const CopiedTensor& tensor);  // throws where the driver would refuse it
Map decoded(const TensorMap& map);              // throws where it is none
// at: the box's first element, innermost dimension first.
void copy_box(const SharedMemory& shared, u32 to, const Map& map, const int (&at)[5]);

}  // namespace mxfp4::emulator
