#include "tuner/compile_pool.h"

#include <algorithm>
#include <system_error>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "tuner/cost_model.h"

namespace mxfp4 {

CompilePool::CompilePool(Backend& backend, int threads) : backend_(backend) {
    const int count = threads > 0 ? threads : std::max(1, int(std::thread::hardware_concurrency()));
    try {
        for (int i = 0; i < count; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {  // fewer do the same work
        if (threads_.empty()) throw Error(ErrorCode::io, fmt::format("cannot start a thread: {}", error.what()), {"", "", "raise the limit (ulimit -u)"});
    }
}

CompilePool::~CompilePool() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
}

void CompilePool::add(const KernelConfig& config, const WeightsFormat& format, std::size_t bucket) {
    {
        const std::lock_guard lock(mutex_);
        if (Job* job = find(config, format)) {
            job->last_bucket = std::max(job->last_bucket, bucket);
        } else {
            jobs_.push_back(std::make_unique<Job>(Job{config, format, bucket}));
        }
    }
    changed_.notify_all();
}

void CompilePool::retire(std::size_t bucket) {
    const std::lock_guard lock(mutex_);
    first_bucket_ = std::max(first_bucket_, bucket + 1);
}

bool CompilePool::ready(const KernelConfig& config, const WeightsFormat& format) const {
    const std::lock_guard lock(mutex_);
    const Job* job = find(config, format);
    return job && job->state == State::done;
}

void CompilePool::wait(const KernelConfig& config, const WeightsFormat& format) {
    std::unique_lock lock(mutex_);
    Job* job = find(config, format);
    if (!job) {
        jobs_.push_back(std::make_unique<Job>(Job{config, format, first_bucket_}));
        job = jobs_.back().get();
    }
    if (job->state == State::waiting) return compile(lock, *job);
    changed_.wait(lock, [job] { return job->state == State::done; });
}

void CompilePool::wait_a_little() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(50));
}

std::size_t CompilePool::done() const {
    const std::lock_guard lock(mutex_);
    return done_;
}

double CompilePool::pending_seconds() const {
    const std::lock_guard lock(mutex_);
    if (done_ == 0 || done_ < std::min(threads_.size(), jobs_.size() / 2)) return 0;
    double pending = 0, begun = 0;
    for (const auto& job : jobs_) {
        const double cost = compile_cost(job->config);
        if (job->state == State::compiling) begun += cost / 2;  // half done, on average
        if (job->state == State::waiting && !dropped(*job)) pending += cost;
    }
    const std::chrono::duration<double> so_far = std::chrono::steady_clock::now() - start_;
    return (pending + begun) / (done_cost_ + begun) * so_far.count();
}

void CompilePool::work() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
        const auto next = std::find_if(jobs_.begin(), jobs_.end(), [this](const auto& job) {
            return job->state == State::waiting && !dropped(*job);
        });
        if (next == jobs_.end()) {
            changed_.wait(lock);
        } else {
            compile(lock, **next);
        }
    }
}

void CompilePool::compile(std::unique_lock<std::mutex>& lock, Job& job) {
    job.state = State::compiling;
    lock.unlock();
    try {
        backend_.compile(job.config, job.format);  // the backend keeps image and report
    } catch (const std::exception&) {
        // Without a compiler, say. Whoever measures this config meets the same error, and can name it.
    }
    lock.lock();
    job.state = State::done;
    ++done_;
    done_cost_ += compile_cost(job.config);
    changed_.notify_all();
}

CompilePool::Job* CompilePool::find(const KernelConfig& config, const WeightsFormat& format) const {
    const auto found = std::find_if(jobs_.begin(), jobs_.end(),
                                    [&](const auto& job) { return job->config == config && job->format == format; });
    return found == jobs_.end() ? nullptr : found->get();
}

}  // namespace mxfp4
