// A test case on the device: packed by maps, run by a config, y brought back between its guard zones.
#pragma once

#include <functional>

#include "backends/backend.h"
#include "contract/tensors.h"
#include "support/map_packer.h"

namespace mxfp4::test {

struct DeviceCase {
    const Checkpoint& checkpoint;
    MapPacked packed;
    Routing routing;
    i64 rows, x_stride, y_stride;
    std::vector<u16> x;
    bool named_ids = true;

    std::vector<float> reference() const {
        std::vector<float> want(rows * checkpoint.n);
        reference_matmul(checkpoint.view(), {x.data(), x_stride, routing.offsets.data(), named_ids ? routing.ids.data() : nullptr,
                                             routing.groups(), rows}, want.data(), 0);
        return want;
    }
};

template <class T>
Buffer to_device(Backend& backend, const std::vector<T>& values) {
    if (values.empty()) return {};
    Buffer buffer(backend, values.size() * sizeof(T));
    backend.copy_in(buffer.data(), values.data(), buffer.bytes());
    return buffer;
}

// The case's inputs on the device; run() may be called with many kernels. x_shift and y_shift, in elements, spoil alignment.
class DeviceRun {
  public:
    DeviceRun(Backend& backend, const DeviceCase& c, i64 x_shift = 0, i64 y_shift = 0)
        : backend_(backend), case_(c), y_shift_(y_shift), values_(to_device(backend, c.packed.values)),
          scales_(to_device(backend, c.packed.scales)), expert_scale_(to_device(backend, c.packed.expert_scale)),
          expert_shift_(to_device(backend, c.packed.expert_shift)), offsets_(to_device(backend, c.routing.offsets)),
          ids_(to_device(backend, c.routing.ids)) {
        std::vector<u16> shifted(x_shift, 0x7FC0);
        shifted.insert(shifted.end(), c.x.begin(), c.x.end());
        shifted.resize(shifted.size() + 8, 0x7FC0);  // NaN behind the last row: nothing may come of it
        x_ = to_device(backend, shifted);
        arguments_ = arguments_of(c.packed, c.checkpoint);
        arguments_.values = values_.as<u8>();
        arguments_.scales = scales_.as<u8>();
        arguments_.expert_scale = expert_scale_.as<float>();
        arguments_.expert_shift = expert_shift_.as<i32>();
        arguments_.x = x_.as<u16>() + x_shift;
        arguments_.x_stride = c.x_stride;
        arguments_.y_stride = c.y_stride;
        arguments_.expert_offsets = offsets_.as<i32>();
        arguments_.expert_ids = c.named_ids ? ids_.as<i32>() : nullptr;
        arguments_.rows = i32(c.rows);
        arguments_.groups = c.routing.groups();
        arguments_.x_aligned = x_shift % 8 == 0 && c.x_stride % 8 == 0;
        arguments_.y_aligned = y_shift % 8 == 0 && c.y_stride % 8 == 0;
    }

    ProblemShape shape() const {
        return {case_.checkpoint.experts, case_.checkpoint.n, case_.checkpoint.k, case_.rows, case_.routing.groups()};
    }

    i32* offsets() const { return offsets_.as<i32>(); }

    // weights_constant: MatmulArguments::weights_constant. just_before: what is enqueued ahead of the kernel.
    PoisonedRows run(const Kernel& kernel, bool weights_constant = true, const std::function<void()>& just_before = {}) {
        PoisonedRows y(case_.rows, case_.checkpoint.n, case_.y_stride);
        std::vector<u16> host(y_shift_, PoisonedRows::kPoison);
        host.insert(host.end(), y.bytes.begin(), y.bytes.end());
        const Buffer device = to_device(backend_, host);
        MatmulArguments a = arguments_;
        a.weights_constant = weights_constant;
        a.y = device.as<u16>() + y_shift_ + PoisonedRows::kGuard;
        const KernelConfig& config = kernel.config();
        const std::size_t bytes = std::size_t(workspace_bytes(config, shape(), backend_.limits().sm_count));
        Buffer workspace;
        if (bytes) {
            workspace = Buffer(backend_, bytes);
            a.workspace_counter_bytes = workspace_counter_bytes(config, shape(), backend_.limits().sm_count);
            backend_.fill(workspace.data(), 0xFF, bytes, nullptr);  // partial tiles: any contents; counters: zero
            backend_.fill(workspace.data(), 0, std::size_t(a.workspace_counter_bytes), nullptr);
            a.workspace = workspace.data();
        }
        if (just_before) just_before();
        if (mapped_for_ == &kernel) {  // the maps of weights are those of the run before, and all that says where they are
            a.weights_mapped = 1;
            a.values = a.scales = nullptr;
        }
        kernel.launch(a, nullptr);
        if (maps_weights(config)) {
            arguments_.values_map = a.values_map;
            arguments_.scales_map = a.scales_map;
            mapped_for_ = &kernel;
        }
        backend_.synchronize();
        backend_.copy_out(host.data(), device.data(), host.size() * 2);
        y.bytes.assign(host.begin() + y_shift_, host.end());
        if (bytes) {
            std::vector<u32> counters(a.workspace_counter_bytes / 4);
            backend_.copy_out(counters.data(), workspace.data(), counters.size() * 4);
            counters_left_zero_ = std::all_of(counters.begin(), counters.end(), [](u32 c) { return c == 0; });
        }
        return y;
    }
    bool counters_left_zero() const { return counters_left_zero_; }

  private:
    Backend& backend_;
    const DeviceCase& case_;
    i64 y_shift_;
    Buffer values_, scales_, expert_scale_, expert_shift_, offsets_, ids_, x_;
    MatmulArguments arguments_{};
    const Kernel* mapped_for_ = nullptr;
    bool counters_left_zero_ = true;
};

}  // namespace mxfp4::test
