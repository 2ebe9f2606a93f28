#include "tuner/tune.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>

#include "core/config_text.h"
#include "tuner/compile_pool.h"
#include "tuner/shape_bench.h"

namespace mxfp4 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr TimingOptions kQuick = {.repeats = 3, .replay_us = 1500};
constexpr TimingOptions kFinal = {.repeats = 9, .replay_us = 3000};
constexpr TimingOptions kUneven = {.repeats = 5, .replay_us = 1500};
constexpr double kWarmRounds = 3;              // that a timing launches before it counts
constexpr std::size_t kFinalists = 5;          // and the default
constexpr double kFinalistSlack = 1.15;        // slower than this times the best in the quick round: no finalist
constexpr std::size_t kTallFinalists = 3;      // beside them, where uneven routing counts
constexpr double kTallSlack = 1.03;            // of these
constexpr std::size_t kMostNeighbours = 8;     // candidates from requests before this one
constexpr double kNeighbourRows = 4;           // that have so many times its rows, or so many times fewer, at most
constexpr double kFirstGuessSeconds = 0.3;     // for measuring one request
constexpr double kLeastSecondsARequest = 0.05;
constexpr double kFairShares = 2;              // of the time left that one request may measure for: most take far less than one
constexpr int kDraws = 4;                      // of the routing, that a problem is timed with
constexpr std::int64_t kMostRowsOfDraws = 64;  // an expert: with more, a launch is long and made of many tiles, and one draw does

struct Plan {
    ProblemShape shape;
    KernelConfig fallback;
    CandidateList candidates;  // without the fallback
    std::vector<std::vector<std::int64_t>> draws;  // rows of each expert
    std::vector<std::int64_t> uneven;              // a draw of finalists' second test; empty: there is none
};

// A config of a request's final round.
struct Finalist {
    std::size_t request;
    KernelConfig config;
};

class Tuning {
  public:
    Tuning(Backend& backend, std::span<const TuneRequest> requests, const TuneOptions& options)
        : backend_(backend), requests_(requests), options_(options), start_(Clock::now()), memory_(backend) {
        for (const TuneRequest& request : requests) plans_.push_back(plan(request));
        pool_ = std::make_unique<CompilePool>(backend, options.compile_threads);
        for (std::size_t i = 0; i < plans_.size(); ++i) pool_->add(plans_[i].fallback, format(i), i);
        for (std::size_t i = 0; i < plans_.size(); ++i)
            for (const KernelConfig& config : plans_[i].candidates.configs) pool_->add(config, format(i), i);
    }

    TuneResult tune(std::size_t i) {
        const Plan& plan = plans_[i];
        const WeightsInfo& info = requests_[i].weights->info;
        RotationPlan rotations = cold_rotations(backend_, *requests_[i].weights, plan.draws);
        use_weights(*requests_[i].weights, rotations.copies);
        const BenchProblem problem(memory_, info, std::move(rotations));
        ShapeBench bench(memory_, *weights_, problem, plan.shape);

        TuneResult result;
        result.request = i;
        result.size = {problem.plan().active, problem.rows(), info.n, info.k};
        for (const auto& [reject, count] : plan.candidates.rejected) result.rejected[reject_text(reject)] += count;

        const std::vector<KernelConfig> configs = wait_for_kernels(i);
        const auto begin = Clock::now();
        const double limit = std::max(kLeastSecondsARequest, kFairShares * left() / double(plans_.size() - i));
        progress(i, 0, configs.size());
        for (const KernelConfig& config : configs) {
            const bool first = result.measurements.empty();
            if (!first && (left() <= 0 || seconds_since(begin) > limit)) break;
            result.measurements.push_back(bench.measure(to_text(config), kQuick));
            progress(i, result.measurements.size(), configs.size());
        }
        result.shed = std::ranges::count_if(plan.candidates.configs, [&](const KernelConfig& config) {
            return std::ranges::find(result.measurements, config, &Measurement::config) == result.measurements.end();
        });
        pool_->retire(i);
        run_final(bench, result.measurements, !plan.uneven.empty(), left() / double(plans_.size() - i));
        if (!plan.uneven.empty()) {
            RotationPlan uneven = cold_rotations(backend_, *requests_[i].weights, {plan.uneven}, weights_->copies());
            time_uneven(bench, BenchProblem(memory_, info, std::move(uneven)), result.measurements);
        }
        result.winner = choose(bench, result.measurements);
        for (const Measurement& m : result.measurements)
            if (m.ranked && m.usable()) finalists_.push_back({i, m.config});
        for (const Measurement& m : result.measurements)
            if (!m.rejected.empty()) ++result.rejected[m.rejected];
        measured_seconds_ += seconds_since(begin);
        return result;
    }

  private:
    static double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }
    double left() const { return options_.budget_s - seconds_since(start_); }
    const WeightsFormat& format(std::size_t i) const { return requests_[i].weights->info.format; }
    bool on_gpu() const { return backend_.device().kind == Device::Kind::cuda; }

    void progress(std::size_t request, std::size_t measured, std::size_t candidates) const {
        if (options_.progress) options_.progress(request, measured, candidates);
    }

    Plan plan(const TuneRequest& request) const {
        const WeightsInfo& info = request.weights->info;
        Plan plan;
        const bool few = on_gpu() && request.tokens * request.top_k <= kMostRowsOfDraws * info.experts;
        plan.draws = typical_draws(options_.routing, request.tokens, info.experts, request.top_k, few ? kDraws : 1);
        if (few && options_.routing == Routing::uniform)
            plan.uneven = route(Routing::sparse, request.tokens, info.experts, request.top_k);
        plan.shape = {.experts = info.experts, .n = info.n, .k = info.k,
                      .rows = std::max(request.bucket_rows, request.tokens * request.top_k),
                      .x_aligned = info.k % 8 == 0, .y_aligned = info.n % 8 == 0};
        plan.fallback = backend_.default_config(info.format, plan.shape);
        ProblemShape likely = plan.shape;  // to the cost model, whose rows are spread evenly over groups
        if (options_.routing != Routing::uniform) likely.groups = std::max<std::int64_t>(1, active_experts(plan.draws.front()));
        plan.candidates = enumerate_candidates(info.format, likely, backend_.limits(), backend_.device().kind,
                                               options_.candidates);
        std::vector<KernelConfig>& configs = plan.candidates.configs;
        for (const KernelConfig& config : request.also) {
            if (check(config, info.format, plan.shape, backend_.limits()) != Reject::none) continue;
            std::erase(configs, config);
            configs.insert(configs.begin(), config);
        }
        std::erase(configs, plan.fallback);
        return plan;
    }

    // One weight at a time is on the device.
    void use_weights(const SampleWeights& sample, int copies) {
        if (weights_ && &weights_->sample() == &sample && weights_->copies() >= copies) return;
        backend_.synchronize();
        weights_.reset();
        weights_ = std::make_unique<DeviceSample>(backend_, sample, copies);
    }

    // The default, and as many candidates as the budget lets compile, best first. Where all of them cannot, every
    // request gives up the same share of its own.
    std::vector<KernelConfig> wait_for_kernels(std::size_t i) {
        const std::vector<KernelConfig>& all = plans_[i].candidates.configs;
        pool_->wait(plans_[i].fallback, format(i));
        std::size_t ready = 0;
        for (;;) {
            while (ready < all.size() && pool_->ready(all[ready], format(i))) ++ready;
            const std::size_t wanted = std::size_t(std::ceil(affordable_share(i) * double(all.size())));
            if (ready >= wanted) break;
            pool_->wait_a_little();
        }
        std::vector<KernelConfig> configs = {plans_[i].fallback};
        const auto add = [&](const KernelConfig& config) {
            if (pool_->ready(config, format(i)) && std::find(configs.begin(), configs.end(), config) == configs.end())
                configs.push_back(config);
        };
        for (const KernelConfig& config : neighbours(i)) add(config);
        for (const KernelConfig& config : all) add(config);
        return configs;
    }

    // What came into the final round of requests with about as many rows, the nearest first: measured well there, and compiled. It makes
    // up for what the cost model thinks too little of.
    std::vector<KernelConfig> neighbours(std::size_t i) const {
        const auto distance = [&](const Finalist& f) {
            return std::abs(std::log(double(plans_[f.request].shape.rows) / double(plans_[i].shape.rows)));
        };
        std::vector<Finalist> near;
        for (const Finalist& f : finalists_)
            if (format(f.request) == format(i) && distance(f) <= std::log(kNeighbourRows) &&
                check(f.config, format(i), plans_[i].shape, backend_.limits()) == Reject::none)
                near.push_back(f);
        std::stable_sort(near.begin(), near.end(), [&](const Finalist& a, const Finalist& b) { return distance(a) < distance(b); });
        std::vector<KernelConfig> configs;
        for (const Finalist& f : near)
            if (configs.size() < kMostNeighbours && std::find(configs.begin(), configs.end(), f.config) == configs.end())
                configs.push_back(f.config);
        return configs;
    }

    double affordable_share(std::size_t i) const {
        const double each = i > 0 ? measured_seconds_ / double(i) : kFirstGuessSeconds;
        const double available = left() - each * double(plans_.size() - i);
        if (available <= 0) return 0;
        const double needed = pool_->pending_seconds();
        return needed <= available ? 1 : available / needed;
    }

    // Once more, longer and interleaved with the default: as often as the time allows.
    static void run_final(ShapeBench& bench, std::vector<Measurement>& measurements, bool uneven, double seconds) {
        const std::vector<std::size_t> order = finalists(measurements, uneven);
        if (order.empty()) return;
        std::vector<KernelConfig> configs;
        double round_us = 0;  // of one replay of each
        for (std::size_t m : order) {
            configs.push_back(measurements[m].config);
            round_us += std::max(kFinal.replay_us, measurements[m].timing.us);
        }
        TimingOptions timing = kFinal;
        timing.repeats =
            int(std::clamp(seconds * 1e6 / round_us - kWarmRounds, double(kQuick.repeats), double(kFinal.repeats)));
        const std::vector<Timing> timings = bench.compare(configs, timing);
        for (std::size_t j = 0; j < order.size(); ++j) {
            measurements[order[j]].timing = timings[j];
            measurements[order[j]].ranked = true;
        }
    }

    // Those of the final round where few experts get all rows.
    static void time_uneven(ShapeBench& bench, const BenchProblem& uneven, std::vector<Measurement>& measurements) {
        std::vector<Measurement*> ranked;
        std::vector<KernelConfig> configs;
        for (Measurement& m : measurements)
            if (m.ranked) {
                ranked.push_back(&m);
                configs.push_back(m.config);
            }
        if (configs.size() < 2) return;  // nothing to choose from
        const std::vector<Timing> timings = bench.compare_on(uneven, configs, kUneven);
        for (std::size_t j = 0; j < ranked.size(); ++j) ranked[j]->uneven_us = timings[j].us;
    }

    // Only what has proven itself on every output is published.
    static int choose(ShapeBench& bench, std::vector<Measurement>& measurements) {
        for (;;) {
            const int winner = rank(measurements);
            if (winner < 0) return winner;
            Measurement& m = measurements[std::size_t(winner)];
            m.rejected = bench.verify_whole(m.config);
            m.wrong = !m.rejected.empty();
            if (!m.wrong) return winner;
        }
    }

    Backend& backend_;
    std::span<const TuneRequest> requests_;
    const TuneOptions& options_;
    Clock::time_point start_;
    BenchMemory memory_;
    std::unique_ptr<DeviceSample> weights_;
    std::vector<Plan> plans_;
    std::unique_ptr<CompilePool> pool_;
    std::vector<Finalist> finalists_;
    double measured_seconds_ = 0;
};

}  // namespace

std::vector<std::size_t> finalists(std::span<const Measurement> measurements, bool uneven) {
    const auto us = [&](std::size_t m) { return measurements[m].timing.us; };
    const auto rows = [&](std::size_t m) { return measurements[m].config.block_m; };
    std::vector<std::size_t> fast;
    for (std::size_t m = 1; m < measurements.size(); ++m)
        if (measurements[m].usable()) fast.push_back(m);
    std::ranges::stable_sort(fast, {}, us);
    const double best = fast.empty() ? 0 : us(fast.front());
    std::erase_if(fast, [&](std::size_t m) { return us(m) > kFinalistSlack * best; });

    std::vector<std::size_t> tall(fast.begin() + std::ptrdiff_t(std::min(fast.size(), kFinalists)), fast.end());
    fast.resize(fast.size() - tall.size());
    std::erase_if(tall, [&](std::size_t m) { return us(m) > kTallSlack * best; });
    std::ranges::stable_sort(tall, std::greater(), rows);
    tall.resize(std::min(tall.size(), uneven ? kTallFinalists : 0));
    fast.insert(fast.end(), tall.begin(), tall.end());
    if (!measurements.empty() && measurements.front().usable()) fast.insert(fast.begin(), 0);
    return fast;
}

int rank(std::span<const Measurement> measurements) {
    const auto us = [&](int i) { return measurements[std::size_t(i)].timing.us; };
    const auto uneven_us = [&](int i) { return measurements[std::size_t(i)].uneven_us; };
    const auto tile = [&](int i) { return measurements[std::size_t(i)].config.block_m * measurements[std::size_t(i)].config.block_n; };
    std::vector<int> left;
    for (int i = 0; i < int(measurements.size()); ++i)
        if (const Measurement& m = measurements[std::size_t(i)]; m.ranked && m.usable()) left.push_back(i);
    if (left.empty()) return -1;

    const double fastest = us(*std::ranges::min_element(left, {}, us));
    double most_us = (1 + kMostForUneven) * fastest;
    if (left.front() == 0) most_us = std::min(most_us, (1 + kTie) * us(0));
    std::erase_if(left, [&](int i) { return us(i) > most_us; });
    const double fastest_uneven = uneven_us(*std::ranges::min_element(left, {}, uneven_us));  // 0: not timed

    const auto cost = [&](int i) { return us(i) / fastest + (fastest_uneven > 0 ? kUnevenShare * uneven_us(i) / fastest_uneven : 0); };
    const double least = cost(*std::ranges::min_element(left, {}, cost));
    std::erase_if(left, [&](int i) { return cost(i) > (1 + kTie) * least; });  // what is left is as good
    if (left.front() == 0) return 0;
    return fastest_uneven > 0 ? *std::ranges::min_element(left, {}, cost) : *std::ranges::max_element(left, {}, tile);
}

void tune(Backend& backend, std::span<const TuneRequest> requests, const TuneOptions& options,
          const std::function<void(const TuneResult&)>& publish) {
    if (requests.empty()) return;
    Tuning tuning(backend, requests, options);
    for (std::size_t i = 0; i < requests.size(); ++i) publish(tuning.tune(i));
}

}  // namespace mxfp4
