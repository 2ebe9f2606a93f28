// The driver wrappers and the CUDA backend, with kernels of the test's own.
#include <catch2/catch_test_macros.hpp>

#include <numeric>
#include <thread>
#include <vector>

#include <mxfp4/error.h>

#include "backends/backend.h"
#include "core/config_text.h"
#include "cuda/driver.h"
#include "support/temporary_folder.h"
#include "tools/nvrtc_of_environment.h"

using namespace mxfp4;

namespace {

// y[i] += rows for i < n, with the whole (persistent) grid.
constexpr const char* kAddRows =
    "#pragma once\n#include \"contract/arguments.h\"\n#include \"contract/config.h\"\nnamespace mxfp4 {\n"
    "template <KernelConfig C, WeightsFormat F> __device__ void run_naive(const MatmulArguments& a) {\n"
    "    extern __shared__ int shared[];\n"
    "    shared[threadIdx.x] = a.rows;\n"
    "    __syncwarp();\n"
    "    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < a.n; i += gridDim.x * blockDim.x)\n"
    "        static_cast<int*>(a.y)[i] += shared[31 - threadIdx.x];\n"
    "}\n}\n";
const KernelConfig kConfig = parse_config("naive/native bm64 bn64 bk64 w1 s1 k1");

struct Fixture {
    Fixture() {
        folder.write("templates/naive.cuh", kAddRows);
        backend =
            make_cuda_backend(0, {folder.path() / "images", nvrtc_of_environment(), folder.path() / "templates", {}});
    }
    TemporaryFolder folder;
    std::unique_ptr<Backend> backend;
};

std::vector<int> ints(std::size_t count, int first) {
    std::vector<int> values(count);
    std::iota(values.begin(), values.end(), first);
    return values;
}

}  // namespace

TEST_CASE("a kernel from a string runs through the driver wrappers") {
    const auto nvrtc = Nvrtc::open(nvrtc_of_environment());
    const NvrtcResult built =
        nvrtc->compile("extern \"C\" __global__ void square(int* v) { v[threadIdx.x] *= v[threadIdx.x]; }", {},
                       {"--gpu-architecture=sm_90a"});
    REQUIRE(built.ok);
    CUdevice device;
    check(driver().device_get(&device, 0), "open the device");
    const PrimaryContext context(device);
    const CurrentContext current(context.get());
    Module module;
    check(driver().module_load_data(module.out(), built.cubin.data()), "load");
    CUfunction function;
    check(driver().module_get_function(&function, module.get(), "square"), "find");
    int values[32];
    std::iota(values, values + 32, -16);
    CUdeviceptr memory;
    check(driver().mem_alloc(&memory, sizeof values), "allocate");
    check(driver().memcpy_htod_async(memory, values, sizeof values, nullptr), "copy in");
    void* parameters[] = {&memory};
    CUlaunchConfig launch = {};
    launch.gridDimX = launch.gridDimY = launch.gridDimZ = launch.blockDimY = launch.blockDimZ = 1;
    launch.blockDimX = 32;
    check(driver().launch_kernel_ex(&launch, function, parameters, nullptr), "launch");
    check(driver().memcpy_dtoh_async(values, memory, sizeof values, nullptr), "copy out");
    check(driver().stream_synchronize(nullptr), "wait");
    check(driver().mem_free(memory), "free");
    for (int i = 0; i < 32; ++i) CHECK(values[i] == (i - 16) * (i - 16));
}

TEST_CASE("the context that was current stays current") {
    CUcontext before = nullptr, after = nullptr;
    check(driver().ctx_get_current(&before), "read");
    Fixture f;
    f.backend->release(f.backend->allocate(100));
    check(driver().ctx_get_current(&after), "read");
    CHECK(before == after);
}

TEST_CASE("a Hopper device says what it is") {
    Fixture f;
    CHECK(f.backend->identity().name.find("NVIDIA") != std::string::npos);
    CHECK(f.backend->identity().memory_bytes % (1ll << 30) == 0);
    CHECK(f.backend->limits().sm_count > 100);
    CHECK(f.backend->limits().shared_bytes_per_block == 232448);
    CHECK(f.backend->driver_version().find("CUDA 1") != std::string::npos);
    CHECK(f.backend->compiler_build().starts_with("nvrtc 1"));
    CHECK_THROWS_AS(make_cuda_backend(1000, {}), Error);
}

TEST_CASE("bytes come back as they went in, from several threads, at odd sizes") {
    Fixture f;
    std::vector<std::thread> threads;
    std::vector<int> wrong(4);
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (const std::size_t count :
                 {std::size_t(1), std::size_t(1000), (std::size_t(4) << 20) / 4, std::size_t(5'000'003)}) {
                const Buffer buffer(*f.backend, count * 4);
                const std::vector<int> in = ints(count, t);
                std::vector<int> out(count);
                f.backend->copy_in(buffer.data(), in.data(), count * 4);
                f.backend->copy_out(out.data(), buffer.data(), count * 4);
                wrong[t] += in != out;
            }
        });
    for (auto& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4));
    const Buffer buffer(*f.backend, 4096), copied(*f.backend, 4096);
    f.backend->fill(buffer.data(), 0xab, 4096, nullptr);
    f.backend->copy(copied.data(), buffer.data(), 4096, nullptr);
    for (const Buffer* one : {&buffer, &copied}) {
        std::vector<std::uint8_t> out(4096);
        f.backend->copy_out(out.data(), one->data(), 4096);
        CHECK(out == std::vector<std::uint8_t>(4096, 0xab));
    }
}

TEST_CASE("too much memory is an error that says how much is free") {
    Fixture f;
    try {
        f.backend->allocate(std::size_t(1) << 50);
        FAIL("allocated a PiB");
    } catch (const Error& error) {
        CHECK(std::string(error.what()).find("that are free of") != std::string::npos);
    }
}

TEST_CASE("a kernel is compiled, loaded, launched, captured and timed") {
    Fixture f;
    const KernelPtr kernel = f.backend->load(kConfig, {});
    CHECK(kernel->config() == kConfig);
    CHECK(kernel->report().registers > 0);
    CHECK(f.backend->compile(kConfig, {}).image_key == kernel->report().image_key);

    constexpr int kCount = 1'000'003;
    const Buffer y(*f.backend, kCount * 4);
    f.backend->fill(y.data(), 0, kCount * 4, nullptr);
    MatmulArguments arguments{};
    arguments.y = y.data();
    arguments.n = kCount;
    arguments.rows = 3;
    kernel->launch(arguments, nullptr);
    kernel->launch(arguments, nullptr);
    std::vector<int> out(kCount);
    f.backend->copy_out(out.data(), y.data(), kCount * 4);
    CHECK(out == std::vector<int>(kCount, 6));

    MatmulArguments small = arguments;
    small.n = 1;
    CHECK_FALSE(f.backend->is_capturing(nullptr));
    bool captured = true;
    const TimedWork work[] = {{[&](int, Stream stream) {
                                   captured = captured && f.backend->is_capturing(stream);
                                   kernel->launch(arguments, stream);
                               },
                               2},
                              {[&](int, Stream stream) { kernel->launch(small, stream); }, 1}};
    const std::vector<Timing> timings = f.backend->time(work, {});
    CHECK(captured);
    REQUIRE(timings.size() == 2);
    for (const Timing& timing : timings) {
        CHECK(timing.us_p10 <= timing.us);
        CHECK(timing.us <= timing.us_p90);
        CHECK(timing.us > 0.5);
        CHECK(timing.launches > 1);
    }
    CHECK(timings[0].us > timings[1].us);  // a million ints against one
}

TEST_CASE("memory, copies and loads go on while another stream is captured") {
    Fixture f;
    const KernelPtr kernel = f.backend->load(kConfig, {});
    const Buffer y(*f.backend, 4096);
    MatmulArguments arguments{};
    arguments.y = y.data();
    arguments.n = 16;
    CUdevice device;
    check(driver().device_get(&device, 0), "open the device");
    const PrimaryContext context(device);
    const CurrentContext current(context.get());
    OwnedStream stream;
    check(driver().stream_create(stream.out(), CU_STREAM_NON_BLOCKING), "make a stream");
    check(driver().stream_begin_capture(stream.get(), CU_STREAM_CAPTURE_MODE_GLOBAL), "capture");
    kernel->launch(arguments, stream.get());
    std::thread([&] {
        const Buffer other(*f.backend, 1 << 20);
        std::vector<std::uint8_t> bytes(1 << 20, 7);
        f.backend->copy_in(other.data(), bytes.data(), bytes.size());
        f.backend->load(kConfig, {});
    }).join();
    Graph graph;
    check(driver().stream_end_capture(stream.get(), graph.out()), "end the capture");
    CHECK(graph.get());
}
