// The kernels that a dispatcher has loaded, each config once.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace mxfp4 {

struct LoadedKernel {
    KernelPtr kernel;
    std::string text;  // of its config; RunInfo shows it
    WeightsFormat format;
    i64 rows;  // upper bound of the bucket that it was loaded for
    How how;   // fallback: the library's default; else from the database
    bool tried;  // before it served
};

class KernelSet {
  public:
    explicit KernelSet(Backend& backend) : backend_(backend) {}

    // Loads at a config's first call; threads that ask meanwhile wait. Throws Error where it cannot be used, and does
    // not compile it again. With `trial` it is tried on that stream, which is not in capture, before anyone gets it;
    // one that computes wrongly is never served. One that serves already is not tried any more.
    const LoadedKernel& get(const KernelConfig& config, const WeightsFormat& format, i64 rows, How how,
                            std::optional<Stream> trial = {});

    // A loaded kernel that may serve the shape, the one for the nearest number of rows. Null where there is none.
    const LoadedKernel* stand_in(const WeightsFormat& format, const ProblemShape& shape, bool whole_tiles) const;

  private:
    using Future = std::shared_future<const LoadedKernel*>;

    Backend& backend_;
    mutable std::mutex mutex_;
    std::map<std::string, Future> futures_;
    std::vector<std::unique_ptr<const LoadedKernel>> loaded_;
};

}  // namespace mxfp4
