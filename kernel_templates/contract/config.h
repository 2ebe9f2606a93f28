// A kernel's tuning parameters, and the one function that says which of them may go together.
// The tuner asks check(), the kernels static_assert it, mxfp4-cache prints its answer.
#pragma once

#include "contract/layout.h"

namespace mxfp4 {

// Reaches the disk: do not renumber.
enum class Variant : u8 { naive = 0, mma = 1, wgmma_ss = 2, wgmma_rs = 3, host = 4 };

// Free parameters of one specialised kernel. m = rows (tokens), n = outputs, k = reduction.
struct KernelConfig {
    Variant variant = Variant::naive;
    Layout layout = Layout::native;
    int block_m = 64;     // most rows of a tile; wgmma kernels use as few (a multiple of 8) as a tile has
    int block_n = 64;     // outputs of a tile
    int block_k = 64;     // k of a pipeline stage
    int num_warps = 1;    // of a thread block; wgmma: 4 producer warps + 4 a consumer warpgroup. host: threads
    int stages = 1;       // pipeline depth
    int split_k = 1;      // 1: whole tiles. s >= 2: each tile in s ranges of k. 0: stream-k, the work spread evenly over the grid
    int ctas_per_sm = 1;  // of the persistent grid
    int simd = 0;         // host only: 1 = vector code
    int cluster = 1;      // wgmma_rs: 2 = pairs of thread blocks share the rows of x, each with its own outputs
    constexpr bool operator==(const KernelConfig&) const = default;
};

// What check() needs to know of a problem; everything in elements.
struct ProblemShape {
    i64 experts = 0, n = 0, k = 0;
    i64 rows = 0;          // upper bound
    i64 groups = 0;        // 0 = experts
    bool x_aligned = true;  // x and its row stride are multiples of 16 bytes
    bool y_aligned = true;  // y and its row stride are multiples of 16 bytes
};

struct DeviceLimits {
    int sm_count = 132;
    int shared_bytes_per_block = 232448;  // 227 KiB, the opt-in maximum of sm_90
    int shared_bytes_per_sm = 233472;     // 228 KiB, 1 KiB of it reserved for each block
    int registers_per_sm = 65536;
    i64 workspace_bytes = 256ll << 20;  // the most scratch a split-k config may ask for
    double memory_bytes_per_us = 3.35e6;  // what memory could give at its clock; for the tuner's cost model
};

enum class Reject : u8 {
    none,
    layout_not_admissible,     // this kernel does not read this layout
    scale_warps_not_power_of_two,
    block_m_not_supported,
    block_n_not_supported,
    block_k_not_multiple_of_64,
    num_warps_not_supported,
    ctas_per_sm_not_supported,
    stages_not_supported,
    split_k_not_supported,
    too_many_registers,
    too_much_shared_memory,
    too_much_workspace,
    shape_not_supported,       // N, K, E or rows that the format does not allow
    simd_not_supported,
    cluster_not_supported,
};

constexpr const char* reject_text(Reject r) {
    switch (r) {
        case Reject::none: return "admissible";
        case Reject::layout_not_admissible: return "the kernel does not read this layout";
        case Reject::scale_warps_not_power_of_two: return "the scale swizzle's num_warps is not a power of two";
        case Reject::block_m_not_supported: return "BLOCK_M is not one that the kernel supports";
        case Reject::block_n_not_supported: return "BLOCK_N is not one that the kernel supports";
        case Reject::block_k_not_multiple_of_64: return "BLOCK_K is not a multiple of 64";
        case Reject::num_warps_not_supported: return "num_warps is not one that the kernel supports";
        case Reject::ctas_per_sm_not_supported: return "ctas_per_sm is not one that the kernel supports";
        case Reject::stages_not_supported: return "stages is not one that the kernel supports";
        case Reject::split_k_not_supported: return "split_k is not one that the kernel supports";
        case Reject::too_many_registers: return "accumulators and fragments exceed the register file";
        case Reject::too_much_shared_memory: return "the pipeline exceeds the shared memory of a block";
        case Reject::too_much_workspace: return "split-k partial sums exceed the workspace limit";
        case Reject::shape_not_supported: return "N, K, E or rows is outside what the format allows";
        case Reject::simd_not_supported: return "simd is for the host backend alone";
        case Reject::cluster_not_supported: return "the kernel does not run in clusters like this";
    }
    return "unknown";
}

// Swizzle constraints of a stored scale layout (layout-contract.md). whole_tiles: the kernel unswizzles whole scale
// tiles; the kernels of this project read through the index maps and pass false.
constexpr Reject check_scale_swizzle(int scale_warps, int block_n, int block_k, bool whole_tiles) {
    if (!is_power_of_two(scale_warps)) return Reject::scale_warps_not_power_of_two;
    if (block_n % (whole_tiles ? scale_align_m(scale_warps) : 16) != 0) return Reject::block_n_not_supported;
    if (block_k % 64 != 0) return Reject::block_k_not_multiple_of_64;
    return Reject::none;
}

constexpr bool is_wgmma(Variant v) { return v == Variant::wgmma_ss || v == Variant::wgmma_rs; }
inline constexpr int kProducerWarps = 4;  // of the wgmma kernels
constexpr int consumer_warpgroups(const KernelConfig& c) { return (c.num_warps - kProducerWarps) / 4; }
// Consumer warpgroups share out a tile's slabs of 64 outputs. Where there are fewer slabs than warpgroups, k_parts of them work on
// one slab, each on every k_parts'th chunk of k, and one of them adds it all up: few rows, so that decoding is what takes time.
constexpr int k_parts(const KernelConfig& c) {
    const int outputs = kSlabRows * consumer_warpgroups(c);
    return c.block_n < outputs ? outputs / c.block_n : 1;
}
constexpr int slab_groups(const KernelConfig& c) { return consumer_warpgroups(c) / k_parts(c); }
// Which of them a warpgroup is. (Spelled out for one part: the compiler does not know how many warpgroups there are.)
constexpr int slab_group_of(const KernelConfig& c, int warpgroup) {
    return k_parts(c) == 1 ? warpgroup : warpgroup % slab_groups(c);
}
constexpr int k_part_of(const KernelConfig& c, int warpgroup) { return k_parts(c) == 1 ? 0 : warpgroup / slab_groups(c); }
constexpr int slabs_per_warpgroup(const KernelConfig& c) { return c.block_n / (kSlabRows * slab_groups(c)); }
// Registers of a thread at launch: the register file spread evenly, in steps of 8. setmaxnreg then moves them from the producer
// warpgroup to the consumers; it can only hand out what the block was launched with.
constexpr int launch_registers(const KernelConfig& c) {
    const int even = 65536 / c.ctas_per_sm / (c.num_warps * 32) / 8 * 8;
    return even < 248 ? even : 248;
}
// What the producer's scheduler and addresses need, less where three consumer warpgroups share the file, more where it decodes.
constexpr int producer_registers(const KernelConfig& c) {
    const int needed = c.variant == Variant::wgmma_ss ? 120 : consumer_warpgroups(c) > 2 ? 80 : 88;
    return launch_registers(c) < needed ? launch_registers(c) : needed;
}
inline constexpr int kFragmentRegisters = 48;  // of a consumer: two groups of fragments, words, scales, addresses
constexpr int consumer_registers(const KernelConfig& c) {
    const int pool = launch_registers(c) * (consumer_warpgroups(c) + 1) - producer_registers(c);
    const int each = pool / consumer_warpgroups(c) / 8 * 8;
    return each < 240 ? each : 240;
}
constexpr int accumulator_registers(const KernelConfig& c) { return slabs_per_warpgroup(c) * c.block_m / 2; }  // of a consumer
constexpr int spare_registers(const KernelConfig& c) { return consumer_registers(c) - accumulator_registers(c); }
// Whether a consumer of wgmma_rs has registers to load its next words while it decodes these.
constexpr bool loads_ahead(const KernelConfig& c) { return spare_registers(c) >= kFragmentRegisters + 16; }

// Whether the consumers of a wgmma_rs kernel multiply by mma.sync, a warp its 16 outputs of a slab: faster for up to 8 rows a tile.
constexpr bool warps_multiply(const KernelConfig& c) { return c.variant == Variant::wgmma_rs && c.block_m == 8; }

// The n that wgmma kernels are instantiated for: a tile of 130 rows pays for 136 of them, not 160. The next after n; the first after 0.
// Few: each costs compile time. Dense towards block_m: a group's rows are spread evenly over its tiles, and a tuned block_m fits the rows.
constexpr int next_tile_rows(int n, int block_m) {
    if (block_m <= 32) return n + 8;
    if (block_m <= 64) return n < 32 ? n + 16 : n + 8;
    if (block_m <= 96) return n == 0 ? 32 : n < 56 ? 56 : n + 8;
    // More of the large ones, and ptxas makes functions of them and serialises.
    const int dense_from = block_m - 32, next = n == 0 ? 64 : n + (block_m <= 160 ? 16 : 32);
    return n >= dense_from ? n + 8 : next < dense_from ? next : dense_from;
}
// The smallest of them that has room for so many rows; the largest is block_m.
constexpr int tile_rows(int rows, int block_m) {
    int n = next_tile_rows(0, block_m);
    while (n < rows && n < block_m) n = next_tile_rows(n, block_m);
    return n < block_m ? n : block_m;
}

// Whether groups of more than block_m rows are taken in tall tiles: twice the rows and half the outputs of a wide one, so that weights are
// decoded once for both halves of the rows. A consumer's second accumulators are the second half's then, not a second slab's, and the
// second half of x lies where half of a wide tile's weights do. x by the copy engine alone.
constexpr bool has_tall_tiles(const KernelConfig& c) {
    return c.variant == Variant::wgmma_rs && !warps_multiply(c) && c.split_k == 1 && c.cluster == 1 && k_parts(c) == 1 &&
           slabs_per_warpgroup(c) == 2 && c.block_m <= c.block_n / 8;
}
constexpr int outputs_of_tall_tile(const KernelConfig& c) { return c.block_n / 2; }
// Slabs of native weights that one copy brings.
constexpr int slabs_of_copy(const KernelConfig& c) { return (has_tall_tiles(c) ? outputs_of_tall_tile(c) : c.block_n) / kSlabRows; }

// Rows of x that a stage holds, of a tile with so many: one copy brings them all, and there are two kinds of it. The one thread that
// asks for copies is slow at it; rows too many cost traffic. All tiles of one instantiated n have the same kind; a tall tile's halves have the
// larger. (Tiles of 40 and 48 rows also serve groups of 8, to be at hand where routing is uneven: for them the smaller is smaller.)
constexpr int x_box_rows(const KernelConfig& c, bool half) {
    const int parts = c.block_m > 32 && c.block_m <= 48 ? 3 : 2;
    return half ? tile_rows((c.block_m + parts - 1) / parts, c.block_m) : c.block_m;
}
constexpr bool half_of_x(const KernelConfig& c, int rows) { return rows <= x_box_rows(c, true); }
constexpr int x_rows_of_stage(const KernelConfig& c, int rows) { return x_box_rows(c, half_of_x(c, rows)); }
// Chunks of x that one copy brings: a stage's, or one where blocks of a cluster take turns.
constexpr int x_chunks_of_copy(const KernelConfig& c) { return c.cluster == 1 ? c.block_k / kChunkK : 1; }

inline constexpr int kStageEndBytes = 128;        // of a pipeline stage: barriers and the work item; a stage is a multiple of 1024
inline constexpr int kBlockEndBytes = 2048;       // of a block: flags and work items, an upper bound
inline constexpr int kStoreTileBytes = 8192;      // a consumer warpgroup's staging of 32 rows x 64 outputs, bf16 (or fp32)

inline constexpr int kMostRowsOfParts = 32;       // the fp32 sums of a slab that a part hands over fill its staging

// Dynamic shared memory of a block; the kernel asserts that its struct fits.
constexpr i64 shared_bytes(const KernelConfig& c) {
    if (!is_wgmma(c.variant)) {
        if (c.variant == Variant::host) return 0;
        return i64(c.stages) * c.block_m * (c.block_k + 8) * 2;
    }
    const i64 x = i64(c.block_m) * c.block_k * 2;
    const i64 w = c.variant == Variant::wgmma_rs ? i64(c.block_n) * c.block_k * 17 / 32 : i64(c.block_n) * c.block_k * 2;
    const i64 bytes = c.stages * round_up(x + w + kStageEndBytes, 1024) + consumer_warpgroups(c) * kStoreTileBytes + kBlockEndBytes;
    return 1024 + round_up(bytes, 1024);  // 1024: the struct is aligned by hand
}

// Upper bound of the tiles of a problem: the histogram is known on the device only.
constexpr i64 max_tiles(const KernelConfig& c, const ProblemShape& s) {
    const i64 groups = s.groups ? s.groups : s.experts;
    i64 row_tiles = (s.rows < groups ? s.rows : groups) + s.rows / c.block_m;
    if (has_tall_tiles(c)) row_tiles += s.rows / (2 * c.block_m);  // of a group that has more than two, an odd number may become even
    return row_tiles * ceil_div(s.n, c.block_n);
}
// Split-k scratch: counters and two fp32 tiles for each range of work (stream-k: a range for each thread block of the grid).
inline constexpr i64 kWorkspaceAlign = 1024;
inline constexpr i64 kCountersPerRange = 4;  // one for each consumer warpgroup
constexpr i64 work_ranges(const KernelConfig& c, const ProblemShape& s, int sm_count) {
    return c.split_k == 0 ? i64(sm_count) * c.ctas_per_sm : max_tiles(c, s) * c.split_k;
}
constexpr i64 workspace_counter_bytes(const KernelConfig& c, const ProblemShape& s, int sm_count) {
    return c.split_k == 1 ? 0 : round_up(work_ranges(c, s, sm_count) * kCountersPerRange * 4, kWorkspaceAlign);
}
constexpr i64 workspace_bytes(const KernelConfig& c, const ProblemShape& s, int sm_count) {
    if (c.split_k == 1) return 0;
    return workspace_counter_bytes(c, s, sm_count) + work_ranges(c, s, sm_count) * 2 * c.block_m * c.block_n * 4;
}

constexpr Reject check_wgmma(const KernelConfig& c) {
    if (c.variant == Variant::wgmma_rs && c.layout == Layout::blocks) return Reject::layout_not_admissible;
    if (c.block_m < 8 || c.block_m > 256 || c.block_m % 8 != 0) return Reject::block_m_not_supported;
    if (c.num_warps < 8 || c.num_warps > 20 || c.num_warps % 4 != 0) return Reject::num_warps_not_supported;
    const int outputs = kSlabRows * consumer_warpgroups(c), parts = c.block_n < kSlabRows ? 0 : k_parts(c);
    const bool shared_out = parts == 1 ? c.block_n % outputs == 0 : parts > 1 && c.block_n * parts == outputs;
    if (!shared_out || c.block_n % kSlabRows != 0 || slabs_per_warpgroup(c) > 4) return Reject::block_n_not_supported;
    if (parts > 1 && c.variant != Variant::wgmma_rs) return Reject::block_n_not_supported;
    if (parts > 1 && c.block_m > kMostRowsOfParts) return Reject::block_m_not_supported;
    if (c.block_k < 64 || c.block_k > 512 || c.block_k / kChunkK % parts != 0) return Reject::block_k_not_multiple_of_64;
    if (c.stages < 2 || c.stages > 16) return Reject::stages_not_supported;
    if (c.ctas_per_sm < 1 || c.ctas_per_sm > 4 || c.num_warps * c.ctas_per_sm > 64) return Reject::ctas_per_sm_not_supported;
    const int spare = slabs_per_warpgroup(c) > 1 ? 8 : 0;  // without them ptxas serialises WGMMAs (C7512)
    if (accumulator_registers(c) + kFragmentRegisters + spare > consumer_registers(c)) return Reject::too_many_registers;
    return Reject::none;
}

// Pairs of thread blocks: each brings every other chunk of x to both. They go through the same stages one for one, so that neither may
// have pieces of work of its own.
constexpr Reject check_cluster(const KernelConfig& c) {
    if (c.cluster == 1) return Reject::none;
    const bool ok = c.cluster == 2 && c.variant == Variant::wgmma_rs && !warps_multiply(c) && c.split_k == 1 && c.ctas_per_sm == 1;
    return ok ? Reject::none : Reject::cluster_not_supported;
}

constexpr Reject check_mma(const KernelConfig& c) {
    if (c.ctas_per_sm != 1) return Reject::ctas_per_sm_not_supported;
    if (c.variant == Variant::naive) {
        if (c.num_warps != 1) return Reject::num_warps_not_supported;
        if (c.block_m != 64) return Reject::block_m_not_supported;
        if (c.block_n != 64) return Reject::block_n_not_supported;
        if (c.block_k != 64) return Reject::block_k_not_multiple_of_64;
        if (c.stages != 1) return Reject::stages_not_supported;
        return c.split_k == 1 ? Reject::none : Reject::split_k_not_supported;
    }
    if (c.block_m != 8 && c.block_m != 16 && c.block_m != 32 && c.block_m != 64) return Reject::block_m_not_supported;
    if (c.num_warps < 1 || c.num_warps > 16 || !is_power_of_two(c.num_warps)) return Reject::num_warps_not_supported;
    if (c.block_n < 16 || c.block_n > 256 || c.block_n % 16 != 0) return Reject::block_n_not_supported;
    if ((c.block_n / 16) % c.num_warps != 0 || c.block_n / 16 / c.num_warps > 4) return Reject::block_n_not_supported;
    if (c.block_m / 8 * (c.block_n / 16 / c.num_warps) * 4 > 128) return Reject::too_many_registers;
    if (c.block_k < 64 || c.block_k > 256) return Reject::block_k_not_multiple_of_64;
    if (c.stages < 2 || c.stages > 8) return Reject::stages_not_supported;
    return c.split_k == 1 ? Reject::none : Reject::split_k_not_supported;
}

constexpr Reject check_host(const KernelConfig& c) {
    if (c.num_warps < 1 || c.num_warps > 1024) return Reject::num_warps_not_supported;
    if (c.block_m < 1 || c.block_m > 256) return Reject::block_m_not_supported;
    if (c.block_n < 64 || c.block_n > 4096 || c.block_n % 64 != 0) return Reject::block_n_not_supported;
    if (c.block_k < 64 || c.block_k > (1 << 20)) return Reject::block_k_not_multiple_of_64;
    if (c.stages != 1) return Reject::stages_not_supported;
    if (c.ctas_per_sm != 1) return Reject::ctas_per_sm_not_supported;
    if (c.simd != 0 && c.simd != 1) return Reject::simd_not_supported;
    return c.split_k == 1 ? Reject::none : Reject::split_k_not_supported;
}

// What the kernel text itself demands: no shape, no device.
constexpr Reject check(const KernelConfig& c, const WeightsFormat& f) {
    if (c.layout != f.layout) return Reject::layout_not_admissible;
    if (f.layout != Layout::native) {
        const Reject swizzle = check_scale_swizzle(f.scale_warps, c.block_n, c.block_k, /*whole_tiles=*/false);
        if (swizzle != Reject::none) return swizzle;
    }
    if (c.block_k % 64 != 0) return Reject::block_k_not_multiple_of_64;
    if (c.split_k < 0 || c.split_k > 64) return Reject::split_k_not_supported;
    if (const Reject r = check_cluster(c); r != Reject::none) return r;
    if (c.variant == Variant::host) return check_host(c);
    if (c.simd != 0) return Reject::simd_not_supported;
    const Reject own = is_wgmma(c.variant) ? check_wgmma(c) : check_mma(c);
    if (own != Reject::none) return own;
    if (shared_bytes(c) > DeviceLimits{}.shared_bytes_per_block) return Reject::too_much_shared_memory;
    return Reject::none;
}

constexpr Reject check_shape(const ProblemShape& s) {
    const bool ok = s.experts > 0 && s.n > 0 && s.k > 0 && s.k % kBlockElements == 0 && s.rows >= 0 && s.groups >= 0 &&
                    s.experts < (1ll << 31) && s.n < (1ll << 31) && s.k < (1ll << 31) && s.rows < (1ll << 31) &&
                    s.groups < (1ll << 31);
    return ok ? Reject::none : Reject::shape_not_supported;
}

constexpr Reject check(const KernelConfig& c, const WeightsFormat& f, const ProblemShape& s, const DeviceLimits& d) {
    if (const Reject r = check_shape(s); r != Reject::none) return r;
    if (const Reject r = check(c, f); r != Reject::none) return r;
    if (c.variant == Variant::host) return Reject::none;
    if (shared_bytes(c) > d.shared_bytes_per_block) return Reject::too_much_shared_memory;
    if ((shared_bytes(c) + 1024) * c.ctas_per_sm > d.shared_bytes_per_sm) return Reject::too_much_shared_memory;
    if (max_tiles(c, s) * ceil_div(s.k, kChunkK) >= (1ll << 31)) return Reject::shape_not_supported;  // 32-bit step counts
    if (workspace_bytes(c, s, d.sm_count) > d.workspace_bytes) return Reject::too_much_workspace;
    return Reject::none;
}

}  // namespace mxfp4
