// mxfp4-bench: times what users get, dispatcher.run with the tuning database, over shapes and tokens.
#include <algorithm>
#include <fstream>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cache/cache.h"
#include "core/config_text.h"
#include "core/new_file.h"
#include "tools/bench_row.h"
#include "tools/ceilings.h"
#include "tools/chart.h"
#include "tools/cublas.h"
#include "tools/device_arguments.h"
#include "tools/peers.h"
#include "tools/rested_timing.h"
#include "tools/routing_option.h"
#include "tools/selection.h"
#include "tools/tool.h"
#include "tuner/bench_problem.h"
#include "tuner/verify.h"

namespace mxfp4 {
namespace {

constexpr TimingOptions kNaiveTiming = {.repeats = 3,
                                        .replay_us = 5000};  // it is slow, and nobody asks for its third digit
constexpr int kGraphsOfATiming = 4;

struct Options {
    Selection selection;
    Routing routing = Routing::uniform;
    std::set<std::string> against;
    bool check = false;
    std::filesystem::path out, peers;
    std::string commit;
};

std::string read_text(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) throw Error(ErrorCode::io, "a file cannot be read", {path.string(), "", ""});
    return text;
}

void write_text(const std::filesystem::path& path, const std::string& text) {
    NewFile file(path, text.size());
    file.write(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    file.commit();
}

// One weight, with all that its rows share.
class TargetBench {
  public:
    TargetBench(Backend& backend, Dispatcher& dispatcher, BenchMemory& memory, const Target& target)
        : backend_(backend),
          dispatcher_(dispatcher),
          memory_(memory),
          target_(target),
          sample_(target.sample()),
          all_(replicate(sample_)) {}

    const SampleWeights& sample() const { return sample_; }

    // The call that users make.
    RunInfo run(const BenchProblem& problem, int rotation, Stream stream) const {
        const Weights& weights = weights_[std::size_t(problem.plan().rotations[std::size_t(rotation)].copy)];
        return dispatcher_.run({.x = problem.x(),
                                .weights = weights,
                                .expert_offsets = problem.expert_offsets(rotation),
                                .rows = problem.rows(),
                                .y = problem.y()},
                               stream);
    }

    void prepare(const BenchProblem& problem) {
        while (int(weights_.size()) < problem.plan().copies) weights_.push_back(dispatcher_.upload(all_.view()));
        dispatcher_.prepare(weights_.front(), {.max_rows = problem.rows(), .graphs = kGraphsOfATiming});
        for (int rotation = 0; rotation < problem.rotations(); ++rotation) run(problem, rotation, nullptr);
        backend_.synchronize();
    }

    double time_naive(const BenchProblem& problem) {
        if (!naive_weights_ || naive_weights_->copies() < problem.plan().copies)
            naive_weights_ = std::make_unique<DeviceSample>(backend_, sample_, problem.plan().copies);
        KernelConfig config;
        config.layout = sample_.info.format.layout;
        const KernelPtr kernel = backend_.load(config, sample_.info.format);
        const TimedWork work{
            [&](int rotation, Stream stream) {
                MatmulArguments arguments = problem.arguments(*naive_weights_, rotation);
                kernel->launch(arguments, stream);
            },
            problem.rotations()};
        work.launch(0, nullptr);
        backend_.synchronize();
        return backend_.time({&work, 1}, kNaiveTiming).front().us;
    }

    // bf16 [n, k], random.
    const void* dense_weights() {
        if (!dense_.data()) {
            const InputRows& rows = memory_.input(target_.info.k);
            dense_ = Buffer(backend_, std::size_t(target_.info.n * target_.info.k) * 2);
            for (std::int64_t n = 0; n < target_.info.n; n += rows.period())
                backend_.copy_in(dense_.as<std::uint16_t>() + n * target_.info.k, rows.row(0),
                                 std::size_t(std::min(rows.period(), target_.info.n - n) * target_.info.k) * 2);
        }
        return dense_.data();
    }

  private:
    Backend& backend_;
    Dispatcher& dispatcher_;
    BenchMemory& memory_;
    const Target& target_;
    SampleWeights sample_;
    PackedWeights all_;
    std::vector<Weights> weights_;  // copies
    std::unique_ptr<DeviceSample> naive_weights_;
    Buffer dense_;
};

class BenchTool {
  public:
    BenchTool(Tool& tool, DeviceArguments& device, const Options& options)
        : tool_(tool),
          options_(options),
          backend_(make_backend(device.device(), device.backend_options())),
          memory_(*backend_),
          dispatcher_(device.dispatcher_options()),
          peers_(parse_peers(options.peers.empty() ? std::string(embedded_peers()) : read_text(options.peers))) {
        if (options.against.contains("cublas")) open_cublas();
        if (options.against.contains("naive") && !on_gpu())
            tool_.warn("--against naive: the naive kernel is one of the GPU's");
        if (std::error_code error; !options.out.empty() && !std::filesystem::create_directories(options.out, error) && error)
            throw Error(ErrorCode::io, fmt::format("--out: folder '{}' cannot be made: {}", std::filesystem::path(options.out).string(), error.message()),
                        {"", "", "name another"});
    }

    int run() {
        if (cublas_) {
            ceilings_ = measure_ceilings(memory_, *cublas_);
            if (!tool_.json()) tool_.print(to_text(*ceilings_) + "\n");
        }
        if (!tool_.json()) tool_.print(table_head());
        Progress progress(tool_, "timing", options_.selection.targets.size() * options_.selection.tokens.size());
        for (const Target& target : options_.selection.targets) {
            TargetBench bench(*backend_, dispatcher_, memory_, target);
            for (std::int64_t tokens : options_.selection.tokens) {
                time(bench, target, tokens);
                progress.advance(1);
            }
        }
        summarise_all();
        return failures_ == 0 ? kExitDone : kExitFailed;
    }

  private:
    bool on_gpu() const { return backend_->device().kind == Device::Kind::cuda; }

    void open_cublas() {
        try {
            if (!on_gpu()) throw Error(ErrorCode::unsupported, "cuBLAS runs on a GPU");
            cublas_ = std::make_unique<Cublas>(*backend_);
        } catch (const Error& error) {
            tool_.warn(fmt::format("--against cublas: {}", error.what()));
        }
    }

    void time(TargetBench& bench, const Target& target, std::int64_t tokens) {
        BenchRow row;
        row.gpu = backend_->identity().name;
        row.model = target.model;
        row.mlp = target.mlp;
        row.layout = to_string(target.info.format.layout);
        row.tokens = tokens;
        row.size.rows = tokens * options_.selection.top_k_of(target);
        const BenchProblem problem(memory_, target.info, cold_rotations(*backend_, bench.sample(), {rows_of_expert(target, row)}));
        bench.prepare(problem);
        row.size = {problem.plan().active, problem.rows(), problem.n(), problem.k()};
        if (options_.check) check(bench, problem, row);

        RunInfo info;
        std::vector<TimedWork> work = {
            {[&](int rotation, Stream stream) { info = bench.run(problem, rotation, stream); }, problem.rotations()}};
        if (cublas_) {
            const void* dense = bench.dense_weights();
            work.push_back({[&, dense](int, Stream stream) {
                                cublas_->matmul(problem.x(), dense, problem.y(), problem.rows(), problem.n(),
                                                problem.k(), stream);
                            },
                            1});
            work.back().launch(0, nullptr);
            backend_->synchronize();
        }
        const std::vector<Timing> timings = time_rested(*backend_, work);
        row.us = timings[0].us;
        row.us_p10 = timings[0].us_p10;
        row.us_p90 = timings[0].us_p90;
        row.config = info.config;
        row.how = to_string(info.how);
        if (cublas_) row.cublas_us = timings[1].us;
        if (options_.against.contains("naive") && on_gpu()) row.naive_us = bench.time_naive(problem);
        report(row);
    }

    // With as many active experts as the peers' figures had, where there are any: then both moved the same bytes.
    std::vector<std::int64_t> rows_of_expert(const Target& target, const BenchRow& row) const {
        const int top_k = options_.selection.top_k_of(target);
        const Peer* peer = options_.routing == Routing::uniform ? find_peer(peers_, row) : nullptr;
        if (peer) return route_to_active(row.tokens, target.info.experts, top_k, peer->active);
        return typical_route(options_.routing, row.tokens, target.info.experts, top_k);
    }

    void check(TargetBench& bench, const BenchProblem& problem, BenchRow& row) {
        const Expectation expected = expect(bench.sample(), problem, problem.rotations() - 1);
        const Launch launch = [&](int rotation) { bench.run(problem, rotation, nullptr); };
        const Agreement agreement = verify_samples(*backend_, problem, expected, launch);
        row.rel_err = agreement.relative_error;
        std::string wrong = agreement.rejected;
        if (wrong.empty()) wrong = verify_whole(*backend_, problem, expected.rotation, launch);
        if (wrong.empty()) return;
        ++failures_;
        tool_.warn(fmt::format("{} {} {} tokens: {}", row.model, row.mlp, row.tokens, wrong));
    }

    void report(const BenchRow& row) {
        rows_.push_back(row);
        if (tool_.json())
            tool_.print(to_json(row));
        else
            tool_.print(table_line(row));
    }

    nlohmann::json head() const {
        const auto text = [](const std::string& value) {
            return value.empty() ? nlohmann::json() : nlohmann::json(value);
        };
        constexpr std::string_view kNvrtc = "nvrtc ";
        const std::string compiler = backend_->compiler_build();
        const std::string nvrtc = compiler.starts_with(kNvrtc) ? compiler.substr(kNvrtc.size()) : "";
        return {{"gpu", backend_->identity().name},
                {"driver", text(backend_->driver_version())},
                {"toolkit", text(nvrtc.substr(0, nvrtc.find('.', nvrtc.find('.') + 1)))},
                {"nvrtc", text(nvrtc)},
                {"compiler", compiler},
                {"commit", text(options_.commit)},
                {"date", utc_now()},
                {"routing", to_string(options_.routing)}};
    }

    void summarise_all() {
        // The peers' figures are of uniform routing.
        const std::span<const Peer> peers =
            options_.routing == Routing::uniform ? std::span<const Peer>(peers_) : std::span<const Peer>();
        const std::vector<BandSummary> bands = summarise(rows_, peers);
        const bool known =
            std::any_of(bands.begin(), bands.end(), [](const BandSummary& band) { return band.fraction.has_value(); });
        if (!tool_.json() && known) tool_.print("\nGeometric means\n" + to_text(bands));
        if (options_.out.empty()) return;
        nlohmann::json results = head();
        if (ceilings_) results["ceilings"] = to_json(*ceilings_);
        results["rows"] = nlohmann::json::array();
        results["summary"] = nlohmann::json::array();
        std::string table = table_head() + "\n";
        for (const BenchRow& row : rows_) {
            results["rows"].push_back(to_json(row));
            table += table_line(row) + "\n";
        }
        for (const BandSummary& band : bands) results["summary"].push_back(to_json(band));
        write_text(options_.out / "results.json", results.dump(1) + "\n");
        write_text(options_.out / "table.txt", known ? table + "\n" + to_text(bands) : table);
        const std::string title =
            fmt::format("mxfp4 on {}, {} routing", backend_->identity().name, to_string(options_.routing));
        write_text(options_.out / "chart.svg", chart_svg(rows_, peers, title));
        tool_.say(fmt::format("results.json, table.txt and chart.svg are in {}", options_.out.string()));
    }

    Tool& tool_;
    const Options& options_;
    std::unique_ptr<Backend> backend_;
    BenchMemory memory_;
    Dispatcher dispatcher_;
    std::vector<Peer> peers_;
    std::unique_ptr<Cublas> cublas_;
    std::optional<Ceilings> ceilings_;
    std::vector<BenchRow> rows_;
    int failures_ = 0;
};

std::set<std::string> parse_against(const std::vector<std::string>& names) {
    for (const std::string& name : names)
        if (name != "naive" && name != "cublas")
            throw UsageError("--against", {fmt::format("'{}'", name), "naive or cublas", ""});
    return {names.begin(), names.end()};
}

}  // namespace
}  // namespace mxfp4

int main(int argc, char** argv) {
    using namespace mxfp4;
    Tool tool("mxfp4-bench",
              "Times the grouped matmul as users get it: the dispatcher's choice, cold weights, no launch cost.");
    SelectionArguments selection(tool);
    DeviceArguments device(tool);
    RoutingOption routing(tool);
    Options options;
    std::vector<std::string> against;
    tool.app().add_flag("--check", options.check, "Compare with the reference; a wrong result is exit code 1");
    tool.app()
        .add_option("--against", against, "naive, cublas: time these too")
        ->delimiter(',')
        ->allow_extra_args(false);
    tool.app().add_option("--out", options.out, "Folder for results.json, table.txt and chart.svg");
    tool.app().add_option("--peers", options.peers,
                          "Figures of other libraries, like bench/peers.json (default: built in)");
    tool.app().add_option("--commit", options.commit, "What to write into results.json as the commit");
    return tool.run(argc, argv, [&] {
        options.selection = selection.read();
        options.routing = routing.read();
        options.against = parse_against(against);
        return BenchTool(tool, device, options).run();
    });
}
