// main() of the GPU tests: skips visibly (77 to meson) where there is no GPU that they could use.
#include <cstdio>

#include <catch2/catch_session.hpp>

#include "backends/backend.h"

int main(int argc, char** argv) {
    if (mxfp4::usable_cuda_devices() == 0) {
        std::puts("SKIPPED: no driver, or no GPU of compute capability 9.0");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
