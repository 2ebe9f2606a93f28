// GB of packed output a second of one core's time, gpt-oss-20b's gate_up_proj shape, in memory.
#include <algorithm>
#include <ctime>
#include <functional>
#include <random>
#include <vector>

#include <fmt/format.h>

#include "core/config_text.h"
#include "pack/packer.h"
#include "pack/words.h"

using namespace mxfp4;

namespace {

// Of the thread's own time, so that what else runs on the machine counts little.
double thread_seconds() {
    timespec now = {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

// The best of a few runs.
double best_gb_per_s(std::size_t bytes, const std::function<void()>& work) {
    double best = 0;
    for (int run = 0; run < 7; ++run) {
        const double start = thread_seconds();
        work();
        best = std::max(best, double(bytes) / 1e9 / (thread_seconds() - start));
    }
    return best;
}

}  // namespace

int main() {
    const std::int64_t experts = 8, n = 5760, k = 2880;
    std::vector<std::uint8_t> blocks(std::size_t(experts * n * k / 2)), scales(std::size_t(experts * n * k / 32));
    std::mt19937 random(1);
    for (auto& b : blocks) b = std::uint8_t(random());
    for (auto& s : scales) s = std::uint8_t(118 + random() % 8);
    const CheckpointView view{.blocks = blocks.data(), .scales = scales.data(), .experts = experts, .n = n, .k = k};

    fmt::print("one thread, {} experts of {} x {}, {}\n", experts, n, k,
               &word_loops() == &scalar_word_loops() ? "scalar" : "AVX2");
    fmt::print("{:8} {:>22} {:>22} {:>22}\n", "layout", "pack, kept buffer GB/s", "pack() GB/s", "unpack() GB/s");
    for (const Layout layout : {Layout::blocks, Layout::hopper, Layout::native}) {
        const PackOptions options{.layout = layout, .threads = 1};
        const PackedWeights packed = pack(view, options);
        const std::size_t bytes = packed.values.size() + packed.scales.size();
        const StoredShape stored = packed.info.stored();
        std::vector<std::uint8_t> values_out(packed.values.size()), scales_out(packed.scales.size());
        const double kept = best_gb_per_s(bytes, [&] {  // the scan for the scale class included
            const PackPlan plan = plan_pack(view, options);
            for (std::int64_t e = 0; e < experts; ++e)
                pack_expert(view, plan, e, values_out.data() + e * stored.values_bytes(),
                            scales_out.data() + e * stored.scales_bytes());
        });
        const double whole = best_gb_per_s(bytes, [&] { pack(view, options); });
        std::vector<std::uint8_t> blocks_back(blocks.size()), scales_back(scales.size());
        const double back =
            best_gb_per_s(bytes, [&] { unpack(packed.view(), blocks_back.data(), scales_back.data(), 1); });
        if (blocks_back != blocks || scales_back != scales || values_out != packed.values) {
            fmt::print("{}: the bytes differ\n", to_string(layout));
            return 1;
        }
        fmt::print("{:8} {:>22.2f} {:>22.2f} {:>22.2f}\n", to_string(layout), kept, whole, back);
    }
    return 0;
}
