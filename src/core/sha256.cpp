#include "core/sha256.h"

#include <fmt/format.h>
#include <mxfp4/error.h>
#include <openssl/evp.h>

namespace mxfp4 {
namespace {

void require(int ok) {
    if (ok != 1)
        throw Error(ErrorCode::unsupported, "libcrypto refused SHA-256", {"", "", "check the OpenSSL configuration"});
}

struct FreeContext {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

struct Sha256::Impl {
    std::unique_ptr<EVP_MD_CTX, FreeContext> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
    require(EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr));
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

Sha256& Sha256::update(std::string_view bytes) {
    require(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()));
    return *this;
}

Sha256& Sha256::field(std::string_view bytes) { return update(fmt::format("{}:", bytes.size())).update(bytes); }

std::string Sha256::hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    require(EVP_DigestFinal_ex(impl_->context.get(), digest, &size));
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
}

std::string sha256_hex(std::string_view bytes) { return Sha256().update(bytes).hex(); }

}  // namespace mxfp4
