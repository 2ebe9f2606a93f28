#include "tuner/trial.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "core/bf16.h"
#include "tuner/random.h"
#include "tuner/sample_weights.h"
#include "tuner/verify.h"
#include "weights.h"

namespace mxfp4 {
namespace {

constexpr std::int64_t kExperts = 3;
constexpr std::int64_t kColumns = 3;  // that are compared, of each row
constexpr std::int64_t kLooseRows = 2;
// What a block of the host kernel may be is more than a small problem needs; those of a GPU's kernels are smaller.
constexpr std::int64_t kMostBlockN = 512, kMostK = 8192;

// Host memory of a problem that leaves tails everywhere: a group of more rows than a tile, an empty one, small ones,
// rows in no group; outputs beyond a tile; k beyond what the pipeline holds at once, and an odd number of scales.
struct TrialProblem {
    std::int64_t n, k, rows;
    std::vector<std::int32_t> offsets, ids;
    std::vector<std::uint16_t> x;  // [rows, k] bf16

    explicit TrialProblem(const KernelConfig& config)
        : n(std::min<std::int64_t>(config.block_n, kMostBlockN) + 40),
          k(std::clamp(std::int64_t(config.block_k) * (config.stages + 1), std::int64_t(config.split_k) * kChunkK,
                       kMostK) +
            kBlockElements),
          ids({2, 0, 0, 1}) {
        offsets = {0};
        for (const int group_rows : {config.block_m + 3, 0, 1, 9}) offsets.push_back(offsets.back() + group_rows);
        rows = offsets.back() + kLooseRows;
        Random random(11);
        x.resize(std::size_t(rows * k));
        for (std::uint16_t& bits : x) bits = std::uint16_t((random.next() & 0x807F) | 0x3F80);  // 1 to 2, either sign
    }
    std::int64_t covered_rows() const { return offsets.back(); }
    ProblemShape shape() const { return {kExperts, n, k, rows, std::int64_t(ids.size())}; }

    Expectation expect(const SampleWeights& weights) const {
        Expectation expected;
        Random random(12);
        for (std::int64_t r = 0; r < covered_rows(); ++r)
            for (std::int64_t i = 0; i < kColumns; ++i) expected.samples.push_back({r, i ? random.below(n) : n - 1});
        expected.values = reference_samples(weights.checkpoint(),
                                            {.x = x.data(), .expert_offsets = offsets.data(), .expert_ids = ids.data(),
                                             .groups = int(ids.size()), .rows = rows},
                                            expected.samples);
        expected.rms = root_mean_square(expected.values);
        return expected;
    }
};

template <class T>
Buffer to_device(Backend& backend, const std::vector<T>& values) {
    Buffer buffer(backend, values.size() * sizeof(T));
    backend.copy_in(buffer.data(), values.data(), buffer.bytes());
    return buffer;
}

// y [rows, n] after a launch into poisoned memory.
std::vector<std::uint16_t> launch(Backend& backend, const Kernel& kernel, const TrialProblem& problem,
                                  const DeviceWeights& weights, Stream stream) {
    const Buffer x = to_device(backend, problem.x), offsets = to_device(backend, problem.offsets),
                 ids = to_device(backend, problem.ids);
    std::vector<std::uint16_t> y(std::size_t(problem.rows * problem.n));
    const Buffer device_y(backend, y.size() * 2);
    backend.fill(device_y.data(), 0xFF, device_y.bytes(), stream);  // NaN
    MatmulArguments a{};
    describe_weights(weights, a);
    a.x = x.data();
    a.y = device_y.data();
    a.x_stride = problem.k;
    a.y_stride = problem.n;
    a.expert_offsets = offsets.as<i32>();
    a.expert_ids = ids.as<i32>();
    a.rows = i32(problem.rows);
    a.groups = i32(problem.ids.size());
    a.x_aligned = a.y_aligned = 1;
    const int sm_count = backend.limits().sm_count;
    Buffer scratch;
    if (kernel.config().split_k != 1) {
        scratch = Buffer(backend, std::size_t(workspace_bytes(kernel.config(), problem.shape(), sm_count)));
        a.workspace = scratch.data();
        a.workspace_counter_bytes = workspace_counter_bytes(kernel.config(), problem.shape(), sm_count);
        backend.fill(scratch.data(), 0, std::size_t(a.workspace_counter_bytes), stream);
    }
    kernel.launch(a, stream);
    backend.synchronize(stream);
    backend.copy_out(y.data(), device_y.data(), device_y.bytes());
    return y;
}

}  // namespace

std::string try_kernel(Backend& backend, const Kernel& kernel, const WeightsFormat& format, Stream stream) {
    const TrialProblem problem(kernel.config());
    if (const Reject reject = check(kernel.config(), format, problem.shape(), backend.limits()); reject != Reject::none)
        return fmt::format("it cannot be tried: {}", reject_text(reject));
    const SampleWeights weights =
        random_weights(kExperts, problem.n, problem.k,
                       {.layout = format.layout, .num_warps = format.scale_warps, .threads = 1}, format.scale_class);
    const std::vector<std::uint16_t> y =
        launch(backend, kernel, problem, upload_weights(backend, weights.packed.view()), stream);

    const auto loose = y.begin() + problem.covered_rows() * problem.n;
    if (const auto nan = std::find_if(y.begin(), loose, is_bf16_nan); nan != loose)
        return fmt::format("wrong result: y[{}, {}] is NaN or was not written", (nan - y.begin()) / problem.n,
                           (nan - y.begin()) % problem.n);
    if (std::any_of(loose, y.end(), [](std::uint16_t bits) { return bits != 0xFFFF; }))
        return "wrong result: a row in no group was written";
    const Expectation expected = problem.expect(weights);
    std::vector<float> got;
    for (const Sample& s : expected.samples) got.push_back(bf16_to_float(y[std::size_t(s.row * problem.n + s.n)]));
    return compare(expected, got).rejected;
}

}  // namespace mxfp4
