// The order of WGMMA's A fragment, asked of the hardware, against the order in which hopper and native store the weights.
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <vector>

#include "backends/backend.h"
#include "core/config_text.h"
#include "gpu/fragment_oracle.h"
#include "support/temporary_folder.h"
#include "tools/nvrtc_of_environment.h"

using namespace mxfp4;

namespace {

struct Holder {
    int thread = -1, slot = -1;  // slot = 2 * register + half
    bool operator==(const Holder&) const = default;
};
using Fragment = std::array<std::array<Holder, 16>, 64>;  // [row][k]

Fragment ask_the_hardware() {
    TemporaryFolder folder;
    folder.write("templates/mma.cuh", std::string(fragment_oracle_text()));
    BackendOptions options;
    options.nvrtc = nvrtc_of_environment();
    options.kernel_templates = folder.path() / "templates";
    const auto backend = make_cuda_backend(0, options);
    const auto kernel = backend->load(parse_config("mma/native bm64 bn64 bk128 w4 s2 k1"), {});
    std::vector<float> seen(4 * 128 * 8, -1);
    const Buffer y(*backend, seen.size() * 4);
    backend->fill(y.data(), 0xFF, y.bytes(), nullptr);
    MatmulArguments arguments{};
    arguments.y = y.data();
    kernel->launch(arguments, nullptr);
    backend->synchronize();
    backend->copy_out(seen.data(), y.data(), y.bytes());
    Fragment fragment;
    for (int i = 0; i < 128 * 8; ++i) {
        const int row = int(seen[i]), k = int(seen[1024 + i]);
        REQUIRE((seen[i] == float(row) && row >= 0 && row < 64 && k >= 0 && k < 16));
        fragment[row][k] = {int(seen[2048 + i]), int(seen[3072 + i])};
    }
    return fragment;
}

}  // namespace

TEST_CASE("hopper and native words are WGMMA's A registers, lane by lane") {
    const Fragment fragment = ask_the_hardware();
    for (int row = 0; row < 64; ++row)
        for (int k = 0; k < 16; ++k) {
            const int kb = k / 2;
            const int slot = 2 * (((row >> 3) & 1) + 2 * ((kb >> 2) & 1)) + k % 2;  // r0..r3: (row) (row + 8) (k + 8) (both)
            const i64 word = native_word_offset(row & ~8, kb & ~4, 1);
            CHECK(fragment[row][k] == Holder{int(word / 16), slot});
            // hopper: warp w reads stored rows 4w .. 4w + 3, a lane 16 bytes at row lane / 8, byte lane % 8 * 16.
            const Index2 at = hopper_value_swizzle(row & ~8, kb & ~4);
            CHECK(fragment[row][k] == Holder{int(at.row * 8 + at.col / 16), slot});
        }
}
