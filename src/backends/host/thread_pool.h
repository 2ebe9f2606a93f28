// Threads that stay: a job is run by the caller and by as many workers as it asks for.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace mxfp4 {

class ThreadPool {
  public:
    using Job = void (*)(void* context);  // a plain pointer, so that starting a job allocates nothing

    ThreadPool() = default;
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;
    ~ThreadPool();

    void reserve(int threads);  // workers for jobs of that many threads, the caller among them
    // Runs job(context) once on each of so many threads and returns when all are done; then what one of them threw is thrown on. Jobs of
    // several callers take turns.
    void run(int threads, Job job, void* context);

  private:
    void work(int worker);

    std::mutex turn_;  // held for the length of a job
    std::mutex mutex_;
    std::condition_variable start_, finished_;
    std::vector<std::thread> workers_;
    Job job_ = nullptr;
    void* context_ = nullptr;
    int helpers_ = 0, running_ = 0;  // workers that the job wants; those still at it
    std::exception_ptr failure_;     // of a worker
    unsigned long long generation_ = 0;
    bool stop_ = false;
};

}  // namespace mxfp4
