#include "core/mapped_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>
#include <mxfp4/error.h>

namespace mxfp4 {
namespace {

struct Descriptor {
    int fd;
    ~Descriptor() { ::close(fd); }
};

}  // namespace

void throw_errno(const std::filesystem::path& path, std::string_view what, std::string_view remedy) {
    const std::string why = std::generic_category().message(errno);
    throw Error(ErrorCode::io, fmt::format("{}: cannot {}: {}", path.string(), what, why),
                {"", "", std::string(remedy)});
}

MappedFile::MappedFile(std::filesystem::path path) : path_(std::move(path)) {
    // O_NONBLOCK: opening a named pipe shall fail below, not wait for a writer.
    const Descriptor file{::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0) throw_errno(path_, "open");
    struct stat status = {};
    if (::fstat(file.fd, &status) != 0) throw_errno(path_, "stat");
    if (!S_ISREG(status.st_mode))
        throw Error(ErrorCode::io,
                    path_.string() + ": is " + (S_ISDIR(status.st_mode) ? "a folder" : "no regular file"));
    size_ = std::size_t(status.st_size);
    if (size_ == 0) return;
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
    if (mapped == MAP_FAILED) throw_errno(path_, "map");
    data_ = static_cast<const std::uint8_t*>(mapped);
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::uint8_t*>(data_), size_);
}

void MappedFile::forget(std::span<const std::uint8_t> part) const noexcept {
    const auto page = std::size_t(::sysconf(_SC_PAGESIZE));
    const std::size_t begin = (std::size_t(part.data() - data_) + page - 1) / page * page;
    const std::size_t end = std::size_t(part.data() - data_ + part.size()) / page * page;
    if (begin < end) ::madvise(const_cast<std::uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace mxfp4
