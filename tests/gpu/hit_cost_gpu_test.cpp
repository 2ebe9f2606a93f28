// What a hit costs over the bare launch, and what the questions that it asks the driver cost.
#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdio>
#include <functional>

#include "gpu/dispatcher_gpu.h"
#include "support/temporary_folder.h"
#include "weights.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

// The kernel that serves a problem, launched without a dispatcher.
class BareLaunch {
  public:
    BareLaunch(const PackedWeights& packed, const Problem& problem, const std::string& config, Stream stream)
        : weights_(upload_weights(gpu(), packed.view())),
          kernel_(gpu().load(parse_config(config), packed.info.format)) {
        const WeightsInfo& info = packed.info;
        const ProblemShape shape{info.experts, info.n, info.k, problem.rows};
        const int sm_count = gpu().limits().sm_count;
        workspace_ = Buffer(gpu(), std::size_t(std::max<i64>(workspace_bytes(kernel_->config(), shape, sm_count), 1)));
        gpu().fill(workspace_.data(), 0, workspace_.bytes(), stream);
        describe_weights(weights_, arguments_);
        arguments_.x = problem.x;
        arguments_.y = problem.y;
        arguments_.x_stride = info.k;
        arguments_.y_stride = info.n;
        arguments_.expert_offsets = problem.expert_offsets;
        arguments_.expert_ids = problem.expert_ids;
        arguments_.workspace = workspace_.data();
        arguments_.workspace_counter_bytes = workspace_counter_bytes(kernel_->config(), shape, sm_count);
        arguments_.rows = i32(problem.rows);
        arguments_.groups = problem.groups;
        arguments_.x_aligned = arguments_.y_aligned = 1;
    }
    void operator()(Stream stream) { kernel_->launch(arguments_, stream); }
    // From now on the maps of weights that the last launch made serve.
    void keep_maps() { arguments_.weights_mapped = 1; }

  private:
    DeviceWeights weights_;
    KernelPtr kernel_;
    Buffer workspace_;
    MatmulArguments arguments_{};
};

// Median nanoseconds of each launch. Batches shorter than the launch queue, one after the other, so that all meet the
// same machine, as busy as it is then: questions to the driver cost more while launches are queued.
std::vector<double> median_ns(const std::vector<std::function<void()>>& launches, Stream stream) {
    constexpr int kBatch = 100, kBatches = 201;
    std::vector<std::vector<double>> batches(launches.size());
    for (int batch = 0; batch < kBatches; ++batch)
        for (std::size_t i = 0; i < launches.size(); ++i) {
            const auto start = std::chrono::steady_clock::now();
            for (int launch = 0; launch < kBatch; ++launch) launches[i]();
            const std::chrono::duration<double, std::nano> elapsed = std::chrono::steady_clock::now() - start;
            check(driver().stream_synchronize(stream), "wait");
            batches[i].push_back(elapsed.count() / kBatch);
        }
    std::vector<double> medians;
    for (std::vector<double>& ns : batches) {
        std::nth_element(ns.begin(), ns.begin() + kBatches / 2, ns.end());
        medians.push_back(ns[kBatches / 2]);
    }
    return medians;
}

}  // namespace

TEST_CASE("a hit costs at most 200 ns over the bare launch") {
    const Current current;
    const TemporaryFolder folder;
    Random random(7);
    const Packed packed(random, 4, 256, 256);
    struct Tuned {
        i64 rows;
        const char* config;
    };
    const Tuned all[] = {{4, "wgmma_rs/native bm16 bn64 bk64 w8 s6 k1"}, {16, kSplitConfig}};
    for (const Tuned& tuned : all) put_winner(folder / "t.sqlite", packed.packed.info, tuned.rows, tuned.config);
    Dispatcher dispatcher(options_of(folder / "t.sqlite"));
    const Weights weights = dispatcher.upload(packed.packed.view());
    const OwnedStream owned_stream = make_stream();
    const Stream stream = owned_stream.get();
    dispatcher.prepare(weights, {.max_rows = 16, .stream = stream});
    for (const Tuned& tuned : all) {
        const Rows rows(random, packed.checkpoint, tuned.rows);
        const Problem problem = rows.problem(weights);
        REQUIRE(dispatcher.run(problem, stream).config == tuned.config);
        BareLaunch bare(packed.packed, problem, tuned.config, stream);
        BareLaunch mapped(packed.packed, problem, tuned.config, stream);
        mapped(stream);
        mapped.keep_maps();
        CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
        cuuint64_t id = 0;
        const std::vector<double> ns = median_ns(
            {
                [&] { bare(stream); },
                [&] { dispatcher.run(problem, stream); },
                [&] { mapped(stream); },
                // A hit with split-k asks the first of these; what they cost beside launches in flight is not what they
                // cost alone.
                [&] {
                    driver().stream_is_capturing(stream, &status);
                    bare(stream);
                },
                [&] {
                    driver().stream_get_capture_info(stream, &status, &id, nullptr, nullptr, nullptr);
                    bare(stream);
                },
            },
            stream);
        std::printf("%s: bare launch %.0f ns, dispatched %.0f ns, a hit costs %.0f ns\n", tuned.config, ns[0], ns[1],
                    ns[1] - ns[0]);
        std::printf("    over the bare launch: one that finds the maps of its weights made %.0f ns, cuStreamIsCapturing %.0f ns, "
                    "cuStreamGetCaptureInfo %.0f ns\n",
                    ns[2] - ns[0], ns[3] - ns[0], ns[4] - ns[0]);
        CHECK(ns[1] - ns[0] <= 200);
    }
}
