// What the hardware does on the side of a thread block: mbarriers, copies, WGMMA.
#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "block.h"
#include "mma.h"

namespace mxfp4::emulator {
namespace {

// What an initialised barrier's 8 bytes hold: whoever writes over them is found out.
u64 barrier_mark(u32 address) { return 0x6D62617272696572u ^ address; }

}  // namespace

// ---- mbarrier -------------------------------------------------------------------------------------------------------

void Block::mbarrier_init(u32 address, int arrivals) {
    const u64 mark = barrier_mark(address);
    std::memcpy(shared_.at(address, 8, 8), &mark, 8);
    const int number = int(mbarriers_.size());
    if (arrivals <= 0 || !mbarriers_.try_emplace(address, Mbarrier{number, arrivals, arrivals, 0, 0, {}}).second)
        throw Error(fmt::format("mbarrier at {} is initialised twice, or with {} arrivals", address, arrivals));
}

Block::Mbarrier& Block::mbarrier(u32 address) {
    u64 mark;
    std::memcpy(&mark, shared_.at(address, 8, 8), 8);
    const auto found = mbarriers_.find(address);
    if (found == mbarriers_.end()) throw Error(fmt::format("mbarrier at {} of block {} is used before its init", address, index_));
    if (mark != barrier_mark(address))
        throw Error(fmt::format("mbarrier {} at {} was written over", found->second.number, address));
    return found->second;
}

void Block::mbarrier_arrive(u32 address) {
    Mbarrier& b = mbarrier(address);
    if (b.pending == 0) throw Error(fmt::format("mbarrier {} gets more than its {} arrivals in a phase", b.number, b.expected));
    --b.pending;
    end_phase_if_complete(b);
}
void Block::mbarrier_expect(u32 address, i64 bytes) {
    Mbarrier& b = mbarrier(address);
    b.bytes += bytes;
    if (b.bytes >= 1 << 20) throw Error(fmt::format("mbarrier {} cannot count {} bytes", b.number, b.bytes));
}

void Block::complete_bytes(u32 address, u32 bytes) {
    Mbarrier& b = mbarrier(address);
    b.bytes -= bytes;
    if (b.bytes <= -(1 << 20)) throw Error(fmt::format("mbarrier {} gets bytes that nobody announced", b.number));
    end_phase_if_complete(b);
}

void Block::end_phase_if_complete(Mbarrier& b) {
    if (b.pending != 0 || b.bytes != 0) return;
    ++b.phase;
    b.pending = b.expected;
    wake(b.waiting);
}

bool Block::mbarrier_wait_once(u32 address, u32 parity) {
    const auto done = [&] { return (mbarrier(address).phase & 1) != parity; };
    if (done()) return true;
    mbarrier(address).waiting.push_back(thread());
    wait("mbarrier", address, parity);
    return done();
}

bool Block::mbarrier_look(u32 address, u32 parity) {
    maybe_yield();
    return (mbarrier(address).phase & 1) != parity;
}

// ---- Copies ---------------------------------------------------------------------------------------------------------

void Block::bulk_copy(std::function<void()> copy, u32 barrier, u32 bytes) {
    mbarrier(barrier);  // must be there by now
    BulkCopy issued{std::move(copy), barrier, bytes};
    if (at_once())
        land(std::move(issued));
    else
        bulk_copies_.push_back(std::move(issued));
}
void Block::land(BulkCopy copy) {
    copy.copy();
    complete_bytes(copy.barrier, copy.bytes);
}

void Block::cp_async(u32 to, const void* from, int valid) {
    shared_.at(to, 16, 16);
    threads_[std::size_t(thread())].copies.push_back({to, from, valid});
    if (at_once()) cp_async_wait(-1);
}
void Block::cp_async_commit() { threads_[std::size_t(thread())].copies.push_back({0, nullptr, 0}); }
void Block::cp_async_wait(int groups) {
    Thread& self = threads_[std::size_t(thread())];
    const auto groups_in_flight = [&] {
        return std::count_if(self.copies.begin(), self.copies.end(), [](const CpAsync& c) { return !c.to; });
    };
    while (!self.copies.empty() && (groups < 0 || groups_in_flight() > groups)) land_front(self, thread());
}
// In the order of issue.
void Block::land_front(Thread& thread, int index) {
    const CpAsync copy = thread.copies.front();
    thread.copies.pop_front();
    if (!copy.to) return;
    u8* const to = shared_.at(copy.to, 16, 16);
    if (copy.valid) std::memcpy(to, copy.from, std::size_t(copy.valid));
    std::memset(to + copy.valid, 0, std::size_t(16 - copy.valid));
    shared_.wrote(index, copy.to, 16);
}

// One bulk copy, or all cp.async of one thread; false where nothing is in flight.
bool Block::land_something() {
    std::vector<int> copying;
    for (std::size_t t = 0; t < threads_.size(); ++t)
        if (!threads_[t].copies.empty()) copying.push_back(int(t));
    const std::size_t total = bulk_copies_.size() + copying.size() + !wait_for_grids_.empty();
    if (total == 0) return false;
    const std::size_t chosen = random_() % total;
    if (chosen < bulk_copies_.size()) {
        std::swap(bulk_copies_[chosen], bulk_copies_.back());
        BulkCopy copy = std::move(bulk_copies_.back());
        bulk_copies_.pop_back();
        land(std::move(copy));
    } else if (chosen < bulk_copies_.size() + copying.size()) {
        const int t = copying[chosen - bulk_copies_.size()];
        Thread& thread = threads_[std::size_t(t)];
        while (!thread.copies.empty()) land_front(thread, t);
    } else {
        cluster_.end_grids_before();
    }
    return true;
}

// ---- WGMMA ----------------------------------------------------------------------------------------------------------

// Registers of A are taken at issue: in C++ the array may be gone, and its memory used again, while a GPU's registers are still
// being read. So a fragment overwritten too early is not found here.
void Block::issue(const Product& product) {
    warp().products.push_back(product);
    if (at_once()) multiply_all(warp(), -1);
}
void Block::end_group() { warp().products.push_back({}); }
void Block::wait_products(int groups) { multiply_all(warp(), groups); }

// Until at most that many whole groups are left; < 0: everything.
void Block::multiply_all(Warp& warp, int groups_left) {
    auto groups = std::count_if(warp.products.begin(), warp.products.end(), [](const Product& p) { return p.n == 0; });
    const int warp_of_group = int(&warp - warps_.data()) % 4;
    while (!warp.products.empty() && groups > groups_left) {
        const Product& product = warp.products.front();
        if (product.n == 0)
            --groups;
        else
            multiply(shared_, product, warp_of_group);
        warp.products.pop_front();
    }
}

}  // namespace mxfp4::emulator
