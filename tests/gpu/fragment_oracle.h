// The text of fragment_oracle.cuh, embedded.
#pragma once

#include <string_view>

namespace mxfp4 {

std::string_view fragment_oracle_text();

}  // namespace mxfp4
