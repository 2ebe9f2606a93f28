// A fortified longjmp takes a jump to another stack for an error.
#undef _FORTIFY_SOURCE
#include "fiber.h"

#include <system_error>

#include <sys/mman.h>

namespace mxfp4::emulator {
namespace {

constexpr std::size_t kGuardBytes = 4096, kStackBytes = 256 << 10;  // touched pages alone take memory

Fibers* entering = nullptr;

}  // namespace

Fibers::Fibers(int count, std::function<void(int)> body)
    : count_(count), body_(std::move(body)), fibers_(new Fiber[std::size_t(count)]) {
    void* const memory = mmap(nullptr, std::size_t(count) * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "no memory for the stacks of fibers");
    stacks_ = static_cast<unsigned char*>(memory);
    for (int i = 0; i < count; ++i) {
        unsigned char* const stack = stacks_ + std::size_t(i) * kStackBytes;
        mprotect(stack, kGuardBytes, PROT_NONE);
        ucontext_t& context = fibers_[std::size_t(i)].context;
        getcontext(&context);
        context.uc_stack.ss_sp = stack + kGuardBytes;
        context.uc_stack.ss_size = kStackBytes - kGuardBytes;
        context.uc_link = nullptr;
        makecontext(&context, enter, 0);
    }
}

Fibers::~Fibers() { munmap(stacks_, std::size_t(count_) * kStackBytes); }

// The first entry is by ucontext, all others are jumps: swapcontext makes a system call each time.
void Fibers::resume(int i) {
    current_ = i;
    Fiber& fiber = fibers_[std::size_t(i)];
    if (_setjmp(outside_) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    entering = this;
    setcontext(&fiber.context);
}

void Fibers::yield() {
    if (_setjmp(fibers_[std::size_t(current_)].place) == 0) _longjmp(outside_, 1);
}

void Fibers::enter() {
    Fibers& self = *entering;
    for (;;) {
        self.body_(self.current_);
        self.yield();
    }
}

}  // namespace mxfp4::emulator
