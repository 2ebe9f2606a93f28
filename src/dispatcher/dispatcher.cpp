// Joins cache, backend and launch. run() is the hit path: it looks a route up, fills the arguments and launches;
// whatever has to be made (routes, kernels, scratch) is made by the functions below it.
#include <mxfp4/dispatcher.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include <fmt/format.h>

#include "cache/cache.h"
#include "cache/problem_key.h"
#include "core/parallel.h"
#include "dispatcher/kept_maps.h"
#include "dispatcher/kernel_set.h"
#include "dispatcher/log_once.h"
#include "dispatcher/route_maker.h"
#include "dispatcher/routes.h"
#include "dispatcher/scratch.h"
#include "weights.h"

namespace mxfp4 {

struct Weights::Impl {
    std::shared_ptr<Backend> backend;
    std::uint64_t dispatcher = 0;  // the number of the one that made it
    WeightShape* shape = nullptr;  // the dispatcher's
    DeviceWeights device;
    KeptMaps maps = {};

    ~Impl() {
        const bool owns = device.owned_values.data() || device.owned_expert_scale.data();
        try {
            if (owns) backend->synchronize();  // what is in flight reads the memory that goes away now
        } catch (const Error&) {               // the device is lost, and what was in flight with it
        }
    }
};

Weights::Weights(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Weights::Weights(Weights&&) noexcept = default;
Weights& Weights::operator=(Weights&&) noexcept = default;
Weights::~Weights() = default;
const WeightsInfo& Weights::info() const { return impl_->device.info; }

namespace {

bool aligned(const void* pointer, i64 stride) {
    return (reinterpret_cast<std::uintptr_t>(pointer) | u64(stride) * 2) % 16 == 0;
}

[[noreturn]] void refuse(const char* message, const std::string& value, const std::string& limit,
                         const std::string& remedy = "") {
    throw Error(ErrorCode::invalid_argument, message, {value, limit, remedy});
}

void check_rows(i64 rows) {
    if (rows < 0 || rows > kMaxRows)
        refuse("rows of a problem", fmt::to_string(rows), fmt::format("0 .. {}", kMaxRows));
}

// A problem with its zeros filled in, checked.
struct Call {
    i64 x_stride, y_stride;
    i32 groups;
    RouteKey key;
};

Call check_problem(const Problem& p, const WeightShape& w) {
    check_rows(p.rows);
    if (p.groups < 0) refuse("groups of a problem", fmt::to_string(p.groups), "0 (one for each expert) or more");
    Call call{p.x_stride ? p.x_stride : w.k, p.y_stride ? p.y_stride : w.n, p.groups ? p.groups : i32(w.experts), {}};
    if (call.x_stride < w.k) refuse("x_stride", fmt::to_string(p.x_stride), fmt::format("0, or at least K = {}", w.k));
    if (call.y_stride < w.n) refuse("y_stride", fmt::to_string(p.y_stride), fmt::format("0, or at least N = {}", w.n));
    if (!p.expert_ids && call.groups > w.experts)
        refuse("groups without expert_ids", fmt::to_string(p.groups), fmt::format("at most E = {}", w.experts),
               "give expert_ids");
    if (p.rows == 0) return call;
    if (!p.x) refuse("x", "null", "[rows, K] bf16");
    if (!p.y) refuse("y", "null", "[rows, N] bf16");
    if (!p.expert_offsets) refuse("expert_offsets", "null", "[groups + 1] int32");
    if (reinterpret_cast<std::uintptr_t>(p.workspace.data) % kWorkspaceAlign != 0)
        refuse("workspace", fmt::format("{}", p.workspace.data), fmt::format("aligned to {} bytes", kWorkspaceAlign));
    call.key = {rows_bucket(p.rows), groups_bound(call.groups, w.experts), aligned(p.x, call.x_stride),
                aligned(p.y, call.y_stride)};
    return call;
}

std::uint64_t next_dispatcher_number() {
    static std::atomic<std::uint64_t> last = 0;
    return ++last;
}

}  // namespace

const char* to_string(How how) {
    switch (how) {
        case How::exact: return "exact";
        case How::near: return "near";
        case How::fallback: return "fallback";
    }
    return "unknown";
}

struct Dispatcher::Impl {
    // What serves one launch.
    struct Serving {
        const LoadedKernel* kernel;
        How how;
        ScratchNeed scratch;

        static Serving by(const Route& route) { return {route.kernel, route.how, route.scratch}; }
    };

    explicit Impl(const DispatcherOptions& options)
        : log(std::make_shared<LogOnce>(options.log)),
          backend(open_backend(options, log)),
          kernels(*backend),
          route_maker(*backend, read_winners(options, *log), kernels, *log),
          scratch(*backend) {}

    ~Impl() {
        try {
            backend->synchronize();  // what is in flight uses kernels and scratch that go away now
        } catch (const Error&) {     // the device is lost, and what was in flight with it
        }
    }

    static std::unique_ptr<Backend> open_backend(const DispatcherOptions& options,
                                                 const std::shared_ptr<LogOnce>& log) {
        BackendOptions backend_options;
        if (!options.cache.empty()) backend_options.images = image_folder(options.cache);
        backend_options.nvrtc = options.nvrtc;
        backend_options.kernel_templates = options.kernel_templates;
        backend_options.log = [log](LogLevel level, const std::string& message) { (*log)(level, message); };
        return make_backend(options.device, backend_options);
    }

    static std::vector<Winner> read_winners(const DispatcherOptions& options, LogOnce& log) {
        if (options.cache.empty()) return {};
        const std::string name = options.cache.string();
        if (is_missing(options.cache)) {
            log(LogLevel::info, fmt::format("there is no tuning database '{}': every choice is a fallback", name));
            return {};
        }
        const Cache cache = Cache::open(options.cache, Cache::Mode::read_only);
        for (const std::string& key : cache.damaged())
            log(LogLevel::warning, fmt::format("a damaged row of '{}' is left out: {}", name, key));
        return cache.all();
    }

    RunInfo run(const Problem& problem, Stream stream);
    Weights::Impl& checked(const Weights& weights) const;
    Weights own(DeviceWeights device);
    WeightShape& shape_for(const WeightsInfo& info);

    Serving miss(WeightShape& shape, const RouteKey& key, Stream stream);
    std::optional<Serving> stand_in(const WeightShape& shape, const RouteKey& key, bool whole_tiles) const;
    const Route& route_of(WeightShape& shape, const RouteKey& key, Stream stream);
    Serving attach_scratch(const Problem& problem, const WeightShape& shape, const RouteKey& key, const Serving& serving,
                           Stream stream, MatmulArguments& arguments);

    std::vector<RouteKey> keys_up_to(const WeightShape& shape, const PrepareOptions& options) const;
    void prepare(WeightShape& shape, const PrepareOptions& options);
    std::size_t workspace_bytes(const WeightShape& shape, i64 max_rows) const;

    const std::uint64_t number = next_dispatcher_number();
    const std::shared_ptr<LogOnce> log;
    const std::shared_ptr<Backend> backend;
    KernelSet kernels;
    const RouteMaker route_maker;
    ScratchBuffers scratch;
    std::mutex shapes_mutex;
    std::vector<std::unique_ptr<WeightShape>> shapes;
};

Weights::Impl& Dispatcher::Impl::checked(const Weights& weights) const {
    Weights::Impl* const impl = weights.impl_.get();
    if (!impl) refuse("weights", "moved from", "made by upload() or wrap()");
    if (impl->dispatcher != number)
        refuse("weights", "another dispatcher's", "made by this dispatcher's upload() or wrap()");
    return *impl;
}

RunInfo Dispatcher::Impl::run(const Problem& problem, Stream stream) {
    Weights::Impl& weights = checked(problem.weights);
    WeightShape& shape = *weights.shape;
    const Call call = check_problem(problem, shape);
    if (problem.rows == 0) return {};
    const Route* const route = shape.routes.find(call.key);
    Serving serving = route ? Serving::by(*route) : miss(shape, call.key, stream);

    MatmulArguments arguments;
    describe_weights(weights.device, arguments);
    arguments.x = problem.x;
    arguments.y = problem.y;
    arguments.x_stride = call.x_stride;
    arguments.y_stride = call.y_stride;
    arguments.expert_offsets = problem.expert_offsets;
    arguments.expert_ids = problem.expert_ids;
    arguments.rows = i32(problem.rows);
    arguments.groups = call.groups;
    arguments.x_aligned = call.key.x_aligned;
    arguments.y_aligned = call.key.y_aligned;
    if (serving.kernel->kernel->config().split_k != 1)
        serving = attach_scratch(problem, shape, call.key, serving, stream, arguments);
    const Kernel& kernel = *serving.kernel->kernel;
    const bool mapped = weights.maps.find(kernel, arguments);
    kernel.launch(arguments, stream);
    if (!mapped) weights.maps.keep(kernel, arguments);
    return {serving.kernel->text, serving.how};
}

// The kernel that serves in the end: inside a capture where no buffer is left, another one.
Dispatcher::Impl::Serving Dispatcher::Impl::attach_scratch(const Problem& problem, const WeightShape& shape, const RouteKey& key,
                                                           const Serving& serving, Stream stream, MatmulArguments& arguments) {
    const ScratchNeed& need = serving.scratch;
    if (problem.workspace.data && i64(problem.workspace.bytes) >= need.bytes()) {
        backend->fill(problem.workspace.data, 0, std::size_t(need.counter_bytes), stream);  // it may hold anything
        arguments.workspace = problem.workspace.data;
        arguments.workspace_counter_bytes = need.counter_bytes;
        return serving;
    }
    const std::uint64_t capture = backend->capture_id(stream);
    const Scratch* buffer = capture ? scratch.find_for_graph(stream, capture, need) : scratch.find(stream, need);
    if (!buffer && !capture) buffer = &scratch.make(stream, need);
    if (buffer) {
        arguments.workspace = buffer->data;
        arguments.workspace_counter_bytes = buffer->counter_bytes;
        return serving;
    }
    if (const auto whole = stand_in(shape, key, /*whole_tiles=*/true)) {
        (*log)(LogLevel::warning,
               "no split-k scratch is left for stream captures: kernels that need none serve instead. Raise "
               "PrepareOptions::graphs, or give Problem::workspace");
        return *whole;
    }
    throw Error(ErrorCode::not_prepared, "no split-k scratch is left for this stream capture",
                {fmt::format("{} bytes", need.bytes()), "",
                 "call prepare() with graphs = the captures to come, or give Problem::workspace"});
}

// ---- What a hit never does ------------------------------------------------------------------------------------------

Dispatcher::Impl::Serving Dispatcher::Impl::miss(WeightShape& shape, const RouteKey& key, Stream stream) {
    if (backend->is_capturing(stream)) {
        if (const auto serving = stand_in(shape, key, false)) return *serving;
        throw Error(ErrorCode::not_prepared, "inside a stream capture no kernel is loaded that could serve",
                    {fmt::format("{} rows of E {} N {} K {}", key.rows, shape.experts, shape.n, shape.k), "",
                     "call prepare(weights, {.max_rows = ...}) before the capture"});
    }
    bool others_turn = false;
    {
        const std::lock_guard lock(shape.mutex);
        others_turn = std::find(shape.in_progress.begin(), shape.in_progress.end(), key) != shape.in_progress.end();
    }
    if (others_turn)
        if (const auto serving = stand_in(shape, key, false)) return *serving;
    const Route& route = route_of(shape, key, stream);
    return Serving::by(route);
}

// A loaded kernel that can do it: tuned for some neighbour, or a default.
std::optional<Dispatcher::Impl::Serving> Dispatcher::Impl::stand_in(const WeightShape& shape, const RouteKey& key,
                                                                    bool whole_tiles) const {
    const ProblemShape problem = shape_of(shape, key);
    const LoadedKernel* const kernel = kernels.stand_in(shape.format, problem, whole_tiles);
    if (!kernel) return {};
    return Serving{kernel, kernel->how == How::fallback ? How::fallback : How::near,
                   scratch_need(kernel->kernel->config(), problem, backend->limits().sm_count)};
}

// Made by the first thread that asks; others wait. The stream is not in capture.
const Route& Dispatcher::Impl::route_of(WeightShape& shape, const RouteKey& key, Stream stream) {
    std::unique_lock lock(shape.mutex);
    const auto mine = [&] { return std::find(shape.in_progress.begin(), shape.in_progress.end(), key); };
    shape.changed.wait(lock, [&] { return mine() == shape.in_progress.end(); });
    if (const Route* const route = shape.routes.find(key)) return *route;
    shape.in_progress.push_back(key);
    lock.unlock();
    const auto finish = [&] {
        shape.in_progress.erase(mine());
        shape.changed.notify_all();
    };
    try {
        std::unique_ptr<Route> route = route_maker.make(shape, key, stream);
        lock.lock();
        const Route& added = shape.routes.add(std::move(route));
        finish();
        return added;
    } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        finish();  // those who wait try it themselves, and learn why
        throw;
    }
}

// Every route that a problem of up to so many rows can ask for, with rows as aligned as N and K allow.
std::vector<RouteKey> Dispatcher::Impl::keys_up_to(const WeightShape& shape, const PrepareOptions& options) const {
    check_rows(options.max_rows);
    if (options.groups < 0)
        refuse("prepare: groups", fmt::to_string(options.groups), "0 (one for each expert) or more");
    std::vector<i64> groups = {shape.experts};
    for (const i64 bound : rows_buckets(options.groups ? options.groups : shape.experts))
        if (bound > 0 && bound != shape.experts) groups.push_back(bound);
    std::vector<RouteKey> keys;
    for (const i64 rows : rows_buckets(options.max_rows))
        for (const i64 group : groups)
            if (rows > 0) keys.push_back({rows, group, true, shape.n % 8 == 0});
    return keys;
}

void Dispatcher::Impl::prepare(WeightShape& shape, const PrepareOptions& options) {
    if (options.graphs < 0) refuse("prepare: graphs", fmt::to_string(options.graphs), "0 or more");
    const std::vector<RouteKey> keys = keys_up_to(shape, options);
    if (backend->is_capturing(options.stream))
        refuse("prepare: stream", "being captured", "not inside a capture", "call prepare() before the capture");
    parallel_for(0, i64(keys.size()), [&](i64 i) { route_of(shape, keys[std::size_t(i)], options.stream); });
    ScratchNeed need;
    for (const RouteKey& key : keys) {
        const Route& route = route_of(shape, key, options.stream);
        const LoadedKernel& kernel = *route.kernel;
        KernelConfig config = kernel.kernel->config();
        if (config.split_k == 1) continue;
        need.include(route.scratch);
        config.split_k = 1;  // for captures that come when no buffer is left
        route_maker.load(config, shape.format, key.rows, kernel.how, kernel.tried ? std::optional(options.stream) : std::nullopt);
    }
    if (need.bytes() == 0) return;
    scratch.make(options.stream, need);
    scratch.reserve_for_graphs(options.graphs, need, options.stream);
}

std::size_t Dispatcher::Impl::workspace_bytes(const WeightShape& shape, i64 max_rows) const {
    ScratchNeed need;
    PrepareOptions options;
    options.max_rows = max_rows;
    for (const RouteKey& key : keys_up_to(shape, options))
        for (const RouteMaker::Choice& choice : route_maker.choices(shape, key))
            need.include(scratch_need(choice.config, shape_of(shape, key), backend->limits().sm_count));
    return std::size_t(need.bytes());
}

WeightShape& Dispatcher::Impl::shape_for(const WeightsInfo& info) {
    const std::lock_guard lock(shapes_mutex);
    for (const auto& shape : shapes)
        if (shape->format == info.format && shape->experts == info.experts && shape->n == info.n && shape->k == info.k)
            return *shape;
    auto shape = std::make_unique<WeightShape>();
    shape->format = info.format;
    shape->layout_version = info.layout_version;
    shape->experts = info.experts;
    shape->n = info.n;
    shape->k = info.k;
    shapes.push_back(std::move(shape));
    return *shapes.back();
}

Weights Dispatcher::Impl::own(DeviceWeights device) {
    WeightShape& shape = shape_for(device.info);
    return Weights(std::unique_ptr<Weights::Impl>(new Weights::Impl{backend, number, &shape, std::move(device)}));
}

Dispatcher::Dispatcher(DispatcherOptions options) : impl_(std::make_unique<Impl>(options)) {}
Dispatcher::Dispatcher(Dispatcher&&) noexcept = default;
Dispatcher& Dispatcher::operator=(Dispatcher&&) noexcept = default;
Dispatcher::~Dispatcher() = default;

Weights Dispatcher::upload(const PackedView& packed) { return impl_->own(upload_weights(*impl_->backend, packed)); }
Weights Dispatcher::wrap(const WrapSpec& spec) { return impl_->own(wrap_weights(*impl_->backend, spec)); }
void Dispatcher::prepare(const Weights& weights, const PrepareOptions& options) {
    impl_->prepare(*impl_->checked(weights).shape, options);
}
std::size_t Dispatcher::workspace_bytes(const Weights& weights, std::int64_t max_rows) {
    return impl_->workspace_bytes(*impl_->checked(weights).shape, max_rows);
}
RunInfo Dispatcher::run(const Problem& problem, CUstream_st* stream) { return impl_->run(problem, stream); }

}  // namespace mxfp4
