// Runs an installed tool as a shell would, and catches what it says.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"

namespace mxfp4 {

struct ToolResult {
    int code = -1;  // -1: it did not exit by itself
    std::string out, err;

    std::vector<nlohmann::json> json_lines() const {
        std::vector<nlohmann::json> objects;
        std::istringstream in(out);
        for (std::string line; std::getline(in, line);) objects.push_back(nlohmann::json::parse(line));
        return objects;
    }
};

// arguments: as typed, the path of the tool first.
inline ToolResult run_tool(const TemporaryFolder& folder, const std::string& command) {
    const auto text_of = [](const std::filesystem::path& path) {
        std::ifstream in(path);
        return std::string{std::istreambuf_iterator<char>(in), {}};
    };
    const std::string out = (folder / "stdout").string(), err = (folder / "stderr").string();
    const int status = std::system((command + " >" + out + " 2>" + err).c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(out), text_of(err)};
}

}  // namespace mxfp4
