#include "shared_memory.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace mxfp4 {

// The kernels' dynamic_shared lies 16 bytes into this (meson.build has the linker say so): they align it by hand. There is one
// such window, with the bytes of one block at a time.
alignas(1024) u8 shared_window[256 << 10];

}  // namespace mxfp4

namespace mxfp4::emulator {
namespace {

constexpr u32 kFirstAddress = 1024;  // the hardware's own, of each block; also, no address is zero
constexpr u32 kOffset = 16, kGuardBytes = 4096;

const SharedMemory* in_window = nullptr;  // whose bytes are

}  // namespace

SharedMemory::SharedMemory(i64 bytes)
    : bytes_(bytes), kept_bytes_(std::size_t(kOffset + bytes + kGuardBytes)), elsewhere_(new u8[kept_bytes_]),
      unfenced_(std::size_t(bytes / 2)), unfenced_of_(1024), writer_(std::size_t(bytes / 4)), barriers_(1024) {
    if (kept_bytes_ > sizeof(shared_window)) throw Error(fmt::format("{} bytes of shared memory", bytes));
    std::memset(elsewhere_.get(), 0xFF, kept_bytes_);
}
SharedMemory::~SharedMemory() {
    if (in_window == this) in_window = nullptr;
}

void SharedMemory::enter_window() {
    if (in_window == this) return;
    if (in_window) std::memcpy(in_window->elsewhere_.get(), shared_window, in_window->kept_bytes_);
    std::memcpy(shared_window, elsewhere_.get(), kept_bytes_);
    in_window = this;
}
u8* SharedMemory::memory() const { return in_window == this ? shared_window : elsewhere_.get(); }

u32 SharedMemory::address(const void* pointer) const {
    return kFirstAddress + u32(static_cast<const u8*>(pointer) - shared_window);
}

u8* SharedMemory::at(u32 address, u32 bytes, u32 alignment) const {
    if (address < kFirstAddress + kOffset || address + bytes > kFirstAddress + kOffset + bytes_)
        throw Error(fmt::format("{} bytes at {} of shared memory are outside the block's {}", bytes,
                                i64(address) - kFirstAddress - kOffset, bytes_));
    if (address % alignment != 0) throw Error(fmt::format("shared address {} is not a multiple of {}", address, alignment));
    return memory() + (address - kFirstAddress);
}

bool SharedMemory::overrun() const {
    const u8* const end = memory() + kOffset + bytes_;
    return std::any_of(end, end + kGuardBytes, [](u8 byte) { return byte != 0xFF; });
}

void SharedMemory::wrote(int thread, u32 address, u32 bytes) {
    for (u32 i = 0; i < bytes; i += 2) {
        const u32 at = (address + i - kFirstAddress - kOffset) / 2;
        unfenced_[at] = u16(1 + thread);
        unfenced_of_[std::size_t(thread)].push_back(at);
        check_readers(thread, at / 2);
        writer_[at / 2] = u16(1 + thread);
    }
}

void SharedMemory::read(int thread, u32 address, u32 bytes) {
    for (u32 i = 0; i < bytes; i += 4) {
        const u32 word = (address + i - kFirstAddress - kOffset) / 4;
        if (writer_[word] == 0 || (writer_[word] - 1) / 32 == thread / 32) continue;
        std::vector<Reader>& readers = readers_[word];
        const auto known = std::ranges::find(readers, thread, &Reader::thread);
        Reader& reader = known == readers.end() ? readers.emplace_back() : *known;
        reader = {thread, barriers_[std::size_t(thread)]};
    }
}

void SharedMemory::check_readers(int writer, u32 word) {
    const auto found = readers_.find(word);
    if (found == readers_.end()) return;
    for (const Reader& reader : found->second)
        if (reader.thread / 32 != writer / 32 && reader.barriers == barriers_[std::size_t(reader.thread)])
            throw Error(fmt::format("shared address {} is written by thread {}, and thread {}, which has read it, has been at no barrier since",
                                    word * 4 + kFirstAddress + kOffset, writer, reader.thread));
    readers_.erase(found);
}

void SharedMemory::fence(int thread) {
    for (const u32 at : unfenced_of_[std::size_t(thread)])
        if (unfenced_[at] == 1 + thread) unfenced_[at] = 0;
    unfenced_of_[std::size_t(thread)].clear();
}

u8* SharedMemory::at_async(u32 address, u32 bytes, u32 alignment) const {
    u8* const memory = this->at(address, bytes, alignment);
    for (u32 i = 0; i < bytes; i += 2)
        if (const u16 writer = unfenced_[(address + i - kFirstAddress - kOffset) / 2])
            throw Error(fmt::format("WGMMA or a bulk copy meets shared address {}, which thread {} wrote without a "
                                    "fence.proxy.async since", address + i, writer - 1));
    return memory;
}

}  // namespace mxfp4::emulator
