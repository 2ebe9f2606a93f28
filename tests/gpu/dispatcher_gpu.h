// What the tests of the dispatcher on a GPU share: the device, streams and captures, weights and rows, filed winners.
#pragma once

#include <mxfp4/mxfp4.h>

#include "core/config_text.h"
#include "cuda/driver.h"
#include "support/device_case.h"
#include "support/put_winner.h"
#include "tools/nvrtc_of_environment.h"

namespace mxfp4::test {

inline Backend& gpu() {
    static const std::unique_ptr<Backend> backend = make_cuda_backend(0, {.nvrtc = nvrtc_of_environment()});
    return *backend;
}

// The context of the device, current while a test calls the driver itself.
struct Current {
    Current() : primary(device()), current(primary.get()) {}
    static CUdevice device() {
        CUdevice d = 0;
        check(driver().device_get(&d, 0), "open the device");
        return d;
    }
    PrimaryContext primary;
    CurrentContext current;
};

inline OwnedStream make_stream() {
    OwnedStream stream;
    check(driver().stream_create(stream.out(), CU_STREAM_NON_BLOCKING), "make a stream");
    return stream;
}

template <class Body>
GraphExec capture(Stream stream, Body body) {
    check(driver().stream_begin_capture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "begin a capture");
    Graph graph;
    try {
        body();
    } catch (...) {
        driver().stream_end_capture(stream, graph.out());
        throw;
    }
    check(driver().stream_end_capture(stream, graph.out()), "end a capture");
    GraphExec executable;
    check(driver().graph_instantiate_with_flags(executable.out(), graph.get(), 0), "instantiate a graph");
    return executable;
}

// Weights in host memory, packed by the library.
struct Packed {
    Checkpoint checkpoint;
    PackedWeights packed;
    Packed(Random& random, i64 experts, i64 n, i64 k, const PackOptions& options = {}, int low = 118, int high = 128)
        : checkpoint(random_checkpoint(random, experts, n, k, low, high)), packed(pack(checkpoint.view(), options)) {}
};

// Rows on the device, y poisoned.
struct Rows {
    const Checkpoint& checkpoint;
    Routing routing;
    i64 rows;
    std::vector<u16> x;
    PoisonedRows y;
    Buffer device_x, device_y, offsets, ids;

    Rows(Random& random, const Checkpoint& c, i64 rows_)
        : Rows(random, c, rows_, random_routing(random, rows_, c.experts, c.experts, true)) {}
    Rows(Random& random, const Checkpoint& c, i64 rows_, Routing routing_)
        : checkpoint(c),
          routing(std::move(routing_)),
          rows(rows_),
          x(random_bf16(random, std::size_t(rows_ * c.k))),
          y(rows_, c.n, c.n),
          device_x(to_device(gpu(), x)),
          device_y(to_device(gpu(), y.bytes)),
          offsets(to_device(gpu(), routing.offsets)),
          ids(to_device(gpu(), routing.ids)) {}

    Problem problem(const Weights& weights) const {
        return {.x = device_x.data(),
                .weights = weights,
                .expert_offsets = offsets.as<i32>(),
                .expert_ids = ids.as<i32>(),
                .groups = routing.groups(),
                .rows = rows,
                .y = device_y.as<u16>() + PoisonedRows::kGuard};
    }
    void poison() {
        y = PoisonedRows(rows, checkpoint.n, checkpoint.n);
        gpu().copy_in(device_y.data(), y.bytes.data(), y.bytes.size() * 2);
    }
    void fetch() {
        gpu().synchronize();
        gpu().copy_out(y.bytes.data(), device_y.data(), y.bytes.size() * 2);
    }
    std::vector<float> reference() const {
        std::vector<float> want(std::size_t(rows * checkpoint.n));
        reference_matmul(checkpoint.view(),
                         {x.data(), 0, routing.offsets.data(), routing.ids.data(), routing.groups(), rows}, want.data(),
                         0);
        return want;
    }
    std::string judged() {
        fetch();
        return judge(y, reference(), routing.offsets);
    }
};

inline DispatcherOptions options_of(const std::filesystem::path& cache = {}, LogCallback log = {}) {
    return {.device = Device::cuda(0), .cache = cache, .log = std::move(log), .nvrtc = nvrtc_of_environment()};
}

// hash: empty: the config's as it is now.
inline void put_winner(const std::filesystem::path& database, const WeightsInfo& info, i64 rows,
                       const std::string& config, const std::string& hash = "") {
    put_winner(database, gpu(), info, rows, config, hash.empty() ? gpu().kernel_hash(parse_config(config).variant) : hash);
}

inline constexpr const char* kSplitConfig = "wgmma_rs/native bm16 bn64 bk64 w8 s6 k4";

}  // namespace mxfp4::test
