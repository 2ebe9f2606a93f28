#include "dispatcher/scratch.h"

#include <algorithm>
#include <cstdint>

namespace mxfp4 {

void ScratchNeed::include(const ScratchNeed& other) {
    counter_bytes = std::max(counter_bytes, other.counter_bytes);
    partial_bytes = std::max(partial_bytes, other.partial_bytes);
}

ScratchNeed scratch_need(const KernelConfig& config, const ProblemShape& shape, int sm_count) {
    const i64 counters = workspace_counter_bytes(config, shape, sm_count);
    return {counters, workspace_bytes(config, shape, sm_count) - counters};
}

ScratchBuffers::Owner ScratchBuffers::owner_of(Stream stream, std::uint64_t capture) {
    constexpr std::uintptr_t kStreamPerThread = 2;  // CU_STREAM_PER_THREAD
    static thread_local char this_thread;
    return {stream, reinterpret_cast<std::uintptr_t>(stream) == kStreamPerThread ? &this_thread : nullptr, capture};
}

const Scratch* ScratchBuffers::find_in(const std::atomic<const Node*>& list, const Owner& owner,
                                       const ScratchNeed& need) {
    for (const Node* node = list.load(std::memory_order_acquire); node; node = node->next)
        if (node->owner == owner && node->scratch.holds(need)) return &node->scratch;
    return nullptr;
}

const Scratch* ScratchBuffers::find(Stream stream, const ScratchNeed& need) const {
    return find_in(streams_, owner_of(stream, 0), need);
}

std::unique_ptr<ScratchBuffers::Node> ScratchBuffers::allocate(const ScratchNeed& need, Stream stream) {
    auto node = std::make_unique<Node>();
    node->memory = Buffer(backend_, std::size_t(need.bytes()));
    node->scratch = {node->memory.data(), need.counter_bytes, need.partial_bytes};
    backend_.fill(node->memory.data(), 0, std::size_t(need.counter_bytes), stream);
    return node;
}

const Scratch& ScratchBuffers::publish(std::atomic<const Node*>& list, std::unique_ptr<Node> node, const Owner& owner) {
    node->owner = owner;
    node->next = list.load(std::memory_order_relaxed);
    const Node& added = *node;
    owned_.push_back(std::move(node));  // before it is published: this may throw
    list.store(&added, std::memory_order_release);
    return added.scratch;
}

const Scratch& ScratchBuffers::make(Stream stream, const ScratchNeed& need) {
    const std::lock_guard lock(mutex_);
    if (const Scratch* const found = find(stream, need)) return *found;
    return publish(streams_, allocate(need, stream), owner_of(stream, 0));
}

void ScratchBuffers::reserve_for_graphs(int count, const ScratchNeed& need, Stream stream) {
    const std::lock_guard lock(mutex_);
    const auto enough = [&need](const std::unique_ptr<Node>& node) { return node->scratch.holds(need); };
    for (auto have = std::count_if(spare_.begin(), spare_.end(), enough); have < count; ++have)
        spare_.push_back(allocate(need, stream));
    backend_.synchronize(stream);  // a graph may be replayed on any stream: the zeros must be there
}

const Scratch* ScratchBuffers::find_for_graph(Stream stream, std::uint64_t capture, const ScratchNeed& need) {
    const Owner owner = owner_of(stream, capture);
    if (const Scratch* const found = find_in(graphs_, owner, need)) return found;
    const std::lock_guard lock(mutex_);
    for (auto node = spare_.begin(); node != spare_.end(); ++node)
        if ((*node)->scratch.holds(need)) {
            std::unique_ptr<Node> taken = std::move(*node);
            spare_.erase(node);
            return &publish(graphs_, std::move(taken), owner);
        }
    return nullptr;
}

}  // namespace mxfp4
