// Drives mxfp4-tune on the host: winners, the second run, JSON, exit codes, bad input.
#include <filesystem>

#include <catch2/catch_test_macros.hpp>

#include "cache/cache.h"
#include "core/config_text.h"
#include "support/run_words.h"

using namespace mxfp4;
using namespace mxfp4::test;

namespace {

struct Tune {
    TemporaryFolder folder;
    std::filesystem::path database = folder / "db" / "tuned.sqlite";

    ToolRun operator()(const std::string& arguments) const {
        return run_words("MXFP4_TUNE", "--device host --db " + database.string() + " " + arguments, folder);
    }
};

const std::string kSmall = "--shape 4,128,64 --tokens 1,8,9 --budget 5 ";

}  // namespace

TEST_CASE("tunes, stores, and reuses") {
    const Tune tune;
    const ToolRun first = tune(kSmall + "--json");
    INFO(first.error);
    REQUIRE(first.exit_code == 0);
    const auto rows = json_lines(first);
    REQUIRE(rows.size() == 3);  // 4, 32 and 36 rows: three buckets
    for (const auto& row : rows) {
        for (const char* key : {"gpu", "model", "mlp", "layout", "tokens", "rows", "k", "n", "active", "us", "us_p10",
                                "us_p90", "floor_us", "config", "how", "rel_err", "us_default"})
            CHECK(row.contains(key));
        CHECK(row["how"] == "exact");
        CHECK(row["reused"] == false);
        CHECK(row["us"] > 0);
        CHECK(row["us"] <= row["us_default"]);
        CHECK(row["rel_err"] < 2.5e-3);
        CHECK(row["layout"] == "native");
        CHECK(row["rows"] == row["tokens"].get<int>() * 4);
        CHECK(row["floor_us"].is_null());
        CHECK(parse_config(row["config"].get<std::string>()).variant == Variant::host);
    }
    const std::vector<Winner> winners = Cache::open(tune.database, Cache::Mode::read_only).all();
    REQUIRE(winners.size() == 3);

    const ToolRun second = tune(kSmall + "--json");
    REQUIRE(second.exit_code == 0);
    const auto reused = json_lines(second);
    REQUIRE(reused.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CHECK(reused[i]["reused"] == true);
        CHECK(reused[i]["config"] == rows[i]["config"]);
        CHECK(reused[i]["us"] == rows[i]["us"]);
        CHECK(reused[i]["active"] == rows[i]["active"]);
    }

    const ToolRun forced = tune(kSmall + "--json --force");
    REQUIRE(forced.exit_code == 0);
    for (const auto& row : json_lines(forced)) CHECK(row["reused"] == false);
    CHECK(Cache::open(tune.database, Cache::Mode::read_only).all().size() == 3);
}

TEST_CASE("a winner of an older kernel is tuned again and gives way") {
    const Tune tune;
    const std::string one = "--shape 4,128,64 --tokens 1 --budget 5 --json";
    REQUIRE(tune(one).exit_code == 0);
    {
        Cache cache = Cache::open(tune.database, Cache::Mode::read_write);
        Winner old = cache.all().front();
        cache.remove(old.key.text());
        old.key.kernel_hash = "0123";
        cache.put(old);
    }
    const auto rows = json_lines(tune(one));
    REQUIRE(rows.size() == 1);
    CHECK(rows[0]["reused"] == false);
    const auto winners = Cache::open(tune.database, Cache::Mode::read_only).all();
    REQUIRE(winners.size() == 1);
    CHECK(winners[0].key.kernel_hash != "0123");
}

TEST_CASE("a blocked winner stays blocked") {
    const Tune tune;
    const std::string one = "--shape 4,128,64 --tokens 1 --budget 5 --json";
    REQUIRE(tune(one).exit_code == 0);
    {
        Cache cache = Cache::open(tune.database, Cache::Mode::read_write);
        cache.set_status(cache.all().front().key.text(), WinnerStatus::blocked);
    }
    const Winner blocked = Cache::open(tune.database, Cache::Mode::read_only).all().front();
    for (const char* force : {"", " --force"}) {
        const ToolRun again = tune(one + force);
        CHECK(again.exit_code == 0);
        CHECK(again.error.find("blocked") != std::string::npos);
        const Winner after = Cache::open(tune.database, Cache::Mode::read_only).all().front();
        CHECK(after.status == WinnerStatus::blocked);
        CHECK(after.us == blocked.us);  // not the new time, nor perhaps another config
    }
}

TEST_CASE("times with the routing that it is told") {
    const Tune tune;
    const std::string shape = "--shape 20,128,64 --tokens 64 --budget 5 --json ";
    const auto active = [&](const std::string& routing) {
        const ToolRun run = tune(shape + routing);
        INFO(run.error);
        REQUIRE(run.exit_code == 0);
        REQUIRE(json_lines(run).size() == 1);
        return json_lines(run).front()["active"].get<int>();
    };
    CHECK(active("") == 20);
    CHECK(active("--force --routing sparse") == 2);
    CHECK(active("--force --routing one") == 1);
}

TEST_CASE("other layouts are other winners") {
    const Tune tune;
    for (const char* layout : {"native", "hopper", "blocks"}) {
        const ToolRun result = tune("--shape 2,64,64 --tokens 2 --budget 2 --quiet --layout " + std::string(layout));
        INFO(result.error);
        CHECK(result.exit_code == 0);
        CHECK(result.error.empty());
        CHECK(result.out.find(std::string("host/") + layout) != std::string::npos);
        CHECK(result.out.find("candidates measured") != std::string::npos);
    }
    CHECK(Cache::open(tune.database, Cache::Mode::read_only).all().size() == 3);
}

TEST_CASE("wrong arguments, and what fails") {
    const Tune tune;
    for (const char* bad : {"--shape 4,128", "--shape 4,128,64 --tokens 0", "--budget -1", "--budget x", "--budget nan", "--budget inf",
                            "--model gpt-2", "--nonsense", "--layout fast", "--routing random", "--top-k 5 --shape 4,128,64"}) {
        const ToolRun result = tune(bad);
        INFO(bad << ": " << result.error);
        CHECK(result.exit_code == 2);
        CHECK(result.out.empty());
        CHECK(result.error.starts_with("mxfp4-tune: "));
    }
    CHECK_FALSE(std::filesystem::exists(tune.database));
    CHECK(run_words("MXFP4_TUNE", "--device tpu --db " + tune.database.string(), tune.folder).exit_code == 2);

    const ToolRun missing = tune("--weights /nonexistent/file.safetensors");
    CHECK(missing.exit_code == 1);
    CHECK(missing.error.find("/nonexistent/file.safetensors") != std::string::npos);
    tune.folder.write(
        "no.sqlite",
        "this is no database, whatever its name says, and it is long enough to have a header of one hundred bytes");
    const ToolRun garbage =
        run_words("MXFP4_TUNE", "--device host --shape 2,64,64 --tokens 1 --db no.sqlite", tune.folder);
    CHECK(garbage.exit_code == 1);
    CHECK(garbage.error.find("no.sqlite") != std::string::npos);
    CHECK(run_words("MXFP4_TUNE", "--help", tune.folder).exit_code == 0);
    CHECK(run_words("MXFP4_TUNE", "--version", tune.folder).out.starts_with("mxfp4-tune "));
}
