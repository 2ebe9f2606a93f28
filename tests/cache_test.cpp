#include <catch2/catch_test_macros.hpp>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <thread>

#include <mxfp4/error.h>

#include "cache/cache.h"
#include "cache/sqlite.h"
#include "support/file_bytes.h"
#include "support/temporary_folder.h"
#include "support/winners.h"

using namespace mxfp4;
using namespace mxfp4::test;
using Path = std::filesystem::path;
using Mode = Cache::Mode;

namespace {

bool same(const Winner& a, const Winner& b) {
    return a.key == b.key && a.config == b.config && a.us == b.us && a.us_p10 == b.us_p10 && a.us_p90 == b.us_p90 &&
           a.us_default == b.us_default && a.status == b.status && a.tuned_at == b.tuned_at && a.image == b.image;
}

// What the call throws; empty where it throws nothing.
std::string error_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::cache);
        return error.what();
    }
    return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Runs f in a child process without a superuser's rights, who may write anywhere; true where it returns true.
bool in_child(bool drop_rights, const std::function<bool()>& f) {
    const pid_t child = fork();
    if (child == 0) {
        bool ok = true;
        if (drop_rights && geteuid() == 0) ok = setgid(65534) == 0 && setuid(65534) == 0;
        try {
            ok = ok && f();
        } catch (const std::exception& error) {
            fprintf(stderr, "child: %s\n", error.what());
            ok = false;
        }
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("winners come back as they were put") {
    const TemporaryFolder folder;
    const Path path = folder / "deep/er/tuned.sqlite";
    Winner blocked = tuned(16);
    blocked.status = WinnerStatus::blocked;
    blocked.us = std::numeric_limits<double>::denorm_min();
    blocked.us_default = 12.5 + 1.0 / 3;
    {
        Cache cache = Cache::open(path, Mode::read_write);
        CHECK(cache.all().empty());
        cache.put(tuned(64));
        cache.put(blocked);
    }
    for (const Mode mode : {Mode::read_only, Mode::read_write}) {
        const Cache cache = Cache::open(path, mode);
        REQUIRE(cache.all().size() == 2);
        CHECK(same(cache.all()[0], blocked));
        CHECK(same(cache.all()[1], tuned(64)));
        CHECK(cache.damaged().empty());
        CHECK(cache.integrity_problems().empty());
    }
}

TEST_CASE("put replaces the same key and keeps others") {
    const TemporaryFolder folder;
    Cache cache = Cache::open(folder / "a.sqlite", Mode::read_write);
    cache.put({tuned(1), tuned(2)});
    Winner faster = tuned(2);
    faster.config = kSmallConfig;
    faster.us = 3;
    cache.put(faster);
    REQUIRE(cache.all().size() == 2);
    CHECK(same(cache.all()[1], faster));
    cache.remove(faster.key.text());
    cache.remove("no such key");
    REQUIRE(cache.all().size() == 1);
    CHECK(same(cache.all()[0], tuned(1)));
}

TEST_CASE("what a person blocked stays blocked until unblocked") {
    const TemporaryFolder folder;
    Cache cache = Cache::open(folder / "a.sqlite", Mode::read_write);
    const std::string key = tuned(1).key.text();
    cache.put(tuned(1));
    cache.set_status(key, WinnerStatus::blocked);
    Winner another = tuned(1);  // the block is not on it
    another.config = kSmallConfig;
    cache.put(another);
    CHECK(cache.all()[0].status == WinnerStatus::blocked);
    CHECK(cache.all()[0].config == tuned(1).config);
    cache.set_status(key, WinnerStatus::ok);
    CHECK(same(cache.all()[0], tuned(1)));
    cache.set_status("no such key", WinnerStatus::blocked);
    CHECK(cache.all().size() == 1);
}

TEST_CASE("winners that are none are refused, and nothing of their batch is kept") {
    const TemporaryFolder folder;
    Cache cache = Cache::open(folder / "a.sqlite", Mode::read_write);
    Winner bad_time = tuned(2), bad_config = tuned(3, "wgmma_rs/native q7");
    bad_time.us_p90 = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(cache.put({tuned(1), bad_time}), Error);
    CHECK_THROWS_AS(cache.put({tuned(1), bad_config}), Error);
    CHECK(cache.all().empty());
    Winner undated = tuned(4);
    undated.tuned_at.clear();
    cache.put(undated);
    CHECK(cache.all()[0].tuned_at.size() == std::string("2026-01-31T12:00:00Z").size());
}

TEST_CASE("a missing or an empty file is an empty cache to readers") {
    const TemporaryFolder folder;
    CHECK(Cache::open(folder / "none.sqlite", Mode::read_only).all().empty());
    CHECK_FALSE(std::filesystem::exists(folder / "none.sqlite"));
    write_bytes(folder / "empty.sqlite", "");
    CHECK(Cache::open(folder / "empty.sqlite", Mode::read_only).all().empty());
    Cache cache = Cache::open(folder / "none.sqlite", Mode::read_only);
    CHECK(contains(error_of([&] { cache.put(tuned(1)); }), "reading only"));
}

TEST_CASE("files that are no tuning database are named, and left as they are") {
    const TemporaryFolder folder;
    const Path text = folder / "text.sqlite", other = folder / "other.sqlite", newer = folder / "newer.sqlite";
    write_bytes(text, std::string(5000, 'x'));
    sqlite::Database(other, sqlite::Database::Mode::read_write).execute("CREATE TABLE t (a)");
    Cache::open(newer, Mode::read_write).put(tuned(1));
    sqlite::Database(newer, sqlite::Database::Mode::read_write).execute("PRAGMA user_version = 2");
    const std::map<Path, std::string> expected = {
        {text, "not a database"}, {other, "another program"}, {newer, "newer mxfp4"}, {folder.path(), "is a folder"}};
    for (const auto& [path, message] : expected)
        for (const Mode mode : {Mode::read_only, Mode::read_write}) {
            const std::string before = text_of(path);
            const std::string said = error_of([&, &file = path] { Cache::open(file, mode); });
            INFO(said);
            CHECK(contains(said, message));
            CHECK(contains(said, path.string()));
            CHECK(text_of(path) == before);
        }
    CHECK(contains(error_of([&] { Cache::open(newer, Mode::read_only); }), "schema 2, must be at most 1"));
    CHECK(contains(error_of([&] { Cache::open(text / "below.sqlite", Mode::read_write); }), "text.sqlite"));
}

TEST_CASE("a truncated database is an error that names it") {
    const TemporaryFolder folder;
    const Path whole = folder / "whole.sqlite", cut = folder / "cut.sqlite";
    {
        Cache cache = Cache::open(whole, Mode::read_write);
        for (int rows = 0; rows < 30; ++rows) cache.put(tuned(rows));
    }
    const std::string bytes = text_of(whole);
    REQUIRE(bytes.size() > 8 * 4096);
    for (std::size_t size : {std::size_t(1), std::size_t(99), std::size_t(512), std::size_t(4096), std::size_t(5000),
                             bytes.size() / 2, bytes.size() - 4096, bytes.size() - 1}) {
        write_bytes(cut, bytes.substr(0, size));
        const std::string said = error_of([&] { Cache::open(cut, Mode::read_only).all(); });
        INFO(size << " bytes: " << said);
        CHECK(contains(said, cut.string()));
    }
}

TEST_CASE("no flipped bit is ever served") {
    const TemporaryFolder folder;
    const Path whole = folder / "whole.sqlite", flipped = folder / "flipped.sqlite";
    std::map<std::string, Winner> truth;
    {
        Cache cache = Cache::open(whole, Mode::read_write);
        for (int rows = 0; rows < 20; ++rows) {
            cache.put(tuned(rows));
            truth[tuned(rows).key.text()] = tuned(rows);
        }
    }
    const std::string bytes = text_of(whole);
    std::mt19937 random(7);
    int noticed = 0, unharmed = 0;
    for (int place = 0; place < 400; ++place) {
        std::string damaged = bytes;
        damaged[random() % damaged.size()] ^= char(1 << random() % 8);
        write_bytes(flipped, damaged);
        try {
            const Cache cache = Cache::open(flipped, Mode::read_only);
            const std::vector<Winner> winners = cache.all();
            for (const Winner& winner : winners) {
                const auto right = truth.find(winner.key.text());
                REQUIRE(right != truth.end());
                REQUIRE(same(winner, right->second));
            }
            REQUIRE(winners.size() <= truth.size());
            (winners.size() == truth.size() ? unharmed : noticed) += 1;
        } catch (const Error& error) {
            REQUIRE(error.code() == ErrorCode::cache);
            ++noticed;
        }
    }
    INFO(noticed << " noticed, " << unharmed << " in places that hold no winner");
    CHECK(noticed > 100);
}

TEST_CASE("a row whose status is none counts as damaged") {
    const TemporaryFolder folder;
    Winner foreign = tuned(1);
    foreign.status = WinnerStatus(7);
    Cache cache = Cache::open(folder / "a.sqlite", Mode::read_write);
    cache.put({foreign, tuned(2)});
    REQUIRE(cache.all().size() == 1);
    CHECK(same(cache.all()[0], tuned(2)));
    CHECK(cache.damaged() == std::vector<std::string>{tuned(1).key.text()});
}

TEST_CASE("damaged rows are named, and can be removed without the others") {
    const TemporaryFolder folder;
    const Path path = folder / "a.sqlite";
    Cache::open(path, Mode::read_write).put({tuned(1), tuned(2), tuned(3)});
    sqlite::Database(path, sqlite::Database::Mode::read_write)
        .execute("UPDATE winners SET us = us / 2 WHERE json_extract(fields, '$.rows') = '2'");
    Cache cache = Cache::open(path, Mode::read_write);
    CHECK(cache.all().size() == 2);
    CHECK(cache.damaged() == std::vector<std::string>{tuned(2).key.text()});
    CHECK(cache.integrity_problems().empty());  // SQLite sees nothing wrong
    cache.remove_damaged();
    CHECK(cache.damaged().empty());
    REQUIRE(cache.all().size() == 2);
    CHECK(same(cache.all()[0], tuned(1)));
    CHECK(same(cache.all()[1], tuned(3)));
}

TEST_CASE("eight processes that create and fill one database lose nothing") {
    const TemporaryFolder folder;
    const Path path = folder / "new/tuned.sqlite";
    std::vector<pid_t> children;
    for (int child = 0; child < 8; ++child) {
        const pid_t pid = fork();
        if (pid == 0) {
            try {
                Cache cache = Cache::open(path, Mode::read_write);
                for (int i = 0; i < 50; ++i) {
                    cache.put(tuned(child * 50 + i));
                    if (i % 10 != 0) continue;
                    cache.put(tuned(1 << 20));  // all of them write this one
                    Cache::open(path, Mode::read_only).all();
                }
            } catch (const std::exception& error) {
                fprintf(stderr, "child: %s\n", error.what());
                _exit(1);
            }
            _exit(0);
        }
        children.push_back(pid);
    }
    for (const pid_t pid : children) {
        int status = 0;
        REQUIRE(waitpid(pid, &status, 0) == pid);
        CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
    const Cache cache = Cache::open(path, Mode::read_only);
    CHECK(cache.all().size() == 401);
    CHECK(cache.damaged().empty());
    CHECK(cache.integrity_problems().empty());
}

TEST_CASE("who opens a database while another creates it sees none of it or all of it") {
    const TemporaryFolder folder;
    std::vector<std::string> errors(8);
    for (int round = 0; round < 50; ++round) {
        const Path path = folder / std::to_string(round);
        std::barrier start(8);
        std::vector<std::jthread> threads;
        for (int thread = 0; thread < 8; ++thread)
            threads.emplace_back([&, thread] {
                start.arrive_and_wait();
                try {
                    Cache::open(path, thread % 2 ? Mode::read_only : Mode::read_write);
                } catch (const std::exception& error) {
                    errors[thread] = error.what();
                }
            });
    }
    for (const std::string& error : errors) CHECK(error == "");
}

TEST_CASE("eight threads on one cache and on their own lose nothing") {
    const TemporaryFolder folder;
    const Path path = folder / "a.sqlite";
    Cache shared = Cache::open(path, Mode::read_write);
    std::vector<std::string> errors(8);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; ++thread)
        threads.emplace_back([&, thread] {
            errors[thread] = [&]() -> std::string {
                try {
                    Cache own = Cache::open(path, Mode::read_write);
                    for (int i = 0; i < 25; ++i) {
                        (i % 2 ? own : shared).put(tuned(thread * 25 + i));
                        if (i % 5 == 0) shared.all();
                    }
                } catch (const std::exception& error) {
                    return error.what();
                }
                return "";
            }();
        });
    for (std::thread& thread : threads) thread.join();
    CHECK(errors == std::vector<std::string>(8));
    CHECK(shared.all().size() == 200);
}

TEST_CASE("a database in a read-only folder opens, with a write-ahead log or without") {
    for (const bool write_ahead : {false, true}) {
        const TemporaryFolder folder;
        const Path path = folder / "a.sqlite";
        Cache::open(path, Mode::read_write).put({tuned(1), tuned(2)});
        if (write_ahead)
            sqlite::Database(path, sqlite::Database::Mode::read_write).execute("PRAGMA journal_mode = WAL");
        CHECK(Cache::open(path, Mode::read_only).all().size() == 2);
        REQUIRE(chmod(path.c_str(), 0444) == 0);
        REQUIRE(chmod(folder.path().c_str(), 0555) == 0);
        INFO("write-ahead log: " << write_ahead);
        CHECK(in_child(true, [&] { return Cache::open(path, Mode::read_only).all().size() == 2; }));
        CHECK(in_child(true, [&] {
            return contains(error_of([&] { Cache::open(path, Mode::read_write).put(tuned(3)); }), path.string());
        }));
        REQUIRE(chmod(folder.path().c_str(), 0755) == 0);
    }
}

TEST_CASE("a file without read permission is named") {
    const TemporaryFolder folder;
    const Path path = folder / "a.sqlite";
    Cache::open(path, Mode::read_write).put(tuned(1));
    REQUIRE(chmod(path.c_str(), 0) == 0);
    REQUIRE(chmod(folder.path().c_str(), 0755) == 0);
    CHECK(
        in_child(true, [&] { return contains(error_of([&] { Cache::open(path, Mode::read_only); }), path.string()); }));
}

TEST_CASE("readers undo what a writer left half done") {
    const TemporaryFolder folder;
    const Path path = folder / "a.sqlite";
    Cache::open(path, Mode::read_write).put({tuned(1), tuned(2)});
    REQUIRE(in_child(false, [&] {
        sqlite::Database database(path, sqlite::Database::Mode::read_write);
        database.execute("PRAGMA cache_size = 1; PRAGMA cache_spill = 1");
        database.execute("BEGIN IMMEDIATE; DELETE FROM winners");
        for (int i = 0; i < 50; ++i)
            database.execute("INSERT INTO winners SELECT hex(randomblob(2000)),'','','',0,0,0,0,0,'','',''");
        _exit(0);  // as a killed process would: no rollback
        return true;
    }));
    REQUIRE(std::filesystem::file_size(path.string() + "-journal") > 0);
    const Cache cache = Cache::open(path, Mode::read_only);
    CHECK(cache.all().size() == 2);
    CHECK(cache.damaged().empty());
}
