#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace mxfp4 {

void parallel_for(int threads, std::int64_t tasks, const std::function<void(std::int64_t)>& task) {
    if (threads <= 0) threads = int(std::max(1u, std::thread::hardware_concurrency()));
    std::atomic<std::int64_t> next = 0;
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
        try {
            for (std::int64_t i = next++; i < tasks; i = next++) task(i);
        } catch (...) {
            next = tasks;
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> helpers;
        try {
            for (std::int64_t t = 1; t < std::min<std::int64_t>(threads, tasks); ++t) helpers.emplace_back(work);
        } catch (const std::system_error&) {
            // Fewer threads than asked for do the same work.
        }
        work();
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace mxfp4
