#include "cuda/nvrtc.h"

#include <dlfcn.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

constexpr const char* kLibraryNames[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
constexpr const char* kFolders[] = {
    "", "lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib", "nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib",
};

using Program = void*;  // nvrtcProgram
using Status = int;     // nvrtcResult
constexpr Status kOk = 0, kDoesNotCompile = 6;  // NVRTC_SUCCESS, NVRTC_ERROR_COMPILATION

// Folders whose names start so, newest version first.
std::vector<std::filesystem::path> folders_named(const std::filesystem::path& parent, std::string_view prefix) {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (std::filesystem::directory_iterator it(parent, error), end; !error && it != end; it.increment(error))
        if (it->path().filename().string().starts_with(prefix)) found.push_back(it->path());
    std::sort(found.rbegin(), found.rend());
    return found;
}

std::filesystem::path home_folder() {
    passwd user = {}, *found = nullptr;
    char text[4096];
    return getpwuid_r(getuid(), &user, text, sizeof text, &found) == 0 && found ? user.pw_dir : "";
}

std::vector<std::filesystem::path> usual_folders() {
    std::vector<std::filesystem::path> folders = folders_named("/usr/local", "cuda");
    folders.push_back("/usr/lib/python3/dist-packages");
    const std::filesystem::path parents[] = {"/usr/local/lib", home_folder() / ".local/lib"};
    for (const auto& parent : parents)
        for (const auto& python : folders_named(parent, "python3")) {
            folders.push_back(python / "site-packages");
            folders.push_back(python / "dist-packages");
        }
    return folders;
}

struct Library {
    void* handle = nullptr;
    std::string path;
};

Library open_library(const std::filesystem::path& where) {
    std::vector<std::string> tried;
    const auto attempt = [&](const std::filesystem::path& path) {
        tried.push_back(path.string());
        return Library{dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), path.string()};
    };
    std::vector<std::filesystem::path> candidates;
    if (!where.empty()) {
        std::error_code error;
        candidates.push_back(std::filesystem::is_directory(where, error) ? nvrtc_in(where) : where);
    } else {
        candidates.assign(std::begin(kLibraryNames), std::end(kLibraryNames));
        for (const auto& folder : usual_folders()) candidates.push_back(nvrtc_in(folder));
    }
    for (const auto& candidate : candidates)
        if (!candidate.empty())
            if (Library library = attempt(candidate); library.handle) return library;
    throw Error(ErrorCode::compile, "NVRTC (libnvrtc) cannot be opened",
                {tried.empty() ? "'" + where.string() + "'" : fmt::format("none of {}", fmt::join(tried, ", ")), "",
                 "install the CUDA Toolkit or the PyPI wheel nvidia-cuda-nvrtc, or name the library or its folder"});
}

}  // namespace

std::filesystem::path nvrtc_in(const std::filesystem::path& folder) {
    std::error_code error;
    for (const char* below : kFolders)
        for (const char* name : kLibraryNames)
            if (const auto path = folder / below / name; std::filesystem::exists(path, error)) return path;
    return {};
}

struct Nvrtc::Table {
    Status (*version)(int*, int*);
    const char* (*get_error_string)(Status);
    Status (*create_program)(Program*, const char* source, const char* name, int header_count,
                             const char* const* headers, const char* const* header_names);
    Status (*destroy_program)(Program*);
    Status (*compile_program)(Program, int option_count, const char* const* options);
    Status (*get_log_size)(Program, std::size_t*);
    Status (*get_log)(Program, char*);
    Status (*get_cubin_size)(Program, std::size_t*);
    Status (*get_cubin)(Program, char*);
    Status (*get_ptx_size)(Program, std::size_t*);
    Status (*get_ptx)(Program, char*);

    void check(Status status, const char* what) const {
        if (status == kOk) return;
        throw Error(ErrorCode::compile, fmt::format("NVRTC cannot {}: {}", what, get_error_string(status)),
                    {std::to_string(status), "", "check the NVRTC installation, and that memory is left"});
    }
};

namespace {

template <class Function>
void find(const Library& library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library.handle, name));
    if (!function)
        throw Error(ErrorCode::compile, fmt::format("libnvrtc has no {}", name),
                    {library.path, "", "install NVRTC 12 or newer"});
}

// A program's text result: its size, then its bytes.
template <class Table, class Size, class Get>
std::string text_of(const Table& table, Program program, Size size_of, Get get, const char* what) {
    std::size_t size = 0;
    table.check(size_of(program, &size), what);
    std::string text(size, '\0');
    if (size) table.check(get(program, text.data()), what);
    return text;
}

template <class Table>
class OwnedProgram {
  public:
    OwnedProgram(const Table& table, const std::string& source, const KernelFiles& headers) : table_(table) {
        std::vector<const char*> texts, names;
        for (const auto& [name, text] : headers) {
            names.push_back(name.c_str());
            texts.push_back(text.c_str());
        }
        table.check(
            table.create_program(&program_, source.c_str(), "kernel.cu", int(names.size()), texts.data(), names.data()),
            "make a program");
    }
    OwnedProgram(const OwnedProgram&) = delete;
    OwnedProgram& operator=(const OwnedProgram&) = delete;
    ~OwnedProgram() { table_.destroy_program(&program_); }

    bool compile(const std::vector<std::string>& options) {
        std::vector<const char*> texts;
        for (const std::string& option : options) texts.push_back(option.c_str());
        const Status status = table_.compile_program(program_, int(texts.size()), texts.data());
        if (status != kDoesNotCompile) table_.check(status, "compile");
        return status == kOk;
    }
    std::string log() const {
        std::string text = text_of(table_, program_, table_.get_log_size, table_.get_log, "return its log");
        while (!text.empty() && text.back() == '\0') text.pop_back();
        return text;
    }
    std::string cubin() const {
        return text_of(table_, program_, table_.get_cubin_size, table_.get_cubin, "return the cubin");
    }
    std::string ptx() const { return text_of(table_, program_, table_.get_ptx_size, table_.get_ptx, "return the PTX"); }

  private:
    const Table& table_;
    Program program_ = nullptr;
};

// nvrtcVersion() knows no patch level, but the head of every PTX does: "Cuda compilation tools, release 13.0, V13.0.88".
template <class Table>
std::string find_build(const Table& table) {
    int major = 0, minor = 0;
    table.check(table.version(&major, &minor), "return its version");
    OwnedProgram program(table, "", {});
    program.compile({});
    const std::string ptx = program.ptx(), mark = ", V";
    const std::size_t at = ptx.find(mark);
    if (at == ptx.npos) return fmt::format("nvrtc {}.{}", major, minor);
    const std::size_t start = at + mark.size();
    return "nvrtc " + ptx.substr(start, ptx.find_first_not_of("0123456789.", start) - start);
}

}  // namespace

std::shared_ptr<const Nvrtc> Nvrtc::open(const std::filesystem::path& where) {
    const Library library = open_library(where);
    auto table = std::make_shared<Table>();
    find(library, "nvrtcVersion", table->version);
    find(library, "nvrtcGetErrorString", table->get_error_string);
    find(library, "nvrtcCreateProgram", table->create_program);
    find(library, "nvrtcDestroyProgram", table->destroy_program);
    find(library, "nvrtcCompileProgram", table->compile_program);
    find(library, "nvrtcGetProgramLogSize", table->get_log_size);
    find(library, "nvrtcGetProgramLog", table->get_log);
    find(library, "nvrtcGetCUBINSize", table->get_cubin_size);
    find(library, "nvrtcGetCUBIN", table->get_cubin);
    find(library, "nvrtcGetPTXSize", table->get_ptx_size);
    find(library, "nvrtcGetPTX", table->get_ptx);
    return std::shared_ptr<const Nvrtc>(new Nvrtc(std::move(table), library.path));
}

Nvrtc::Nvrtc(std::shared_ptr<const Table> table, std::string path)
    : table_(std::move(table)), path_(std::move(path)), build_(find_build(*table_)) {}

NvrtcResult Nvrtc::compile(const std::string& source, const KernelFiles& headers,
                           const std::vector<std::string>& options) const {
    OwnedProgram program(*table_, source, headers);
    NvrtcResult result;
    result.ok = program.compile(options);
    result.log = program.log();
    if (result.ok) result.cubin = program.cubin();
    return result;
}

}  // namespace mxfp4
