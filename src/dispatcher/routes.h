// Which kernel serves which problem of a weight: found without a lock, because what is published never changes.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "dispatcher/kernel_set.h"
#include "dispatcher/scratch.h"

namespace mxfp4 {

struct RouteKey {
    i64 rows = 0, groups = 0;  // upper bounds of their buckets
    bool x_aligned = true, y_aligned = true;
    bool operator==(const RouteKey&) const = default;
};

struct Route {
    RouteKey key;
    const LoadedKernel* kernel = nullptr;
    How how = How::fallback;
    ScratchNeed scratch = {};  // of the key's largest problem
    const Route* next = nullptr;
};

class RouteTable {
  public:
    const Route* find(const RouteKey& key) const {
        const Route* route = heads_[slot(key)].load(std::memory_order_acquire);
        while (route && !(route->key == key)) route = route->next;
        return route;
    }
    const Route& add(std::unique_ptr<Route> route) {  // one thread at a time
        std::atomic<const Route*>& head = heads_[slot(route->key)];
        route->next = head.load(std::memory_order_relaxed);
        const Route& added = *route;
        routes_.push_back(std::move(route));  // before it is published: this may throw
        head.store(&added, std::memory_order_release);
        return added;
    }

  private:
    static constexpr int kSlotBits = 9;  // prepare() may make some hundreds of routes
    static std::size_t slot(const RouteKey& key) {
        const u64 mixed = (u64(key.rows) * 4 + key.x_aligned * 2 + key.y_aligned) ^ u64(key.groups) << 34;
        return std::size_t(mixed * 0x9E3779B97F4A7C15ull >> (64 - kSlotBits));
    }
    std::array<std::atomic<const Route*>, 1 << kSlotBits> heads_ = {};
    std::vector<std::unique_ptr<const Route>> routes_;
};

// All weights of one format and size share their routes.
struct WeightShape {
    WeightsFormat format;
    int layout_version = kLayoutVersion[int(format.layout)];
    i64 experts = 0, n = 0, k = 0;

    RouteTable routes;
    std::mutex mutex;  // guards adding routes, and the rest
    std::condition_variable changed;
    std::vector<RouteKey> in_progress;  // keys whose kernel a thread is loading
};
inline ProblemShape shape_of(const WeightShape& w, const RouteKey& key) {
    return {w.experts, w.n, w.k, key.rows, key.groups, key.x_aligned, key.y_aligned};
}

}  // namespace mxfp4
