// A debug kernel that records which thread, register and half holds each element of WGMMA's 64 x 16 A fragment. It stands in
// for mma.cuh: four warps, one block. y: float [4][128 threads][8 accumulators], B is the identity, so D[m][n] shows A[m][k=n].
//   pass 0, 1   A from shared memory holds its own row, then its own k: says which element each accumulator is
//   pass 2, 3   A from registers holds the thread, then 2 * register + half: says who supplied that element
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "ptx.cuh"
#include "wgmma_shapes.cuh"

namespace mxfp4 {

__device__ inline u16 bf16_of(int small) { return u16(ptx::pack_bf16x2(float(small), 0)); }

// Element k of a row of a swizzled tile of 128-byte rows.
__device__ inline u32 element(u32 tile, int row, int k) { return tile + row * 128 + (((k >> 3) ^ (row & 7)) << 4) + (k & 7) * 2; }

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_mma(const MatmulArguments& arguments) {
    ptx::wait_for_grids_before();
    if (blockIdx.x != 0) return;
    extern __shared__ u8 dynamic_shared[];
    const u32 a_tile = (ptx::shared_address(dynamic_shared) + 1023) & ~1023u, b_tile = a_tile + 64 * 128;
    const int thread = int(threadIdx.x);
    for (int i = thread; i < 16 * 16; i += 128) ptx::store_shared2(element(b_tile, i / 16, i % 16), bf16_of(i / 16 == i % 16));
    const u64 b = ptx::swizzled_descriptor(ptx::descriptor_address(b_tile));
    for (int pass = 0; pass < 4; ++pass) {
        if (pass < 2)
            for (int i = thread; i < 64 * 16; i += 128)
                ptx::store_shared2(element(a_tile, i / 16, i % 16), bf16_of(pass == 0 ? i / 16 : i % 16));
        ptx::fence_proxy_async();
        __syncthreads();
        u32 a[4];
        for (int r = 0; r < 4; ++r)
            a[r] = pass == 2 ? bf16_of(thread) * 0x00010001u : bf16_of(2 * r) | u32(bf16_of(2 * r + 1)) << 16;
        float d[8] = {};
        ptx::wgmma_fence();
        if (pass < 2)
            ptx::Wgmma<16>::ss(d, ptx::swizzled_descriptor(ptx::descriptor_address(a_tile)), b);
        else
            ptx::Wgmma<16>::rs(d, a, b);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        for (int i = 0; i < 8; ++i) static_cast<float*>(arguments.y)[(pass * 128 + thread) * 8 + i] = d[i];
        __syncthreads();
    }
}

}  // namespace mxfp4
