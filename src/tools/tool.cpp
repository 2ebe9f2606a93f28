#include "tools/tool.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include <fmt/format.h>
#include <mxfp4/mxfp4.h>

namespace mxfp4 {
namespace {

using namespace std::chrono_literals;

volatile std::sig_atomic_t interrupted_by = 0;

struct Interrupted {
    int signal;
};

void on_signal(int signal) { interrupted_by = signal; }

void set_handlers(void (*handler)(int)) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action = {};
        sigaction(signal, nullptr, &action);
        if (action.sa_handler == SIG_IGN) continue;  // nohup's wish
        action.sa_handler = handler;
        action.sa_flags = SA_RESETHAND;  // a second one kills
        sigaction(signal, &action, nullptr);
    }
}

std::string duration_text(double seconds) {
    const auto s = std::int64_t(seconds + 0.5);
    if (s < 60) return fmt::format("{}s", s);
    if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
    return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
}

}  // namespace

Tool::Tool(std::string name, const std::string& description) : name_(std::move(name)), app_(description, name_) {
    app_.set_version_flag("--version", name_ + " " + version());
    app_.add_flag("--json", json_, "Print the result as JSON on stdout");
    app_.add_flag("--quiet", quiet_, "No progress and no messages but warnings");
}

int Tool::run(int argc, char** argv, const std::function<int()>& body) {
    // A file size limit shall be a failed write with its message, not a kill.
    std::signal(SIGXFSZ, SIG_IGN);
    int code = kExitFailed;
    try {
        app_.parse(argc, argv);
        code = body();
        if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
            warn("the result could not be written to standard output");
            code = kExitFailed;
        }
    } catch (const CLI::Success& asked) {  // --help, --version
        app_.exit(asked);
        code = kExitDone;
    } catch (const CLI::ParseError& error) {
        warn(fmt::format("{} (see {} --help)", error.what(), name_));
        code = kExitUsage;
    } catch (const UsageError& error) {
        warn(error.what());
        code = kExitUsage;
    } catch (const Interrupted& by) {
        std::signal(by.signal, SIG_DFL);
        std::raise(by.signal);
    } catch (const std::bad_alloc&) {
        warn("out of memory: take a smaller --shape or file, or a machine with more");
    } catch (const std::exception& error) {
        warn(error.what());
    }
    return code;
}

void Tool::say(const std::string& line) {
    if (!quiet_) line_on_stderr(line);
}

void Tool::warn(const std::string& line) { line_on_stderr(name_ + ": " + line); }

void Tool::print(const std::string& line) {
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fputc('\n', stdout);
    std::fflush(stdout);
}

void Tool::print(const nlohmann::json& object) {
    // Paths may hold bytes that are no UTF-8.
    print(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Tool::line_on_stderr(const std::string& line) {
    const std::lock_guard lock(stderr_mutex_);
    const std::string text = (bar_drawn_ ? "\r\033[K" : "") + line + "\n";
    bar_drawn_ = false;
    std::fwrite(text.data(), 1, text.size(), stderr);
}

Progress::Progress(Tool& tool, std::string what, std::uint64_t total, Unit unit)
    : tool_(tool),
      what_(std::move(what)),
      total_(total),
      unit_(unit),
      terminal_(isatty(STDERR_FILENO)),
      start_(Clock::now()),
      drawn_(start_) {}

Progress::~Progress() {
    const std::lock_guard lock(tool_.stderr_mutex_);
    if (tool_.bar_drawn_) std::fputs("\r\033[K", stderr);
    tool_.bar_drawn_ = false;
}

void Progress::advance(std::uint64_t by) {
    if (tool_.quiet()) return;
    const std::lock_guard lock(tool_.stderr_mutex_);
    done_ = std::min(done_ + by, total_);
    const auto now = Clock::now();
    if (now - drawn_ < (terminal_ ? Clock::duration(100ms) : Clock::duration(10s))) return;
    drawn_ = now;
    draw(now);
}

void Progress::draw(Clock::time_point now) {
    const double fraction = total_ == 0 ? 1 : double(done_) / double(total_);
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const std::string amount = unit_ == Unit::bytes
                                   ? fmt::format("{} of {}, {}/s", bytes_text(double(done_)),
                                                 bytes_text(double(total_)), bytes_text(double(done_) / seconds))
                                   : fmt::format("{} of {}", done_, total_);
    const std::string eta = fraction > 0 ? ", ETA " + duration_text(seconds * (1 - fraction) / fraction) : "";
    std::string text;
    if (terminal_) {
        constexpr int kWidth = 30;
        const int filled = int(fraction * kWidth);
        text = fmt::format("\r\033[K{} [{:=<{}}{:<{}}] {:3.0f}% {}{}", what_, "", filled, "", kWidth - filled,
                           100 * fraction, amount, eta);
        tool_.bar_drawn_ = true;
    } else {
        text = fmt::format("{}: {:.0f}% ({}{})\n", what_, 100 * fraction, amount, eta);
    }
    std::fwrite(text.data(), 1, text.size(), stderr);
}

Interruptible::Interruptible() { set_handlers(on_signal); }
Interruptible::~Interruptible() { set_handlers(SIG_DFL); }

void Interruptible::check() {
    if (interrupted_by != 0) throw Interrupted{interrupted_by};
}

std::string bytes_text(double bytes) {
    constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    for (; bytes >= 1000 && unit < 4; ++unit) bytes /= 1000;
    return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::filesystem::path default_database() {
    const auto variable = [](const char* name) -> std::filesystem::path {
        const char* value = std::getenv(name);
        return value ? value : "";
    };
    if (const auto path = variable("MXFP4_DB"); !path.empty()) return path;
    if (const auto folder = variable("XDG_CACHE_HOME"); !folder.empty()) return folder / "mxfp4" / "tuned.sqlite";
    if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "mxfp4" / "tuned.sqlite";
    throw UsageError("there is no place for the tuning database: neither MXFP4_DB, XDG_CACHE_HOME nor HOME is set",
                     {"", "", "pass --db PATH"});
}

}  // namespace mxfp4
