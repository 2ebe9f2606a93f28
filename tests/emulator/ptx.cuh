// kernel_templates/ptx.cuh with the meaning of each instruction in C++: the same names, to stand in its place.
#pragma once

#include <algorithm>
#include <array>

#include "block.h"
#include "builtins.h"
#include "contract/arguments.h"
#include "contract/layout.h"
#include "mma.h"
#include "tensor_map.h"

namespace mxfp4::ptx {

using emulator::Block;

struct alignas(16) Word4 {
    u32 x, y, z, w;
};

inline u32 shared_address(const void* pointer) { return Block::current().shared().address(pointer); }
inline int lane_id() { return int(threadIdx.x) & 31; }
inline u32 uniform(u32 value) {
    const u32 of_lane_0 = __shfl_sync(~0u, value, 0);
    if (of_lane_0 != value) throw emulator::Error("a value that should be uniform differs between lanes");
    return of_lane_0;
}
inline int uniform(int value) { return int(uniform(u32(value))); }
inline u32 kept(u32 value) { return value; }
inline bool elect_one() { return lane_id() == 0; }
inline int thread_id_anew() { return int(threadIdx.x); }
inline int warp_id() { return int(threadIdx.x) >> 5; }
inline int cluster_rank() { return Block::current().rank(); }

// ---- mbarrier -------------------------------------------------------------------------------------------------------

inline void mbarrier_init(u32 barrier, int arrivals) { Block::current().mbarrier_init(barrier, arrivals); }
inline void fence_mbarrier_init() {}
inline void mbarrier_arrive(u32 barrier) {
    Block& block = Block::current();
    block.maybe_yield();
    block.shared().at_barrier(block.thread());
    block.mbarrier_arrive(barrier);
    block.maybe_yield();
}
inline void mbarrier_arrive_expect_tx(u32 barrier, u32 bytes) {
    Block::current().mbarrier_expect(barrier, bytes);
    mbarrier_arrive(barrier);
}
inline void mbarrier_arrive_if(bool condition, u32 barrier) {
    if (condition) mbarrier_arrive(barrier);
}
// One instruction of a warp: its lanes arrive at once, each in the block that it names.
inline void mbarrier_arrive_in_cluster_if(bool condition, u32 barrier, int rank) {
    struct Arrival {
        bool condition;
        u32 barrier;
        int rank;
    } mine{condition, barrier, rank};
    Block::current().maybe_yield();
    Block::current().meet("mbarrier.arrive", &mine, [](Block& block, void* const* lanes) {
        for (int lane = 0; lane < 32; ++lane) {
            const auto& [condition, barrier, rank] = *static_cast<const Arrival*>(lanes[lane]);
            if (!condition) continue;
            block.shared().at_barrier(block.thread() / 32 * 32 + lane);
            block.cluster().block(rank).mbarrier_arrive(barrier);
        }
    });
    Block::current().maybe_yield();
}
inline bool mbarrier_try_wait(u32 barrier, u32 parity) { return Block::current().mbarrier_wait_once(barrier, parity); }
inline bool mbarrier_try_wait(u32 barrier, u32 parity, u32) { return Block::current().mbarrier_look(barrier, parity); }
inline void mbarrier_wait(u32 barrier, u32 parity) {
    while (!mbarrier_try_wait(barrier, parity)) {
    }
}

// ---- Copies ---------------------------------------------------------------------------------------------------------

inline void check_aligned(const void* pointer, u64 alignment) {
    if (reinterpret_cast<u64>(pointer) % alignment != 0) throw emulator::Error("a global address is not aligned");
}

template <int kRank>
void tensor_copy_into(Block& block, u32 to, const TensorMap& map, const int (&at)[kRank], u32 barrier) {
    if (to % 128 != 0) throw emulator::Error("a tensor copy to a shared address that is no multiple of 128");
    const emulator::Map tensor = emulator::decoded(map);
    if (tensor.rank != kRank) throw emulator::Error("a tensor copy from a map of another rank");
    std::array<int, 5> first{};
    std::copy(at, at + kRank, first.begin());
    block.bulk_copy(
        [&block, to, tensor, first] {
            const int(&from)[5] = *reinterpret_cast<const int(*)[5]>(first.data());
            copy_box(block.shared(), to, tensor, from);
        },
        barrier, tensor.box_bytes());
}
template <int kRank>
void tensor_copy(u32 to, const TensorMap& map, const int (&at)[kRank], u32 barrier, u64 = 0) {
    tensor_copy_into(Block::current(), to, map, at, barrier);
    Block::current().maybe_yield();
}
// Each of the two arrives when it likes.
template <int kRank>
void tensor_copy_to_both(u32 to, const TensorMap& map, const int (&at)[kRank], u32 barrier) {
    for (int rank = 0; rank < 2; ++rank) tensor_copy_into(Block::current().cluster().block(rank), to, map, at, barrier);
    Block::current().maybe_yield();
}
inline constexpr u64 kEvictFirst = 0;
inline void cp_async16(u32 to, const void* from, int valid) {
    check_aligned(from, 16);
    Block::current().cp_async(to, from, valid);
}
inline void cp_async_commit() { Block::current().cp_async_commit(); }
template <int kPending>
void cp_async_wait() {
    Block::current().cp_async_wait(kPending);
}

inline u16 load_u16(const void* p) { return *static_cast<const u16*>(p); }
template <class T>
T load_global(const void* p) {
    check_aligned(p, sizeof(T));
    return *static_cast<const T*>(p);
}
inline Word4 load_weights16(const void* p) { return load_global<Word4>(p); }
inline u32 load_weights4(const void* p) { return load_global<u32>(p); }

template <class T>
T load_shared(u32 from) {
    Block& block = Block::current();
    block.maybe_yield();
    T value;
    std::memcpy(&value, block.shared().at(from, sizeof(T), sizeof(T)), sizeof(T));
    block.shared().read(block.thread(), from, sizeof(T));
    return value;
}
inline Word4 load_shared16(u32 from) { return load_shared<Word4>(from); }
inline u32 load_shared4(u32 from) { return load_shared<u32>(from); }
template <class T>
void store_shared(u32 to, T value) {
    Block& block = Block::current();
    block.maybe_yield();
    std::memcpy(block.shared().at(to, sizeof(T), sizeof(T)), &value, sizeof(T));
    block.shared().wrote(block.thread(), to, sizeof(T));
}
inline void store_shared16(u32 to, Word4 v) { store_shared(to, v); }
inline void store_shared4(u32 to, u32 v) { store_shared(to, v); }
inline void store_shared2(u32 to, u16 v) { store_shared(to, v); }

inline void wait_for_grids_before() { Block::current().wait_for_grids_before(); }
inline void let_next_grid_start() {}

// ---- Fences, barriers, registers ------------------------------------------------------------------------------------

inline void fence_proxy_async() { Block::current().shared().fence(Block::current().thread()); }
inline void named_barrier_sync(int id, int threads) { Block::current().named_barrier(id, threads); }
inline void cluster_sync() { Block::current().sync_cluster(); }
template <int kRegisters>
void setmaxnreg_inc() {}
template <int kRegisters>
void setmaxnreg_dec() {}

// ---- Tensor cores ---------------------------------------------------------------------------------------------------

inline void wgmma_fence() {}
inline void wgmma_commit() {
    Block::current().meet("wgmma.commit_group", nullptr, [](Block& block, void* const*) { block.end_group(); });
}
template <int kPending>
void wgmma_wait() {
    Block::current().meet("wgmma.wait_group", nullptr, [](Block& block, void* const*) { block.wait_products(kPending); });
}
template <class Accumulators>
void wgmma_wait_for(Accumulators&) {
    wgmma_wait<0>();
}

inline u32 descriptor_address(u32 shared_address) { return (shared_address & 0x3FFFF) >> 4; }
inline u64 swizzled_descriptor(u32 descriptor_address) {
    constexpr u64 kStrideAndSwizzle = u64(1024 >> 4) << 32 | u64(1) << 62 | u64(1) << 16;
    return kStrideAndSwizzle | descriptor_address;
}

inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    struct Lane {
        float* d;
        const u32* a;
        u32 b0, b1;
    } mine{d, a, b0, b1};
    Block::current().meet("mma", &mine, [](Block&, void* const* lanes) {
        float* d[32];
        const u32* a[32];
        u32 b[32][2];
        for (int i = 0; i < 32; ++i) {
            const Lane& lane = *static_cast<const Lane*>(lanes[i]);
            d[i] = lane.d;
            a[i] = lane.a;
            b[i][0] = lane.b0;
            b[i][1] = lane.b1;
        }
        emulator::multiply_m16n8k16(d, a, b);
    });
}

// Row q of matrix i goes where lane 8 * i + q says; transposed, its column c is half q % 2 of register i of lane 4 * c + q / 2.
template <int kMatrices>
void stmatrix_trans(u32 to, const u32 (&registers)[kMatrices]) {
    struct Lane {
        u32 to;
        const u32* registers;
    } mine{to, registers};
    Block::current().maybe_yield();
    Block::current().meet("stmatrix", &mine, [](Block& block, void* const* lanes) {
        for (int i = 0; i < kMatrices; ++i)
            for (int q = 0; q < 8; ++q) {
                u16 row[8];
                for (int c = 0; c < 8; ++c)
                    row[c] = u16(static_cast<const Lane*>(lanes[4 * c + q / 2])->registers[i] >> q % 2 * 16);
                const u32 address = static_cast<const Lane*>(lanes[8 * i + q])->to;
                std::memcpy(block.shared().at(address, 16, 16), row, 16);
                block.shared().wrote(block.thread() / 32 * 32 + 8 * i + q, address, 16);
            }
    });
}
inline void ldmatrix4(u32 from, u32& a, u32& b, u32& c, u32& d) {
    struct Lane {
        u32 from;
        u32* to[4];
    } mine{from, {&a, &b, &c, &d}};
    Block::current().meet("ldmatrix", &mine, [](Block& block, void* const* lanes) {
        for (int matrix = 0; matrix < 4; ++matrix)
            for (int row = 0; row < 8; ++row) {
                const u32 from = static_cast<const Lane*>(lanes[matrix * 8 + row])->from;
                const u8* pairs = block.shared().at(from, 16, 16);
                block.shared().read(block.thread() / 32 * 32 + matrix * 8 + row, from, 16);
                for (int i = 0; i < 4; ++i) std::memcpy(static_cast<const Lane*>(lanes[row * 4 + i])->to[matrix], pairs + 4 * i, 4);
            }
    });
}
inline void stmatrix4_trans(u32 to, u32 a, u32 b, u32 c, u32 d) { stmatrix_trans<4>(to, {a, b, c, d}); }
inline void stmatrix2_trans(u32 to, u32 a, u32 b) { stmatrix_trans<2>(to, {a, b}); }

// ---- Arithmetic -----------------------------------------------------------------------------------------------------

inline u32 multiply_bf16x2(u32 a, u32 b) { return emulator::multiply_bf16x2(a, b); }
inline u32 pack_bf16x2(float lo, float hi) { return emulator::pack_bf16x2(lo, hi); }
inline u32 low_half_twice(u32 pair) { return (pair & 0xFFFF) * 0x10001u; }
inline u32 high_half_twice(u32 pair) { return (pair >> 16) * 0x10001u; }
template <u32 kSelector>
u32 permute_bytes(u32 a, u32 b) {
    static_assert((kSelector & ~0x7777u) == 0, "no sign bits are replicated");
    const u64 bytes = a | u64(b) << 32;
    u32 d = 0;
    for (u32 i = 0; i < 4; ++i) d |= u32(bytes >> 8 * (kSelector >> 4 * i & 7) & 0xFF) << 8 * i;
    return d;
}

}  // namespace mxfp4::ptx
