#include "tensor_map.h"

#include <cstring>

namespace mxfp4::emulator {
namespace {

constexpr u32 kMark = 0x6D61705F;

void demand(bool holds, const char* what) {
    if (!holds) throw Error(what);
}

}  // namespace

u32 Map::box_bytes() const {
    u32 bytes = element_bytes;
    for (int i = 0; i < rank; ++i) bytes *= box[i];
    return bytes;
}

// What cuTensorMapEncodeTiled demands.
TensorMap encoded(const CopiedTensor& t) {
    Map map{kMark, u8(t.element_bytes), u8(t.swizzled), u8(t.rank), static_cast<const u8*>(t.base), {}, {}, {}};
    demand(reinterpret_cast<u64>(t.base) % 16 == 0, "a tensor map of an unaligned tensor");
    demand(t.rank >= 1 && t.rank <= 5, "a tensor map of a rank that there is not");
    const i64 row_of_box = i64(t.box[0]) * t.element_bytes;
    demand(row_of_box % 16 == 0 && (!t.swizzled || row_of_box <= 128), "a tensor map with a row of a box that is not allowed");
    for (int i = 0; i < t.rank; ++i) {
        demand(t.sizes[i] >= 1 && t.sizes[i] < (i64(1) << 32), "a tensor map of a size that is not allowed");
        demand(t.box[i] >= 1 && t.box[i] <= 256, "a tensor map with a box that is not allowed");
        demand(i == 0 || (t.strides[i] % 16 == 0 && t.strides[i] < (i64(1) << 40)), "a tensor map with a stride that is not allowed");
        map.sizes[i] = u32(t.sizes[i]);
        map.strides[i] = t.strides[i];
        map.box[i] = u16(t.box[i]);
    }
    for (int i = t.rank; i < 5; ++i) map.sizes[i] = map.box[i] = 1;
    TensorMap bits{};
    static_assert(sizeof map <= sizeof bits);
    std::memcpy(&bits, &map, sizeof map);
    return bits;
}

Map decoded(const TensorMap& bits) {
    Map map;
    std::memcpy(&map, &bits, sizeof map);
    demand(map.mark == kMark, "a tensor copy from a map that was not made");
    return map;
}

void copy_box(const SharedMemory& shared, u32 to, const Map& map, const int (&at)[5]) {
    constexpr u32 kPiece = 16;
    const u32 elements = map.box_bytes() / map.element_bytes, of_piece = kPiece / map.element_bytes;
    for (u32 first = 0; first < elements; first += of_piece) {
        u8 piece[kPiece] = {};  // outside the tensor: zero
        for (u32 e = 0; e < of_piece; ++e) {
            bool inside = true;
            const u8* from = map.base;
            u32 rest = first + e;
            for (int i = 0; i < 5; ++i) {
                const i64 index = i64(at[i]) + rest % map.box[i];
                rest /= map.box[i];
                inside = inside && index >= 0 && index < map.sizes[i];
                from += index * map.strides[i];
            }
            if (inside) std::memcpy(piece + e * map.element_bytes, from, map.element_bytes);
        }
        const u32 place = to + first * map.element_bytes;
        std::memcpy(shared.at_async(map.swizzled ? swizzled(place) : place, kPiece, kPiece), piece, kPiece);
    }
}

}  // namespace mxfp4::emulator
