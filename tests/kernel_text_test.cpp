#include <catch2/catch_test_macros.hpp>

#include <mxfp4/error.h>

#include "core/sha256.h"
#include "kernel_text.h"
#include "support/temporary_folder.h"

using namespace mxfp4;

TEST_CASE("sha256 has the digests of FIPS 180-4") {
    CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(Sha256().update("a").update("bc").hex() == sha256_hex("abc"));
    CHECK(Sha256().field("ab").field("c").hex() != Sha256().field("a").field("bc").hex());
}

TEST_CASE("the contract is embedded, and its includes are followed") {
    const KernelText text;
    const KernelFiles closure = text.closure("contract/arguments.h");
    CHECK(closure.size() == 2);
    CHECK(closure.at("contract/layout.h").find("hopper_value_swizzle") != std::string::npos);
    CHECK_THROWS_AS(text.get("contract/nothing.h"), Error);
}

TEST_CASE("a folder overrides the embedded text file by file, and the hash follows what is included") {
    const TemporaryFolder folder;
    folder.write("one.cuh", "#include \"two.cuh\"\n#include \"contract/layout.h\"\n");
    folder.write("two.cuh", "#pragma once\n#include \"one.cuh\"\n");  // a ring ends
    const KernelText before(folder.path());
    CHECK(before.closure("one.cuh").size() == 3);
    CHECK(before.get("contract/layout.h") == KernelText().get("contract/layout.h"));

    folder.write("unrelated.cuh", "int nothing;\n");
    CHECK(KernelText(folder.path()).hash("one.cuh") == before.hash("one.cuh"));
    folder.write("two.cuh", "#pragma once\n");
    CHECK(KernelText(folder.path()).hash("one.cuh") != before.hash("one.cuh"));
    folder.write("contract/layout.h", "// mine\n");
    CHECK(KernelText(folder.path()).get("contract/layout.h") == "// mine\n");
    CHECK_THROWS_AS(KernelText(folder.path() / "missing"), Error);
}
