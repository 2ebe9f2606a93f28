// SHA-256 over pieces of text (libcrypto underneath).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace mxfp4 {

class Sha256 {
  public:
    Sha256();
    Sha256(Sha256&&) noexcept;
    ~Sha256();

    Sha256& update(std::string_view bytes);
    // The length goes in first, so that {"ab", "c"} and {"a", "bc"} differ.
    Sha256& field(std::string_view bytes);
    std::string hex();  // 64 digits; ends the hash

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

std::string sha256_hex(std::string_view bytes);

}  // namespace mxfp4
