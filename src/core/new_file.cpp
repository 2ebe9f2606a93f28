#include "core/new_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/mapped_file.h"

namespace mxfp4 {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

const char* remedy_for(int error) {
    switch (error) {
        case ENOENT: return "make its folder first";
        case ENOSPC: return "free some space on that disk";
        case EFBIG: return "raise the file size limit (ulimit -f)";
        default: return "";
    }
}

}  // namespace

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) throw_errno(path, "choose a temporary name for", "");
    const std::string name = path.filename().string().substr(0, 200);  // room for the rest within NAME_MAX
    return folder_of(path) / fmt::format(".{}.{:016x}.tmp", name, number);
}

void refuse_overwriting(const std::filesystem::path& out, const std::vector<std::filesystem::path>& inputs) {
    for (const std::filesystem::path& input : inputs) {
        std::error_code ignored;
        if (std::filesystem::equivalent(out, input, ignored))
            throw Error(ErrorCode::invalid_argument, out.string() + ": the output would overwrite an input",
                        {"", "", "choose another output"});
    }
}

NewFile::NewFile(std::filesystem::path path, std::uint64_t bytes) : path_(std::move(path)) {
    struct stat status = {};
    if (path_.filename().empty() || (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)))
        throw Error(ErrorCode::io, path_.string() + ": cannot be written: it is no regular file",
                    {"", "", "name a file"});
    temporary_ = temporary_beside(path_);
    fd_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0) throw_errno(path_, "write", remedy_for(errno));
    // Some file systems cannot reserve; there a full disk shows when the bytes are written.
    if (bytes > 0 && ::fallocate(fd_, 0, 0, off_t(bytes)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
        const int error = errno;
        ::close(fd_);
        ::unlink(temporary_.c_str());
        errno = error;
        throw_errno(path_, fmt::format("reserve {} bytes", bytes), remedy_for(error));
    }
}

NewFile::~NewFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void NewFile::write(std::uint64_t at, std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), off_t(at));
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw_errno(path_, "write", remedy_for(errno));
        at += std::uint64_t(written);
        bytes = bytes.subspan(std::size_t(written));
    }
}

void NewFile::sync() {
    if (::fsync(fd_) != 0) throw_errno(path_, "write", remedy_for(errno));
}

void NewFile::commit() {
    sync();
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_errno(path_, "write", remedy_for(errno));
    temporary_.clear();
    // The new name itself must reach the disk; a folder that cannot be opened or synced leaves it to the system.
    if (const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
        ::fsync(folder);
        ::close(folder);
    }
}

}  // namespace mxfp4
