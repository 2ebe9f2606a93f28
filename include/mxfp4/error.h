// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

namespace mxfp4 {

enum class ErrorCode {
    invalid_argument,  // a caller's value is outside its limits
    bad_file,          // a file is not what it claims to be
    unsupported,       // right in itself, but not something that this library does
    io,                // the system refused to read or write
    no_device,         // no usable GPU or driver
    cuda,              // a driver call failed
    compile,           // NVRTC is missing or refused a kernel, or what it made computes wrongly
    cache,             // the tuning database failed
    not_prepared,      // inside a stream capture nothing was loaded that could serve
};

// What an error says beside its message. Empty where it does not apply.
struct ErrorDetail {
    std::string value;   // the offending value
    std::string limit;   // what it should have been
    std::string remedy;  // what to do about it
};

class Error : public std::runtime_error {
  public:
    Error(ErrorCode code, const std::string& message, ErrorDetail detail = {});

    ErrorCode code() const { return code_; }
    const std::string& value() const { return detail_.value; }
    const std::string& limit() const { return detail_.limit; }
    const std::string& remedy() const { return detail_.remedy; }

  private:
    ErrorCode code_;
    ErrorDetail detail_;
};

}  // namespace mxfp4
