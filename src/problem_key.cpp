#include "problem_key.h"

namespace mxfp4 {

Key problem_key(const Backend& backend, const WeightsFormat& format, int layout_version, const ProblemShape& shape) {
    Key key;
    key.device = backend.identity().name;
    key.sm_count = backend.identity().sm_count;
    key.memory_gib = backend.identity().memory_bytes >> 30;
    key.compiler = backend.compiler_build();
    key.layout = format.layout;
    key.layout_version = layout_version;
    key.scale_warps = format.scale_warps;
    key.scale_class = format.scale_class;
    key.experts = shape.experts;
    key.n = shape.n;
    key.k = shape.k;
    key.groups = shape.groups ? shape.groups : shape.experts;
    key.rows = rows_bucket(shape.rows);
    key.x_aligned = shape.x_aligned;
    key.y_aligned = shape.y_aligned;
    return key;
}

}  // namespace mxfp4
