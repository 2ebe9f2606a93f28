// Thread blocks on the CPU: their threads are fibers, run in a seeded random order; what the hardware does on the side is
// kept back as long, or done as early, as the rules allow.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "contract/arguments.h"
#include "shared_memory.h"

namespace mxfp4::emulator {

// When asynchronous work happens: as it is issued, when nothing else can go on or a wait demands it, or anything between.
enum class When { early, late, random };

struct Launch {
    void (*kernel)(const MatmulArguments& arguments);
    int blocks, cluster, threads;  // cluster: how many blocks run at the same time
    i64 shared_bytes;
    When timing = When::random;
    unsigned seed = 1;  // the same seed, the same run
    // What the grids before this one do to memory: called with false before a cluster starts, with true when the first of its
    // threads waits for their end.
    std::function<void(bool ended)> grids_before = {};
};
// Runs all clusters, one after the other in random order. Throws Error where a rule is broken or a cluster hangs.
void run(const Launch& launch, const MatmulArguments& arguments);

// A product of a warp's 16 rows: d[16 x n] += a[16 x 16] · b[16 x n]^T.
struct Product {
    int n;  // 0: the end of a group
    bool a_in_registers;
    float* d[32];
    u32 a[32][4];
    u64 a_descriptor, b_descriptor;
};

class Cluster;

class Block {
  public:
    Block(Cluster& cluster, const Launch& launch, int rank, int index, unsigned seed);
    static Block& current();

    // ---- For the instructions of the thread that runs ---------------------------------------------------------------
    int thread() const;
    int lane() const { return thread() & 31; }
    int rank() const { return rank_; }
    Cluster& cluster() { return cluster_; }
    SharedMemory& shared() { return shared_; }
    const SharedMemory& shared() const { return shared_; }

    void wait_for_grids_before();
    void maybe_yield();  // here another thread may overtake
    // All lanes of the warp meet; the last one calls act with what each of them brought.
    using Act = void (*)(Block& block, void* const* lanes);
    void meet(const char* what, void* mine, Act act);
    void named_barrier(int id, int threads);
    void sync_threads();
    void sync_cluster();

    void mbarrier_init(u32 address, int arrivals);
    void mbarrier_arrive(u32 address);
    void mbarrier_expect(u32 address, i64 bytes);
    bool mbarrier_wait_once(u32 address, u32 parity);
    bool mbarrier_look(u32 address, u32 parity);

    // A copy that completes `bytes` on an mbarrier.
    void bulk_copy(std::function<void()> copy, u32 barrier, u32 bytes);
    void cp_async(u32 to, const void* from, int valid);
    void cp_async_commit();
    void cp_async_wait(int groups);  // < 0: everything, in a group or not

    void issue(const Product& product);
    void end_group();
    void wait_products(int groups);

  private:
    friend class Cluster;
    struct CpAsync {
        u32 to;  // 0: the end of a group
        const void* from;
        int valid;
    };
    struct Thread {
        const char* waits_for = nullptr;
        u32 barrier = 0, parity = 0;  // an mbarrier's, or the number of a named barrier
        bool done = false;
        std::deque<CpAsync> copies;
    };
    struct Warp {
        std::vector<int> ready;  // threads
        int arrived = 0;
        const char* what = nullptr;
        void* lanes[32];
        std::deque<Product> products;
    };
    struct Meeting {  // of a named barrier
        int threads = 0;
        std::vector<int> waiting;
    };
    struct Mbarrier {
        int number, expected, pending;
        i64 bytes = 0;  // to come
        u32 phase = 0;
        std::vector<int> waiting;
    };
    struct BulkCopy {
        std::function<void()> copy;
        u32 barrier, bytes;
    };

    Warp& warp() { return warps_[std::size_t(thread() / 32)]; }
    void wait(const char* what, u32 barrier = 0, u32 parity = 0);
    void wake(std::vector<int>& threads);
    bool take_turn();
    int next_thread();
    bool once_in(unsigned n) { return random_() % n == 0; }
    bool at_once() { return timing_ == When::early || (timing_ == When::random && once_in(2)); }
    void end_thread(int thread);
    void check_end() const;
    std::string who_waits() const;

    Mbarrier& mbarrier(u32 address);
    void complete_bytes(u32 address, u32 bytes);
    void end_phase_if_complete(Mbarrier& barrier);
    bool land_something();
    void land(BulkCopy copy);
    void land_front(Thread& thread, int index);
    void multiply_all(Warp& warp, int groups_left);

    void (*kernel_)(const MatmulArguments&);
    Cluster& cluster_;
    std::vector<int> wait_for_grids_, wait_for_cluster_;
    int rank_, index_, live_, first_fiber_;
    When timing_;
    std::minstd_rand random_;
    unsigned burst_;  // about how many steps the favoured warp stays the favoured one
    unsigned turn_;   // at most so many steps, then another block may: not too few, because that takes a copy of its shared memory
    SharedMemory shared_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::vector<int> order_;  // of warps, the favoured first
    Meeting meetings_[16];
    std::map<u32, Mbarrier> mbarriers_;
    std::vector<BulkCopy> bulk_copies_;
    std::exception_ptr error_;
};

// The blocks that run at the same time, each with its own memory: one alone where the kernel knows of no clusters.
class Cluster {
  public:
    Cluster(const Launch& launch, int index, unsigned seed);
    void run();

    // ---- For its blocks ---------------------------------------------------------------------------------------------
    Block& any_block() { return *order_[random_() % order_.size()]; }
    Block& block(int rank);  // whose memory is meant: throws where the block has ended
    bool grids_before_ended() const { return grids_before_ended_; }
    void end_grids_before();
    void end_barrier_if_complete();

  private:
    int live() const;  // threads

    const Launch& launch_;
    std::minstd_rand random_;
    std::deque<Block> blocks_;
    std::vector<Block*> order_;  // whose turn it is first
    bool grids_before_ended_;
};

}  // namespace mxfp4::emulator
