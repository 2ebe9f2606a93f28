#include "cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace mxfp4 {
namespace {

constexpr std::size_t kHalfBytes = 4 << 20;  // large enough that a transfer's fixed cost vanishes (80 us at 50 GB/s)
constexpr std::size_t kKeptLanes = 4;        // 8 MiB of pinned memory each

}  // namespace

Staging::Lane Staging::make_lane() {
    Lane lane;
    // A blocking stream: it is ordered with the legacy default stream, as a plain cuMemcpy would be.
    check(driver().stream_create(lane.stream.out(), CU_STREAM_DEFAULT), "make a copy stream");
    for (Half& half : lane.halves) {
        check(driver().mem_host_alloc(half.memory.out(), kHalfBytes, 0), "allocate pinned memory");
        check(driver().event_create(half.done.out(), CU_EVENT_DISABLE_TIMING), "make an event");
    }
    return lane;
}

template <class Copy>
void Staging::with_lane(Copy copy) {
    Lane lane;
    {
        const std::lock_guard lock(mutex_);
        if (!idle_.empty()) {
            lane = std::move(idle_.back());
            idle_.pop_back();
        }
    }
    if (!lane.stream.get()) lane = make_lane();
    copy(lane);
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kKeptLanes) idle_.push_back(std::move(lane));
}

void Staging::copy_in(CUdeviceptr to, const void* from, std::size_t bytes) {
    with_lane([&](Lane& lane) {
        const auto* source = static_cast<const std::byte*>(from);
        for (std::size_t at = 0, turn = 0; at < bytes; at += kHalfBytes, ++turn) {
            const Half& half = lane.halves[turn % 2];
            const std::size_t chunk = std::min(kHalfBytes, bytes - at);
            check(driver().event_synchronize(half.done.get()), "wait for a copy to the device");
            std::memcpy(half.memory.get(), source + at, chunk);
            check(driver().memcpy_htod_async(to + at, half.memory.get(), chunk, lane.stream.get()),
                  "copy to the device");
            check(driver().event_record(half.done.get(), lane.stream.get()), "record an event");
        }
        check(driver().stream_synchronize(lane.stream.get()), "wait for a copy to the device");
    });
}

void Staging::copy_out(void* to, CUdeviceptr from, std::size_t bytes) {
    with_lane([&](Lane& lane) {
        auto* target = static_cast<std::byte*>(to);
        const auto start = [&](std::size_t at, const Half& half) {
            const std::size_t chunk = std::min(kHalfBytes, bytes - at);
            check(driver().memcpy_dtoh_async(half.memory.get(), from + at, chunk, lane.stream.get()),
                  "copy from the device");
            check(driver().event_record(half.done.get(), lane.stream.get()), "record an event");
        };
        if (bytes) start(0, lane.halves[0]);
        for (std::size_t at = 0, turn = 0; at < bytes; at += kHalfBytes, ++turn) {
            const Half& half = lane.halves[turn % 2];
            if (at + kHalfBytes < bytes) start(at + kHalfBytes, lane.halves[(turn + 1) % 2]);
            check(driver().event_synchronize(half.done.get()), "wait for a copy from the device");
            std::memcpy(target + at, half.memory.get(), std::min(kHalfBytes, bytes - at));
        }
    });
}

}  // namespace mxfp4
