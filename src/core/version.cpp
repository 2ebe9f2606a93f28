#include <mxfp4/mxfp4.h>

namespace mxfp4 {

const char* version() { return MXFP4_VERSION; }

}  // namespace mxfp4
