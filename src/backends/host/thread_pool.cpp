#include "backends/host/thread_pool.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

std::exception_ptr try_job(ThreadPool::Job job, void* context) try {
    job(context);
    return nullptr;
} catch (...) {
    return std::current_exception();
}

}  // namespace

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    start_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::reserve(int threads) {
    const std::lock_guard turn(turn_);
    try {
        while (int(workers_.size()) < threads - 1) workers_.emplace_back(&ThreadPool::work, this, int(workers_.size()));
    } catch (const std::system_error& error) {
        throw Error(ErrorCode::io, fmt::format("cannot start a thread: {}", error.what()),
                    {fmt::format("{} threads", threads), fmt::format("at most {}", workers_.size() + 1), ""});
    }
}

void ThreadPool::run(int threads, Job job, void* context) {
    if (threads <= 1) return job(context);
    const std::lock_guard turn(turn_);
    {
        const std::lock_guard lock(mutex_);
        job_ = job;
        context_ = context;
        helpers_ = running_ = std::min(threads - 1, int(workers_.size()));
        ++generation_;
    }
    start_.notify_all();
    const std::exception_ptr own = try_job(job, context);
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return running_ == 0; });  // also when it failed: the others still use the context
    const std::exception_ptr another = std::exchange(failure_, nullptr);
    if (own || another) std::rethrow_exception(own ? own : another);
}

void ThreadPool::work(int worker) {
    unsigned long long seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        start_.wait(lock, [&] { return stop_ || (generation_ != seen && worker < helpers_); });
        if (stop_) return;
        seen = generation_;
        const Job job = job_;
        void* const context = context_;
        lock.unlock();
        const std::exception_ptr failure = try_job(job, context);
        lock.lock();
        if (failure) failure_ = failure;
        if (--running_ == 0) finished_.notify_one();
    }
}

}  // namespace mxfp4
