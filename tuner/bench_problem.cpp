#include "tuner/bench_problem.h"

#include <algorithm>

#include "core/bf16.h"
#include "tuner/random.h"

namespace mxfp4 {

InputRows::InputRows(std::int64_t k, std::uint64_t seed)
    : k_(k), period_(std::clamp<std::int64_t>((3 << 20) / k, 61, 1021)), bits_(std::size_t(period_ * k)) {
    Random random(seed);
    for (std::uint16_t& bits : bits_) bits = float_to_bf16(random.normal());
}

const InputRows& BenchMemory::input(std::int64_t k) {
    if (input_.empty() || input_.front().k() != k) {
        input_.clear();
        input_.emplace_back(k);
        x_rows_ = 0;
    }
    return input_.front();
}

const void* BenchMemory::x(std::int64_t rows, std::int64_t k) {
    const InputRows& input = this->input(k);
    const std::size_t row_bytes = std::size_t(k) * 2;
    if (x_.bytes() < std::size_t(rows) * row_bytes) {
        x_ = {};  // before the larger one is asked for
        x_ = Buffer(*backend_, std::size_t(rows) * row_bytes);
        x_rows_ = 0;
    }
    while (x_rows_ < rows) {
        const std::int64_t run = std::min(input.period() - x_rows_ % input.period(), rows - x_rows_);
        backend_->copy_in(x_.as<std::uint8_t>() + std::size_t(x_rows_) * row_bytes, input.row(x_rows_),
                          std::size_t(run) * row_bytes);
        x_rows_ += run;
    }
    return x_.data();
}

void* BenchMemory::y(std::int64_t rows, std::int64_t n) {
    const std::size_t bytes = std::max<std::size_t>(std::size_t(rows * n) * 2, 1);
    if (y_.bytes() < bytes) {
        y_ = {};
        y_ = Buffer(*backend_, bytes);
    }
    return y_.data();
}

BenchMemory::Scratch BenchMemory::scratch(std::int64_t counter_bytes, std::int64_t partial_bytes) {
    // Both maxima are kept, so that a config that was launched once never makes it grow again: it may be captured then.
    if (counter_bytes > counter_bytes_ || partial_bytes > partial_bytes_) {
        counter_bytes_ = std::max(counter_bytes, counter_bytes_);
        partial_bytes_ = std::max(partial_bytes, partial_bytes_);
        backend_->synchronize();
        scratch_ = {};
        scratch_ = Buffer(*backend_, std::size_t(counter_bytes_ + partial_bytes_));
        backend_->fill(scratch_.data(), 0, std::size_t(counter_bytes_), nullptr);
        backend_->synchronize();
    }
    return {scratch_.data(), counter_bytes_};
}

DeviceSample::DeviceSample(Backend& backend, const SampleWeights& sample, int copies) : sample_(&sample) {
    const PackedWeights all = replicate(sample);
    for (int i = 0; i < copies; ++i) weights_.push_back(upload_weights(backend, all.view()));
}

RotationPlan cold_rotations(const Backend& backend, const SampleWeights& sample, const std::vector<std::vector<std::int64_t>>& draws,
                            int most_copies) {
    constexpr std::int64_t kColdBytes = 4 * (60ll << 20);  // four times the largest second-level cache there is
    return plan_rotations(draws, sample.expert_bytes(), backend.device().kind == Device::Kind::cuda ? kColdBytes : 0, most_copies);
}

BenchProblem::BenchProblem(BenchMemory& memory, const WeightsInfo& weights, RotationPlan plan)
    : memory_(&memory), plan_(std::move(plan)), experts_(weights.experts), n_(weights.n), k_(weights.k),
      x_(memory.x(plan_.rows, weights.k)), y_(memory.y(plan_.rows, weights.n)) {
    std::vector<std::int32_t> offsets;
    for (const Rotation& r : plan_.rotations)
        offsets.insert(offsets.end(), r.expert_offsets.begin(), r.expert_offsets.end());
    offsets_ = Buffer(memory.backend(), offsets.size() * sizeof(offsets[0]));
    memory.backend().copy_in(offsets_.data(), offsets.data(), offsets_.bytes());
}

const std::int32_t* BenchProblem::expert_offsets(int rotation) const {
    return offsets_.as<std::int32_t>() + rotation * (experts_ + 1);
}

void BenchProblem::poison_y() const {
    memory_->backend().fill(y_, 0xFF, std::size_t(y_bytes()), nullptr);
    memory_->backend().synchronize();
}

MatmulArguments BenchProblem::arguments(const DeviceSample& weights, int rotation) const {
    MatmulArguments a = {};
    describe_weights(weights.copy(plan_.rotations[std::size_t(rotation)].copy), a);
    a.x = x_;
    a.y = y_;
    a.x_stride = k_;
    a.y_stride = n_;
    a.expert_offsets = expert_offsets(rotation);
    a.rows = i32(rows());
    a.groups = i32(experts_);
    a.x_aligned = k_ % 8 == 0;
    a.y_aligned = n_ % 8 == 0;
    return a;
}

}  // namespace mxfp4
