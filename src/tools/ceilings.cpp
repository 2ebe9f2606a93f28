#include "tools/ceilings.h"

#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "tools/rested_timing.h"

namespace mxfp4 {
namespace {

constexpr std::int64_t kSide = 8192;
constexpr std::size_t kMatrixBytes = kSide * kSide * 2;

double us_of(Backend& backend, const std::function<void(Stream)>& launch) {
    const TimedWork work{[&](int, Stream stream) { launch(stream); }, 1};
    work.launch(0, nullptr);  // what a first call sets up is not to be captured
    backend.synchronize();
    return time_rested(backend, {&work, 1}).front().us;
}

}  // namespace

Ceilings measure_ceilings(BenchMemory& memory, Cublas& cublas) {
    Backend& backend = memory.backend();
    const auto* operands = static_cast<const std::uint8_t*>(memory.x(2 * kSide, kSide));
    void* result = memory.y(2 * kSide, kSide);
    const double copy_us = us_of(backend, [&](Stream stream) { backend.copy(result, operands, 2 * kMatrixBytes, stream); });
    const double product_us = us_of(backend, [&](Stream stream) {
        cublas.matmul(operands, operands + kMatrixBytes, result, kSide, kSide, kSide, stream);
    });
    return {.bytes_per_us = 2 * 2 * double(kMatrixBytes) / copy_us,
            .flops_per_us = problem_flops({.rows = kSide, .n = kSide, .k = kSide}) / product_us};
}

nlohmann::json to_json(const Ceilings& ceilings) {
    return {{"copy_tb_per_s", std::round(ceilings.bytes_per_us * 1e-3) / 1e3}, {"cublas_tflops", std::round(ceilings.flops_per_us * 1e-5) / 10}};
}

std::string to_text(const Ceilings& ceilings) {
    return fmt::format("This GPU: copies at {:.3f} TB/s, cuBLAS 8192^3 at {:.1f} TFLOP/s", ceilings.bytes_per_us * 1e-6,
                       ceilings.flops_per_us * 1e-6);
}

}  // namespace mxfp4
