// What the verbs of mxfp4-cache share, and the verbs: each returns the exit code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cache/cache.h"
#include "tools/device_arguments.h"
#include "tools/tool.h"

namespace mxfp4::cache_tool {

struct Arguments {
    explicit Arguments(Tool& tool) : device(tool) {}

    DeviceArguments device;
    std::filesystem::path other, output;
    std::string key, file, layout = "native", scale_class = "folded";
    std::vector<std::int64_t> shape;
    std::int64_t rows = 0, groups = 0;
    std::optional<int> num_warps;
    bool unaligned_x = false, unaligned_y = false, dry_run = false;
};

// Throws Error cache where there is no such file.
void require_there(const std::filesystem::path& path);
Cache open_existing(const std::filesystem::path& path, Cache::Mode mode);
// Without damaged rows, of which it warns.
std::vector<Winner> winners_of(Tool& tool, const std::filesystem::path& path);
std::string summary(const Winner& winner);  // one line

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
