#include "tools/bench_row.h"

#include <cmath>

#include <fmt/format.h>

namespace mxfp4 {
namespace {

double rounded(double value, double per_unit) { return std::round(value * per_unit) / per_unit; }

nlohmann::json number(std::optional<double> value) {
    if (!value || !std::isfinite(*value)) return nullptr;
    return rounded(*value, *value < 100 ? 1e3 : 1e2);
}

std::string percent(std::optional<double> fraction) { return fraction ? fmt::format("{:.0f} %", 100 * *fraction) : "-"; }

}  // namespace

std::optional<double> BenchRow::fraction_of_floor() const {
    const auto least = floor();
    if (!least || us <= 0) return std::nullopt;
    return *least / us;
}

nlohmann::json to_json(const BenchRow& row) {
    nlohmann::json json = {
        {"gpu", row.gpu},           {"model", row.model},          {"mlp", row.mlp},
        {"layout", row.layout},     {"tokens", row.tokens},        {"rows", row.size.rows},
        {"k", row.size.k},          {"n", row.size.n},             {"active", row.size.active},
        {"us", number(row.us)},     {"us_p10", number(row.us_p10)}, {"us_p90", number(row.us_p90)},
        {"floor_us", number(row.floor())}, {"config", row.config}, {"how", row.how},
        {"rel_err", nullptr},
    };
    if (row.rel_err && std::isfinite(*row.rel_err)) json["rel_err"] = rounded(*row.rel_err, 1e8);
    if (row.us_default) json["us_default"] = number(row.us_default);
    if (row.naive_us) json["naive_us"] = number(row.naive_us);
    if (row.cublas_us) json["cublas_us"] = number(row.cublas_us);
    return json;
}

std::string table_head() {
    return fmt::format("{:<13} {:<12} {:>6} {:>6} {:>6} {:>10} {:>10} {:>10} {:>6} {:>7} {:>7}  {}", "model", "mlp", "tokens", "rows",
                       "active", "us", "p10", "p90", "floor", "TFLOP/s", "GB/s", "config");
}

std::string table_line(const BenchRow& row) {
    std::string line = fmt::format("{:<13} {:<12} {:>6} {:>6} {:>6} {:>10.2f} {:>10.2f} {:>10.2f} {:>6} {:>7.1f} {:>7.0f}  {} ({})",
                                   row.model, row.mlp, row.tokens, row.size.rows, row.size.active, row.us, row.us_p10, row.us_p90,
                                   percent(row.fraction_of_floor()), row.tflops(), row.gbytes_per_second(), row.config, row.how);
    if (row.us_default) line += fmt::format(", default {:.2f} us", *row.us_default);
    if (row.naive_us) line += fmt::format(", naive {:.1f} us ({:.1f}x)", *row.naive_us, *row.naive_us / row.us);
    if (row.cublas_us) line += fmt::format(", cublas {:.1f} us ({:.2f}x)", *row.cublas_us, *row.cublas_us / row.us);
    if (row.rel_err) line += fmt::format(", error {:.2e}", *row.rel_err);
    return line;
}

}  // namespace mxfp4
