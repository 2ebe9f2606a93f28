#include "backends/cuda/report_text.h"

#include <charconv>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace mxfp4 {
namespace {

constexpr std::size_t kRejectedLines = 8;  // of a compile error's log

// ptxas: "wgmma.mma_async instructions are serialized due to ...": the kernel is right, but its speed is gone.
constexpr std::string_view kSerialized[] = {"C7510", "C7512", "C7514", "C7515", "instructions are serialized"};

// The number that stands before (or after) a phrase: "0 bytes spill stores", "Used 168 registers".
int number_before(std::string_view line, std::string_view phrase) {
    const std::size_t end = line.find(phrase);
    if (end == line.npos || end == 0) return 0;
    const std::size_t start = line.find_last_not_of("0123456789", end - 1) + 1;
    int value = 0;
    std::from_chars(line.data() + start, line.data() + end, value);
    return value;
}

bool contains(std::string_view line, std::string_view part) { return line.find(part) != line.npos; }

bool serialized(std::string_view line) {
    for (std::string_view mark : kSerialized)
        if (contains(line, mark)) return true;
    return false;
}

}  // namespace

void read_log(std::string_view log, bool compiled, CompileReport& report) {
    std::string first_lines;
    std::size_t lines = 0;
    while (!log.empty()) {
        const std::string_view line = log.substr(0, log.find('\n'));
        log.remove_prefix(std::min(line.size() + 1, log.size()));
        if (line.find_first_not_of(" \t") == line.npos) continue;
        if (lines++ < kRejectedLines) first_lines += fmt::format("{}{}", first_lines.empty() ? "" : "\n", line);
        report.registers = std::max(report.registers, number_before(line, " registers"));
        // Arrays that stayed in local memory are a stack frame without spills, and cost as much.
        report.spill_bytes = std::max({report.spill_bytes, number_before(line, " bytes stack frame"),
                                       number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads")});
        report.shared_bytes += number_before(line, " bytes smem");
        if (contains(line, "warning") || serialized(line)) report.warnings.emplace_back(line);
        if (serialized(line)) report.rejected = "serialised WGMMA: " + std::string(line);
    }
    if (!compiled) report.rejected = "does not compile: " + first_lines;
    if (report.rejected.empty() && report.spill_bytes > kMaxSpillBytes)
        report.rejected =
            fmt::format("spills {} bytes a thread, at most {} are allowed", report.spill_bytes, kMaxSpillBytes);
}

std::string report_to_json(const CompileReport& report) {
    return nlohmann::json{{"image_key", report.image_key},     {"registers", report.registers},
                          {"spill_bytes", report.spill_bytes}, {"shared_bytes", report.shared_bytes},
                          {"warnings", report.warnings},       {"compile_ms", report.compile_ms},
                          {"rejected", report.rejected}}
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

CompileReport report_from_json(const std::string& text) {
    try {
        const auto json = nlohmann::json::parse(text);
        return {json.at("image_key"),
                json.at("registers"),
                json.at("spill_bytes"),
                json.at("shared_bytes"),
                json.at("warnings").get<std::vector<std::string>>(),
                json.at("compile_ms"),
                json.at("rejected")};
    } catch (const nlohmann::json::exception& error) {
        throw Error(ErrorCode::bad_file, std::string("a compile report does not read: ") + error.what());
    }
}

}  // namespace mxfp4
