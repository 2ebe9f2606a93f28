// The maps of weights that launches share.
#include <catch2/catch_test_macros.hpp>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "core/config_text.h"
#include "dispatcher/kept_maps.h"

using namespace mxfp4;

namespace {

class NamedKernel : public Kernel {
  public:
    explicit NamedKernel(const char* text) : config_(parse_config(text)) {}
    const KernelConfig& config() const override { return config_; }
    const CompileReport& report() const override { return report_; }
    void launch(MatmulArguments&, Stream) const override {}

  private:
    KernelConfig config_;
    CompileReport report_;
};

constexpr const char* kMapped = "wgmma_rs/native bm16 bn64 bk64 w8 s6 k1";

// Arguments as a launch leaves them, with maps that can be told apart.
MatmulArguments launched(u64 mark) {
    MatmulArguments arguments;
    for (u64& word : arguments.values_map.words) word = mark;
    for (u64& word : arguments.scales_map.words) word = ~mark;
    return arguments;
}

bool holds(const MatmulArguments& arguments, u64 mark) {
    const MatmulArguments expected = launched(mark);
    return arguments.weights_mapped == 1 && std::memcmp(&arguments.values_map, &expected.values_map, sizeof(TensorMap)) == 0 &&
           std::memcmp(&arguments.scales_map, &expected.scales_map, sizeof(TensorMap)) == 0;
}

}  // namespace

TEST_CASE("maps are kept for each kernel") {
    const NamedKernel one(kMapped), two(kMapped), without("mma/native bm8 bn64 bk128 w4 s4 k1");
    KeptMaps maps;
    MatmulArguments arguments;
    CHECK_FALSE(maps.find(one, arguments));
    CHECK(arguments.weights_mapped == 0);
    maps.keep(one, launched(1));
    CHECK_FALSE(maps.find(two, arguments));
    maps.keep(two, launched(2));
    maps.keep(one, launched(3));  // another thread was as quick
    REQUIRE(maps.find(one, arguments));
    CHECK(holds(arguments, 1));
    REQUIRE(maps.find(two, arguments));
    CHECK(holds(arguments, 2));
    maps.keep(without, launched(4));  // it has no maps of weights
    CHECK_FALSE(maps.find(without, arguments));
}

TEST_CASE("maps that find no place are not kept") {
    std::vector<std::unique_ptr<NamedKernel>> kernels;
    KeptMaps maps;
    for (int i = 0; i <= KeptMaps::kMost; ++i) {
        kernels.push_back(std::make_unique<NamedKernel>(kMapped));
        maps.keep(*kernels.back(), launched(u64(i)));
    }
    for (int i = 0; i <= KeptMaps::kMost; ++i) {
        MatmulArguments arguments;
        REQUIRE(maps.find(*kernels[std::size_t(i)], arguments) == (i < KeptMaps::kMost));
        if (i < KeptMaps::kMost) CHECK(holds(arguments, u64(i)));
    }
}

TEST_CASE("threads that find while others keep get whole maps") {
    std::vector<std::unique_ptr<NamedKernel>> kernels;
    for (int i = 0; i < KeptMaps::kMost; ++i) kernels.push_back(std::make_unique<NamedKernel>(kMapped));
    KeptMaps maps;
    std::atomic<int> torn = 0, found = 0;
    const auto launch_all = [&] {
        for (int i = 0; i < KeptMaps::kMost; ++i) {
            MatmulArguments arguments = launched(u64(i));
            if (!maps.find(*kernels[std::size_t(i)], arguments))
                maps.keep(*kernels[std::size_t(i)], arguments);
            if (maps.find(*kernels[std::size_t(i)], arguments)) ++found;
            if (!holds(arguments, u64(i))) ++torn;
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(launch_all);
    for (std::thread& thread : threads) thread.join();
    CHECK(torn == 0);
    CHECK(found == 4 * KeptMaps::kMost);
}
