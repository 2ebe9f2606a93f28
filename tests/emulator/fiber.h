// Fibers: functions that take turns on one OS thread.
#pragma once

#include <csetjmp>
#include <functional>
#include <memory>

#include <ucontext.h>

namespace mxfp4::emulator {

class Fibers {
  public:
    // body(i) is what fiber i does; once it has ended, the next resume() starts it anew. It must not throw.
    Fibers(int count, std::function<void(int)> body);
    ~Fibers();
    Fibers(const Fibers&) = delete;
    Fibers& operator=(const Fibers&) = delete;

    void resume(int i);  // until it yields or ends
    void yield();        // called inside a fiber
    int current() const { return current_; }

  private:
    struct Fiber {
        ucontext_t context;
        std::jmp_buf place;
        bool started = false;
    };
    static void enter();

    int count_, current_ = 0;
    std::function<void(int)> body_;
    std::unique_ptr<Fiber[]> fibers_;
    unsigned char* stacks_;
    std::jmp_buf outside_;
};

}  // namespace mxfp4::emulator
