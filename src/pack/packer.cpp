#include "pack/packer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sys/mman.h>

#include <fmt/format.h>

#include "core/message.h"
#include "core/parallel.h"
#include "pack/words.h"

namespace mxfp4 {
namespace {

constexpr int kDefaultScaleWarps = 8;
constexpr int kBlockBytes = 16;
constexpr int kPrefetchBytes = 512;  // how far ahead a row is fetched

[[noreturn]] void bad_argument(const std::string& what, ErrorDetail detail) {
    throw Error(ErrorCode::invalid_argument, what, std::move(detail));
}

// The view with its strides written out.
struct Rows {
    const u8 *blocks, *scales;
    i64 n, k;
    i64 block_strides[4], scale_strides[3];

    explicit Rows(const CheckpointView& v) : blocks(v.blocks), scales(v.scales), n(v.n), k(v.k) {
        const i64 groups = k / kBlockElements;
        const i64 contiguous_blocks[4] = {n * groups * kBlockBytes, groups * kBlockBytes, kBlockBytes, 1};
        const i64 contiguous_scales[3] = {n * groups, groups, 1};
        for (int i = 0; i < 4; ++i) block_strides[i] = v.blocks_strides[i] ? v.blocks_strides[i] : contiguous_blocks[i];
        for (int i = 0; i < 3; ++i) scale_strides[i] = v.scales_strides[i] ? v.scales_strides[i] : contiguous_scales[i];
    }

    bool block_contiguous() const { return block_strides[3] == 1; }
    bool row_contiguous() const { return block_contiguous() && block_strides[2] == kBlockBytes; }
    const u8* block(i64 e, i64 row, i64 kg) const {
        return blocks + e * block_strides[0] + row * block_strides[1] + kg * block_strides[2];
    }
    const u8* scale_row(i64 e, i64 row) const { return scales + e * scale_strides[0] + row * scale_strides[1]; }

    void copy_block(i64 e, i64 row, i64 kg, u8* to) const {
        const u8* from = block(e, row, kg);
        for (int i = 0; i < kBlockBytes; ++i) to[i] = from[i * block_strides[3]];
    }
};

// Where the 16 rows x 64 k at (n, 64 * chunk) lie among an expert's stored values, hopper or native.
struct TilePlace {
    i64 offset, run_stride;
};
TilePlace tile_place(const WeightsFormat& format, const StoredShape& stored, i64 n, i64 chunk) {
    if (format.layout == Layout::native)
        return {native_word_offset(n, chunk * kTileRowBytes, stored.value_row_bytes / kNativeValueTileBytes), 128};
    const Index2 at = hopper_value_swizzle(n, chunk * kTileRowBytes);
    return {at.row * stored.value_row_bytes + at.col, stored.value_row_bytes};
}
// Chunks of 64 k that are stored, pad included.
i64 stored_chunks(const WeightsFormat& format, const StoredShape& stored) {
    return stored.value_row_bytes / (format.layout == Layout::native ? kNativeValueTileBytes : 4 * kTileRowBytes);
}
WordOrder word_order(const WeightsFormat& format) {
    return format.layout == Layout::native ? WordOrder::native : WordOrder::packbits;
}

// The stored scales of rows n, n+8 (n & 8 == 0) and blocks kg, kg+1 (kg even) are one 4-byte word: row n, row n+8 of
// kg, then of kg+1. A row's words lie a fixed step apart.
struct ScaleWords {
    i64 offset, step;
};
ScaleWords scale_words(const WeightsFormat& format, const StoredShape& stored, i64 n) {
    const auto offset = [&](i64 kg) {
        if (format.layout == Layout::native)
            return native_scale_offset(n, kg, stored.scale_row_bytes / kNativeScaleTileBytes);
        const Index2 at = hopper_scale_swizzle(n, kg, format.scale_warps);
        return at.row * stored.scale_row_bytes + at.col;
    };
    return {offset(0), offset(2) - offset(0)};
}

// What is added to a scale when it is stored.
int scale_addend(const WeightsFormat& format, int expert_shift) {
    return format.layout == Layout::native ? native_scale_byte(0, expert_shift, format.scale_class == ScaleClass::plain)
                                           : 0;
}

struct Slab {  // up to 64 rows of an expert
    i64 expert, begin, end;
};

void pack_tiles(const Rows& rows, const WeightsFormat& format, const StoredShape& stored, const Slab& slab,
                u8* values) {
    const WordLoops& loops = word_loops();
    const i64 row_bytes = rows.k / 2;
    u8 staged[kTileRows][kTileRowBytes];
    for (i64 n = slab.begin; n < slab.begin + kSlabRows; n += kTileRows)
        for (i64 chunk = 0; chunk < stored_chunks(format, stored); ++chunk) {
            const i64 at = chunk * kTileRowBytes;
            const i64 there = std::clamp<i64>(row_bytes - at, 0, kTileRowBytes);  // the rest is pad
            const u8* tile[kTileRows];
            for (int i = 0; i < kTileRows; ++i) {
                const i64 row = n + i, kg = at / kBlockBytes;
                if (row < slab.end && there == kTileRowBytes && rows.row_contiguous()) {
                    tile[i] = rows.block(slab.expert, row, kg);
                    // 16 streams are more than the hardware follows: a quarter faster with this.
                    __builtin_prefetch(tile[i] + kPrefetchBytes);
                    continue;
                }
                tile[i] = staged[i];
                std::memset(staged[i], 0, kTileRowBytes);
                for (i64 b = 0; row < slab.end && b < there / kBlockBytes; ++b)
                    rows.copy_block(slab.expert, row, kg + b, staged[i] + b * kBlockBytes);
            }
            const TilePlace place = tile_place(format, stored, n, chunk);
            loops.encode_tile(word_order(format), tile, values + place.offset, place.run_stride);
        }
}

void unpack_tiles(const WeightsInfo& info, const StoredShape& stored, const Slab& slab, const u8* values, u8* blocks) {
    const WordLoops& loops = word_loops();
    const i64 row_bytes = info.k / 2;
    u8 staged[kTileRows][kTileRowBytes];
    for (i64 n = slab.begin; n < slab.end; n += kTileRows)
        for (i64 at = 0; at < row_bytes; at += kTileRowBytes) {
            const i64 there = std::min<i64>(row_bytes - at, kTileRowBytes);
            u8* tile[kTileRows];
            for (int i = 0; i < kTileRows; ++i)
                tile[i] = n + i < slab.end && there == kTileRowBytes ? blocks + (n + i) * row_bytes + at : staged[i];
            const TilePlace place = tile_place(info.format, stored, n, at / kTileRowBytes);
            loops.decode_tile(word_order(info.format), values + place.offset, place.run_stride, tile);
            for (int i = 0; i < kTileRows && n + i < slab.end; ++i)
                if (tile[i] == staged[i]) std::memcpy(blocks + (n + i) * row_bytes + at, staged[i], std::size_t(there));
        }
}

// blocks: values [k/32, n, 16]
void pack_blocks(const Rows& rows, const Slab& slab, u8* values) {
    u8 staged[kSlabRows][kBlockBytes];
    const u8* blocks[kSlabRows];
    const int count = int(slab.end - slab.begin);
    for (i64 kg = 0; kg < rows.k / kBlockElements; ++kg) {
        for (int i = 0; i < count; ++i) {
            blocks[i] = rows.block_contiguous() ? rows.block(slab.expert, slab.begin + i, kg) : staged[i];
            if (!rows.block_contiguous()) rows.copy_block(slab.expert, slab.begin + i, kg, staged[i]);
        }
        word_loops().encode_blocks(blocks, count, values + (kg * rows.n + slab.begin) * kBlockBytes);
    }
}

void unpack_blocks(const WeightsInfo& info, const Slab& slab, const u8* values, u8* blocks) {
    const int count = int(slab.end - slab.begin);
    const i64 groups = info.k / kBlockElements;
    u8* to[kSlabRows];
    for (i64 kg = 0; kg < groups; ++kg) {
        for (int i = 0; i < count; ++i) to[i] = blocks + ((slab.begin + i) * groups + kg) * kBlockBytes;
        word_loops().decode_blocks(values + (kg * info.n + slab.begin) * kBlockBytes, count, to);
    }
}

void pack_scales(const Rows& rows, const WeightsFormat& format, const StoredShape& stored, int expert_shift,
                 const Slab& slab, u8* scales) {
    const i64 groups = rows.k / kBlockElements, even_groups = round_up(groups, 2);
    const int addend = scale_addend(format, expert_shift);
    std::vector<u8> staged(std::size_t(2 * even_groups));  // rows n and n+8
    for (i64 n = slab.begin; n < slab.end; ++n) {
        if (n & 8) continue;
        std::ranges::fill(staged, u8(0));
        for (int i = 0; i < 2 && n + 8 * i < slab.end; ++i) {
            const u8* from = rows.scale_row(slab.expert, n + 8 * i);
            for (i64 kg = 0; kg < groups; ++kg)
                staged[std::size_t(i * even_groups + kg)] = u8(from[kg * rows.scale_strides[2]] + addend);
        }
        const ScaleWords words = scale_words(format, stored, n);
        const u8 *row = staged.data(), *row8 = row + even_groups;
        u8* to = scales + words.offset;
        for (i64 kg = 0; kg < groups; kg += 2, to += words.step) {
            const u8 word[4] = {row[kg], row8[kg], row[kg + 1], row8[kg + 1]};
            std::memcpy(to, word, 4);
        }
    }
}

[[noreturn]] void bad_stored_scale(const WeightsInfo& info, int byte, int addend, i64 expert, i64 n, i64 kg) {
    throw Error(ErrorCode::bad_file,
                fmt::format("a packed scale of {} stands for no E8M0 scale: expert {}, row {}, block {}",
                            in_quotes(info.name), expert, n, kg),
                {fmt::format("{}", byte), fmt::format("{} to {}", addend, std::min(255, addend + kScaleNan - 1)), ""});
}

void unpack_scales(const WeightsInfo& info, const StoredShape& stored, int expert_shift, const Slab& slab,
                   const u8* packed, u8* scales) {
    const i64 groups = info.k / kBlockElements;
    const int addend = scale_addend(info.format, expert_shift);
    for (i64 n = slab.begin; n < slab.end; ++n) {
        const ScaleWords words = scale_words(info.format, stored, n & ~i64(8));
        const u8* from = packed + words.offset + ((n >> 3) & 1);
        u8* to = scales + n * groups;
        for (i64 kg = 0; kg < groups; ++kg) {
            const int byte = from[(kg >> 1) * words.step + (kg & 1) * 2], scale = byte - addend;
            if (scale < 0 || scale >= kScaleNan) bad_stored_scale(info, byte, addend, slab.expert, n, kg);
            to[kg] = u8(scale);
        }
    }
}

void pack_slab(const Rows& rows, const PackPlan& plan, const Slab& slab, u8* values, u8* scales) {
    const WeightsFormat& format = plan.info.format;
    const StoredShape stored = plan.info.stored();
    if (format.layout == Layout::blocks)
        pack_blocks(rows, slab, values);
    else
        pack_tiles(rows, format, stored, slab, values);
    pack_scales(rows, format, stored, plan.expert_shift[std::size_t(slab.expert)], slab, scales);
}

int expert_shift_of(const PackedView& packed, i64 expert) {
    if (packed.info.format.layout != Layout::native) return 0;
    int exponent = 0;
    const float scale = packed.expert_scale[expert];
    if (!std::isfinite(scale) || std::frexp(scale, &exponent) != 0.5f || exponent < 1 ||
        exponent - 1 > kMostExpertShift)
        throw Error(ErrorCode::bad_file,
                    fmt::format("expert_scale of {} is wrong for expert {}", in_quotes(packed.info.name), expert),
                    {fmt::format("{}", scale), "a power of two from 1 to 2^126", ""});
    return exponent - 1;
}

void unpack_slab(const PackedView& packed, const Slab& slab, u8* blocks, u8* scales) {
    const WeightsInfo& info = packed.info;
    const StoredShape stored = info.stored();
    const u8* values = packed.values + slab.expert * stored.values_bytes();
    if (info.format.layout == Layout::blocks)
        unpack_blocks(info, slab, values, blocks);
    else
        unpack_tiles(info, stored, slab, values, blocks);
    unpack_scales(info, stored, expert_shift_of(packed, slab.expert), slab,
                  packed.scales + slab.expert * stored.scales_bytes(), scales);
}

i64 slabs_of(const WeightsInfo& info) { return ceil_div(info.n, kSlabRows); }
Slab slab_at(const WeightsInfo& info, i64 expert, i64 slab) {
    return {expert, slab * kSlabRows, std::min((slab + 1) * kSlabRows, i64(info.n))};
}

ScaleRange scan_scales(const Rows& rows, i64 expert) {
    ScaleRange range;
    const i64 groups = rows.k / kBlockElements, stride = rows.scale_strides[2];
    for (i64 n = 0; n < rows.n; ++n) {
        const u8* row = rows.scale_row(expert, n);
        u8 smallest = range.smallest, largest = range.largest;
        const auto scan = [&](i64 step) {
            for (i64 kg = 0; kg < groups; ++kg) {
                smallest = std::min(smallest, row[kg * step]);
                largest = std::max(largest, row[kg * step]);
            }
        };
        stride == 1 ? scan(1) : scan(stride);  // the first becomes vector code
        range = {smallest, largest};
        if (largest < kScaleNan) continue;
        i64 kg = 0;
        while (row[kg * stride] != kScaleNan) ++kg;
        bad_argument(fmt::format("a scale is NaN: expert {}, row {}, block {}", expert, n, kg),
                     {"255", "at most 254", "the checkpoint is damaged or no MXFP4 weight"});
    }
    return range;
}

void check_view(const CheckpointView& v) {
    constexpr i64 kMost = (1ll << 31) - 1;
    const auto check_size = [](const char* name, i64 size) {
        if (size < 1 || size > kMost)
            bad_argument(fmt::format("bad {} of an expert tensor", name),
                         {fmt::format("{}", size), "1 to 2^31 - 1", ""});
    };
    check_size("number of experts", v.experts);
    check_size("n", v.n);
    check_size("k", v.k);
    if (v.k % kBlockElements != 0)
        bad_argument("bad k of an expert tensor", {fmt::format("{}", v.k), "a multiple of 32", ""});
    if (!v.blocks || !v.scales)
        bad_argument("an expert tensor has no data", {"null", "a pointer to blocks and one to scales", ""});
}

// Zero bytes. Huge pages, where the system gives them: the page faults of small ones take longer than packing does.
std::vector<u8> zeroed_bytes(i64 count) {
    std::vector<u8> bytes;
    bytes.reserve(std::size_t(count));
    constexpr std::uintptr_t kHugePage = 2 << 20;
    const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = reinterpret_cast<std::uintptr_t>(bytes.data()) + std::uintptr_t(count);
    if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
    bytes.resize(std::size_t(count));
    return bytes;
}

}  // namespace

void check_scale_warps(int warps, const std::string& called) {
    if (!is_power_of_two(warps) || warps > kMostScaleWarps)
        bad_argument(called, {fmt::format("{}", warps), fmt::format("a power of two up to {}", kMostScaleWarps), ""});
}

WeightsFormat checked_format(const PackOptions& options) {
    if (options.layout == Layout::native) {
        if (options.num_warps != 0)
            bad_argument("the native layout has no num_warps", {fmt::format("{}", options.num_warps), "0", ""});
        return {.layout = Layout::native, .scale_warps = 0};
    }
    const int warps = options.num_warps ? options.num_warps : kDefaultScaleWarps;
    check_scale_warps(warps, "bad num_warps of the scale swizzle");
    return {.layout = options.layout, .scale_warps = warps};
}

std::vector<float> PackPlan::expert_scale() const {
    std::vector<float> scale;
    for (const i32 shift : expert_shift) scale.push_back(std::ldexp(1.0f, shift));
    return scale;
}

PackPlan plan_pack(const CheckpointView& checkpoint, const PackOptions& options) {
    PackPlan plan;
    plan.info.format = checked_format(options);
    check_view(checkpoint);
    plan.info.layout_version = kLayoutVersion[int(options.layout)];
    plan.info.experts = checkpoint.experts;
    plan.info.n = checkpoint.n;
    plan.info.k = checkpoint.k;
    const Rows rows(checkpoint);
    std::vector<ScaleRange> ranges(std::size_t(checkpoint.experts));
    parallel_for(options.threads, checkpoint.experts, [&](i64 e) { ranges[std::size_t(e)] = scan_scales(rows, e); });
    ScaleDecision decision = decide_scale_class(ranges);
    plan.info.format.scale_class = decision.scale_class;
    plan.expert_shift = std::move(decision.expert_shift);
    return plan;
}

void pack_expert(const CheckpointView& checkpoint, const PackPlan& plan, std::int64_t expert, std::uint8_t* values,
                 std::uint8_t* scales) {
    const Rows rows(checkpoint);
    for (i64 slab = 0; slab < slabs_of(plan.info); ++slab)
        pack_slab(rows, plan, slab_at(plan.info, expert, slab), values, scales);
}

void unpack_expert(const PackedView& packed, std::int64_t expert, std::uint8_t* blocks, std::uint8_t* scales) {
    for (i64 slab = 0; slab < slabs_of(packed.info); ++slab)
        unpack_slab(packed, slab_at(packed.info, expert, slab), blocks, scales);
}

PackedView PackedWeights::view() const {
    return {info, values.data(), scales.data(), expert_scale.empty() ? nullptr : expert_scale.data()};
}

PackedWeights pack(const CheckpointView& checkpoint, const PackOptions& options) {
    const PackPlan plan = plan_pack(checkpoint, options);
    const StoredShape stored = plan.info.stored();
    PackedWeights packed;
    packed.info = plan.info;
    packed.values = zeroed_bytes(checkpoint.experts * stored.values_bytes());
    packed.scales = zeroed_bytes(checkpoint.experts * stored.scales_bytes());
    if (options.layout == Layout::native) packed.expert_scale = plan.expert_scale();
    const Rows rows(checkpoint);
    const i64 slabs = slabs_of(plan.info);
    parallel_for(options.threads, checkpoint.experts * slabs, [&](i64 task) {
        const i64 e = task / slabs;
        pack_slab(rows, plan, slab_at(plan.info, e, task % slabs), packed.values.data() + e * stored.values_bytes(),
                  packed.scales.data() + e * stored.scales_bytes());
    });
    return packed;
}

void unpack(const PackedView& packed, std::uint8_t* blocks, std::uint8_t* scales, int threads) {
    const WeightsInfo& info = packed.info;
    const i64 slabs = slabs_of(info), row_scales = info.k / kBlockElements;
    parallel_for(threads, info.experts * slabs, [&](i64 task) {
        const i64 e = task / slabs;
        unpack_slab(packed, slab_at(info, e, task % slabs), blocks + e * info.n * row_scales * kBlockBytes,
                    scales + e * info.n * row_scales);
    });
}

}  // namespace mxfp4
