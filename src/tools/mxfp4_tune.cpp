// mxfp4-tune: finds the fastest kernel of each shape on this device and stores it in the tuning database.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include <fmt/format.h>

#include "cache/cache.h"
#include "cache/problem_key.h"
#include "core/config_text.h"
#include "tools/bench_row.h"
#include "tools/device_arguments.h"
#include "tools/routing_option.h"
#include "tools/selection.h"
#include "tools/tool.h"
#include "tuner/tune.h"

namespace mxfp4 {
namespace {

constexpr int kProgressSteps = 1000;  // of one shape

// A bucket that somebody asked for.
struct Wanted {
    const Target* target = nullptr;
    std::int64_t tokens = 0, rows = 0;
    Key key;
};

class TuneTool {
  public:
    TuneTool(Tool& tool, DeviceArguments& device, const Selection& selection, Routing routing, double budget_s, bool force)
        : tool_(tool), selection_(selection), routing_(routing), budget_s_(budget_s), force_(force),
          backend_(make_backend(device.device(), device.backend_options())),
          cache_(Cache::open(device.database(), Cache::Mode::read_write)) {}

    int run() {
        std::vector<Wanted> missing;
        for (const Wanted& wanted : all_wanted()) {
            if (const auto stored = stored_winner(wanted.key); stored && !force_)
                reuse(wanted, *stored);
            else
                missing.push_back(wanted);
        }
        tool_.say(fmt::format("{}: {} shapes to tune, {} reused", backend_->identity().name, missing.size(), reused_));
        tune_all(missing);
        print_summary();
        return failed_ == 0 ? kExitDone : kExitFailed;
    }

  private:
    // Tokens that share a bucket are one shape: the largest number of them.
    std::vector<Wanted> all_wanted() const {
        std::vector<Wanted> all;
        for (const Target& target : selection_.targets) {
            std::map<std::int64_t, std::int64_t> tokens_of_bucket;
            for (std::int64_t tokens : selection_.tokens)
                tokens_of_bucket[rows_bucket(tokens * selection_.top_k_of(target))] = tokens;
            for (const auto& [bucket, tokens] : tokens_of_bucket) {
                const WeightsInfo& info = target.info;
                const ProblemShape shape = {.experts = info.experts, .n = info.n, .k = info.k, .rows = bucket,
                                            .x_aligned = info.k % 8 == 0, .y_aligned = info.n % 8 == 0};
                all.push_back({&target, tokens, tokens * selection_.top_k_of(target),
                               problem_key(*backend_, info.format, info.layout_version, shape)});
            }
        }
        return all;
    }

    // A config that does not read is another version's.
    bool is_of_this_text(const Winner& winner) const {
        const std::optional<KernelConfig> config = read_config(winner.config);
        return config && winner.key.kernel_hash == backend_->kernel_hash(config->variant);
    }

    std::optional<Winner> stored_winner(const Key& key) const {
        for (const Winner& winner : cache_.all())
            if (same_problem(winner.key, key) && is_of_this_text(winner)) return winner;
        return std::nullopt;
    }

    // What won here before, of whatever kernel text.
    std::vector<KernelConfig> former_winners(const Key& key) const {
        std::vector<KernelConfig> configs;
        for (const Winner& winner : cache_.all())
            if (same_problem(winner.key, key) && winner.status == WinnerStatus::ok)
                if (const auto config = read_config(winner.config)) configs.push_back(*config);
        return configs;
    }

    BenchRow row_of(const Wanted& wanted, std::int64_t active) const {
        BenchRow row;
        row.gpu = backend_->identity().name;
        row.model = wanted.target->model;
        row.mlp = wanted.target->mlp;
        row.layout = to_string(wanted.target->info.format.layout);
        row.tokens = wanted.tokens;
        row.size = {active, wanted.rows, wanted.target->info.n, wanted.target->info.k};
        row.how = to_string(How::exact);
        return row;
    }

    void reuse(const Wanted& wanted, const Winner& winner) {
        const auto rows =
            typical_route(routing_, wanted.tokens, wanted.target->info.experts, selection_.top_k_of(*wanted.target));
        BenchRow row = row_of(wanted, active_experts(rows));
        row.us = winner.us;
        row.us_p10 = winner.us_p10;
        row.us_p90 = winner.us_p90;
        row.us_default = winner.us_default;
        row.config = winner.config;
        ++reused_;
        if (winner.status == WinnerStatus::blocked) warn_of_block(row);
        report(row, true);
    }

    void warn_of_block(const BenchRow& row) {
        tool_.warn(fmt::format("{} {} tokens: its winner is blocked and stays so (mxfp4-cache unblock)", row.mlp, row.tokens));
    }

    void tune_all(const std::vector<Wanted>& missing) {
        std::map<const Target*, SampleWeights> weights;
        std::vector<TuneRequest> requests;
        for (const Wanted& wanted : missing) {
            if (!weights.contains(wanted.target)) weights.emplace(wanted.target, wanted.target->sample());
            requests.push_back({&weights.at(wanted.target), wanted.tokens, selection_.top_k_of(*wanted.target),
                                wanted.key.rows, former_winners(wanted.key)});
        }
        Progress progress(tool_, "tuning", missing.size() * kProgressSteps);
        std::size_t steps = 0;  // of the request in work
        TuneOptions options;
        options.routing = routing_;
        options.budget_s = budget_s_;
        options.progress = [&](std::size_t, std::size_t measured, std::size_t candidates) {
            const std::size_t now = measured * kProgressSteps / std::max<std::size_t>(1, candidates);
            progress.advance(now - std::min(now, steps));
            steps = now;
        };
        tune(*backend_, requests, options, [&](const TuneResult& result) {
            progress.advance(kProgressSteps - steps);
            steps = 0;
            publish(missing[result.request], result);
        });
    }

    void publish(const Wanted& wanted, const TuneResult& result) {
        for (const auto& [reason, count] : result.rejected) rejected_[reason] += count;
        for (const Measurement& m : result.measurements)
            if (m.wrong)
                tool_.warn(fmt::format("{} {} {} tokens: {} was left out: {}", wanted.target->model, wanted.target->mlp,
                                       wanted.tokens, to_text(m.config), m.rejected));
        measured_ += std::int64_t(result.measurements.size());
        shed_ += result.shed;
        if (result.winner < 0) {
            ++failed_;
            tool_.warn(fmt::format("{} {} {} tokens: no kernel is usable: {}", wanted.target->model, wanted.target->mlp,
                                   wanted.tokens, result.fallback().rejected));
            return;
        }
        const Measurement& m = result.measurements[std::size_t(result.winner)];
        Winner winner;
        winner.key = wanted.key;
        winner.key.kernel_hash = backend_->kernel_hash(m.config.variant);
        winner.config = to_text(m.config);
        winner.us = m.timing.us;
        winner.us_p10 = m.timing.us_p10;
        winner.us_p90 = m.timing.us_p90;
        // A default that cannot run here loses to itself: the column never claims a gain that nobody measured.
        winner.us_default = result.fallback().usable() ? result.fallback().timing.us : m.timing.us;
        winner.image = m.report.image_key;
        BenchRow row = row_of(wanted, result.size.active);
        if (!store(winner)) warn_of_block(row);
        row.us = winner.us;
        row.us_p10 = winner.us_p10;
        row.us_p90 = winner.us_p90;
        row.config = winner.config;
        row.rel_err = m.relative_error;
        if (result.fallback().usable()) row.us_default = result.fallback().timing.us;
        report(row, false);
    }

    // Rows of other kernels for the same problem give way, unless a person blocked them. False: this very row is blocked, and stays.
    bool store(const Winner& winner) {
        std::vector<std::string> superseded;
        for (const Winner& old : cache_.all()) {
            if (!same_problem(old.key, winner.key)) continue;
            if (old.status == WinnerStatus::ok && old.key != winner.key) superseded.push_back(old.key.text());
            if (old.status == WinnerStatus::blocked && old.key == winner.key) return false;
        }
        cache_.put(winner);
        if (!superseded.empty()) cache_.remove(superseded);
        return true;
    }

    void report(const BenchRow& row, bool reused) {
        if (tool_.json()) {
            nlohmann::json json = to_json(row);
            json["reused"] = reused;
            tool_.print(json);
        } else {
            lines_.push_back(table_line(row) + (reused ? ", reused" : ""));
        }
    }

    void print_summary() {
        const auto line = [this](const std::string& text) { tool_.json() ? tool_.say(text) : tool_.print(text); };
        if (!tool_.json()) {
            tool_.print(table_head());
            for (const std::string& text : lines_) tool_.print(text);
        }
        line(fmt::format("{} candidates measured, {} left out for want of time", measured_, shed_));
        for (const auto& [reason, count] : rejected_) line(fmt::format("{:>8} rejected: {}", count, reason));
        if (shed_ > 0) tool_.say("a larger --budget with --force would try them all");
    }

    Tool& tool_;
    const Selection& selection_;
    Routing routing_;
    double budget_s_;
    bool force_;
    std::unique_ptr<Backend> backend_;
    Cache cache_;
    std::vector<std::string> lines_;
    std::map<std::string, std::int64_t> rejected_;
    std::int64_t measured_ = 0, shed_ = 0, reused_ = 0, failed_ = 0;
};

}  // namespace
}  // namespace mxfp4

int main(int argc, char** argv) {
    using namespace mxfp4;
    Tool tool("mxfp4-tune",
              "Finds the fastest kernel of each shape on this device and stores it in the tuning database.");
    SelectionArguments selection_arguments(tool);
    DeviceArguments device(tool);
    RoutingOption routing(tool, ": what to time with. The database does not tell them apart: --force, or a --db of its own");
    double budget_s = 60;
    bool force = false;
    tool.app()
        .add_option("--budget", budget_s, "Seconds for everything; less means fewer candidates, never fewer shapes")
        ->check([](const std::string& text) {
            const double seconds = std::strtod(text.c_str(), nullptr);
            return seconds > 0 && std::isfinite(seconds) ? "" : fmt::format("'{}' is no positive number of seconds", text);
        })
        ->capture_default_str();
    tool.app().add_flag("--force", force, "Tune again what the database has already");
    return tool.run(argc, argv, [&] {
        const Selection selection = selection_arguments.read();
        return TuneTool(tool, device, selection, routing.read(), budget_s, force).run();
    });
}
