// bf16 on the host.
#pragma once

#include <bit>
#include <cstdint>

namespace mxfp4 {

inline float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t(bits) << 16); }
inline bool is_bf16_nan(std::uint16_t bits) { return (bits & 0x7FFF) > 0x7F80; }
inline std::uint16_t to_bf16(float value) {  // to nearest even; never called with NaN
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    return std::uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace mxfp4
