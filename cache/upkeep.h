// What keeps a database in order: finding, verifying, collecting garbage, merging, comparing. Plain values in and out;
// mxfp4-cache does what they say.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/image_store.h"
#include "cache/choose.h"

namespace mxfp4 {

// The winner whose key's text is the given one, or whose key's hash begins with it. Throws Error invalid_argument where
// there is none, or more than one.
const Winner& find_winner(const std::vector<Winner>& winners, const std::string& key_or_hash);

struct Finding {
    std::string key;  // of a row, or of an image
    std::string reason;
};

// What is wrong with a database and its images: damaged rows, configs that do not read or that check() refuses, damaged
// images, and what SQLite itself finds (whose key is empty).
std::vector<Finding> verify(const Cache& cache, const std::vector<KeptImage>& images);

struct Garbage {
    std::vector<Finding> rows;
    std::vector<Finding> images;
    bool images_unknown = false;  // some winner does not say which image it needs: only damaged ones are garbage then
};

// Rows that no longer serve as exact: of other kernel text, measuring policy or layout version, overtaken by a newer row
// of the same problem, or not admissible; and images that no remaining winner needs. What a person blocked stays.
Garbage find_garbage(const std::vector<Winner>& winners, const std::vector<KeptImage>& images,
                     const KernelHash& kernel_hash);

struct Taken {
    Winner winner;
    std::string why;  // "new", "newer", "measured better", "blocked there" (the same config)
};

// What to put into ours from theirs: keys that are not there, newer rows, of equally old ones the one with less spread,
// and blocks.
std::vector<Taken> merge(const std::vector<Winner>& ours, const std::vector<Winner>& theirs);

struct Difference {
    std::vector<Winner> only_ours, only_theirs;
    std::vector<std::pair<Winner, Winner>> changed;  // same key: ours, theirs
    bool none() const { return only_ours.empty() && only_theirs.empty() && changed.empty(); }
};
Difference compare(const std::vector<Winner>& ours, const std::vector<Winner>& theirs);

}  // namespace mxfp4
