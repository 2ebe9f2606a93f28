// Decoded once: the producer warpgroup decodes weights in registers and stores them, XOR-swizzled, into the shared bf16
// tile that WGMMA's A descriptor sees; every consumer warpgroup reads it from there. Reads all three layouts.
#pragma once

#include "consumer.cuh"
#include "contract/arguments.h"
#include "contract/config.h"
#include "decode.cuh"
#include "pipeline.cuh"
#include "producer.cuh"
#include "ptx.cuh"
#include "tile_rows.cuh"
#include "wgmma_shapes.cuh"

namespace mxfp4 {

// Weights decoded by all producer threads.
template <KernelConfig kConfig, WeightsFormat kFormat>
struct DecodedWeights {
    static constexpr bool kThreadsCopy = true;

    const MatmulArguments& arguments;
    Ring<kConfig> ring;

    __device__ u32 bytes(const Work&) const { return 0; }
    __device__ void issue(const Work&, int, int) const {}
    __device__ void copy(const Work& work, int chunk, int chunks, u32 stage) const {
        const auto reader = weight_reader<kFormat>(arguments, work.expert);
        const int left = (arguments.n - work.n + kSlabRows - 1) / kSlabRows;  // slabs; the last tile of N may have fewer than others
        const int slabs = left < Shared<kConfig>::kSlabs ? left : Shared<kConfig>::kSlabs, thread = int(threadIdx.x);
        for (int s = 0; s < slabs; ++s)
            for (int c = 0; c < chunks; ++c) {
                const u32 tile = ring.w(stage, s, c);
                if constexpr (kFormat.layout == Layout::blocks)
                    decode_rows(reader, work.n + s * kSlabRows, chunk + c, tile, thread);
                else
                    decode_fragments(reader, work.n + s * kSlabRows, chunk + c, tile, thread);
            }
    }

  private:
    // 16 bytes of a 128-byte row: piece p of row r lies at p ^ (r & 7).
    __device__ static u32 piece_address(u32 tile, int row, int piece) { return tile + row * 128 + ((piece ^ (row & 7)) << 4); }

    // hopper, native: a lane's words are fragments, pairs of rows g and g + 8. The XOR keeps the 32 lanes in 32 banks.
    __device__ static void decode_fragments(const WeightReader<kFormat>& reader, int n, int chunk, u32 tile, int thread) {
        const int lane = thread & 31, row = thread / 32 * 16 + (lane >> 2), t = lane & 3;
        const int row_group = n / 16 + thread / 32;
        const ptx::Word4 words = reader.words(row_group, chunk, lane);
        const u32 scale_word = has_scales<kFormat>(row_group, reader.n) ? reader.scale_word(row_group, chunk, lane) : 0;
#pragma unroll
        for (int step = 0; step < 4; ++step) {
            u32 a[4];
            reader.fragment(words, scale_word, step, a);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                ptx::store_shared4(piece_address(tile, row + (i & 1) * 8, step * 2 + (i >> 1)) + t * 4, a[i]);
        }
    }

    // blocks: a thread takes the 32 k of one row and scale; a word is 8 consecutive k, one 16-byte piece.
    __device__ static void decode_rows(const WeightReader<kFormat>& reader, int n, int chunk, u32 tile, int thread) {
        const int row = thread & 63, kg = chunk * 2 + (thread >> 6);
        const bool inside = n + row < reader.n && kg < reader.k_groups;
        ptx::Word4 words = {0, 0, 0, 0};
        u32 multiplier = 0;
        if (inside) {
            words = ptx::load_weights16(reader.values + kg * reader.value_row_bytes + i64(n + row) * 16);
            multiplier = ptx::low_half_twice(reader.rule.multipliers(reader.scale_byte(n + row, kg)));
        }
        const u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            u32 r[4];
            unpack_word<kFormat.layout>(word[i], r);
            for (u32& pair : r) pair = reader.rule.scaled(pair, multiplier);
            ptx::store_shared16(piece_address(tile, row, (thread >> 6) * 4 + i), {r[0], r[1], r[2], r[3]});
        }
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
struct WgmmaSs {
    static_assert(check(kConfig, kFormat) == Reject::none);
    using SharedMemory = Shared<kConfig>;
    static_assert(sizeof(SharedMemory) + 1024 <= shared_bytes(kConfig));
    using Weights = DecodedWeights<kConfig, kFormat>;
    static constexpr int kChunks = SharedMemory::kChunks;
    static constexpr int kSlabs = slabs_per_warpgroup(kConfig);

    const MatmulArguments& arguments;
    Ring<kConfig> ring;

    __device__ void produce() const { Producer<kConfig, Weights>(arguments, ring, {arguments, ring}).run(); }

    __device__ void consume(int warpgroup) const {
        mxfp4::consume<kConfig, kFormat>(arguments, ring, warpgroup, [&](const Work& work, auto& position, auto& d) {
            with_tile_rows<kConfig.block_m>(work.tile_m, [&]<int kN>() { multiply<kN>(work, warpgroup, position, d); });
        });
    }

    template <int kN, class Position>
    __device__ void multiply(const Work& work, int warpgroup, Position& position, float (&d)[kSlabs][kConfig.block_m / 2]) const {
        const u32 x_chunk = ptx::uniform(x_rows_of_stage(kConfig, work.tile_m) * 128 >> 4);
        for (int chunk = work.chunk_begin; chunk < work.chunk_end; chunk += kChunks) {
            ptx::mbarrier_wait(ring.full(position.stage), position.parity);
            const u32 x = ptx::uniform(ptx::descriptor_address(ring.x(position.stage)));
            const u32 w = ptx::uniform(ptx::descriptor_address(ring.w(position.stage, warpgroup * kSlabs, 0)));
#pragma unroll
            for (int c = 0; c < kChunks; ++c) {
                if (c > 0) {
                    if (chunk + c >= work.chunk_end) break;
                    ptx::wgmma_wait<0>();  // accumulators in flight over a branch would serialise all of it
                }
                ptx::wgmma_fence();
                const u32 b = x + c * x_chunk;
#pragma unroll
                for (int s = 0; s < kSlabs; ++s) {
                    const u32 a = w + ((s * kChunks + c) * SharedMemory::kSlabChunkBytes >> 4);
#pragma unroll
                    for (int step = 0; step < 4; ++step)
                        ptx::Wgmma<kN>::ss(first<kN / 2>(d[s]), ptx::swizzled_descriptor(a + 2 * step), ptx::swizzled_descriptor(b + 2 * step));
                }
                ptx::wgmma_commit();
            }
            ptx::wgmma_wait_for(d);
            ring.release(position);
        }
    }
};

template <KernelConfig kConfig, WeightsFormat kFormat>
__device__ inline void run_wgmma_ss(const MatmulArguments& arguments) {
    run_warp_specialised<kConfig, WgmmaSs<kConfig, kFormat>>(arguments);
}

}  // namespace mxfp4
