#include "dispatcher/kernel_set.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "core/config_text.h"
#include "tuner/trial.h"

namespace mxfp4 {
namespace {

// A kernel that does not compile or computes wrongly now will not do better later; but memory, say, may be free again
// next time.
bool will_never_load(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        return error.code() == ErrorCode::compile;
    } catch (...) {
        return false;
    }
}

void require_correct(Backend& backend, const Kernel& kernel, const WeightsFormat& format, Stream stream) {
    if (const std::string wrong = try_kernel(backend, kernel, format, stream); !wrong.empty())
        throw Error(ErrorCode::compile, fmt::format("a kernel computes wrongly since it was tuned: {}", wrong),
                    {to_text(kernel.config()), "", "tune again; mxfp4-cache gc removes winners of older kernel text"});
}

}  // namespace

const LoadedKernel& KernelSet::get(const KernelConfig& config, const WeightsFormat& format, i64 rows, How how,
                                   std::optional<Stream> trial) {
    const std::string text = to_text(config);
    const std::string key = fmt::format("{} w{} {}", text, format.scale_warps, to_string(format.scale_class));
    std::promise<const LoadedKernel*> promise;
    Future future;
    {
        const std::lock_guard lock(mutex_);
        const auto [entry, mine] = futures_.try_emplace(key);
        if (!mine) {
            future = entry->second;
        } else {
            entry->second = promise.get_future().share();
        }
    }
    if (future.valid()) return *future.get();
    try {
        KernelPtr kernel = backend_.load(config, format);
        if (trial) require_correct(backend_, *kernel, format, *trial);
        auto loaded = std::make_unique<const LoadedKernel>(
            LoadedKernel{std::move(kernel), text, format, rows, how, trial.has_value()});
        const std::lock_guard lock(mutex_);
        loaded_.push_back(std::move(loaded));
        promise.set_value(loaded_.back().get());
        return *loaded_.back();
    } catch (...) {
        promise.set_exception(std::current_exception());
        if (!will_never_load(std::current_exception())) {
            const std::lock_guard lock(mutex_);
            futures_.erase(key);
        }
        throw;
    }
}

const LoadedKernel* KernelSet::stand_in(const WeightsFormat& format, const ProblemShape& shape,
                                        bool whole_tiles) const {
    const LoadedKernel* best = nullptr;
    double best_distance = std::numeric_limits<double>::infinity();
    const std::lock_guard lock(mutex_);
    for (const auto& loaded : loaded_) {
        const KernelConfig& config = loaded->kernel->config();
        if (!(loaded->format == format) || (whole_tiles && config.split_k != 1)) continue;
        if (check(config, format, shape, backend_.limits()) != Reject::none) continue;
        const double distance = std::abs(std::log2(double(shape.rows + 1) / double(loaded->rows + 1)));
        if (distance < best_distance) {
            best = loaded.get();
            best_distance = distance;
        }
    }
    return best;
}

}  // namespace mxfp4
