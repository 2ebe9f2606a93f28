// A small generator whose numbers are the same on every machine (std:: distributions are not).
#pragma once

#include <cmath>
#include <cstdint>

namespace mxfp4 {

class Random {  // splitmix64
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    std::int64_t below(std::int64_t limit) { return std::int64_t(next() % std::uint64_t(limit)); }
    double uniform() { return (double(next() >> 11) + 0.5) * 0x1p-53; }  // never 0
    float normal() { return float(std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform())); }

  private:
    std::uint64_t state_;
};

}  // namespace mxfp4
