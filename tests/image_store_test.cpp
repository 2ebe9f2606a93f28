#include <catch2/catch_test_macros.hpp>

#include <mxfp4/error.h>

#include "backends/cuda/image_store.h"
#include "backends/cuda/report_text.h"
#include "core/sha256.h"
#include "support/file_bytes.h"
#include "support/temporary_folder.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

CompiledImage sample(const std::string& name) {
    CompiledImage image;
    image.report.image_key = sha256_hex(name);
    image.report.registers = 168;
    image.report.spill_bytes = 8;
    image.report.shared_bytes = 1234;
    image.report.warnings = {"ptxas warning : \xff odd bytes"};
    image.report.compile_ms = 12.5;
    image.cubin = std::string(
        "\x7f"
        "ELF\0\n\0 cubin",
        13);
    return image;
}

}  // namespace

TEST_CASE("an image reads back with its report") {
    const TemporaryFolder folder;
    const ImageStore store(folder.path() / "cubin");
    const CompiledImage image = sample("one");
    CHECK_FALSE(store.get(image.report.image_key));
    store.put(image);
    const auto back = store.get(image.report.image_key);
    REQUIRE(back);
    CHECK(back->cubin == image.cubin);
    CHECK(back->report.registers == 168);
    CHECK(back->report.spill_bytes == 8);
    CHECK(back->report.shared_bytes == 1234);
    CHECK(back->report.warnings.size() == 1);

    CHECK(store.compiler().empty());
    store.record_compiler("nvrtc 13.0.88");
    CHECK(store.compiler() == "nvrtc 13.0.88");
    const auto kept = verify_images(folder.path() / "cubin");  // the compiler's file is no image
    REQUIRE(kept.size() == 1);
    CHECK(kept[0].problem.empty());
    CHECK(kept[0].bytes > image.cubin.size());
}

TEST_CASE("every damaged byte, every truncation and a foreign name are noticed") {
    const TemporaryFolder folder;
    const ImageStore store(folder.path());
    const CompiledImage image = sample("one");
    store.put(image);
    const auto path = folder.path() / image.report.image_key;
    const std::string good = text_of(path);
    for (std::size_t i = 0; i < good.size(); ++i) {
        std::string bad = good;
        bad[i] = char(bad[i] ^ 0x10);
        folder.write(path.filename(), bad);
        REQUIRE_FALSE(store.get(image.report.image_key));
        folder.write(path.filename(), good.substr(0, i));
        REQUIRE_FALSE(store.get(image.report.image_key));
    }
    CHECK_FALSE(verify_images(folder.path()).at(0).problem.empty());
    const std::string other = sha256_hex("other");
    folder.write(other, good);
    CHECK_FALSE(store.get(other));
    store.put(image);  // replaces the damaged one
    CHECK(store.get(image.report.image_key));
    CHECK(remove_image(folder.path(), image.report.image_key));
    CHECK_FALSE(remove_image(folder.path(), image.report.image_key));
    CHECK_FALSE(remove_image(folder.path(), "../" + other));
    CHECK(verify_images(folder.path() / "missing").empty());
}

TEST_CASE("no folder keeps nothing; a folder that cannot be written says so") {
    const ImageStore nowhere("");
    nowhere.put(sample("one"));
    CHECK_FALSE(nowhere.get(sha256_hex("one")));
    const TemporaryFolder folder;
    folder.write("file", "");
    CHECK_THROWS_AS(ImageStore(folder.path() / "file").put(sample("one")), Error);
}

TEST_CASE("a compiler's log is read") {
    const char* const fine =
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'mxfp4_kernel' for 'sm_90a'\n"
        "ptxas info    : Function properties for mxfp4_kernel\n"
        "    8 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads\n"
        "ptxas info    : Used 168 registers, used 16 barriers, 8 bytes cumulative stack size, 1024 bytes smem\n";
    CompileReport report;
    read_log(fine, true, report);
    CHECK(report.registers == 168);
    CHECK(report.spill_bytes == 32);
    CHECK(report.shared_bytes == 1024);
    CHECK(report.warnings.empty());
    CHECK(report.rejected.empty());

    CompileReport spilling;
    read_log("    8 bytes stack frame, 40 bytes spill stores, 28 bytes spill loads\n", true, spilling);
    CHECK(spilling.rejected.find("spills 68 bytes") != std::string::npos);

    CompileReport serialised;
    read_log(
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to x\n",
        true, serialised);
    CHECK(serialised.warnings.size() == 1);
    CHECK(serialised.rejected.find("C7510") != std::string::npos);

    CompileReport wrong;
    read_log("kernel.cu(3): error: identifier \"x\" is undefined\n", false, wrong);
    CHECK(wrong.rejected.find("identifier \"x\" is undefined") != std::string::npos);
}
