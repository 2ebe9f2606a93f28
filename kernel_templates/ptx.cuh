// The PTX instructions that the kernels use, one function each, named after the instruction. PTX ISA 8.x, sm_90a.
#pragma once

#include "contract/arguments.h"
#include "contract/layout.h"

namespace mxfp4::ptx {

struct alignas(16) Word4 {
    u32 x, y, z, w;
};

__device__ inline u32 shared_address(const void* pointer) { return u32(__cvta_generic_to_shared(pointer)); }
__device__ inline int lane_id() { return int(threadIdx.x) & 31; }
// A value that all lanes of the warp have alike, made known to the compiler as such: it then computes with it on the uniform
// datapath.
__device__ inline u32 uniform(u32 value) { return __shfl_sync(~0u, value, 0); }
__device__ inline int uniform(int value) { return int(uniform(u32(value))); }
// The same value, of which the compiler no longer knows how to compute it anew: it stays in a register.
__device__ inline u32 kept(u32 value) {
    asm volatile("" : "+r"(value));
    return value;
}
// True in one lane of the warp. The compiler knows what it means: code under it may take its operands from uniform registers.
__device__ inline bool elect_one() {
    u32 elected;
    asm volatile(
        "{\n.reg .pred p;\n"
        "elect.sync _|p, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(elected));
    return elected != 0;
}
// threadIdx.x, read anew: the compiler neither merges nor hoists it. Where a value that hangs on it would otherwise live in a
// register across a main loop that needs them all.
__device__ inline int thread_id_anew() {
    int id;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(id));
    return id;
}
__device__ inline int warp_id() { return int(threadIdx.x) >> 5; }
// Of this thread block in its cluster.
__device__ inline int cluster_rank() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// ---- mbarrier -------------------------------------------------------------------------------------------------------

__device__ inline void mbarrier_init(u32 barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ inline void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void mbarrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Without a branch, for where WGMMAs are in flight: over a branch they would be serialised.
__device__ inline void mbarrier_arrive_if(bool condition, u32 barrier) {
    asm volatile(
        "{\n.reg .pred p;\n"
        "setp.ne.u32 p, %0, 0;\n"
        "@p mbarrier.arrive.shared::cta.b64 _, [%1];\n}" ::"r"(u32(condition)),
        "r"(barrier)
        : "memory");
}
__device__ inline void mbarrier_arrive_expect_tx(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// At the barrier that lies at the same address in that block of the cluster. It orders this block's memory only (.release.cluster would
// wait for all of a GPU's): enough to give back what was read.
__device__ inline void mbarrier_arrive_in_cluster_if(bool condition, u32 barrier, int rank) {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b32 there;\n"
        "setp.ne.u32 p, %0, 0;\n"
        "mapa.shared::cluster.u32 there, %1, %2;\n"
        "@p mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(u32(condition)),
        "r"(barrier), "r"(rank)
        : "memory");
}
// True when the phase of this parity has completed; may wait a while in hardware before saying no.
__device__ inline bool mbarrier_try_wait(u32 barrier, u32 parity) {
    u32 done;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
    return done != 0;
}
// The same, for so long at most.
__device__ inline bool mbarrier_try_wait(u32 barrier, u32 parity, u32 nanoseconds) {
    u32 done;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(barrier), "r"(parity), "r"(nanoseconds)
        : "memory");
    return done != 0;
}
__device__ inline void mbarrier_wait(u32 barrier, u32 parity) {
    while (!mbarrier_try_wait(barrier, parity)) {
    }
}

// ---- Copies ---------------------------------------------------------------------------------------------------------

// One box of a 3-D or 4-D tensor map; outside the tensor it is zero. The bytes count on the barrier. at: the box's first element,
// innermost dimension first.
__device__ inline void tensor_copy(u32 to, const TensorMap& map, const int (&at)[3], u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(barrier)
        : "memory");
}
__device__ inline void tensor_copy(u32 to, const TensorMap& map, const int (&at)[4], u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(barrier)
        : "memory");
}
// The same two for all blocks of a cluster of two: to the same address in each, counted on each one's barrier.
inline constexpr u16 kBothBlocks = 3;
__device__ inline void tensor_copy_to_both(u32 to, const TensorMap& map, const int (&at)[3], u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], "
        "%6;" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(barrier), "h"(kBothBlocks)
        : "memory");
}
__device__ inline void tensor_copy_to_both(u32 to, const TensorMap& map, const int (&at)[4], u32 barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3, %4, %5}], "
        "[%6], %7;" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(barrier), "h"(kBothBlocks)
        : "memory");
}
// Of a 4-D and a 5-D map, with a cache policy.
__device__ inline void tensor_copy(u32 to, const TensorMap& map, const int (&at)[4], u32 barrier, u64 cache_policy) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], "
        "[%6], %7;" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(barrier), "l"(cache_policy)
        : "memory");
}
__device__ inline void tensor_copy(u32 to, const TensorMap& map, const int (&at)[5], u32 barrier, u64 cache_policy) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], "
        "[%7], %8;" ::"r"(to),
        "l"(&map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(barrier), "l"(cache_policy)
        : "memory");
}
// What createpolicy.fractional.L2::evict_first makes of 1.0 (read in SASS): constant, and so no work in a loop.
inline constexpr u64 kEvictFirst = 0x12F0000000000000ull;
// 16 bytes, global -> shared; only the first `valid` (0..16) are read, the rest become zero.
__device__ inline void cp_async16(u32 to, const void* from, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
}
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ inline u16 load_u16(const void* p) { return *static_cast<const u16*>(p); }
// Weights are read once: do not keep them in L1.
__device__ inline Word4 load_weights16(const void* p) {
    Word4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
}
__device__ inline u32 load_weights4(const void* p) {
    u32 v;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}

__device__ inline Word4 load_shared16(u32 from) {
    Word4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(from)
                 : "memory");
    return v;
}
__device__ inline u32 load_shared4(u32 from) {
    u32 v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(from) : "memory");
    return v;
}
__device__ inline void store_shared16(u32 to, Word4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
__device__ inline void store_shared4(u32 to, u32 v) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(v) : "memory");
}
__device__ inline void store_shared2(u32 to, u16 v) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(v) : "memory");
}

// ---- Dependent launches ---------------------------------------------------------------------------------------------

// Until the grids before this one have ended and all that they wrote can be seen. Before it, touch no memory that they may use.
__device__ inline void wait_for_grids_before() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// The next grid may be brought onto the SMs as room appears; it waits as above.
__device__ inline void let_next_grid_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- Fences, barriers, registers ------------------------------------------------------------------------------------

// Ordinary shared-memory writes of this thread, made visible to WGMMA and the copy engine.
__device__ inline void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void named_barrier_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// All threads of the cluster that have not ended.
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
template <int kRegisters>
__device__ inline void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- Tensor cores ---------------------------------------------------------------------------------------------------

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Waits for all of them. The accumulators count as written here: the compiler knows no other reason to look at them after the wait
// only, and has copied them before it.
template <int kSlabs, int kCount>
__device__ inline void wgmma_wait_for(float (&d)[kSlabs][kCount]) {
    wgmma_wait<0>();
#pragma unroll
    for (int s = 0; s < kSlabs; ++s)
#pragma unroll
        for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[s][i])::"memory");
}

// Descriptor of a K-major bf16 tile of 128-byte rows (64 k) under the 128-byte XOR swizzle; the tile is 1024-byte aligned,
// 8 rows are 1024 bytes. Only the address, in units of 16 bytes, varies: the next 16 k are 32 bytes on, add 2. The leading
// byte offset (bits 16..29) means nothing under this swizzle.
__device__ inline u32 descriptor_address(u32 shared_address) { return (shared_address & 0x3FFFF) >> 4; }
__device__ inline u64 swizzled_descriptor(u32 descriptor_address) {
    constexpr u64 kStrideAndSwizzle = u64(1024 >> 4) << 32 | u64(1) << 62;
    return kStrideAndSwizzle | descriptor_address;
}

// d[16 x 8] += a[16 x 16] · b[16 x 8], one warp.
__device__ inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 8x8 matrices of bf16 from shared memory: lane l gives the address of row l & 7 of matrix l >> 3.
__device__ inline void ldmatrix4(u32 from, u32& a, u32& b, u32& c, u32& d) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
                 : "r"(from)
                 : "memory");
}
// 8x8 matrices of bf16 from registers to shared memory, transposed: lane l gives the address of row l & 7 of matrix l >> 3.
__device__ inline void stmatrix4_trans(u32 to, u32 a, u32 b, u32 c, u32 d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a), "r"(b), "r"(c),
                 "r"(d)
                 : "memory");
}
__device__ inline void stmatrix2_trans(u32 to, u32 a, u32 b) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(a), "r"(b) : "memory");
}

// ---- Arithmetic -----------------------------------------------------------------------------------------------------

__device__ inline u32 multiply_bf16x2(u32 a, u32 b) {
    u32 d;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}
// {lo, lo} and {hi, hi} of a pair. As moves of halves, not as byte permutations: so the compiler folds them into the operand of a
// multiplication (HMUL2 R, R, R.H0_H0).
__device__ inline u32 low_half_twice(u32 pair) {
    u32 d;
    asm("{\n.reg .b16 lo, hi;\nmov.b32 {lo, hi}, %1;\nmov.b32 %0, {lo, lo};\n}" : "=r"(d) : "r"(pair));
    return d;
}
__device__ inline u32 high_half_twice(u32 pair) {
    u32 d;
    asm("{\n.reg .b16 lo, hi;\nmov.b32 {lo, hi}, %1;\nmov.b32 %0, {hi, hi};\n}" : "=r"(d) : "r"(pair));
    return d;
}
// {lo, hi} rounded to nearest even.
__device__ inline u32 pack_bf16x2(float lo, float hi) {
    u32 d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
    return d;
}
template <u32 kSelector>
__device__ inline u32 permute_bytes(u32 a, u32 b) {
    u32 d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "n"(kSelector));
    return d;
}

}  // namespace mxfp4::ptx
