#include "core/sha256.h"

#include <new>

#include <openssl/evp.h>

namespace mxfp4 {

std::string sha256_hex(std::string_view bytes) {
    unsigned char digest[32];
    // Fails only where libcrypto cannot allocate its context.
    if (EVP_Digest(bytes.data(), bytes.size(), digest, nullptr, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
    std::string hex;
    for (const unsigned char byte : digest) {
        hex += "0123456789abcdef"[byte >> 4];
        hex += "0123456789abcdef"[byte & 15];
    }
    return hex;
}

}  // namespace mxfp4
