// bf16 on the host.
#pragma once

#include <bit>

#include "contract/layout.h"

namespace mxfp4 {

inline float bf16_to_float(u16 bits) { return std::bit_cast<float>(u32(bits) << 16); }

inline bool is_bf16_nan(u16 bits) { return (bits & 0x7FFF) > 0x7F80; }

// Round to nearest even; NaN stays NaN.
inline u16 float_to_bf16(float value) {
    const u32 bits = std::bit_cast<u32>(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return u16(bits >> 16 | 0x0040);
    return u16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace mxfp4
