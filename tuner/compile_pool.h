// Compiles candidates on all cores while the device times others. A config that several buckets want compiles once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

class CompilePool {
  public:
    // threads = 0: all cores.
    CompilePool(Backend& backend, int threads);
    ~CompilePool();  // waits for what is being compiled, drops the rest
    CompilePool(const CompilePool&) = delete;
    CompilePool& operator=(const CompilePool&) = delete;

    // Jobs are taken in the order in which they came. A job whose last bucket is retired is dropped.
    void add(const KernelConfig& config, const WeightsFormat& format, std::size_t bucket);
    void retire(std::size_t bucket);  // this one and all before it

    bool ready(const KernelConfig& config, const WeightsFormat& format) const;
    void wait(const KernelConfig& config, const WeightsFormat& format);  // it compiles here, if nobody has begun
    void wait_a_little();                                                // for anything to become ready

    std::size_t done() const;
    // Until all jobs are done that are not dropped, at the pace so far. 0: none is known yet, because fewer are done than there are
    // threads, or than half of the jobs.
    double pending_seconds() const;

  private:
    enum class State { waiting, compiling, done };
    struct Job {
        KernelConfig config;
        WeightsFormat format;
        std::size_t last_bucket;
        State state = State::waiting;
    };
    void work();
    void compile(std::unique_lock<std::mutex>& lock, Job& job);
    Job* find(const KernelConfig& config, const WeightsFormat& format) const;
    bool dropped(const Job& job) const { return job.state == State::waiting && job.last_bucket < first_bucket_; }

    Backend& backend_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::unique_ptr<Job>> jobs_;
    std::size_t first_bucket_ = 0;  // not retired
    std::size_t done_ = 0;
    double done_cost_ = 0;          // by the cost model
    bool stop_ = false;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace mxfp4
