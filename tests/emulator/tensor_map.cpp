#include "tensor_map.h"

#include <cstring>

namespace mxfp4::emulator {
namespace {

constexpr u64 kMark = 0x656D756C61746564;  // no map holds it by chance

}  // namespace

TensorMap map_of_x(const KernelConfig& config, const MatmulArguments& a) {
    const Map map{kMark, static_cast<const u8*>(a.x), a.k, a.rows, a.x_stride * 2, x_box_rows(config)};
    if (reinterpret_cast<u64>(map.base) % 16 != 0 || map.row_bytes % 16 != 0) throw Error("x is not aligned for a tensor map");
    TensorMap encoded{};
    static_assert(sizeof map <= sizeof encoded);
    std::memcpy(&encoded, &map, sizeof map);
    return encoded;
}

Map decoded(const TensorMap& encoded) {
    Map map;
    std::memcpy(&map, &encoded, sizeof map);
    if (map.mark != kMark) throw Error("a tensor copy from a map that was not made");
    return map;
}

void copy_box(const SharedMemory& shared, u32 to, const Map& map, int column, int row) {
    for (int r = 0; r < map.box_rows; ++r)
        for (int piece = 0; piece < 8; ++piece) {
            u16 bits[8] = {};  // outside the matrix: zero
            for (int i = 0; i < 8; ++i) {
                const i64 c = i64(column) + piece * 8 + i, at = i64(row) + r;
                if (c >= 0 && c < map.columns && at >= 0 && at < map.rows)
                    std::memcpy(&bits[i], map.base + at * map.row_bytes + c * 2, 2);
            }
            std::memcpy(shared.at_async(swizzled(to + u32(r * 128 + piece * 16)), 16, 16), bits, 16);
        }
}

}  // namespace mxfp4::emulator
