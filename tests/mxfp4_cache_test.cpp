// Drives mxfp4-cache as a user would: every verb, its JSON and its exit codes.
#include <catch2/catch_test_macros.hpp>

#include "backends/cuda/image_store.h"
#include "cache/sqlite.h"
#include "core/config_text.h"
#include "support/cache_tool_run.h"

using namespace mxfp4;
using namespace mxfp4::test;

TEST_CASE("list and show print winners") {
    const Setup setup;
    const Json listed = setup.json({"list"});
    REQUIRE(listed["winners"].size() == 3);
    for (const Json& winner : listed["winners"]) {
        CHECK(winner["config"] == kHostConfig);
        CHECK(winner["us"] == 10.5);
        CHECK(winner["us_default"] == 12.25);
        CHECK(winner["status"] == "ok");
        CHECK(winner["tuned_at"] == "2026-01-31T12:00:00Z");
        CHECK(winner["fields"]["n"] == 128);
        CHECK(winner["fields"]["layout"] == "native");
        CHECK(Key::parse(winner["key"].get<std::string>()).k == 64);
    }
    const std::string key = host_tuned(64).key.text();
    const ToolRun text = setup.run({"list"});
    CHECK(text.out.find(key) != std::string::npos);
    for (const std::string& name : {key, host_tuned(64).key.hash(), host_tuned(64).key.hash().substr(0, 12)}) {
        CHECK(setup.json({"show", name})["key"] == key);
        CHECK(setup.run({"show", name}).out.find("rows              64") != std::string::npos);
    }
    check_failure(setup.run({"show", "zzz"}), 1, "no winner has this key (is 'zzz'");
    // --db and --json before the verb, and from the environment.
    CHECK(setup.bare({"--json", "--db", setup.db.string(), "list"}).out == setup.run({"list", "--json"}).out);
    {
        const Environment db("MXFP4_DB", setup.db.string());
        CHECK(setup.bare({"list", "--json"}).out == setup.run({"list", "--json"}).out);
    }
    CHECK(setup.run({"list", "--quiet"}).error == "");
}

TEST_CASE("an ambiguous hash is one clear line") {
    const Setup setup;
    std::vector<Winner> many;
    for (const std::int64_t rows : rows_buckets(1024)) many.push_back(host_tuned(rows));
    REQUIRE(many.size() > 16);  // so that two hashes begin alike
    Cache::open(setup.db, Cache::Mode::read_write).put(many);
    std::string first;
    for (const Winner& a : many)
        for (const Winner& b : many)
            if (a.key != b.key && a.key.hash()[0] == b.key.hash()[0]) first = a.key.hash().substr(0, 1);
    check_failure(setup.run({"show", first}), 1, "more than one winner has this key");
}

TEST_CASE("explain says exact, near and fallback, and why") {
    const Setup setup;
    const Strings shape = {"--shape", "4,128,64"};
    const auto explain = [&](const Strings& more) {
        Strings arguments = shape;
        arguments.insert(arguments.end(), more.begin(), more.end());
        return setup.explain(arguments);
    };
    const Json exact = explain({"--rows", "50"});
    CHECK(exact["how"] == "exact");
    CHECK(exact["config"] == kHostConfig);
    CHECK(exact["key"] == host_tuned(64).key.text());
    CHECK(exact["nearest"]["key"] == host_tuned(64).key.text());
    CHECK(exact["nearest"]["differs"] == Json::array());

    const Json near = explain({"--rows", "90"});
    CHECK(near["how"] == "near");
    CHECK(near["nearest"]["key"] == host_tuned(64).key.text());
    CHECK(near["nearest"]["differs"] == Json::array({"rows"}));

    const Json far = explain({"--rows", "100000"});
    CHECK(far["how"] == "fallback");
    CHECK(far["nearest"]["key"] == host_tuned(256).key.text());
    CHECK(parse_config(far["config"].get<std::string>()).variant == Variant::host);
    CHECK(explain({"--rows", "50", "--unaligned-x"})["how"] == "fallback");
    CHECK(explain({"--rows", "50", "--scale-class", "plain"})["nearest"]["differs"] == Json::array({"scale_class"}));
    CHECK(explain({"--rows", "50", "--layout", "hopper", "--num-warps", "4"})["nearest"]["differs"] ==
          Json::array({"layout", "layout_version", "scale_warps"}));
    CHECK(explain({"--rows", "50", "--groups", "3"})["how"] == "near");

    const ToolRun text = setup.run({"explain", "--device", "host", "--shape", "4,128,64", "--rows", "90"});
    CHECK(text.out.find("how      near") != std::string::npos);
    CHECK(text.out.find("rows (64, wanted 96)") != std::string::npos);
    CHECK(setup.run({"explain", "--shape", "4,128,64", "--rows", "1"}).error.find("device: ") != std::string::npos);
    // Without a database everything is a fallback.
    const ToolRun none = setup.bare({"explain", "--json", "--device", "host", "--shape", "4,128,64", "--rows", "64",
                                     "--db", (setup.folder / "none").string()});
    CHECK(none.exit_code == 0);
    CHECK(Json::parse(none.out)["how"] == "fallback");
    CHECK(Json::parse(none.out)["nearest"] == Json());
}

TEST_CASE("explain names candidates that check() refuses") {
    const Setup setup;
    Winner impossible = host_tuned(32);
    impossible.config = "host/native bm8 bn100 bk64 w2 s1 k1";
    Cache::open(setup.db, Cache::Mode::read_write).put(impossible);
    const Json said = setup.explain({"--shape", "4,128,64", "--rows", "32"});
    CHECK(said["how"] == "near");
    CHECK(said["config"] == kHostConfig);
    REQUIRE(said["refused"].size() == 1);
    CHECK(said["refused"][0]["reason"] == reject_text(Reject::block_n_not_supported));
    const Json bad = setup.json({"verify"}, 1);
    CHECK(bad["bad"][0]["key"] == impossible.key.text());
}

TEST_CASE("block and unblock") {
    const Setup setup;
    const std::string key = host_tuned(64).key.text();
    CHECK(setup.json({"block", key}) == Json{{"key", key}, {"status", "blocked"}});
    CHECK(setup.json({"show", key})["status"] == "blocked");
    const Json said = setup.explain({"--shape", "4,128,64", "--rows", "64"});
    CHECK(said["how"] == "fallback");  // the neighbours have the config that was blocked
    CHECK(said["nearest"]["differs"] == Json::array({"status"}));
    CHECK(setup.run({"unblock", host_tuned(64).key.hash()}).exit_code == 0);
    CHECK(setup.explain({"--shape", "4,128,64", "--rows", "64"})["how"] == "exact");
    check_failure(setup.run({"block", "zzz"}), 1, "no winner has this key");
}

TEST_CASE("verify names a damaged row and a damaged image") {
    const Setup setup;
    CHECK(setup.json({"verify"}) == Json{{"ok", true}, {"bad", Json::array()}});
    const ImageStore images(image_folder(setup.db));
    CompiledImage image;
    image.cubin = "machine code";
    for (const char digit : {'a', 'b'}) {
        image.report.image_key = std::string(64, digit);
        images.put(image);
    }
    CHECK(setup.run({"verify"}).exit_code == 0);
    const auto path = image_folder(setup.db) / std::string(64, 'b');
    std::string bytes = text_of(path);
    bytes.back() ^= 1;
    write_bytes(path, bytes);
    sqlite::Database(setup.db, sqlite::Database::Mode::read_write)
        .execute("UPDATE winners SET us = 1 WHERE json_extract(fields, '$.rows') = '64'");
    const Json said = setup.json({"verify"}, 1);
    CHECK(said["ok"] == false);
    REQUIRE(said["bad"].size() == 2);
    CHECK(said["bad"][0]["key"] == host_tuned(64).key.text());
    CHECK(said["bad"][1]["key"] == std::string(64, 'b'));
    CHECK(setup.json({"list"})["winners"].size() == 2);

    // gc takes away what verify named, and images that nobody needs.
    const Json would = setup.json({"gc", "--dry-run"});
    CHECK(would["rows"].size() == 1);
    CHECK(would["images"].size() == 2);
    CHECK(setup.json({"verify"}, 1) == said);
    Json did = setup.json({"gc"});
    CHECK(did["dry_run"] == false);
    did["dry_run"] = true;
    CHECK(did == would);
    CHECK(setup.json({"verify"})["ok"] == true);
    CHECK(setup.json({"list"})["winners"].size() == 2);
    CHECK(std::filesystem::is_empty(image_folder(setup.db)));
    CHECK(setup.json({"gc"})["rows"].empty());

    // What is no file is named too, and gc says that it could not take it away.
    std::filesystem::create_directories(path / "full");
    CHECK(setup.json({"verify"}, 1)["bad"][0]["key"] == std::string(64, 'b'));
    check_failure(setup.run({"gc"}), 1, "cannot be removed");
}

TEST_CASE("gc removes winners of another kernel text") {
    const Setup setup;
    Winner stale = host_tuned(1024);
    stale.key.kernel_hash = "old";
    Cache::open(setup.db, Cache::Mode::read_write).put(stale);
    CHECK(setup.explain({"--shape", "4,128,64", "--rows", "1024"})["nearest"]["differs"] ==
          Json::array({"kernel_hash"}));
    const Json said = setup.json({"gc"});
    REQUIRE(said["rows"].size() == 1);
    CHECK(said["rows"][0]["key"] == stale.key.text());
    CHECK(setup.json({"list"})["winners"].size() == 3);
}

TEST_CASE("export and import carry everything, once") {
    const Setup setup;
    const std::string file = (setup.folder / "winners.json").string(),
                      other = (setup.folder / "new/other.sqlite").string();
    CHECK(setup.run({"block", host_tuned(16).key.text()}).exit_code == 0);
    CHECK(setup.json({"export", "-o", file})["winners"] == 3);
    CHECK(Json::parse(text_of(file)) == setup.json({"export"}));
    const auto import = [&](const std::string& from) { return setup.bare({"import", from, "--json", "--db", other}); };
    const ToolRun first = import(file);
    CHECK(first.exit_code == 0);
    CHECK(Json::parse(first.out)["taken"].size() == 3);
    CHECK(Json::parse(import(file).out) == Json{{"taken", Json::array()}, {"kept", 3}});
    CHECK(setup.run({"diff", other}).exit_code == 0);
    CHECK(setup.bare({"export", "--json", "--db", other}).out == setup.run({"export", "--json"}).out);

    const std::string before = text_of(other);
    Json broken = Json::parse(text_of(file));
    broken["winners"][1]["us"] = -3;
    write_bytes(file, broken.dump());
    check_failure(import(file), 1, "winner 2");
    write_bytes(file, "{");
    check_failure(import(file), 1, "is no JSON");
    check_failure(import((setup.folder / "absent.json").string()), 1, "cannot read");
    CHECK(text_of(other) == before);
    check_failure(setup.run({"export", "-o", (setup.folder / "absent/out.json").string()}), 1, "cannot write");
}

TEST_CASE("diff and merge") {
    const Setup setup;
    const auto other = setup.folder / "other.sqlite";
    Winner newer = host_tuned(64);
    newer.config = "host/native bm16 bn64 bk64 w2 s1 k1";
    newer.tuned_at = "2026-02-01T00:00:00Z";
    Cache::open(other, Cache::Mode::read_write).put({host_tuned(16), newer, host_tuned(32)});
    const Json different = setup.json({"diff", other.string()}, 1);
    CHECK(different["only_here"] == Json::array({host_tuned(256).key.text()}));
    CHECK(different["only_there"] == Json::array({host_tuned(32).key.text()}));
    REQUIRE(different["changed"].size() == 1);
    CHECK(different["changed"][0]["there"]["config"] == newer.config);

    const Json merged = setup.json({"merge", other.string()});
    CHECK(merged["taken"].size() == 2);
    CHECK(merged["kept"] == 1);
    CHECK(setup.json({"show", newer.key.text()})["config"] == newer.config);
    CHECK(setup.json({"list"})["winners"].size() == 4);
    CHECK(setup.json({"merge", other.string()})["taken"].empty());
    check_failure(setup.run({"merge", (setup.folder / "absent").string()}), 1, "there is no tuning database");
}
