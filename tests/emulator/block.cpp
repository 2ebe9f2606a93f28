#include "block.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include <fmt/format.h>

#include "builtins.h"
#include "fiber.h"

Index3 threadIdx, blockIdx, gridDim;

namespace mxfp4::emulator {
namespace {

constexpr int kMaxThreads = 1024;
Block* running = nullptr;
const MatmulArguments* running_arguments = nullptr;
std::unique_ptr<Fibers> fibers;  // kept from block to block

}  // namespace

void run(const Launch& launch, const MatmulArguments& arguments) {
    std::vector<int> order(std::size_t(launch.blocks));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(launch.seed);
    std::shuffle(order.begin(), order.end(), random);
    gridDim = {unsigned(launch.blocks), 1, 1};
    for (const int index : order) {
        if (launch.grids_before) launch.grids_before(false);
        Block(launch, index, random()).run(arguments);
    }
}

Block::Block(const Launch& launch, int index, unsigned seed)
    : kernel_(launch.kernel), grids_before_(launch.grids_before), index_(index), live_(launch.threads), timing_(launch.timing), random_(seed),
      shared_(launch.shared_bytes), threads_(std::size_t(launch.threads)), warps_(std::size_t(launch.threads / 32)) {
    burst_ = 1u << random_() % 11;
    for (int t = 0; t < launch.threads; ++t) warps_[std::size_t(t / 32)].ready.push_back(t);
    order_.resize(warps_.size());
    std::iota(order_.begin(), order_.end(), 0);
}

Block& Block::current() { return *running; }
int Block::thread() const { return fibers->current(); }

void Block::run(const MatmulArguments& arguments) {
    running = this;
    running_arguments = &arguments;
    if (!fibers)
        fibers = std::make_unique<Fibers>(kMaxThreads, [](int i) {
            Block& block = *running;
            try {
                block.kernel_(*running_arguments);
                block.end_thread(i);
            } catch (const Error& error) {
                block.error_ = std::make_exception_ptr(
                    Error(fmt::format("block {}, warp {}, lane {}: {}", block.index_, i / 32, i % 32, error.what())));
            }
        });
    blockIdx = {unsigned(index_), 0, 0};
    try {
        while (live_ > 0) {
            if (timing_ == When::random && once_in(32)) land_something();
            const int next = next_thread();
            if (next < 0) {
                if (!land_something()) hang();
                continue;
            }
            threadIdx = {unsigned(next), 0, 0};
            fibers->resume(next);
            if (error_) std::rethrow_exception(error_);
        }
        check_end();
    } catch (...) {
        fibers.reset();  // some are in the middle of the kernel
        throw;
    }
}

// ---- Who runs, and who waits ----------------------------------------------------------------------------------------

// The first warp of the order that can go on, and any of its lanes. Now and then another warp becomes the favoured one: with
// a short burst this is a random interleaving, with a long one some warps run far ahead of others.
int Block::next_thread() {
    if (once_in(burst_)) {
        const auto favoured = order_.begin() + std::ptrdiff_t(random_() % order_.size());
        std::rotate(order_.begin(), favoured, favoured + 1);
    }
    for (const int w : order_)
        if (auto& ready = warps_[std::size_t(w)].ready; !ready.empty()) {
            std::swap(ready[random_() % ready.size()], ready.back());
            const int thread = ready.back();
            ready.pop_back();
            return thread;
        }
    return -1;
}

void Block::wait_for_grids_before() {
    if (!grids_before_ || grids_before_ended_) return;
    if (at_once()) return end_grids_before();
    wait_for_grids_.push_back(thread());
    wait("griddepcontrol.wait");
}

void Block::end_grids_before() {
    grids_before_(true);
    grids_before_ended_ = true;
    wake(wait_for_grids_);
}

void Block::maybe_yield() {
    if (!once_in(32)) return;
    warp().ready.push_back(thread());
    fibers->yield();
}

void Block::wait(const char* what, u32 barrier, u32 parity) {
    Thread& self = threads_[std::size_t(thread())];
    self.waits_for = what;
    self.barrier = barrier;
    self.parity = parity;
    fibers->yield();
    self.waits_for = nullptr;
}

void Block::wake(std::vector<int>& threads) {
    for (const int t : threads) warps_[std::size_t(t / 32)].ready.push_back(t);
    threads.clear();
}

void Block::meet(const char* what, void* mine, Act act) {
    Warp& warp = this->warp();
    const int self = thread();
    if (warp.arrived == 0) warp.what = what;
    if (warp.what != what && std::strcmp(warp.what, what) != 0)
        throw Error(fmt::format("is at {}, other lanes of the warp are at {}", what, warp.what));
    warp.lanes[self % 32] = mine;
    if (++warp.arrived < 32) return wait(what);
    warp.arrived = 0;
    act(*this, warp.lanes);
    for (int t = self / 32 * 32; t < self / 32 * 32 + 32; ++t)
        if (t != self) warp.ready.push_back(t);
}

void Block::named_barrier(int id, int threads) {
    if (id < 0 || id > 15 || threads <= 0 || threads % 32 != 0) throw Error(fmt::format("bar.sync {}, {}", id, threads));
    Meeting& meeting = meetings_[id];
    if (!meeting.waiting.empty() && meeting.threads != threads)
        throw Error(fmt::format("bar.sync {} of {} threads, where others wait for {}", id, threads, meeting.threads));
    meeting.threads = threads;
    meeting.waiting.push_back(thread());
    if (int(meeting.waiting.size()) < threads) return wait("bar.sync", u32(id));
    meeting.waiting.pop_back();
    wake(meeting.waiting);
}

void Block::sync_threads() {
    meetings_[0].threads = live_;
    meetings_[0].waiting.push_back(thread());
    if (int(meetings_[0].waiting.size()) < live_) return wait("__syncthreads");
    meetings_[0].waiting.pop_back();
    wake(meetings_[0].waiting);
}

void Block::end_thread(int thread) {
    threads_[std::size_t(thread)].done = true;
    --live_;
    if (!meetings_[0].waiting.empty() && int(meetings_[0].waiting.size()) == live_) wake(meetings_[0].waiting);
}

void Block::check_end() const {
    const auto fail = [this](const char* what) { throw Error(fmt::format("block {} has ended {}", index_, what)); };
    if (shared_.overrun()) fail("and wrote behind its shared memory");
    if (!bulk_copies_.empty()) fail("with a bulk copy in flight");
    for (const Thread& thread : threads_)
        if (!thread.copies.empty()) fail("with a cp.async in flight");
    for (const Warp& warp : warps_)
        if (!warp.products.empty()) fail("with a WGMMA in flight");
}

void Block::hang() const {
    std::map<std::string, std::vector<int>> waiting;  // threads of each place
    for (std::size_t t = 0; t < threads_.size(); ++t) {
        const Thread& thread = threads_[t];
        if (thread.done) continue;
        std::string at = thread.waits_for;
        if (const auto found = mbarriers_.find(thread.barrier); found != mbarriers_.end()) {
            const Mbarrier& b = found->second;
            at = fmt::format("mbarrier {} at {}, parity {} ({} of {} arrivals and {} bytes to come in phase {})", b.number,
                             thread.barrier, thread.parity, b.pending, b.expected, b.bytes, b.phase);
        } else if (at == "bar.sync") {
            at += fmt::format(" {} of {} threads", thread.barrier, meetings_[thread.barrier].threads);
        }
        waiting[at].push_back(int(t));
    }
    std::string text = fmt::format("block {} hangs:", index_);
    for (const auto& [at, threads] : waiting) {
        text += fmt::format("\n  {} threads of warps", threads.size());
        for (std::size_t i = 0; i < threads.size(); ++i)
            if (i == 0 || threads[i] / 32 != threads[i - 1] / 32) text += fmt::format(" {}", threads[i] / 32);
        text += " wait at " + at;
    }
    throw Error(text);
}

}  // namespace mxfp4::emulator
