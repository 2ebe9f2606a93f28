#include "tuner/verify.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "core/bf16.h"
#include "tuner/random.h"

namespace mxfp4 {
namespace {

constexpr std::int64_t kCopyWholeBytes = 8 << 20;  // below this, one copy of y is quicker than one a row
constexpr std::int64_t kChunkBytes = 32 << 20;
constexpr std::int64_t kLeastColumns = 3;          // of a sampled row

struct SampledRow {
    std::int64_t row, expert;
};

std::vector<SampledRow> rows_to_sample(const std::vector<std::int32_t>& offsets, Random& random) {
    std::vector<SampledRow> rows;
    for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
        const std::int64_t begin = offsets[e], end = offsets[e + 1];
        if (begin == end) continue;
        rows.push_back({begin, std::int64_t(e)});
        if (end - begin > 2) rows.push_back({begin + 1 + random.below(end - begin - 2), std::int64_t(e)});
        if (end - begin > 1) rows.push_back({end - 1, std::int64_t(e)});
    }
    return rows;
}

std::vector<float> read_samples(Backend& backend, const BenchProblem& problem, const std::vector<Sample>& samples) {
    const std::int64_t n = problem.n();
    const bool whole = problem.y_bytes() <= kCopyWholeBytes;
    std::vector<std::uint16_t> y(std::size_t(whole ? problem.rows() * n : n));
    if (whole && !y.empty()) backend.copy_out(y.data(), problem.y(), y.size() * 2);
    std::vector<float> values;
    std::int64_t have = -1;
    for (const Sample& s : samples) {
        if (!whole && s.row != have) {
            backend.copy_out(y.data(), static_cast<const std::uint16_t*>(problem.y()) + s.row * n, std::size_t(n) * 2);
            have = s.row;
        }
        values.push_back(bf16_to_float(y[std::size_t((whole ? s.row * n : 0) + s.n)]));
    }
    return values;
}

}  // namespace

double root_mean_square(const std::vector<float>& values) {
    double sum = 0;
    for (float v : values) sum += double(v) * v;
    return std::sqrt(sum / double(values.size()));
}

Expectation expect(const SampleWeights& weights, const BenchProblem& problem, int rotation, std::size_t least_samples) {
    Expectation expected;
    expected.rotation = rotation;
    Random random(99);
    const auto rows = rows_to_sample(problem.plan().rotations[std::size_t(rotation)].expert_offsets, random);
    if (rows.empty()) return expected;
    const std::int64_t n = problem.n();
    const std::int64_t columns = std::min(
        n, std::max<std::int64_t>(kLeastColumns, ceil_div(std::int64_t(least_samples), std::int64_t(rows.size()))));

    // The reference sees the sampled rows alone, each a group of its own.
    std::vector<std::uint16_t> x;
    std::vector<std::int32_t> offsets = {0}, ids;
    std::vector<Sample> compact;
    for (const SampledRow& r : rows) {
        const std::uint16_t* from = problem.input().row(r.row);
        x.insert(x.end(), from, from + problem.k());
        const std::int64_t at = std::int64_t(ids.size());
        ids.push_back(std::int32_t(r.expert % weights.distinct));
        offsets.push_back(std::int32_t(at + 1));
        for (std::int64_t i = 0; i < columns; ++i) {
            const std::int64_t last = std::max<std::int64_t>(0, n - 64);
            const std::int64_t column = columns == n ? i
                                        : i == 0     ? n - 1
                                        : i == 1     ? last + random.below(n - last)
                                                     : random.below(n);
            compact.push_back({at, column});
            expected.samples.push_back({r.row, column});
        }
    }
    const ReferenceProblem reference = {.x = x.data(), .expert_offsets = offsets.data(), .expert_ids = ids.data(),
                                        .groups = int(ids.size()), .rows = std::int64_t(ids.size())};
    expected.values = reference_samples(weights.checkpoint(), reference, compact);
    expected.rms = root_mean_square(expected.values);
    return expected;
}

Agreement compare(const Expectation& expected, const std::vector<float>& got) {
    Agreement agreement;
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double want = expected.values[i], error = std::abs(got[i] - want);
        // Written so that a NaN fails.
        if (!(error <= kMostElementError * (expected.rms + std::abs(want))) && agreement.rejected.empty())
            agreement.rejected = fmt::format("wrong result: y[{}, {}] is {}, the reference says {}",
                                             expected.samples[i].row, expected.samples[i].n, got[i], want);
        difference += error * error;
        norm += want * want;
    }
    agreement.relative_error = difference == 0 ? 0 : std::sqrt(difference / norm);
    if (agreement.rejected.empty() && !(agreement.relative_error <= kMostRelativeError))
        agreement.rejected = fmt::format("wrong result: relative error {:.2e}, at most {:.1e}",
                                         agreement.relative_error, kMostRelativeError);
    return agreement;
}

Agreement verify_samples(Backend& backend, const BenchProblem& problem, const Expectation& expected,
                         const Launch& launch) {
    problem.poison_y();
    launch(expected.rotation);
    backend.synchronize();
    return compare(expected, read_samples(backend, problem, expected.samples));
}

std::string verify_whole(Backend& backend, const BenchProblem& problem, int rotation, const Launch& launch) {
    std::vector<std::size_t> hashes;  // of the first launch's chunks
    std::vector<std::uint16_t> chunk;
    for (int run = 0; run < 2; ++run) {
        problem.poison_y();
        launch(rotation);
        backend.synchronize();
        for (std::int64_t at = 0, i = 0; at < problem.y_bytes(); at += kChunkBytes, ++i) {
            const std::int64_t bytes = std::min(kChunkBytes, problem.y_bytes() - at);
            chunk.resize(std::size_t(bytes / 2));
            backend.copy_out(chunk.data(), static_cast<const std::uint8_t*>(problem.y()) + at, std::size_t(bytes));
            const std::size_t hash =
                std::hash<std::string_view>{}({reinterpret_cast<const char*>(chunk.data()), std::size_t(bytes)});
            if (run == 1) {
                if (hash != hashes[std::size_t(i)]) return "a second launch gives other bits";
                continue;
            }
            hashes.push_back(hash);
            bool any = false;
            for (std::uint16_t v : chunk) any |= is_bf16_nan(v);  // without an exit: the compiler vectorises it
            if (!any) continue;
            const std::int64_t first = at / 2 + (std::find_if(chunk.begin(), chunk.end(), is_bf16_nan) - chunk.begin());
            return fmt::format("y[{}, {}] is NaN or was not written", first / problem.n(), first % problem.n());
        }
    }
    return "";
}

}  // namespace mxfp4
