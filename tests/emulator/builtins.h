// What CUDA C++ has and C++ has not: as much of it as the kernels use.
#pragma once

#include <cstring>

#include "block.h"

#define __device__
#define __shared__

struct Index3 {
    unsigned x, y, z;
};
extern Index3 threadIdx, blockIdx, gridDim;  // set before each step of a thread

struct alignas(16) float4 {
    float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline void __syncthreads() { mxfp4::emulator::Block::current().sync_threads(); }
inline void __syncwarp() {
    mxfp4::emulator::Block::current().meet("__syncwarp", nullptr, [](mxfp4::emulator::Block&, void* const*) {});
}
inline void __threadfence() {}

// The lanes bring a value and the lane whose value they want.
template <class T>
struct Shuffled {
    T value, result;
    int from;

    T exchange(const char* what) {
        mxfp4::emulator::Block::current().meet(what, this, [](mxfp4::emulator::Block&, void* const* lanes) {
            for (int i = 0; i < 32; ++i) {
                auto& mine = *static_cast<Shuffled*>(lanes[i]);
                mine.result = static_cast<Shuffled*>(lanes[mine.from])->value;
            }
        });
        return result;
    }
};
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return Shuffled<T>{value, {}, lane & 31}.exchange("__shfl_sync");
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
    const int lane = mxfp4::emulator::Block::current().lane();
    return Shuffled<T>{value, {}, lane >= by ? lane - by : lane}.exchange("__shfl_up_sync");
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int with) {
    return Shuffled<T>{value, {}, mxfp4::emulator::Block::current().lane() ^ with}.exchange("__shfl_xor_sync");
}
inline unsigned __ballot_sync(unsigned, bool vote) {
    struct Lane {
        bool vote;
        unsigned result;
    } mine{vote, 0};
    mxfp4::emulator::Block::current().meet("__ballot_sync", &mine, [](mxfp4::emulator::Block&, void* const* lanes) {
        unsigned result = 0;
        for (int i = 0; i < 32; ++i) result |= unsigned(static_cast<Lane*>(lanes[i])->vote) << i;
        for (int i = 0; i < 32; ++i) static_cast<Lane*>(lanes[i])->result = result;
    });
    return mine.result;
}
inline unsigned __float_as_uint(float v) {
    unsigned bits;
    std::memcpy(&bits, &v, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
}
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return by % 32 == 0 ? high : high << by % 32 | low >> (32 - by % 32);
}

// No other thread overtakes here: nothing comes between.
inline unsigned atomicAdd(unsigned* at, unsigned add) {
    const unsigned before = *at;
    *at += add;
    return before;
}
template <class T>
T __ldcg(const T* at) {
    return *at;
}
