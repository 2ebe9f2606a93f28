// Chooses and loads the kernel of a route: the winners, best first, then the library's default.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cache/cache.h"
#include "dispatcher/log_once.h"
#include "dispatcher/routes.h"

namespace mxfp4 {

class RouteMaker {
  public:
    RouteMaker(Backend& backend, std::vector<Winner> winners, KernelSet& kernels, LogOnce& log)
        : backend_(backend), winners_(std::move(winners)), kernels_(kernels), log_(log) {}

    struct Choice {
        KernelConfig config;
        How how;
        bool changed;  // its text or compiler is another than when the tuner verified it
    };
    // What check() admits; the library's default comes last.
    std::vector<Choice> choices(const WeightShape& shape, const RouteKey& key) const;

    // The first choice that loads and, where it has changed, computes what it should when it is tried on the stream.
    // The stream is not in capture.
    std::unique_ptr<Route> make(const WeightShape& shape, const RouteKey& key, Stream stream) const;

    // A config's kernel, tried first where a trial's stream is given. Null, with a warning, where it cannot serve; the
    // library's default (how = fallback) throws instead, for nothing comes after it.
    const LoadedKernel* load(const KernelConfig& config, const WeightsFormat& format, i64 rows, How how,
                             std::optional<Stream> trial) const;

  private:
    Backend& backend_;
    const std::vector<Winner> winners_;
    KernelSet& kernels_;
    LogOnce& log_;
};

}  // namespace mxfp4
