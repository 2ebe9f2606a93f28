// mxfp4-run: one grouped matmul on a packed weight, from a file to a file, through the dispatcher or with a config of
// the caller's choice.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <mxfp4/mxfp4.h>

#include "backends/backend.h"
#include "core/config_text.h"
#include "core/message.h"
#include "core/new_file.h"
#include "dispatcher/scratch.h"
#include "pack/safetensors.h"
#include "tools/device_arguments.h"
#include "tools/tool.h"
#include "tools/weights_argument.h"
#include "weights.h"

using namespace mxfp4;

namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& value, const std::string& limit) {
    throw Error(ErrorCode::bad_file, message, {value, limit, ""});
}

PackedView find_weights(const PackedFile& file, const WeightsArgument& wanted) {
    if (wanted.name) return file[*wanted.name];
    const std::vector<std::string>& names = file.names();
    if (names.size() == 1) return file[names.front()];
    throw UsageError(fmt::format("{} holds several weights", in_quotes(wanted.file)),
                     {"", fmt::format("one of {}", fmt::join(names, ", ")), "name one: --weights PACKED:P"});
}

struct Input {
    i64 rows = 0, k = 0;
    i32 groups = 0;
    std::span<const std::uint8_t> x, expert_offsets, expert_ids;  // ids: empty where there are none
};

const Tensor* find_tensor(const SafetensorsFile& file, const char* name, const char* dtype, std::size_t dimensions,
                          const char* shape) {
    const Tensor* const tensor = file.find(name);
    if (tensor && (tensor->dtype != dtype || tensor->shape.size() != dimensions))
        refuse(fmt::format("{}: tensor {}", in_quotes(file.path().string()), name),
               fmt::format("{} {}", in_quotes(tensor->dtype), shape_text(tensor->shape)),
               fmt::format("{} {}", dtype, shape));
    return tensor;
}

const Tensor& require_tensor(const SafetensorsFile& file, const char* name, const char* dtype, std::size_t dimensions,
                             const char* shape) {
    if (const Tensor* const tensor = find_tensor(file, name, dtype, dimensions, shape)) return *tensor;
    refuse(fmt::format("{}: tensor {}", in_quotes(file.path().string()), name), "missing",
           fmt::format("{} {}", dtype, shape));
}

// A safetensors file aligns nothing.
std::vector<i32> integers(std::span<const std::uint8_t> bytes) {
    std::vector<i32> values(bytes.size() / sizeof(i32));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
}

void check_offsets(const SafetensorsFile& file, std::span<const std::uint8_t> bytes, i64 rows) {
    const std::string where = in_quotes(file.path().string());
    const std::vector<i32> offsets = integers(bytes);
    for (std::size_t g = 0; g < offsets.size(); ++g)
        if (const i32 least = g ? offsets[g - 1] : 0; offsets[g] < least)
            refuse(fmt::format("{}: expert_offsets[{}]", where, g), fmt::to_string(offsets[g]),
                   fmt::format("at least {}: they ascend from 0", least));
    if (offsets.front() != 0) refuse(where + ": expert_offsets[0]", fmt::to_string(offsets.front()), "0");
    if (offsets.back() != rows)
        refuse(fmt::format("{}: expert_offsets[{}], the last", where, offsets.size() - 1),
               fmt::to_string(offsets.back()), fmt::format("{}, the rows of x", rows));
}

Input read_input(const SafetensorsFile& file, const WeightsInfo& weights) {
    const std::string where = in_quotes(file.path().string());
    const Tensor& x = require_tensor(file, "x", "BF16", 2, "[rows, K]");
    const Tensor& offsets = require_tensor(file, "expert_offsets", "I32", 1, "[groups + 1]");
    const Tensor* const ids = find_tensor(file, "expert_ids", "I32", 1, "[groups]");
    if (x.shape[1] != weights.k)
        refuse(where + ": columns of x", fmt::to_string(x.shape[1]), fmt::format("K = {} of the weights", weights.k));
    if (x.shape[0] >= 1ll << 31) refuse(where + ": rows of x", fmt::to_string(x.shape[0]), "below 2^31");
    const i64 groups = offsets.shape[0] - 1;
    if (groups < 1 || groups >= 1ll << 31)
        refuse(where + ": elements of expert_offsets", fmt::to_string(groups + 1), "at least 2: groups + 1");
    if (ids && ids->shape[0] != groups)
        refuse(where + ": elements of expert_ids", fmt::to_string(ids->shape[0]),
               fmt::format("{}, one less than expert_offsets has", groups));
    if (!ids && groups > weights.experts)
        refuse(where + ": groups without expert_ids", fmt::to_string(groups),
               fmt::format("at most E = {}", weights.experts));
    check_offsets(file, offsets.data, x.shape[0]);
    return {x.shape[0], weights.k,    i32(groups),
            x.data,     offsets.data, ids ? ids->data : std::span<const std::uint8_t>()};
}

Buffer to_device(Backend& backend, std::span<const std::uint8_t> bytes) {
    Buffer buffer(backend, bytes.size());
    backend.copy_in(buffer.data(), bytes.data(), bytes.size());
    return buffer;
}

// The problem's memory on the device.
struct Memory {
    Buffer x, y, offsets, ids;
    Memory(Backend& backend, const Input& input, i64 n)
        : x(to_device(backend, input.x)),
          y(backend, std::size_t(input.rows * n) * 2),
          offsets(to_device(backend, input.expert_offsets)),
          ids(input.expert_ids.empty() ? Buffer() : to_device(backend, input.expert_ids)) {}
};

struct Result {
    std::string config, how;
    double us = 0;
};

// Once to warm up (the compiler runs then, too), then so often, timed.
template <class Launch>
double mean_us(Backend& backend, int repeat, Launch launch) {
    launch();
    backend.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < repeat; ++i) launch();
    backend.synchronize();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / repeat;
}

Result run_dispatched(Backend& backend, const DispatcherOptions& options, const PackedView& packed, const Input& input,
                      const Memory& memory, int repeat) {
    Dispatcher dispatcher(options);
    const Weights weights = dispatcher.upload(packed);
    const Problem problem{.x = memory.x.data(),
                          .weights = weights,
                          .expert_offsets = memory.offsets.as<i32>(),
                          .expert_ids = memory.ids.as<i32>(),
                          .groups = input.groups,
                          .rows = input.rows,
                          .y = memory.y.data()};
    RunInfo info;
    Result result;
    result.us = mean_us(backend, repeat, [&] { info = dispatcher.run(problem); });
    result.config = info.config;
    result.how = to_string(info.how);
    return result;
}

Result run_given(Backend& backend, const KernelConfig& config, const PackedView& packed, const Input& input,
                 const Memory& memory, int repeat) {
    const WeightsInfo& info = packed.info;
    const ProblemShape shape{info.experts, info.n, info.k, input.rows, input.groups, true, info.n % 8 == 0};
    if (const Reject reject = check(config, info.format, shape, backend.limits()); reject != Reject::none)
        throw Error(ErrorCode::unsupported, fmt::format("--config {} is not admissible for this problem: {}",
                                                        in_quotes(to_text(config)), reject_text(reject)));
    const DeviceWeights weights = upload_weights(backend, packed);
    const KernelPtr kernel = backend.load(config, info.format);
    MatmulArguments arguments{};
    describe_weights(weights, arguments);
    arguments.x = memory.x.data();
    arguments.y = memory.y.data();
    arguments.x_stride = info.k;
    arguments.y_stride = info.n;
    arguments.expert_offsets = memory.offsets.as<i32>();
    arguments.expert_ids = memory.ids.as<i32>();
    arguments.rows = i32(input.rows);
    arguments.groups = input.groups;
    arguments.x_aligned = shape.x_aligned;
    arguments.y_aligned = shape.y_aligned;
    ScratchBuffers scratch(backend);
    if (config.split_k != 1) {
        const Scratch& buffer = scratch.make(nullptr, scratch_need(config, shape, backend.limits().sm_count));
        arguments.workspace = buffer.data;
        arguments.workspace_counter_bytes = buffer.counter_bytes;
    }
    return {to_text(config), "given", mean_us(backend, repeat, [&] {
                if (input.rows > 0) kernel->launch(arguments, nullptr);
            })};
}

void write_output(const std::string& path, Backend& backend, const Memory& memory, i64 rows, i64 n) {
    std::vector<std::uint8_t> y(std::size_t(rows * n) * 2);
    backend.copy_out(y.data(), memory.y.data(), y.size());
    SafetensorsWriter writer(path, {{"y", "BF16", {rows, n}, {}}}, {});
    writer.write(0, 0, y);
    writer.finish();
    writer.commit();
}

}  // namespace

int main(int argc, char** argv) {
    Tool tool("mxfp4-run",
              "Multiplies rows with the MXFP4 expert weights of a packed file: y[r, :] = x[r, :] W[e(r)]^T.\n"
              "IN holds x BF16 [rows, K], expert_offsets I32 [groups + 1] and, optionally, expert_ids I32 [groups];\n"
              "OUT gets y BF16 [rows, N].");
    DeviceArguments device_arguments(tool);
    std::string weights, input_path, output_path, config_text;
    int repeat = 1;
    tool.app().add_option("--weights", weights, "PACKED or PACKED:P: the weight P of a packed file")->required();
    tool.app().add_option("--input", input_path, "IN.safetensors")->required();
    tool.app().add_option("-o,--output", output_path, "OUT.safetensors")->required();
    tool.app().add_option("--config", config_text,
                          "Run this config, like 'wgmma_rs/native bm64 bn256 bk128 w12 s4 k2', not the tuned one");
    tool.app()
        .add_option("--repeat", repeat, "Launches to time, after one that is not timed")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    return tool.run(argc, argv, [&] {
        std::optional<KernelConfig> config;
        if (!config_text.empty()) config = from_arguments([&] { return parse_config(config_text); });
        const WeightsArgument wanted = parse_weights_argument(weights);
        refuse_overwriting(output_path, {wanted.file, input_path});
        const PackedFile packed_file = PackedFile::open(wanted.file);
        const PackedView packed = find_weights(packed_file, wanted);
        const SafetensorsFile input_file(input_path);
        const Input input = read_input(input_file, packed.info);

        const std::unique_ptr<Backend> backend =
            make_backend(device_arguments.device(), device_arguments.backend_options());
        const Memory memory(*backend, input, packed.info.n);
        const Result result =
            config ? run_given(*backend, *config, packed, input, memory, repeat)
                   : run_dispatched(*backend, device_arguments.dispatcher_options(), packed, input, memory, repeat);
        write_output(output_path, *backend, memory, input.rows, packed.info.n);
        if (tool.json())
            tool.print(nlohmann::json{{"config", result.config}, {"how", result.how}, {"us", result.us}});
        else
            tool.print(fmt::format("{}  {}  {:.1f} us", result.config.empty() ? "nothing to do" : result.config,
                                   result.how, result.us));
        return kExitDone;
    });
}
