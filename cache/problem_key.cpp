#include "cache/problem_key.h"

namespace mxfp4 {

std::int64_t groups_bound(std::int64_t groups, std::int64_t experts) {
    return groups == 0 || groups == experts ? experts : rows_bucket(groups);
}

Key problem_key(const Backend& backend, const WeightsFormat& format, int layout_version, const ProblemShape& shape) {
    constexpr std::int64_t kGib = std::int64_t(1) << 30;
    const DeviceIdentity& device = backend.identity();
    Key key;
    key.device = device.name;
    key.sm_count = device.sm_count;
    key.memory_gib = (device.memory_bytes + kGib / 2) / kGib;
    key.compiler = backend.compiler_build();
    key.layout = format.layout;
    key.layout_version = layout_version;
    key.scale_warps = format.scale_warps;
    key.scale_class = format.scale_class;
    key.experts = shape.experts;
    key.n = shape.n;
    key.k = shape.k;
    key.groups = groups_bound(shape.groups, shape.experts);
    key.rows = rows_bucket(shape.rows);
    key.x_aligned = shape.x_aligned;
    key.y_aligned = shape.y_aligned;
    return key;
}

}  // namespace mxfp4
