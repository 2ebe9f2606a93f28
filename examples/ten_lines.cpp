// The README's lines, complete: a packed file in, y out. On the CPU, so that it runs everywhere; with Device::cuda(0)
// the same call takes device pointers and a stream.
#include <cstdio>
#include <vector>

#include <mxfp4/mxfp4.h>

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: ten_lines PACKED\n"), 2;
    try {
        auto file = mxfp4::PackedFile::open(argv[1]);
        mxfp4::Dispatcher dispatcher{{.device = mxfp4::Device::host(), .cache = "tuned.sqlite"}};
        auto weights = dispatcher.upload(file[file.names().front()]);
        const std::int64_t rows = 4, n = weights.info().n, k = weights.info().k;
        std::vector<std::uint16_t> x(rows * k, 0x3F80), y(rows * n);  // bf16; x is all ones
        std::vector<std::int32_t> offsets = {0, 3, 4};  // rows 0 to 2 go to the first of expert_ids, row 3 to the second
        std::vector<std::int32_t> expert_ids = {0, std::int32_t(weights.info().experts - 1)};
        dispatcher.prepare(weights, {.max_rows = rows});
        auto info = dispatcher.run({.x = x.data(), .weights = weights, .expert_offsets = offsets.data(),
                                    .expert_ids = expert_ids.data(), .groups = 2, .rows = rows, .y = y.data()});
        std::printf("%.*s (%s)\n", int(info.config.size()), info.config.data(), mxfp4::to_string(info.how));
        for (std::int64_t r = 0; r < rows; ++r) std::printf("y[%d, 0] = 0x%04x\n", int(r), unsigned(y[r * n]));  // the sum of its weights
        return 0;
    } catch (const mxfp4::Error& error) {
        return std::fprintf(stderr, "%s\n", error.what()), 1;
    }
}
