// Files that are not what they claim to be, and files that appear whole or not at all.
#include <catch2/catch_test_macros.hpp>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <mxfp4/error.h>

#include "pack/safetensors.h"
#include "support/temporary_folder.h"

using namespace mxfp4;

namespace {

std::vector<std::uint8_t> file_bytes(const std::string& header, std::size_t data_bytes) {
    std::vector<std::uint8_t> bytes;
    for (int i = 0; i < 8; ++i) bytes.push_back(std::uint8_t(header.size() >> 8 * i));
    bytes.insert(bytes.end(), header.begin(), header.end());
    for (std::size_t i = 0; i < data_bytes; ++i) bytes.push_back(std::uint8_t(i));
    return bytes;
}

// What the message of the refusal says; "" where the file was taken.
std::string refusal(const std::vector<std::uint8_t>& bytes) {
    try {
        parse_safetensors(bytes, "a.safetensors");
        return "";
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::bad_file);
        const std::string what = error.what();
        CHECK(what.starts_with("a.safetensors: "));
        CHECK(what.find('\n') == std::string::npos);
        CHECK(what.size() < 600);
        return what;
    }
}
std::string refusal(const std::string& header, std::size_t data_bytes) {
    return refusal(file_bytes(header, data_bytes));
}
bool says(const std::string& what, const std::string& part) {
    INFO(what);
    CHECK(what.find(part) != std::string::npos);
    return what.find(part) != std::string::npos;
}

const std::string kGood = R"({"__metadata__":{"a":"b"},"t":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
                          R"("u":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}})";

}  // namespace

TEST_CASE("a good file is read") {
    const auto bytes = file_bytes(kGood + "   ", 16);
    const SafetensorsHeader header = parse_safetensors(bytes, "a");
    REQUIRE(header.tensors.size() == 2);
    CHECK(header.tensors[0].name == "t");
    CHECK(header.tensors[0].dtype == "BF16");
    CHECK(header.tensors[0].shape == std::vector<std::int64_t>{2, 3});
    CHECK(header.tensors[1].data.size() == 4);
    CHECK(header.tensors[1].data[0] == 12);
    CHECK(header.metadata.at("a") == "b");
    CHECK(parse_safetensors(file_bytes("{}", 0), "a").tensors.empty());
    // A dtype of the future is skipped, not refused; scalars and empty tensors are tensors.
    CHECK(refusal(R"({"f":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}})", 4).empty());
    CHECK(
        refusal(
            R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
            R"("e":{"dtype":"F32","shape":[0,9],"data_offsets":[4,4]}})",
            4)
            .empty());
}

TEST_CASE("lying headers are refused by name, value and limit") {
    says(refusal(std::vector<std::uint8_t>{}),
         "too short for a safetensors file (is 0 bytes, must be at least 8 bytes)");
    says(refusal(std::vector<std::uint8_t>(7)), "is 7 bytes");
    says(refusal(std::vector<std::uint8_t>(8)), "no JSON");
    says(refusal(std::vector<std::uint8_t>(100, 0xff)), "header size makes no sense (is 18446744073709551615 bytes");
    auto long_header = file_bytes(kGood, 16);
    long_header[0] = 200;
    says(refusal(long_header), "header ends past the end of the file");
    const std::string lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:1";
    says(refusal(std::vector<std::uint8_t>(lfs.begin(), lfs.end())), "git lfs pull");

    const auto tensor = [](const std::string& text) { return "{\"t\":{" + text + "}}"; };
    says(refusal("[1]", 0), "no JSON object");
    says(refusal("{", 0), "no JSON at byte");
    says(refusal(std::string("{\"a\xff\":1}"), 0), "no JSON at byte");
    says(refusal("{\"a\":1e999}", 0), "no JSON");
    says(refusal(R"({"t":3})", 0), "tensor 't' is described by no JSON object");
    says(refusal(R"({"__metadata__":3})", 0), "__metadata__ is no JSON object");
    says(refusal(R"({"__metadata__":{"k":3}})", 0), "'k' is no string");
    says(refusal(tensor(R"("shape":[],"data_offsets":[0,1])"), 1), "tensor 't' has no dtype");
    says(refusal(tensor(R"("dtype":7,"shape":[],"data_offsets":[0,1])"), 1), "has a dtype of the wrong type");
    says(refusal(tensor(R"("dtype":"U8","data_offsets":[0,1])"), 1), "has no shape");
    says(refusal(tensor(R"("dtype":"U8","shape":[1])"), 1), "has no data_offsets");
    says(refusal(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1), "bad data_offsets (is 3 numbers");
    says(refusal(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1), "ends before it begins (is 1 to 0");
    says(refusal(tensor(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), 1),
         "past the end of the file (is data byte 2, must be at most 1)");
    says(refusal(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551615])"), 1),
         "bad data_offsets");
    says(refusal(tensor(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1), "bad shape (is '-1'");
    says(refusal(tensor(R"("dtype":"U8","shape":[1.5],"data_offsets":[0,1])"), 1), "bad shape (is '1.5'");
    says(refusal(tensor(R"("dtype":"BF16","shape":[2],"data_offsets":[0,2])"), 2),
         "does not fill its data_offsets (is 2 bytes, must be 4 for BF16 [2])");
    says(refusal(tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0), "overflows");
    says(refusal(tensor(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0), "overflows");
    says(refusal(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 2),
         "bytes behind its last tensor (is 1 bytes");
    says(refusal(tensor(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2), "leaves a gap");
    says(
        refusal(
            R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
            R"("u":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            3),
        "tensor 'u' overlaps");
    says(
        refusal(
            R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            1),
        "'t' twice");
    says(refusal(R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "'dtype' twice");
    says(refusal(R"({"t":{"dtype":"U8","shape":[[[[1]]]],"data_offsets":[0,1]}})", 1), "nests too deep");
    says(refusal("{\"a\\nb" + std::string(1000, 'x') + "\":1}", 0), "'a\\x0abxxx");
}

TEST_CASE("mutated headers are taken or refused, and what is taken stays inside the file") {
    std::mt19937 random(7);
    const auto good = file_bytes(kGood, 16);
    const std::string json_bytes = "{}[]\",:0123456789-eE.\\ \x01\xff";
    int taken = 0;
    for (int round = 0; round < 60000; ++round) {
        auto bytes = good;
        for (int change = 0; change <= int(random() % 4); ++change) {
            const std::size_t at = random() % bytes.size();
            switch (random() % 5) {
                case 0: bytes[at] ^= std::uint8_t(1 << random() % 8); break;
                case 1: bytes[at] = std::uint8_t(json_bytes[random() % json_bytes.size()]); break;
                case 2: bytes.resize(at + 1); break;
                case 3: bytes.insert(bytes.begin() + at, std::uint8_t(json_bytes[random() % json_bytes.size()])); break;
                case 4: bytes.erase(bytes.begin() + at); break;
            }
            if (bytes.empty()) bytes.push_back(0);
        }
        // Half of them with a header size that still fits, so that the JSON is what lies.
        if (round % 2 && bytes.size() > 24) {
            const std::size_t size = bytes.size() - 8 - 16;
            for (int i = 0; i < 8; ++i) bytes[i] = std::uint8_t(size >> 8 * i);
        }
        try {
            const SafetensorsHeader header = parse_safetensors(bytes, "a");
            ++taken;
            for (const Tensor& tensor : header.tensors) {
                REQUIRE(tensor.data.data() >= bytes.data());
                REQUIRE(tensor.data.data() + tensor.data.size() <= bytes.data() + bytes.size());
            }
        } catch (const Error& error) {
            REQUIRE(error.code() == ErrorCode::bad_file);
        }
    }
    CHECK(taken > 100);
    CHECK(taken < 30000);
}

TEST_CASE("files that cannot be read say why") {
    const TemporaryFolder folder;
    const auto why = [](const std::filesystem::path& path) -> std::string {
        try {
            SafetensorsFile file(path);
            return "";
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::io);
            CHECK(std::string(error.what()).starts_with(path.string()));
            return error.what();
        }
    };
    says(why(folder / "none"), "No such file");
    says(why(folder / ""), "is a folder");
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    says(why(folder / "pipe"), "no regular file");
    if (::geteuid() != 0) {  // root reads everything
        std::ofstream(folder / "secret") << "x";
        std::filesystem::permissions(folder / "secret", std::filesystem::perms::none);
        says(why(folder / "secret"), "Permission denied");
    }
    std::ofstream(folder / "empty");
    CHECK_THROWS_AS(SafetensorsFile(folder / "empty"), Error);
}

TEST_CASE("what is written reads back") {
    const TemporaryFolder folder;
    const std::vector<std::uint8_t> a = {1, 2, 3, 4, 5, 6}, b = {9, 8, 7, 6};
    {
        SafetensorsWriter writer(
            folder / "out.safetensors",
            {{.name = "a", .dtype = "BF16", .shape = {1, 3}}, {.name = "b", .dtype = "F32", .shape = {1}}},
            {{"k", "longer"}});
        writer.write(1, 0, b);
        writer.write(0, 2, std::span(a).subspan(2));
        writer.write(0, 0, std::span(a).first(2));
        writer.set_metadata("k", "short");
        writer.finish();
        CHECK(!std::filesystem::exists(folder / "out.safetensors"));
        CHECK(std::filesystem::file_size(writer.temporary_path()) == writer.file_bytes());
        writer.commit();
    }
    CHECK(folder.files() == std::vector<std::string>{"out.safetensors"});
    const SafetensorsFile file(folder / "out.safetensors");
    REQUIRE(file.find("a"));
    CHECK(std::vector(file.find("a")->data.begin(), file.find("a")->data.end()) == a);
    CHECK(std::vector(file.find("b")->data.begin(), file.find("b")->data.end()) == b);
    CHECK(file.metadata().at("k") == "short");
    CHECK(file.find("c") == nullptr);
    file.forget(file.find("b")->data);
    CHECK(file.find("b")->data[0] == 9);
}

TEST_CASE("without commit nothing is left, and what was there stays") {
    const TemporaryFolder folder;
    std::ofstream(folder / "out") << "old";
    { SafetensorsWriter writer(folder / "out", {{.name = "a", .dtype = "U8", .shape = {4}}}, {}); }
    CHECK(folder.files() == std::vector<std::string>{"out"});
    CHECK(std::filesystem::file_size(folder / "out") == 3);

    const std::vector<Tensor> tensors = {{.name = "a", .dtype = "U8", .shape = {4}}};
    CHECK_THROWS_AS(SafetensorsWriter(folder / "none" / "out", tensors, {}), Error);
    CHECK_THROWS_AS(SafetensorsWriter(folder / "", tensors, {}), Error);
    CHECK_THROWS_AS(SafetensorsWriter("/dev/full", tensors, {}), Error);
    CHECK_THROWS_AS(
        SafetensorsWriter(folder / "big", {{.name = "a", .dtype = "F64", .shape = {INT64_MAX, INT64_MAX}}}, {}), Error);
    CHECK(folder.files() == std::vector<std::string>{"out"});
}

TEST_CASE("a file size limit, as a full disk, is an error and leaves nothing") {
    const TemporaryFolder folder;
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit old = {};
    ::getrlimit(RLIMIT_FSIZE, &old);
    const rlimit small = {.rlim_cur = 4096, .rlim_max = old.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    std::string reserve, write;
    try {
        SafetensorsWriter writer(folder / "out", {{.name = "a", .dtype = "U8", .shape = {8192}}}, {});
    } catch (const Error& error) {
        reserve = error.what();
    }
    try {
        NewFile file(folder / "out", 100);
        file.write(4000, std::vector<std::uint8_t>(200));
    } catch (const Error& error) {
        write = error.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &old);
    says(reserve, "cannot reserve");
    says(write, "cannot write");
    CHECK(folder.files().empty());
}
