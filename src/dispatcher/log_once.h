// The caller's log callback, each message once.
#pragma once

#include <mutex>
#include <string>
#include <unordered_set>

#include <mxfp4/dispatcher.h>

namespace mxfp4 {

class LogOnce {
  public:
    explicit LogOnce(LogCallback callback) : callback_(std::move(callback)) {}

    void operator()(LogLevel level, const std::string& message) {
        if (!callback_) return;
        // Called under the lock: messages of several threads come one after the other.
        const std::lock_guard lock(mutex_);
        if (said_.insert(message).second) callback_(level, message);
    }

  private:
    const LogCallback callback_;
    std::mutex mutex_;
    std::unordered_set<std::string> said_;
};

}  // namespace mxfp4
