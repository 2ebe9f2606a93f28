#include "backends/host/host_kernel.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <vector>

#include "backends/host/tile.h"
#include "core/bf16.h"

namespace mxfp4 {
namespace {

// 2^exponent, subnormals included; 0 below what fp32 holds, NaN above (only pad bytes and E8M0 255 lead there).
float power_of_two(int exponent) {
    if (exponent > 127) return std::bit_cast<float>(0x7FC00000u);
    if (exponent >= -126) return std::bit_cast<float>(u32(exponent + 127) << 23);
    return exponent < -149 ? 0.0f : std::bit_cast<float>(1u << (exponent + 149));
}

struct RowRange {
    i64 first, end;
};
RowRange group_rows(const MatmulArguments& a, i32 group) {
    const auto clamp = [&a](i32 row) { return std::clamp<i64>(row, 0, a.rows); };
    return {clamp(a.expert_offsets[group]), clamp(a.expert_offsets[group + 1])};
}

// Which tile a number means. Numbers come in ascending order, so that a thread walks over the groups once.
struct TileCursor {
    i32 group = 0;
    i64 first_tile = 0;  // of the group

    bool seek(const MatmulArguments& a, i64 tile, int block_m, i64 n_tiles) {
        for (; group < a.groups; ++group) {
            const RowRange rows = group_rows(a, group);
            const i64 tiles = rows.end > rows.first ? ceil_div(rows.end - rows.first, block_m) * n_tiles : 0;
            if (tile < first_tile + tiles) return true;
            first_tile += tiles;
        }
        return false;
    }
};

// A thread's scratch. It grows at a thread's first launch, also where other threads leave it no tile, and is kept, so that later launches
// allocate nothing.
struct Scratch {
    std::vector<float> x, w, acc;
    float scale_of_byte[256];

    void make_room(const KernelConfig& c, int block_k) {
        grow(x, std::size_t(c.block_m) * block_k);
        grow(w, std::size_t(kSlabRows) * block_k);
        grow(acc, std::size_t(c.block_m) * c.block_n);
    }

  private:
    static void grow(std::vector<float>& v, std::size_t size) {
        if (v.size() < size) v.resize(size);
    }
};

class HostKernel final : public Kernel {
  public:
    HostKernel(const KernelConfig& config, const WeightsFormat& format, std::shared_ptr<ThreadPool> pool)
        : config_(config),
          format_(format),
          code_(config.simd ? *simd_tile_code() : scalar_tile_code()),
          pool_(std::move(pool)) {
        pool_->reserve(config.num_warps);
    }

    const KernelConfig& config() const override { return config_; }
    const CompileReport& report() const override { return report_; }

    void launch(MatmulArguments& arguments, Stream) const override {
        Launch launch{this, &arguments, {}};
        pool_->run(
            config_.num_warps, [](void* context) { static_cast<Launch*>(context)->work(); }, &launch);
    }

  private:
    struct Launch {
        const HostKernel* kernel;
        const MatmulArguments* arguments;
        std::atomic<i64> next_tile;

        void work() {
            thread_local Scratch scratch;
            const KernelConfig& c = kernel->config_;
            scratch.make_room(c, kernel->block_k(*arguments));
            const i64 n_tiles = ceil_div(arguments->n, c.block_n);
            TileCursor cursor;
            for (;;) {
                const i64 tile = next_tile.fetch_add(1, std::memory_order_relaxed);
                if (!cursor.seek(*arguments, tile, c.block_m, n_tiles)) return;
                const i64 local = tile - cursor.first_tile;
                kernel->compute(*arguments, cursor.group, local / n_tiles * c.block_m, local % n_tiles * c.block_n,
                                scratch);
            }
        }
    };

    int block_k(const MatmulArguments& a) const { return int(std::min<i64>(config_.block_k, round_up(a.k, kChunkK))); }

    // Rows first_row .. of a group (counted from its start), outputs n0 .. n0 + block_n - 1.
    void compute(const MatmulArguments& a, i32 group, i64 first_row, i64 n0, Scratch& scratch) const {
        const RowRange range = group_rows(a, group);
        const i64 row0 = range.first + first_row;
        const int rows = int(std::min<i64>(config_.block_m, range.end - row0));
        const i64 n_count = std::min<i64>(config_.block_n, a.n - n0);
        const i32 expert = a.expert_ids ? a.expert_ids[group] : group;
        u16* const y = static_cast<u16*>(a.y);
        if (expert < 0 || expert >= a.experts) {
            for (int m = 0; m < rows; ++m) std::fill_n(y + (row0 + m) * a.y_stride + n0, n_count, u16(0));
            return;
        }
        const ExpertView view = expert_view(a, expert, scratch);
        const i64 width = round_up(n_count, kSlabRows);
        const int block_k = this->block_k(a);
        float* const acc = scratch.acc.data();
        std::fill_n(acc, rows * width, 0.0f);
        for (i64 k0 = 0; k0 < a.k; k0 += block_k) {
            const int k_count = int(std::min<i64>(block_k, a.k - k0));
            for (int m = 0; m < rows; ++m) {
                const u16* const from = static_cast<const u16*>(a.x) + (row0 + m) * a.x_stride + k0;
                for (int k = 0; k < k_count; ++k) scratch.x[std::size_t(m) * k_count + k] = bf16_to_float(from[k]);
            }
            for (i64 n = 0; n < width; n += kSlabRows) {
                code_.decode(view, n0 + n, k0, k_count, scratch.w.data());
                code_.multiply(scratch.x.data(), k_count, rows, scratch.w.data(), k_count, acc + n, width);
            }
        }
        const float factor = a.expert_scale ? a.expert_scale[expert] : 1.0f;
        for (int m = 0; m < rows; ++m)
            for (i64 n = 0; n < n_count; ++n)
                y[(row0 + m) * a.y_stride + n0 + n] = float_to_bf16(acc[m * width + n] * factor);
    }

    ExpertView expert_view(const MatmulArguments& a, i32 expert, Scratch& scratch) const {
        // native stores s - shift + 126 unless plain; hopper and blocks store s, and rebase it here.
        const bool shifted = format_.layout == Layout::native && format_.scale_class != ScaleClass::plain;
        const int bias = shifted ? 126 + 127 : (a.expert_shift ? a.expert_shift[expert] : 0) + 127;
        for (int byte = 0; byte < 256; ++byte) scratch.scale_of_byte[byte] = power_of_two(byte - bias);
        return {format_.layout,
                format_.scale_warps,
                a.values + expert * a.values_expert_bytes,
                a.scales + expert * a.scales_expert_bytes,
                a.values_row_bytes,
                a.scales_row_bytes,
                a.n,
                a.k,
                scratch.scale_of_byte};
    }

    const KernelConfig config_;
    const WeightsFormat format_;
    const TileCode& code_;
    const std::shared_ptr<ThreadPool> pool_;
    const CompileReport report_ = {};
};

}  // namespace

std::string host_kernel_rejects(const KernelConfig& config, const WeightsFormat& format) {
    if (config.variant != Variant::host) return "the host backend runs host kernels alone";
    if (const Reject reject = check(config, format); reject != Reject::none) return reject_text(reject);
    if (config.simd && !simd_tile_code()) return "simd needs a CPU with AVX2 and FMA";
    return "";
}

KernelPtr make_host_kernel(const KernelConfig& config, const WeightsFormat& format, std::shared_ptr<ThreadPool> pool) {
    return std::make_shared<const HostKernel>(config, format, std::move(pool));
}

}  // namespace mxfp4
