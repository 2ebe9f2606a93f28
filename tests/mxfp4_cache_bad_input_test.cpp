// mxfp4-cache with arguments that are wrong, and with files that are not what they should be.
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <random>

#include "cache/sqlite.h"
#include "support/cache_tool_run.h"

using namespace mxfp4;
using namespace mxfp4::test;

TEST_CASE("arguments that are wrong by themselves exit 2") {
    const Setup setup;
    const Strings explain = {"explain", "--device", "host", "--rows", "4"};
    const auto with = [&](const Strings& more) {
        Strings arguments = explain;
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    };
    for (const Strings& arguments : {Strings{},
                                     Strings{"frobnicate"},
                                     Strings{"list", "--frobnicate"},
                                     Strings{"list", "extra"},
                                     Strings{"show"},
                                     Strings{"block"},
                                     Strings{"import"},
                                     Strings{"merge"},
                                     Strings{"diff"},
                                     Strings{"list", "show", "x"},
                                     explain,
                                     with({"--shape", "4,128"}),
                                     with({"--shape", "4,128,64,2"}),
                                     with({"--shape", "a,b,c"}),
                                     with({"--shape", "0,128,64"}),
                                     with({"--shape", "4,0,64"}),
                                     with({"--shape", "4,128,0"}),
                                     with({"--shape", "4,128,33"}),
                                     with({"--shape", "4,-128,64"}),
                                     with({"--shape", "99999999999,128,64"}),
                                     with({"--shape", "4,128,64", "--rows", "-1"}),
                                     with({"--shape", "4,128,64", "--groups", "-1"}),
                                     with({"--shape", "4,128,64", "--layout", "odd"}),
                                     with({"--shape", "4,128,64", "--num-warps", "8"}),
                                     with({"--shape", "4,128,64", "--layout", "hopper", "--num-warps", "6"}),
                                     with({"--shape", "4,128,64", "--scale-class", "odd"}),
                                     with({"--shape", "4,128,64", "--device", "cuda:x"}),
                                     with({"--shape", "4,128,64", "--device", "tpu"})}) {
        std::string line;
        for (const std::string& argument : arguments) line += argument + " ";
        INFO(line);
        check_failure(setup.run(arguments), 2, "mxfp4-cache: ");
    }
    {
        const Environment db("MXFP4_DB", ""), cache("XDG_CACHE_HOME", ""), home("HOME", "");
        check_failure(setup.bare({"list"}), 2, "--db PATH");
    }
    const ToolRun help = setup.bare({"--help"}), version = setup.bare({"--version"}),
                  verb = setup.bare({"explain", "--help"});
    CHECK((help.exit_code == 0 && help.out.find("explain") != std::string::npos && help.error.empty()));
    CHECK((version.exit_code == 0 && version.out.starts_with("mxfp4-cache ")));
    CHECK((verb.exit_code == 0 && verb.out.find("--shape") != std::string::npos));
}

TEST_CASE("files that are no tuning database are one clear line") {
    const Setup setup;
    const auto text = setup.folder / "text", newer = setup.folder / "newer", cut = setup.folder / "cut";
    write_bytes(text, std::string(3000, 'x'));
    std::filesystem::copy_file(setup.db, newer);
    sqlite::Database(newer, sqlite::Database::Mode::read_write).execute("PRAGMA user_version = 9");
    write_bytes(cut, text_of(setup.db).substr(0, 5000));
    const std::pair<std::filesystem::path, std::string> files[] = {
        {setup.folder / "absent", "there is no tuning database"},
        {setup.folder.path(), "is a folder"},
        {text, "not a database"},
        {newer, "newer mxfp4"},
        {cut, "tuning database"}};
    for (const auto& [path, part] : files) {
        const bool exists = std::filesystem::exists(path);
        for (const Strings& verb : {Strings{"list"}, Strings{"show", "a"}, Strings{"export"}, Strings{"gc"},
                                    Strings{"block", "a"}, Strings{"diff", setup.db.string()}}) {
            Strings arguments = verb;
            arguments.insert(arguments.end(), {"--db", path.string()});
            INFO(path << " " << verb[0]);
            check_failure(setup.bare(arguments), 1, part);
            CHECK(setup.bare(arguments).error.find(path.string()) != std::string::npos);
        }
        CHECK(std::filesystem::exists(path) == exists);
        const ToolRun verified = setup.bare({"verify", "--json", "--db", path.string()});
        CHECK(verified.exit_code == 1);
        if (exists) CHECK(Json::parse(verified.out)["ok"] == false);
    }
}

TEST_CASE("the tool never prints a flipped bit") {
    const Setup setup;
    const std::string whole = text_of(setup.db);
    const Json truth = setup.json({"list"})["winners"];
    std::mt19937 random(11);
    int noticed = 0;
    for (int place = 0; place < 60; ++place) {
        std::string bytes = whole;
        bytes[random() % bytes.size()] ^= char(1 << random() % 8);
        write_bytes(setup.db, bytes);
        const ToolRun listed = setup.run({"list", "--json"});
        REQUIRE((listed.exit_code == 0 || listed.exit_code == 1));
        if (listed.exit_code == 1) {
            ++noticed;
            continue;
        }
        const Json winners = Json::parse(listed.out)["winners"];
        for (const Json& winner : winners) REQUIRE(std::find(truth.begin(), truth.end(), winner) != truth.end());
        if (winners.size() == truth.size()) continue;
        ++noticed;
        REQUIRE(setup.run({"verify"}).exit_code == 1);
    }
    CHECK(noticed > 3);
}
