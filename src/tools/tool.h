// What all command-line tools share: --help --version --json --quiet, messages and progress on stderr, exit codes.
//
//     int main(int argc, char** argv) {
//         Tool tool("mxfp4-pack", "Packs MXFP4 expert tensors.");
//         tool.app().add_option(...);
//         return tool.run(argc, argv, [&] { ... tool.print(json) ...; return kExitDone; });
//     }
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>

#include <CLI/CLI.hpp>
#include <mxfp4/error.h>
#include <nlohmann/json.hpp>

namespace mxfp4 {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;  // it failed, or a check failed
inline constexpr int kExitUsage = 2;   // the arguments alone are wrong

struct UsageError : Error {
    explicit UsageError(const std::string& message, ErrorDetail detail = {})
        : Error(ErrorCode::invalid_argument, message, std::move(detail)) {}
};

// Runs f on arguments alone: an invalid_argument that it throws (parse_layout, parse_config ...) is a UsageError.
template <class F>
auto from_arguments(F&& f) -> decltype(f()) {
    try {
        return f();
    } catch (const Error& error) {
        if (error.code() == ErrorCode::invalid_argument) throw UsageError(error.what());
        throw;
    }
}

class Tool {
  public:
    Tool(std::string name, const std::string& description);

    CLI::App& app() { return app_; }  // has --help, --version, --json and --quiet already
    bool json() const { return json_; }
    bool quiet() const { return quiet_; }

    // Parses, runs the body and returns the exit code. An Error becomes one line on stderr: "NAME: what".
    int run(int argc, char** argv, const std::function<int()>& body);

    void say(const std::string& line);         // on stderr, unless --quiet
    void warn(const std::string& line);        // on stderr, always
    void print(const std::string& line);       // a result on stdout
    void print(const nlohmann::json& object);  // a result on stdout, one line

  private:
    friend class Progress;
    void line_on_stderr(const std::string& line);

    std::string name_;
    CLI::App app_;
    bool json_ = false, quiet_ = false;
    std::mutex stderr_mutex_;
    bool bar_drawn_ = false;  // the cursor stands behind a progress bar
};

// A bar with ETA on a terminal, a plain line now and then elsewhere, nothing with --quiet. Thread-safe.
class Progress {
  public:
    enum class Unit { count, bytes };
    Progress(Tool& tool, std::string what, std::uint64_t total, Unit unit = Unit::count);
    ~Progress();  // takes the bar away
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void advance(std::uint64_t by);

  private:
    using Clock = std::chrono::steady_clock;
    void draw(Clock::time_point now);

    Tool& tool_;
    std::string what_;
    std::uint64_t total_, done_ = 0;
    Unit unit_;
    bool terminal_;
    Clock::time_point start_, drawn_;
};

// While one lives, the first SIGINT, SIGTERM or SIGHUP only makes check() throw, so that a half-written output is taken away;
// Tool::run then dies of that signal. A second one kills at once.
class Interruptible {
  public:
    Interruptible();
    ~Interruptible();
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;

    static void check();
};

std::string bytes_text(double bytes);  // "1.5 GB"

// Where tools keep the tuning database: $MXFP4_DB, else mxfp4/tuned.sqlite in $XDG_CACHE_HOME, else in ~/.cache.
std::filesystem::path default_database();

}  // namespace mxfp4
