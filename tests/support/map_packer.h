// Packs element by element through the contract's maps, into whatever scale class is asked for. Slow, and its own: the
// tests of a kernel need not trust the packer, and can force a class that the packer would not choose.
#pragma once

#include <cmath>
#include <vector>

#include "contract/arguments.h"
#include "support/matmul_case.h"

namespace mxfp4::test {

// Scales that belong to the class: rebased has experts above 128, plain a wider span than can be rebased.
inline Checkpoint checkpoint_of(Random& random, ScaleClass scale_class, i64 experts, i64 n, i64 k) {
    switch (scale_class) {
        case ScaleClass::folded: return random_checkpoint(random, experts, n, k, 118, 128);
        case ScaleClass::rebased: return random_checkpoint(random, experts, n, k, 122, 131, 9);
        case ScaleClass::plain: break;
    }
    Checkpoint c = random_checkpoint(random, experts, n, k, 129, 140);
    for (u8& s : c.scales)
        if (random() % 4 == 0) s = 0;
    return c;
}

struct MapPacked {
    WeightsFormat format;
    StoredShape stored;
    std::vector<u8> values, scales;
    std::vector<float> expert_scale;  // empty: null
    std::vector<i32> expert_shift;    // empty: null
};

inline MapPacked pack_by_maps(const Checkpoint& c, const WeightsFormat& format) {
    MapPacked p{format, stored_shape(format, c.n, c.k), {}, {}, {}, {}};
    p.values.resize(c.experts * p.stored.values_bytes());
    p.scales.resize(c.experts * p.stored.scales_bytes());
    const i64 chunks = ceil_div(c.k, kChunkK);
    const bool native = format.layout == Layout::native, plain = format.scale_class == ScaleClass::plain;
    const auto byte_at = [&c](i64 e, i64 n, i64 kb) {
        return n < c.n && kb < c.k / 2 ? u32(c.blocks[(e * c.n + n) * (c.k / 2) + kb]) : 0u;
    };
    for (i64 e = 0; e < c.experts; ++e) {
        int shift = 0;
        if (format.scale_class == ScaleClass::rebased)
            for (i64 i = 0; i < c.n * c.k / 32; ++i)
                shift = std::max(shift, int(c.scales[e * c.n * c.k / 32 + i]) - kMaxFoldedScale);
        if (format.scale_class == ScaleClass::rebased) {
            p.expert_scale.push_back(std::ldexp(1.0f, shift));
            if (!native) p.expert_shift.push_back(shift);
        }
        u8* const values = p.values.data() + e * p.stored.values_bytes();
        u8* const scales = p.scales.data() + e * p.stored.scales_bytes();
        const auto put = [values](i64 offset, u32 word) {
            for (int i = 0; i < 4; ++i) values[offset + i] = u8(word >> 8 * i);
        };
        for (i64 n = 0; n < round_up(c.n, 64); ++n)
            for (i64 kb = 0; kb < round_up(c.k / 2, native ? 32 : 64); ++kb) {
                if (format.layout == Layout::blocks) {
                    if (n < c.n && kb < c.k / 2 && kb % 4 == 0)
                        put(kb / 16 * p.stored.value_row_bytes + n * 16 + kb % 16,
                            packbits_encode(byte_at(e, n, kb), byte_at(e, n, kb + 1), byte_at(e, n, kb + 2),
                                            byte_at(e, n, kb + 3)));
                    continue;
                }
                if (n & 8 || kb & 4) continue;
                const u32 b[4] = {byte_at(e, n, kb), byte_at(e, n + 8, kb), byte_at(e, n, kb + 4),
                                  byte_at(e, n + 8, kb + 4)};
                const Index2 at = hopper_value_swizzle(n, kb);
                if (native)
                    put(native_word_offset(n, kb, chunks), native_encode(b[0], b[1], b[2], b[3]));
                else
                    put(at.row * p.stored.value_row_bytes + at.col, packbits_encode(b[0], b[1], b[2], b[3]));
            }
        for (i64 n = 0; n < c.n; ++n)
            for (i64 kg = 0; kg < c.k / 32; ++kg) {
                const int s = c.scales[(e * c.n + n) * (c.k / 32) + kg];
                if (native) {
                    scales[native_scale_offset(n, kg, chunks)] = u8(native_scale_byte(s, shift, plain));
                } else {
                    const Index2 at = hopper_scale_swizzle(n, kg, format.scale_warps);
                    scales[at.row * p.stored.scale_row_bytes + at.col] = u8(s);
                }
            }
    }
    return p;
}

// The arguments of a launch on host memory, all but x, y and the routing.
inline MatmulArguments arguments_of(const MapPacked& p, const Checkpoint& c) {
    MatmulArguments a{};
    a.values = p.values.data();
    a.scales = p.scales.data();
    a.expert_scale = p.expert_scale.empty() ? nullptr : p.expert_scale.data();
    a.expert_shift = p.expert_shift.empty() ? nullptr : p.expert_shift.data();
    a.values_expert_bytes = p.stored.values_bytes();
    a.scales_expert_bytes = p.stored.scales_bytes();
    a.values_row_bytes = p.stored.value_row_bytes;
    a.scales_row_bytes = p.stored.scale_row_bytes;
    a.n = i32(c.n);
    a.k = i32(c.k);
    a.experts = i32(c.experts);
    return a;
}

}  // namespace mxfp4::test
