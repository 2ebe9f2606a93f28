// Finds the fastest config of each problem: enumerate, check, compile in parallel, verify, time, rank; each winner is
// published at once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tuner/candidates.h"
#include "tuner/floor.h"
#include "tuner/measurement.h"
#include "tuner/routing.h"
#include "tuner/sample_weights.h"

namespace mxfp4 {

struct TuneRequest {
    const SampleWeights* weights = nullptr;
    std::int64_t tokens = 0;
    int top_k = 4;                 // experts of a token
    std::int64_t bucket_rows = 0;  // the most rows that the winner will serve; at least tokens * top_k
    std::vector<KernelConfig> also = {};  // tried first, for example winners of an older kernel text
};

struct TuneOptions {
    Routing routing = Routing::uniform;
    double budget_s =
        60;  // for all requests together. It sheds candidates, never requests: each gets at least its default
    int compile_threads = 0;  // 0: all cores
    int candidates = kMostCandidates;  // of a request
    // Called as requests come up and candidates are through; from the calling thread.
    std::function<void(std::size_t request, std::size_t measured, std::size_t candidates)> progress = {};
};

struct TuneResult {
    std::size_t request = 0;
    ProblemSize size;
    std::vector<Measurement> measurements;  // the library's default first
    int winner = -1;                        // of them; -1: none is usable
    std::map<std::string, std::int64_t> rejected;  // configs by reason: refused by check(), by the compiler, or wrong
    std::int64_t shed = 0;                         // candidates for which the budget left no time

    const Measurement& fallback() const { return measurements.front(); }
};

// Where uneven routing was timed, under which some take twice as long as others, the least sum wins of the time over the fastest's and, so
// much of it, of the uneven time over the fastest's there: among those that even routing has kMostForUneven behind the fastest at most, and
// not behind the library's default. Where it was not timed the fastest wins, and of those as fast the one of the largest tile: it decodes
// and copies the least, which tells once the GPU is at its power limit.
inline constexpr double kUnevenShare = 0.05, kMostForUneven = 0.02;
// As fast, or as good: no more than this behind. The library's default then wins.
inline constexpr double kTie = 0.01;

// The backend should keep compiled images (BackendOptions::images), else kernels are compiled again to be loaded.
void tune(Backend& backend, std::span<const TuneRequest> requests, const TuneOptions& options,
          const std::function<void(const TuneResult&)>& publish);

// Which measurements, the default being the first, go into the final round: the default; the fastest five; and, where uneven routing
// counts, of those nearly as fast the three with the most rows to a tile, which read the weights of an expert least often there.
std::vector<std::size_t> finalists(std::span<const Measurement> measurements, bool uneven);

// The winner among measurements, the default being the first, as said above. -1: none is usable.
int rank(std::span<const Measurement> measurements);

}  // namespace mxfp4
