#include "weights.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include <fmt/format.h>

#include "core/config_text.h"
#include "pack/scale_class.h"

namespace mxfp4 {
namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& value, const std::string& limit,
                         const std::string& remedy = "") {
    throw Error(ErrorCode::invalid_argument, message, {value, limit, remedy});
}

void check_weight_shape(i64 experts, i64 n, i64 k) {
    if (const Reject reject = check_shape({experts, n, k}); reject != Reject::none)
        refuse("a weight's shape is not one of MXFP4", fmt::format("E {} N {} K {}", experts, n, k),
               "positive, below 2^31, and K a multiple of 32");
}

void check_info(const WeightsInfo& info) {
    check_weight_shape(info.experts, info.n, info.k);
    const WeightsFormat& f = info.format;
    if (info.layout_version != kLayoutVersion[int(f.layout)])
        throw Error(
            ErrorCode::unsupported, fmt::format("unknown version of layout {}", to_string(f.layout)),
            {fmt::format("{}", info.layout_version), fmt::format("{}", kLayoutVersion[int(f.layout)]), "pack again"});
    const bool native = f.layout == Layout::native;
    if (native ? f.scale_warps != 0 : !is_power_of_two(f.scale_warps))
        refuse(fmt::format("num_warps of a {} scale swizzle", to_string(f.layout)), fmt::format("{}", f.scale_warps),
               native ? "0" : "a power of two");
}

// Hopper scales of one expert, [scale rows, row_bytes]; pad bytes count for nothing. A row holds 64-byte pieces: two
// blocks of 32 k, 32 outputs in two halves that lie 16 * scale_warps apart.
ScaleRange hopper_scale_range(const u8* scales, i64 row_bytes, int scale_warps, i64 n, i64 k) {
    ScaleRange range;
    const auto add = [&range](u8 smallest, u8 largest) {
        range = {std::min(range.smallest, smallest), std::max(range.largest, largest)};
    };
    const i64 blocks = k / kBlockElements, rows = round_up(n, scale_align_m(scale_warps)) / 32;
    for (i64 row = 0; row < rows; ++row) {
        const bool row_is_whole = hopper_scale_unswizzle(row, 63, scale_warps).row < n;
        for (i64 piece = 0; piece < ceil_div(blocks, 2); ++piece) {
            const u8* const bytes = scales + row * row_bytes + piece * 64;
            if (row_is_whole && 2 * piece + 1 < blocks) {
                const auto [smallest, largest] = std::minmax_element(bytes, bytes + 64);
                add(*smallest, *largest);
                continue;
            }
            for (i64 i = 0; i < 64; ++i) {
                const Index2 at = hopper_scale_unswizzle(row, piece * 64 + i, scale_warps);
                if (at.row < n && at.col < blocks) add(bytes[i], bytes[i]);
            }
        }
    }
    return range;
}

// The first E8M0 255 in the checkpoint's order, for the message.
[[noreturn]] void refuse_nan(const u8* scales, i64 row_bytes, int scale_warps, i64 expert, i64 n, i64 k) {
    for (i64 row = 0; row < n; ++row)
        for (i64 block = 0; block < k / kBlockElements; ++block) {
            const Index2 at = hopper_scale_swizzle(row, block, scale_warps);
            if (scales[at.row * row_bytes + at.col] == kScaleNan)
                refuse(fmt::format("the scale of expert {}, row {}, block {} is E8M0 NaN", expert, row, block), "255",
                       "at most 254", "MXFP4 weights hold no NaN: look at how they were quantised");
        }
    refuse(fmt::format("a scale of expert {} is E8M0 NaN", expert), "255", "at most 254");
}

template <class T>
Buffer buffer_of(Backend& backend, const T* from, i64 count) {
    Buffer buffer(backend, std::size_t(count) * sizeof(T));
    backend.copy_in(buffer.data(), from, buffer.bytes());
    return buffer;
}

// What a rebased hopper or blocks kernel subtracts from an expert's scales, and the factor that makes up for it.
void add_rebase(Backend& backend, DeviceWeights& weights, const std::vector<i32>& expert_shift) {
    std::vector<float> factors;
    for (const i32 shift : expert_shift) factors.push_back(std::bit_cast<float>(u32(127 + shift) << 23));
    weights.owned_expert_shift = buffer_of(backend, expert_shift.data(), weights.info.experts);
    weights.owned_expert_scale = buffer_of(backend, factors.data(), weights.info.experts);
    weights.expert_shift = weights.owned_expert_shift.as<i32>();
    weights.expert_scale = weights.owned_expert_scale.as<float>();
}

// 0 means the smallest; anything else must be at least that, and a multiple of what a kernel reads at once.
i64 padded(i64 given, i64 smallest, i64 multiple, const char* what) {
    if (given == 0) return smallest;
    if (given < smallest || given % multiple != 0)
        refuse(fmt::format("wrap: {}", what), fmt::format("{}", given),
               fmt::format("0, or at least {}{}", smallest,
                           multiple > 1 ? fmt::format(" and a multiple of {}", multiple) : ""));
    return given;
}

void check_aligned(const void* pointer, const char* what) {
    if (!pointer) refuse(fmt::format("wrap: {} is null", what), "null", "a device pointer");
    if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
        refuse(fmt::format("wrap: {} is not aligned", what), fmt::format("{}", pointer), "a multiple of 16 bytes");
}

}  // namespace

DeviceWeights upload_weights(Backend& backend, const PackedView& packed) {
    check_info(packed.info);
    if (!packed.values || !packed.scales) refuse("a packed weight without bytes", "null", "values and scales");
    const WeightsFormat& format = packed.info.format;
    const bool rebased = format.scale_class == ScaleClass::rebased, native = format.layout == Layout::native;
    if (rebased && native && !packed.expert_scale)
        refuse("a rebased native weight without expert_scale", "null", "[experts] factors");
    const i64 experts = packed.info.experts;
    const StoredShape stored = packed.info.stored();
    DeviceWeights weights;
    weights.info = packed.info;
    weights.values_row_bytes = stored.value_row_bytes;
    weights.scales_row_bytes = stored.scale_row_bytes;
    weights.values_expert_bytes = stored.values_bytes();
    weights.scales_expert_bytes = stored.scales_bytes();
    weights.owned_values = buffer_of(backend, packed.values, experts * stored.values_bytes());
    weights.owned_scales = buffer_of(backend, packed.scales, experts * stored.scales_bytes());
    weights.values = weights.owned_values.as<u8>();
    weights.scales = weights.owned_scales.as<u8>();
    if (rebased && native) {
        weights.owned_expert_scale = buffer_of(backend, packed.expert_scale, experts);
        weights.expert_scale = weights.owned_expert_scale.as<float>();
    } else if (rebased) {
        std::vector<ScaleRange> ranges;
        for (i64 e = 0; e < experts; ++e)
            ranges.push_back(hopper_scale_range(packed.scales + e * stored.scales_bytes(), stored.scale_row_bytes,
                                                format.scale_warps, packed.info.n, packed.info.k));
        add_rebase(backend, weights, decide_scale_class(ranges).expert_shift);
    }
    return weights;
}

DeviceWeights wrap_weights(Backend& backend, const WrapSpec& spec) {
    check_weight_shape(spec.experts, spec.n, spec.k);
    if (!is_power_of_two(spec.num_warps))
        refuse("wrap: num_warps of the scale swizzle", fmt::format("{}", spec.num_warps), "a power of two");
    check_aligned(spec.values, "values");
    check_aligned(spec.scales, "scales");
    DeviceWeights weights;
    weights.info.format = {Layout::hopper, spec.num_warps, ScaleClass::folded};
    weights.info.layout_version = kLayoutVersion[int(Layout::hopper)];
    weights.info.experts = spec.experts;
    weights.info.n = spec.n;
    weights.info.k = spec.k;
    const StoredShape stored = weights.info.stored();
    weights.values = static_cast<const u8*>(spec.values);
    weights.scales = static_cast<const u8*>(spec.scales);
    weights.values_row_bytes = padded(spec.value_row_bytes, stored.value_row_bytes, 16, "value_row_bytes");
    weights.scales_row_bytes = padded(spec.scale_row_bytes, stored.scale_row_bytes, 16, "scale_row_bytes");
    weights.values_expert_bytes =
        padded(spec.value_rows, stored.value_rows, 1, "value_rows") * weights.values_row_bytes;
    weights.scales_expert_bytes =
        padded(spec.scale_rows, stored.scale_rows, 1, "scale_rows") * weights.scales_row_bytes;

    std::vector<u8> scales(std::size_t(weights.scales_expert_bytes));  // an expert's at a time
    std::vector<ScaleRange> ranges;
    for (i64 e = 0; e < spec.experts; ++e) {
        backend.copy_out(scales.data(), weights.scales + e * weights.scales_expert_bytes, scales.size());
        ranges.push_back(hopper_scale_range(scales.data(), weights.scales_row_bytes, spec.num_warps, spec.n, spec.k));
        if (ranges.back().largest == kScaleNan)
            refuse_nan(scales.data(), weights.scales_row_bytes, spec.num_warps, e, spec.n, spec.k);
    }
    const ScaleDecision decision = decide_scale_class(ranges);
    weights.info.format.scale_class = decision.scale_class;
    if (decision.scale_class == ScaleClass::rebased) add_rebase(backend, weights, decision.expert_shift);
    return weights;
}

void describe_weights(const DeviceWeights& weights, MatmulArguments& arguments) {
    arguments.values = weights.values;
    arguments.scales = weights.scales;
    arguments.expert_scale = weights.expert_scale;
    arguments.expert_shift = weights.expert_shift;
    arguments.values_expert_bytes = weights.values_expert_bytes;
    arguments.scales_expert_bytes = weights.scales_expert_bytes;
    arguments.values_row_bytes = weights.values_row_bytes;
    arguments.scales_row_bytes = weights.scales_row_bytes;
    arguments.n = i32(weights.info.n);
    arguments.k = i32(weights.info.k);
    arguments.experts = i32(weights.info.experts);
    arguments.weights_constant = weights.owned_values.data() != nullptr;  // a caller may write its own on the stream
}

}  // namespace mxfp4
