#include <mxfp4/error.h>

namespace mxfp4 {

// One line: "message (is VALUE, must be LIMIT): REMEDY".
static std::string one_line(const std::string& message, const ErrorDetail& d) {
    std::string text = message;
    if (!d.value.empty() || !d.limit.empty()) {
        text += " (";
        if (!d.value.empty()) text += "is " + d.value;
        if (!d.value.empty() && !d.limit.empty()) text += ", ";
        if (!d.limit.empty()) text += "must be " + d.limit;
        text += ")";
    }
    if (!d.remedy.empty()) text += ": " + d.remedy;
    return text;
}

Error::Error(ErrorCode code, const std::string& message, ErrorDetail detail)
    : std::runtime_error(one_line(message, detail)), code_(code), detail_(std::move(detail)) {}

}  // namespace mxfp4
