// The JIT with kernels of the test's own, in an override folder. Needs NVRTC, no GPU.
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_macros.hpp>

#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "backends/cuda/compile_many.h"
#include "core/config_text.h"
#include "support/temporary_folder.h"
#include "tools/nvrtc_of_environment.h"

using namespace mxfp4;

namespace {

constexpr const char* kHead =
    "#pragma once\n#include \"contract/arguments.h\"\n#include \"contract/config.h\"\nnamespace mxfp4 {\n"
    "template <KernelConfig C, WeightsFormat F> __device__ void run_naive(const MatmulArguments& a) {\n"
    "    static_assert(check(C, F) == Reject::none);\n";
const KernelConfig kConfig = parse_config("naive/native bm64 bn64 bk64 w1 s1 k1");
constexpr WeightsFormat kFormat{};

// An override folder with a naive kernel of that body, and a place for images.
struct Templates {
    explicit Templates(const std::string& body) { rewrite(body); }
    void rewrite(const std::string& body) const { folder.write("templates/naive.cuh", kHead + body + "\n}\n}\n"); }
    BackendOptions options() const {
        return {folder.path() / "images", nvrtc_of_environment(), folder.path() / "templates", {}};
    }
    TemporaryFolder folder;
};
constexpr const char* kBody = "static_cast<int*>(a.y)[threadIdx.x] = a.rows + C.block_m;";

}  // namespace

TEST_CASE("a kernel compiles, is kept, and is found again") {
    const Templates templates(kBody);
    Jit first(templates.options());
    const auto image = first.compile(kConfig, kFormat);
    CHECK(image->report.rejected == "");
    CHECK(image->report.registers > 0);
    CHECK(image->report.spill_bytes == 0);
    CHECK(image->report.shared_bytes == shared_bytes(kConfig));
    CHECK(image->report.compile_ms > 0);
    CHECK(
        image->cubin.starts_with("\x7f"
                                 "ELF"));
    CHECK(first.compile(kConfig, kFormat) == image);
    CHECK(first.compiler_build().starts_with("nvrtc 1"));

    Jit second(templates.options());
    const auto kept = second.compile(kConfig, kFormat);
    CHECK(kept->report.compile_ms == 0);
    CHECK(kept->cubin == image->cubin);

    templates.rewrite("static_cast<int*>(a.y)[threadIdx.x] = 1;");
    Jit third(templates.options());
    CHECK(third.compile(kConfig, kFormat)->report.image_key != image->report.image_key);
    CHECK(third.kernel_hash(Variant::naive) != first.kernel_hash(Variant::naive));
    CHECK(third.kernel_hash(Variant::host) == "");  // a row that names it is of another text, no error
    CHECK(verify_images(templates.options().images).size() == 2);
}

TEST_CASE("a damaged image is compiled again and replaced") {
    const Templates templates(kBody);
    const std::string key = Jit(templates.options()).compile(kConfig, kFormat)->report.image_key;
    const auto images = templates.options().images;
    std::filesystem::resize_file(images / key, 200);
    CHECK_FALSE(verify_images(images).at(0).problem.empty());
    CHECK(Jit(templates.options()).compile(kConfig, kFormat)->report.compile_ms > 0);
    CHECK(verify_images(images).at(0).problem.empty());
}

TEST_CASE("kept images serve without NVRTC, anything else is an error that says what to install") {
    const Templates templates(kBody);
    const std::string build = Jit(templates.options()).compiler_build();
    BackendOptions without = templates.options();
    without.nvrtc = templates.folder.path() / "no-libnvrtc.so";
    Jit empty(without);
    CHECK_THROWS_AS(empty.compile(kConfig, kFormat), Error);

    Jit(templates.options()).compile(kConfig, kFormat);
    int warnings = 0;
    without.log = [&](LogLevel, const std::string&) { ++warnings; };
    Jit jit(without);
    CHECK(jit.compile(kConfig, kFormat)->report.compile_ms == 0);
    CHECK(jit.compiler_build() == build);
    CHECK(warnings == 1);
    try {
        jit.compile(kConfig, {Layout::native, 0, ScaleClass::plain});
        FAIL("compiled without NVRTC");
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::compile);
        CHECK(std::string(error.what()).find("nvidia-cuda-nvrtc") != std::string::npos);
    }
}

TEST_CASE("what does not compile, spills or is inadmissible is rejected by a report") {
    const Templates templates("undeclared = 1;");
    const CompileReport error = Jit(templates.options()).compile(kConfig, kFormat)->report;
    CHECK(error.rejected.find("\"undeclared\" is undefined") != std::string::npos);
    CHECK(Jit(templates.options()).compile(kConfig, kFormat)->report.compile_ms == 0);  // the verdict is kept too

    // 400 values that live across a barrier do not fit 255 registers.
    templates.rewrite(
        "float v[400]; auto* y = static_cast<volatile float*>(a.y);\n"
        "#pragma unroll\nfor (int i = 0; i < 400; ++i) v[i] = y[i];\n"
        "__syncthreads();\n"
        "#pragma unroll\nfor (int i = 0; i < 400; ++i) y[i] = v[399 - i];\n");
    const CompileReport spills = Jit(templates.options()).compile(kConfig, kFormat)->report;
    CHECK(spills.registers > 200);
    CHECK(spills.spill_bytes > 400);
    CHECK(spills.rejected.find("spills") != std::string::npos);

    // An index that the compiler cannot know keeps an array in local memory: nothing is spilled, and it is as slow.
    templates.rewrite(
        "float v[128] = {}; auto* y = static_cast<volatile float*>(a.y);\n"
        "for (int i = 0; i < a.rows; ++i) v[i * a.n & 127] += y[i];\n"
        "y[0] = v[a.k & 127];\n");
    const CompileReport stack = Jit(templates.options()).compile(kConfig, kFormat)->report;
    CHECK(stack.spill_bytes == 512);
    CHECK(stack.rejected.find("spills 512 bytes") != std::string::npos);

    KernelConfig wide = kConfig;
    wide.block_n = 128;
    CHECK(Jit(templates.options()).compile(wide, kFormat)->report.rejected ==
          reject_text(Reject::block_n_not_supported));
}

TEST_CASE("many threads that want one kernel compile it once") {
    const Templates templates(kBody);
    Jit jit(templates.options());
    std::vector<Jit::ImagePtr> images(8);
    std::vector<std::thread> threads;
    for (auto& image : images) threads.emplace_back([&] { image = jit.compile(kConfig, kFormat); });
    for (auto& thread : threads) thread.join();
    for (const auto& image : images) CHECK(image == images[0]);

    const std::vector<CompileJob> jobs = {{kConfig, kFormat},
                                          {kConfig, {Layout::native, 0, ScaleClass::plain}},
                                          {parse_config("naive/hopper bm64 bn64 bk64 w1 s1 k1"), {Layout::hopper, 8}}};
    std::size_t done = 0;
    const auto reports = compile_many(jit, jobs, 3, [&](std::size_t, const CompileReport&) { ++done; });
    CHECK(done == 3);
    CHECK(reports[0].image_key == images[0]->report.image_key);
    CHECK(reports[1].image_key != reports[2].image_key);
}

TEST_CASE("images that cannot be kept are no failure, and are told once") {
    const Templates templates(kBody);
    BackendOptions options = templates.options();
    options.images = templates.folder.write("file", "") / "images";
    int warnings = 0;
    options.log = [&](LogLevel, const std::string&) { ++warnings; };
    Jit jit(options);
    CHECK(jit.compile(kConfig, kFormat)->report.rejected == "");
    CHECK(jit.compile(kConfig, {Layout::native, 0, ScaleClass::plain})->report.rejected == "");
    CHECK(warnings == 1);
}

int main(int argc, char** argv) {
    try {
        Nvrtc::open(nvrtc_of_environment());
    } catch (const Error& error) {
        fmt::print("SKIPPED: {}\n", error.what());
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
