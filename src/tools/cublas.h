// A dense BF16 matmul by cuBLAS, opened at run time: what the same flops take where weights are not packed and rows not grouped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backends/backend.h"

namespace mxfp4 {

class Cublas {
  public:
    // Throws Error unsupported where there is no cuBLAS: its message says where it was looked for.
    explicit Cublas(Backend& backend);
    ~Cublas();
    Cublas(const Cublas&) = delete;
    Cublas& operator=(const Cublas&) = delete;

    // y [rows, n] = x [rows, k] · w [n, k]ᵀ, all bf16 and contiguous.
    void matmul(const void* x, const void* w, void* y, std::int64_t rows, std::int64_t n, std::int64_t k, Stream stream);

  private:
    struct Library;
    std::unique_ptr<Library> library_;
    Backend& backend_;
    void* handle_ = nullptr;
    Buffer workspace_;  // cuBLAS would allocate one of its own inside a capture
};

}  // namespace mxfp4
