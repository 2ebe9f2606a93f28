// Runs a tool that the build made, as a shell would.
#pragma once

#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/file_bytes.h"
#include "support/temporary_folder.h"

namespace mxfp4::test {

inline std::string quoted(const std::string& argument) {
    std::string text = "'";
    for (const char c : argument) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
}

struct ToolRun {
    int exit_code;
    std::string out, error;
    bool one_error_line() const { return std::count(error.begin(), error.end(), '\n') == 1 && error.back() == '\n'; }
};

// The tool's path is in the environment under this name: the build puts it there.
inline ToolRun run_tool(const char* variable, const std::vector<std::string>& arguments,
                        const TemporaryFolder& folder) {
    const char* const tool = std::getenv(variable);
    if (!tool) throw std::runtime_error(std::string(variable) + " is not set: run this test through meson");
    std::string command = "cd " + quoted(folder.path().string()) + " && " + quoted(tool);
    for (const std::string& argument : arguments) command += " " + quoted(argument);
    command += " > tool.out 2> tool.err < /dev/null";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, text_of(folder / "tool.out"), text_of(folder / "tool.err")};
}

}  // namespace mxfp4::test
