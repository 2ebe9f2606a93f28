// What the verbs of mxfp4-cache share, and the verbs: each returns the exit code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cache/cache.h"
#include "cache/upkeep.h"
#include "tools/device_arguments.h"
#include "tools/tool.h"

namespace mxfp4::cache_tool {

using Json = nlohmann::json;
using Path = std::filesystem::path;

struct Arguments {
    explicit Arguments(Tool& tool) : device(tool) {}

    DeviceArguments device;
    Path other, output;
    std::string key, file, layout = "native", scale_class = "folded";
    std::vector<std::int64_t> shape;
    std::int64_t rows = 0, groups = 0;
    std::optional<int> num_warps;
    bool unaligned_x = false, unaligned_y = false, dry_run = false;
};

// Throws Error cache where there is no such file.
void require_there(const Path& path);
Cache open_existing(const Path& path, Cache::Mode mode);
// Without damaged rows, of which it warns.
std::vector<Winner> winners_of(Tool& tool, const Path& path);
std::string summary(const Winner& winner);  // one line
// An object each: what it is about, under this name, and the reason.
Json to_json(const std::vector<Finding>& findings, const char* name = "key");

// cache_look.cpp
int list(Tool& tool, Arguments& arguments);
int show(Tool& tool, Arguments& arguments);
int set_status(Tool& tool, Arguments& arguments, WinnerStatus status);
// cache_explain.cpp
int explain(Tool& tool, Arguments& arguments);
// cache_upkeep.cpp
int verify_database(Tool& tool, Arguments& arguments);
int gc(Tool& tool, Arguments& arguments);
// cache_exchange.cpp
int export_winners(Tool& tool, Arguments& arguments);
int import_winners(Tool& tool, Arguments& arguments);
int merge_database(Tool& tool, Arguments& arguments);
int diff(Tool& tool, Arguments& arguments);

}  // namespace mxfp4::cache_tool
