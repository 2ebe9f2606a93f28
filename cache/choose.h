// Which winners may serve a problem, best first. Values in, values out: no database, no device.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <mxfp4/dispatcher.h>

#include "cache/cache.h"

namespace mxfp4 {

// The hash of a variant's kernel text as it is now (Backend::kernel_hash).
using KernelHash = std::function<std::string(Variant)>;

struct Candidate {
    Winner winner;
    How how = How::fallback;
    std::vector<std::string> differs;  // key fields (and "status") unlike the wanted ones, in canonical order
};

// A near winner's rows are at most this many times more or fewer: beyond, the library's default is the better guess.
inline constexpr int kNearRowsFactor = 4;

// exact: every field of the key equals, and the row's kernel hash is the current one of its config's variant.
// near: same device, weight format, n, k, prologue and epilogue, and tuned for alignment no better than the wanted one.
//   Compiler, memory, measuring policy and kernel text may differ. The nearest in rows, experts and groups comes first,
//   then the most alike, then the newest.
// Blocked rows never serve, nor does the config of one that is blocked for this very problem. wanted.kernel_hash is not
// looked at. The caller takes the first that check() admits and that loads; none: the fallback. Same input, same order.
std::vector<Candidate> choose(const std::vector<Winner>& winners, const Key& wanted, const KernelHash& kernel_hash);

// The winner that differs in the fewest fields, whether it may serve or not (how: fallback then): for people.
std::optional<Candidate> nearest(const std::vector<Winner>& winners, const Key& wanted, const KernelHash& kernel_hash);

}  // namespace mxfp4
