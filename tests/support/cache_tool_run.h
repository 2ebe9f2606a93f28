// mxfp4-cache, run as a user would, on databases of this machine's host backend.
#pragma once

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "backends/backend.h"
#include "cache/problem_key.h"
#include "support/run_tool.h"
#include "support/temporary_folder.h"
#include "support/winners.h"

namespace mxfp4::test {

using Json = nlohmann::json;
using Strings = std::vector<std::string>;

inline const std::string kHostConfig = "host/native bm8 bn64 bk64 w2 s1 k1";

// A winner of this machine's host backend, so that explain can find it exact.
inline Winner host_tuned(std::int64_t rows) {
    static const auto backend = make_host_backend({});
    Winner winner = tuned(rows, kHostConfig);
    winner.key =
        problem_key(*backend, {}, kLayoutVersion[int(Layout::native)], {.experts = 4, .n = 128, .k = 64, .rows = rows});
    winner.key.kernel_hash = backend->kernel_hash(Variant::host);
    winner.image.clear();
    return winner;
}

// A database with winners for 16, 64 and 256 rows, and the tool.
class Setup {
  public:
    Setup() { Cache::open(db, Cache::Mode::read_write).put({host_tuned(16), host_tuned(64), host_tuned(256)}); }

    ToolRun run(Strings arguments) const {
        arguments.insert(arguments.end(), {"--db", db.string()});
        return bare(arguments);
    }
    ToolRun bare(const Strings& arguments) const { return run_tool("MXFP4_CACHE", arguments, folder); }
    // One JSON object and nothing else on stdout.
    Json json(Strings arguments, int code = 0) const {
        arguments.push_back("--json");
        const ToolRun result = run(arguments);
        INFO(result.error);
        CHECK(result.exit_code == code);
        CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);
        return Json::parse(result.out);
    }
    Json explain(Strings more) const {
        more.insert(more.begin(), {"explain", "--device", "host"});
        return json(more);
    }

    TemporaryFolder folder;
    std::filesystem::path db = folder / "tuned.sqlite";
};

// It failed as tools should: the code, one line on stderr, nothing on stdout.
inline void check_failure(const ToolRun& run, int code, const std::string& part) {
    INFO(run.error);
    CHECK(run.exit_code == code);
    CHECK(run.out == "");
    CHECK(run.one_error_line());
    CHECK(run.error.starts_with("mxfp4-cache: "));
    CHECK(run.error.find(part) != std::string::npos);
}

// An environment variable, or (empty) its absence, for a while.
class Environment {
  public:
    Environment(const char* name, const std::string& value)
        : name_(name), before_(std::getenv(name) ? std::getenv(name) : "") {
        set(value);
    }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    ~Environment() { set(before_); }

  private:
    void set(const std::string& value) { value.empty() ? unsetenv(name_) : setenv(name_, value.c_str(), 1); }
    const char* name_;
    std::string before_;
};

}  // namespace mxfp4::test
