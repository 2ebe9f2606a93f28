// Which kernel a route gets, where winners are of older kernel text: those are tried before they serve.
#include <catch2/catch_test_macros.hpp>

#include <functional>

#include "cache/problem_key.h"
#include "core/bf16.h"
#include "core/config_text.h"
#include "dispatcher/route_maker.h"
#include "tuner/trial.h"

using namespace mxfp4;

namespace {

constexpr const char* kSmall = "host/native bm8 bn64 bk64 w1 s1 k1";
constexpr const char* kLarge = "host/native bm16 bn128 bk64 w2 s1 k1";

// The host's kernels, with something done after each launch.
using After = std::function<void(const KernelConfig&, const MatmulArguments&)>;
class TouchedKernel final : public Kernel {
  public:
    TouchedKernel(KernelPtr kernel, const After& after) : kernel_(std::move(kernel)), after_(after) {}
    const KernelConfig& config() const override { return kernel_->config(); }
    const CompileReport& report() const override { return kernel_->report(); }
    void launch(MatmulArguments& arguments, Stream stream) const override {
        kernel_->launch(arguments, stream);
        after_(config(), arguments);
    }

  private:
    KernelPtr kernel_;
    const After& after_;
};

class TouchedBackend final : public Backend {
  public:
    After after = [](const KernelConfig&, const MatmulArguments&) {};

    Device device() const override { return host_->device(); }
    const DeviceIdentity& identity() const override { return host_->identity(); }
    const DeviceLimits& limits() const override { return host_->limits(); }
    std::string compiler_build() const override { return host_->compiler_build(); }
    std::string kernel_hash(Variant variant) const override { return host_->kernel_hash(variant); }
    std::string driver_version() const override { return host_->driver_version(); }
    void* allocate(std::size_t bytes) override { return host_->allocate(bytes); }
    void release(void* pointer) noexcept override { host_->release(pointer); }
    void copy_in(void* to, const void* from, std::size_t bytes) override { host_->copy_in(to, from, bytes); }
    void copy_out(void* to, const void* from, std::size_t bytes) override { host_->copy_out(to, from, bytes); }
    void copy(void* to, const void* from, std::size_t bytes, Stream stream) override {
        host_->copy(to, from, bytes, stream);
    }
    void fill(void* to, std::uint8_t byte, std::size_t bytes, Stream stream) override {
        host_->fill(to, byte, bytes, stream);
    }
    void synchronize() override { FAIL("waiting for the whole device would break another thread's capture"); }
    void synchronize(Stream stream) override { host_->synchronize(stream); }
    std::uint64_t capture_id(Stream stream) const override { return host_->capture_id(stream); }
    CompileReport compile(const KernelConfig& config, const WeightsFormat& format) override {
        return host_->compile(config, format);
    }
    KernelPtr load(const KernelConfig& config, const WeightsFormat& format) override {
        return std::make_shared<const TouchedKernel>(host_->load(config, format), after);
    }
    KernelConfig default_config(const WeightsFormat& format, const ProblemShape& shape) const override {
        return host_->default_config(format, shape);
    }
    std::vector<Timing> time(std::span<const TimedWork> work, const TimingOptions& options) override {
        return host_->time(work, options);
    }

  private:
    const std::unique_ptr<Backend> host_ = make_host_backend({});
};

struct Bench {
    TouchedBackend backend;
    WeightShape shape;
    std::vector<Winner> winners;
    std::vector<std::string> messages;
    LogOnce log{[this](LogLevel, const std::string& message) { messages.push_back(message); }};
    KernelSet kernels{backend};
    int launches = 0;

    Bench() {
        shape.experts = 3;
        shape.n = 96;
        shape.k = 64;
        backend.after = [this](const KernelConfig&, const MatmulArguments&) { ++launches; };
    }
    Winner& add(i64 rows, const char* config) {
        Winner& winner = winners.emplace_back();
        winner.key = problem_key(backend, shape.format, shape.layout_version, {shape.experts, shape.n, shape.k, rows});
        winner.key.kernel_hash = backend.kernel_hash(Variant::host);
        winner.config = config;
        return winner;
    }
    void add_old(i64 rows, const char* config) { add(rows, config).key.kernel_hash = "an older kernel text"; }
    Route route(i64 rows) {
        const RouteMaker maker(backend, winners, kernels, log);
        return *maker.make(shape, {rows, shape.experts, true, true}, nullptr);
    }
    int said(const std::string& part) const {
        int found = 0;
        for (const std::string& message : messages) found += message.find(part) != std::string::npos;
        return found;
    }
};

// Adds one part in eight to y[0, n - 1].
void spoil(const MatmulArguments& a) {
    u16& y = static_cast<u16*>(a.y)[a.n - 1];
    y = float_to_bf16(bf16_to_float(y) * 1.125f);
}

}  // namespace

TEST_CASE("a winner of older kernel text that computes right serves as near, tried once") {
    Bench bench;
    bench.add_old(64, kSmall);
    const Route route = bench.route(64);
    CHECK(route.how == How::near);
    CHECK(route.kernel->text == kSmall);
    CHECK(bench.launches == 1);
    CHECK(bench.route(96).kernel == route.kernel);
    CHECK(bench.launches == 1);
    CHECK(bench.messages.empty());
}

TEST_CASE("a winner of another compiler is tried as well") {
    Bench bench;
    bench.add(64, kSmall).key.compiler = "another";
    CHECK(bench.route(64).how == How::near);
    CHECK(bench.launches == 1);
}

TEST_CASE("winners that the tuner verified as they are, and the default, are not tried") {
    Bench bench;
    bench.add(16, kSmall);
    CHECK(bench.route(16).how == How::exact);
    CHECK(bench.route(32).how == How::near);
    CHECK(bench.route(4096).how == How::fallback);
    CHECK(bench.launches == 0);
}

TEST_CASE("a kernel that computes wrongly since it was tuned is passed over with a message, and never stands in") {
    Bench bench;
    bench.add_old(64, kSmall);
    bench.add_old(128, kLarge);
    const KernelConfig bad = parse_config(kSmall);
    bench.backend.after = [&](const KernelConfig& config, const MatmulArguments& arguments) {
        ++bench.launches;
        if (config == bad) spoil(arguments);
    };
    const Route route = bench.route(64);
    CHECK(route.how == How::near);
    CHECK(route.kernel->text == kLarge);
    CHECK(bench.launches == 2);
    CHECK(bench.said("passed over: a kernel computes wrongly since it was tuned: wrong result: y[0, ") == 1);
    CHECK(bench.said(kSmall) == 1);
    CHECK(bench.kernels.stand_in(bench.shape.format, {3, 96, 64, 64}, false) == route.kernel);

    // Known for good, whoever asks.
    bench.route(48);
    CHECK(bench.launches == 2);
    CHECK(bench.messages.size() == 1);
    CHECK_THROWS_AS(bench.kernels.get(bad, bench.shape.format, 64, How::exact), Error);
}

TEST_CASE("where every winner computes wrongly the default serves") {
    Bench bench;
    bench.add_old(64, kSmall);
    bench.backend.after = [&](const KernelConfig&, const MatmulArguments& arguments) { spoil(arguments); };
    CHECK(bench.route(64).how == How::fallback);
    CHECK(bench.said("computes wrongly") == 1);
}

TEST_CASE("a kernel that is being tried stands in for nobody yet") {
    Bench bench;
    bench.add_old(64, kSmall);
    const LoadedKernel* during = nullptr;
    bench.backend.after = [&](const KernelConfig&, const MatmulArguments&) {
        during = bench.kernels.stand_in(bench.shape.format, {3, 96, 64, 64}, false);
    };
    bench.route(64);
    CHECK(during == nullptr);
    CHECK(bench.kernels.stand_in(bench.shape.format, {3, 96, 64, 64}, false) != nullptr);
}

TEST_CASE("a trial passes right kernels of every weight format, and sees what is wrong") {
    TouchedBackend backend;
    for (const Layout layout : {Layout::native, Layout::hopper, Layout::blocks})
        for (const ScaleClass scale_class : {ScaleClass::folded, ScaleClass::rebased, ScaleClass::plain}) {
            const WeightsFormat format{layout, layout == Layout::native ? 0 : 4, scale_class};
            KernelConfig config = backend.default_config(format, {});
            INFO(to_text(config) << ", " << to_string(scale_class));
            CHECK(try_kernel(backend, *backend.load(config, format), format, nullptr) == "");
            config.block_m = 1;
            config.block_n = 4096;
            config.block_k = 1 << 20;
            CHECK(try_kernel(backend, *backend.load(config, format), format, nullptr) == "");
        }

    const KernelPtr kernel = backend.load(parse_config(kSmall), {});
    const auto wrong = [&](const std::function<void(u16* y, const MatmulArguments&)>& change) {
        backend.after = [&](const KernelConfig&, const MatmulArguments& a) { change(static_cast<u16*>(a.y), a); };
        return try_kernel(backend, *kernel, {}, nullptr);
    };
    CHECK(wrong([](u16*, const MatmulArguments&) {}) == "");
    CHECK(wrong([](u16* y, const MatmulArguments& a) { y[3 * a.n + 5] = 0x7FC0; }) ==
          "wrong result: y[3, 5] is NaN or was not written");
    CHECK(wrong([](u16* y, const MatmulArguments& a) { y[i64(a.rows) * a.n - 1] = 0; }) ==
          "wrong result: a row in no group was written");
    // Every output a little off: none for itself is too far away.
    CHECK(wrong([](u16* y, const MatmulArguments& a) {
              for (i64 i = 0; i < i64(a.rows - 2) * a.n; ++i) y[i] = float_to_bf16(bf16_to_float(y[i]) * 1.008f);
          }).find("wrong result: relative error") == 0);
}
