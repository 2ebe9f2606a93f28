// Split-k scratch. Kernels leave the counters as they found them, zero, so that a buffer is zeroed once. Launches that
// may overlap never share one: a stream has its own, and so has each stream of a captured graph, which may be replayed
// while the stream that it was captured from is busy.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

struct ScratchNeed {
    i64 counter_bytes = 0, partial_bytes = 0;

    i64 bytes() const { return counter_bytes + partial_bytes; }
    void include(const ScratchNeed& other);  // becomes enough for both
};
ScratchNeed scratch_need(const KernelConfig& config, const ProblemShape& shape, int sm_count);

struct Scratch {
    void* data = nullptr;
    i64 counter_bytes = 0,
        partial_bytes = 0;  // the counters come first, all of them: no config's partial tiles touch them

    bool holds(const ScratchNeed& need) const {
        return counter_bytes >= need.counter_bytes && partial_bytes >= need.partial_bytes;
    }
};

// Buffers live until the end: what is in flight, and every captured graph, may still use them.
class ScratchBuffers {
  public:
    explicit ScratchBuffers(Backend& backend) : backend_(backend) {}

    // The stream's buffer, if it has one that is large enough. Takes no lock.
    const Scratch* find(Stream stream, const ScratchNeed& need) const;
    // find(), or else a new buffer, zeroed on the stream.
    const Scratch& make(Stream stream, const ScratchNeed& need);

    // Tops the spare buffers up to so many of at least this size.
    void reserve_for_graphs(int count, const ScratchNeed& need, Stream stream);
    // The buffer of a stream of a capture: the one that it has, or a spare one, for good. Null where none is left.
    const Scratch* find_for_graph(Stream stream, std::uint64_t capture, const ScratchNeed& need);

  private:
    struct Owner {
        Stream stream = nullptr;
        const void* thread = nullptr;  // of CU_STREAM_PER_THREAD, one handle for many streams
        std::uint64_t capture = 0;     // 0: not capturing
        bool operator==(const Owner&) const = default;
    };
    struct Node {
        Owner owner;
        Scratch scratch;
        Buffer memory;
        const Node* next = nullptr;
    };
    static Owner owner_of(Stream stream, std::uint64_t capture);
    static const Scratch* find_in(const std::atomic<const Node*>& list, const Owner& owner, const ScratchNeed& need);
    std::unique_ptr<Node> allocate(const ScratchNeed& need, Stream stream);
    const Scratch& publish(std::atomic<const Node*>& list, std::unique_ptr<Node> node, const Owner& owner);

    Backend& backend_;
    std::atomic<const Node*> streams_ = nullptr, graphs_ = nullptr;
    std::mutex mutex_;                          // guards the rest, and who publishes
    std::vector<std::unique_ptr<Node>> spare_;  // zeroed, nobody's yet
    std::vector<std::unique_ptr<Node>> owned_;
};

}  // namespace mxfp4
