// The ring of stages between producer and consumer warpgroups, and the shared memory that holds it.
#pragma once

#include "contract/arguments.h"
#include "contract/config.h"
#include "ptx.cuh"
#include "scheduler.cuh"

namespace mxfp4 {

// A stage of the ring. x and decoded weights are in 128-byte rows of 64 k under the XOR swizzle that WGMMA's descriptors see; packed
// weights lie as they are stored. All of it at constant distances from where the stage begins: that is one address to keep.
template <KernelConfig kConfig>
struct alignas(1024) Stage {
    static constexpr int kChunks = kConfig.block_k / kChunkK;
    static constexpr int kSlabs = kConfig.block_n / kSlabRows;
    static constexpr bool kDecoded = kConfig.variant == Variant::wgmma_ss;
    static constexpr int kSlabChunkBytes = kDecoded ? kSlabRows * 128 : kNativeValueTileBytes;

    u8 x[kChunks][kConfig.block_m * 128];    // bf16 [rows, 64]; fewer rows lie denser
    u8 w[kSlabs][kChunks][kSlabChunkBytes];  // packed values, or bf16 [64, 64]. Of a tall tile, a half of them and then x of its second half
    u8 scales[kDecoded ? 1 : kSlabs][kDecoded ? 1 : kChunks][kDecoded ? 1 : kNativeScaleTileBytes];
    Work work;  // the item whose first stage this is
    u64 full, empty;
};

// Everything a wgmma kernel keeps in shared memory.
template <KernelConfig kConfig>
struct Shared {
    static constexpr int kChunks = Stage<kConfig>::kChunks;
    static constexpr int kSlabs = Stage<kConfig>::kSlabs;
    static constexpr int kSlabChunkBytes = Stage<kConfig>::kSlabChunkBytes;
    static constexpr int kWarpgroups = consumer_warpgroups(kConfig);

    Stage<kConfig> stages[kConfig.stages];
    u8 store[kWarpgroups][kStoreTileBytes];  // bf16 [2][32 rows, 64 outputs]
    Work item[kWarpgroups * 4];              // what each consumer warp is at
    u64 grids_ended;
    u32 last_arriver[kWarpgroups];
};

// Where a thread is in the ring: the stage's distance from the first, in bytes, and the parity, which each turn flips.
template <KernelConfig kConfig>
struct RingPosition {
    static constexpr u32 kStageBytes = sizeof(Stage<kConfig>), kRingBytes = kConfig.stages * kStageBytes;
    u32 stage = 0;
    u32 parity = 0;
    __device__ void advance() {
        stage += kStageBytes;
        if (stage == kRingBytes) {
            stage = 0;
            parity ^= 1;
        }
    }
    __device__ void advance(int count) {
        stage += count % kConfig.stages * kStageBytes;
        parity ^= count / kConfig.stages & 1;
        if (stage >= kRingBytes) {
            stage -= kRingBytes;
            parity ^= 1;
        }
    }
};

// Barriers of the ring. Full: the first producer thread has written the work item and announced what the copy engine brings,
// and, where the threads themselves copy or store something, each of them has. Empty: each consumer warp is done, of all blocks of
// the cluster, because each of these copies x to all. Grids ended: those before this one have; for a producer that has something to
// do until then.
template <KernelConfig kConfig>
struct Ring {
    using Position = RingPosition<kConfig>;

    Shared<kConfig>& shared;
    u32 base;  // its address; kept, because what leads to it is long, and would be gone through again for every stage
    bool threads_arrive;  // whether all producer threads copy or store something, and so arrive on full

    __device__ Ring(Shared<kConfig>& s, bool threads)
        : shared(s), base(ptx::kept(ptx::shared_address(&s))), threads_arrive(threads) {}

    // Shared-memory addresses. stage: a position's, in bytes.
    __device__ u32 full(u32 stage) const { return stage + at(&first()->full); }
    __device__ u32 empty(u32 stage) const { return stage + at(&first()->empty); }
    __device__ u32 work(u32 stage) const { return stage + at(&first()->work); }
    __device__ u32 rows(u32 stage) const { return stage + at(&first()->work.rows); }
    __device__ u32 x(u32 stage) const { return stage + at(&first()->x); }
    __device__ u32 x_of_second_half(u32 stage) const { return w(stage, slabs_of_copy(kConfig), 0); }
    __device__ u32 w(u32 stage, int slab, int chunk) const { return stage + at(&first()->w[slab][chunk]); }
    __device__ u32 scales(u32 stage, int slab, int chunk) const { return stage + at(&first()->scales[slab][chunk]); }
    __device__ u32 grids_ended() const { return at(&somewhere()->grids_ended); }
    // The producer's, until it has compared them; consumers store tiles from there, later.
    __device__ u32 kept_groups() const {
        static_assert(Scheduler<kConfig>::kKeptBytes <= kStoreTileBytes);
        return at(&somewhere()->store);
    }
    __device__ u32 item(int warp) const { return at(&somewhere()->item[warp]); }

    // The second warp's: the first is looking for its item meanwhile. All threads of the block wait_until_made() once, before they use it.
    __device__ void make() const {
        if (threadIdx.x == 32) {
            for (u32 stage = 0; stage < Position::kRingBytes; stage += Position::kStageBytes) {
                ptx::mbarrier_init(full(stage), 1 + (threads_arrive ? kProducerWarps * 32 : 0));
                ptx::mbarrier_init(empty(stage), consumer_warpgroups(kConfig) * 4 * kConfig.cluster * (lanes_arrive() ? 32 : 1));
            }
            ptx::mbarrier_init(grids_ended(), 1);
            ptx::fence_mbarrier_init();
        }
    }
    __device__ void wait_until_made() const {
        if constexpr (kConfig.cluster > 1)
            ptx::cluster_sync();
        else
            __syncthreads();
    }
    // A consumer warp is done with the stage. Each warp says so itself: WGMMA does not hold the four of a warpgroup together,
    // and one may still have packed weights to read when another's products are complete.
    __device__ void release(Position& position) const {
        __syncwarp();  // all lanes have read what they need
        const u32 barrier = empty(position.stage);
        if constexpr (kConfig.cluster > 1)
            ptx::mbarrier_arrive_in_cluster_if(ptx::lane_id() < kConfig.cluster, barrier, ptx::lane_id());
        else
            ptx::mbarrier_arrive_if(lanes_arrive() || ptx::lane_id() == 0, barrier);
        position.advance();
    }

    // The lane of a consumer warp that gives back this block's stages; in a cluster others give back those of the other block.
    __device__ static int releasing_lane() { return kConfig.cluster > 1 ? ptx::cluster_rank() : 0; }

  private:
    // Whether the lanes that read what producer threads stored arrive on empty, each for itself: that none reads any more when another
    // gives the stage back is known from __syncwarp too, but not to racecheck.
    __device__ bool lanes_arrive() const { return warps_multiply(kConfig) && threads_arrive; }
    // Stands for a Shared of which only addresses are taken: offsetof, which NVRTC lacks without headers.
    static constexpr u64 kSomewhere = 1024;
    __device__ static const Shared<kConfig>* somewhere() { return reinterpret_cast<const Shared<kConfig>*>(kSomewhere); }
    __device__ static const Stage<kConfig>* first() { return somewhere()->stages; }
    __device__ u32 at(const void* part) const { return base + u32(reinterpret_cast<u64>(part) - kSomewhere); }
};

// Structs of 16-byte words in shared memory. Loads are volatile: fields that are wanted again later are loaded again, not kept in
// registers over a main loop that needs them all.
template <class T>
union StructWords {
    static_assert(sizeof(T) % 16 == 0 && alignof(T) >= 16);
    ptx::Word4 words[sizeof(T) / 16];
    T value;
};
template <class T>
__device__ inline T load_shared_struct(u32 from) {
    StructWords<T> s;
#pragma unroll
    for (int i = 0; i < int(sizeof(T) / 16); ++i) s.words[i] = ptx::load_shared16(from + i * 16);
    return s.value;
}
template <class T>
__device__ inline void store_shared_struct(u32 to, const T& value) {
    StructWords<T> s;
    s.value = value;
#pragma unroll
    for (int i = 0; i < int(sizeof(T) / 16); ++i) ptx::store_shared16(to + i * 16, s.words[i]);
}

}  // namespace mxfp4
