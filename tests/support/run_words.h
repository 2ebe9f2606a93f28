// run_tool() for arguments without blanks, and results that are JSON lines.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/run_tool.h"

namespace mxfp4::test {

inline ToolRun run_words(const char* variable, const std::string& arguments, const TemporaryFolder& folder) {
    std::istringstream in(arguments);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    return run_tool(variable, words, folder);
}

inline std::vector<nlohmann::json> json_lines(const ToolRun& run) {
    std::vector<nlohmann::json> objects;
    std::istringstream in(run.out);
    for (std::string line; std::getline(in, line);) objects.push_back(nlohmann::json::parse(line));
    return objects;
}

}  // namespace mxfp4::test
