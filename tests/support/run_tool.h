// Runs one of the project's command-line tools as a user would.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace mxfp4 {

struct ToolRun {
    int code = -1;  // exit code; -1: ended by a signal
    std::string out, err;
};

// The build folder's layout says where a tool is, so that tests run wherever the folder lies. Output goes through files in
// the given folder. environment: NAME=VALUE, beside what is there; NAME= takes a variable away.
inline ToolRun run_tool(const std::string& name, const std::vector<std::string>& arguments, const std::filesystem::path& folder,
                        const std::vector<std::string>& environment = {}) {
    const auto tool = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "src" / "tools" / name;
    const auto out = folder / "run_tool.out", err = folder / "run_tool.err";
    const pid_t child = fork();
    if (child == 0) {
        const int to_out = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        const int to_err = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (to_out < 0 || to_err < 0 || dup2(to_out, STDOUT_FILENO) < 0 || dup2(to_err, STDERR_FILENO) < 0) _exit(126);
        for (const std::string& variable : environment) {
            const std::size_t equals = variable.find('=');
            if (equals + 1 == variable.size())
                unsetenv(variable.substr(0, equals).c_str());
            else
                setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
        }
        std::vector<char*> argv = {const_cast<char*>(name.c_str())};
        for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
        argv.push_back(nullptr);
        execv(tool.c_str(), argv.data());
        _exit(127);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child) throw std::runtime_error("cannot wait for " + name);
    const auto read = [](const std::filesystem::path& path) {
        std::ifstream in(path, std::ios::binary);
        return std::string{std::istreambuf_iterator<char>(in), {}};
    };
    ToolRun run{WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
    if (run.code == 127) throw std::runtime_error("cannot run " + tool.string());
    return run;
}

}  // namespace mxfp4
