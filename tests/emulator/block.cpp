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
    if (launch.cluster * launch.threads > kMaxThreads)
        throw Error(fmt::format("a cluster of {} blocks of {} threads", launch.cluster, launch.threads));
    running_arguments = &arguments;
    std::vector<int> order(std::size_t(launch.blocks / launch.cluster));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(launch.seed);
    std::shuffle(order.begin(), order.end(), random);
    gridDim = {unsigned(launch.blocks), 1, 1};
    for (const int index : order) Cluster(launch, index, random()).run();
}

// ---- Clusters -------------------------------------------------------------------------------------------------------

Cluster::Cluster(const Launch& launch, int index, unsigned seed)
    : launch_(launch), random_(seed), grids_before_ended_(!launch.grids_before) {
    if (launch.grids_before) launch.grids_before(false);
    for (int rank = 0; rank < launch.cluster; ++rank)
        order_.push_back(&blocks_.emplace_back(*this, launch, rank, index * launch.cluster + rank, unsigned(random_())));
}

void Cluster::run() {
    if (!fibers)
        fibers = std::make_unique<Fibers>(kMaxThreads, [](int) {
            Block& block = Block::current();
            try {
                block.kernel_(*running_arguments);
                block.end_thread(block.thread());
            } catch (const Error& error) {
                block.error_ = std::make_exception_ptr(Error(
                    fmt::format("block {}, warp {}, lane {}: {}", block.index_, block.thread() / 32, block.lane(), error.what())));
            }
        });
    try {
        while (live() > 0) {
            std::shuffle(order_.begin(), order_.end(), random_);
            if (std::ranges::any_of(order_, &Block::take_turn) || std::ranges::any_of(order_, &Block::land_something)) continue;
            std::string text = "a hang:";
            for (const Block& block : blocks_) text += block.who_waits();
            throw Error(text);
        }
    } catch (...) {
        fibers.reset();  // some are in the middle of the kernel
        throw;
    }
}

int Cluster::live() const {
    int threads = 0;
    for (const Block& block : blocks_) threads += block.live_;
    return threads;
}

Block& Cluster::block(int rank) {
    if (rank < 0 || rank >= int(blocks_.size())) throw Error(fmt::format("there is no block {} in the cluster", rank));
    Block& block = blocks_[std::size_t(rank)];
    if (block.live_ == 0) throw Error(fmt::format("the shared memory of block {} is used, which has ended", block.index_));
    return block;
}

void Cluster::end_grids_before() {
    launch_.grids_before(true);
    grids_before_ended_ = true;
    for (Block& block : blocks_) block.wake(block.wait_for_grids_);
}

void Cluster::end_barrier_if_complete() {
    int waiting = 0;
    for (const Block& block : blocks_) waiting += int(block.wait_for_cluster_.size());
    if (waiting < live()) return;
    for (Block& block : blocks_) block.wake(block.wait_for_cluster_);
}

// ---- Blocks ---------------------------------------------------------------------------------------------------------

Block::Block(Cluster& cluster, const Launch& launch, int rank, int index, unsigned seed)
    : kernel_(launch.kernel), cluster_(cluster), rank_(rank), index_(index), live_(launch.threads),
      first_fiber_(rank * launch.threads), timing_(launch.timing), random_(seed), shared_(launch.shared_bytes),
      threads_(std::size_t(launch.threads)), warps_(std::size_t(launch.threads / 32)) {
    burst_ = 1u << random_() % 11;
    turn_ = 64u << random_() % 6;
    for (int t = 0; t < launch.threads; ++t) warps_[std::size_t(t / 32)].ready.push_back(t);
    order_.resize(warps_.size());
    std::iota(order_.begin(), order_.end(), 0);
}

Block& Block::current() { return *running; }
int Block::thread() const { return fibers->current() - first_fiber_; }

// Its threads go on, until none can or the turn is another block's; false where none could.
bool Block::take_turn() {
    unsigned steps = 0;
    for (const unsigned most = 1 + random_() % turn_; steps < most; ++steps) {
        const int next = next_thread();
        if (next < 0) break;
        running = this;
        shared_.enter_window();
        blockIdx = {unsigned(index_), 0, 0};
        threadIdx = {unsigned(next), 0, 0};
        fibers->resume(first_fiber_ + next);
        if (error_) std::rethrow_exception(error_);
        if (live_ == 0) check_end();
        if (timing_ == When::random && once_in(32)) cluster_.any_block().land_something();
    }
    return steps > 0;
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
    if (cluster_.grids_before_ended()) return;
    if (at_once()) return cluster_.end_grids_before();
    wait_for_grids_.push_back(thread());
    wait("griddepcontrol.wait");
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
    shared_.at_barrier(thread());
    if (int(meeting.waiting.size()) < threads) return wait("bar.sync", u32(id));
    meeting.waiting.pop_back();
    wake(meeting.waiting);
}

void Block::sync_threads() {
    meetings_[0].threads = live_;
    meetings_[0].waiting.push_back(thread());
    shared_.at_barrier(thread());
    if (int(meetings_[0].waiting.size()) < live_) return wait("__syncthreads");
    meetings_[0].waiting.pop_back();
    wake(meetings_[0].waiting);
}

// Who comes last is woken too, before it waits.
void Block::sync_cluster() {
    wait_for_cluster_.push_back(thread());
    shared_.at_barrier(thread());
    cluster_.end_barrier_if_complete();
    wait("barrier.cluster");
}

void Block::end_thread(int thread) {
    threads_[std::size_t(thread)].done = true;
    --live_;
    if (!meetings_[0].waiting.empty() && int(meetings_[0].waiting.size()) == live_) wake(meetings_[0].waiting);
    cluster_.end_barrier_if_complete();
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

// For who looks into a hang: where its threads are; nothing where all have ended.
std::string Block::who_waits() const {
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
    if (waiting.empty()) return "";
    std::string text = fmt::format("\nblock {}:", index_);
    for (const auto& [at, threads] : waiting) {
        text += fmt::format("\n  {} threads of warps", threads.size());
        for (std::size_t i = 0; i < threads.size(); ++i)
            if (i == 0 || threads[i] / 32 != threads[i - 1] / 32) text += fmt::format(" {}", threads[i] / 32);
        text += " wait at " + at;
    }
    return text;
}

}  // namespace mxfp4::emulator
