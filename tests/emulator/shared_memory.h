// The shared memory of a thread block: 18-bit addresses, bounds, and which of its bytes the copy engine and WGMMA may see.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include "contract/layout.h"

namespace mxfp4::emulator {

// What a kernel did wrong.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The 128-byte XOR swizzle, which goes by address.
constexpr u32 swizzled(u32 address) { return address ^ (address >> 3 & 0x70); }

class SharedMemory {
  public:
    explicit SharedMemory(i64 bytes);  // all NaN
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    // Before threads of its block run: their plain pointers lead into the window. All else finds the bytes wherever they are.
    void enter_window();

    u32 address(const void* pointer) const;
    // Throws where [address, address + bytes) is not all inside, or is not aligned.
    u8* at(u32 address, u32 bytes, u32 alignment) const;
    // The kernel also writes through plain pointers, which no check sees: something behind the end was written.
    bool overrun() const;

    // Ordinary writes reach the asynchronous proxy (WGMMA, bulk copies) after a fence.proxy.async of the thread that wrote.
    void wrote(int thread, u32 address, u32 bytes);
    void fence(int thread);
    // What a thread has read of another warp's ordinary writes may be written over from outside its warp once it has been at a barrier
    // itself. Its warp's __syncwarp before another lane's arrival would do too, but compute-sanitizer's racecheck does not follow that.
    void read(int thread, u32 address, u32 bytes);
    void at_barrier(int thread) { ++barriers_[std::size_t(thread)]; }
    // As at(), for the asynchronous proxy: throws where an ordinary write is not fenced.
    u8* at_async(u32 address, u32 bytes, u32 alignment) const;

  private:
    struct Reader {
        int thread;
        u32 barriers;  // that it had been at
    };
    u8* memory() const;
    void check_readers(int writer, u32 word);

    i64 bytes_;
    std::size_t kept_bytes_;           // with what lies before and behind them
    std::unique_ptr<u8[]> elsewhere_;  // while another's bytes are in the window
    std::vector<u16> unfenced_;                  // of each 2 bytes: 1 + the thread that wrote them, 0: fenced
    std::vector<std::vector<u32>> unfenced_of_;  // of each thread: indices into unfenced_
    std::vector<u16> writer_;                    // of each 4 bytes: 1 + the thread that wrote them last, 0: none has
    std::map<u32, std::vector<Reader>> readers_;  // of such, since then
    std::vector<u32> barriers_;                  // of each thread
};

}  // namespace mxfp4::emulator
