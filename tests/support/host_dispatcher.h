// Problems of the host backend, through the library's front door.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <mxfp4/mxfp4.h>

#include "backends/backend.h"
#include "support/map_packer.h"
#include "support/put_winner.h"

namespace mxfp4::test {

// Random weights, as a checkpoint and packed.
struct Host {
    Random random{7};
    Checkpoint checkpoint;
    MapPacked packed;

    explicit Host(i64 experts = 3, i64 n = 96, i64 k = 64, WeightsFormat format = {}, int high = 128)
        : checkpoint(random_checkpoint(random, experts, n, k, high - 12, high)),
          packed(pack_by_maps(checkpoint, format)) {}

    PackedView view() const {
        PackedView v;
        v.info.format = packed.format;
        v.info.layout_version = kLayoutVersion[int(packed.format.layout)];
        v.info.experts = checkpoint.experts;
        v.info.n = checkpoint.n;
        v.info.k = checkpoint.k;
        v.values = packed.values.data();
        v.scales = packed.scales.data();
        // A packed file has it for native; for the others the dispatcher works it out.
        if (packed.format.layout == Layout::native && !packed.expert_scale.empty())
            v.expert_scale = packed.expert_scale.data();
        return v;
    }
};

// Random rows for them, and a poisoned y.
struct Rows {
    Routing routing;
    i64 rows, k;
    std::vector<u16> x;
    PoisonedRows y;

    Rows(Host& host, i64 rows_, i64 y_stride = 0)
        : routing(random_routing(host.random, rows_, host.checkpoint.experts, host.checkpoint.experts, true)),
          rows(rows_),
          k(host.checkpoint.k),
          x(random_bf16(host.random, std::size_t(rows_ * k))),
          y(rows_, host.checkpoint.n, y_stride ? y_stride : host.checkpoint.n) {}

    Problem problem(const Weights& weights) {
        return {.x = x.data(),
                .weights = weights,
                .expert_offsets = routing.offsets.data(),
                .expert_ids = routing.ids.data(),
                .groups = routing.groups(),
                .rows = rows,
                .y = y.data(),
                .y_stride = y.stride};
    }
    std::string judged(const Host& host) const {
        std::vector<float> want(std::size_t(rows * host.checkpoint.n));
        reference_matmul(host.checkpoint.view(),
                         {x.data(), 0, routing.offsets.data(), routing.ids.data(), routing.groups(), rows}, want.data(),
                         0);
        return judge(y, want, routing.offsets);
    }
};

inline Dispatcher host_dispatcher() { return Dispatcher({.device = Device::host()}); }

// hash: empty: the host kernel's as it is now, whatever the config.
inline void put_winner(const std::filesystem::path& database, const Host& host, i64 rows, const std::string& config,
                       const std::string& hash = "") {
    const auto backend = make_host_backend({});
    put_winner(database, *backend, host.view().info, rows, config, hash.empty() ? backend->kernel_hash(Variant::host) : hash);
}

}  // namespace mxfp4::test
