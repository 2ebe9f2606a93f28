#include "cache/upkeep.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>
#include <mxfp4/error.h>

#include "core/config_text.h"

namespace mxfp4 {
namespace {

std::map<std::string, const Winner*> by_key(const std::vector<Winner>& winners) {
    std::map<std::string, const Winner*> map;
    for (const Winner& winner : winners) map[winner.key.text()] = &winner;
    return map;
}

// Why this row's config cannot serve its own problem; empty: it can.
std::string inadmissible(const Winner& winner) try {
    const KernelConfig config = parse_config(winner.config);
    Reject reject = check_shape(winner.key.shape());
    if (reject == Reject::none) reject = check(config, winner.key.format());
    return reject == Reject::none ? "" : reject_text(reject);
} catch (const Error& error) {
    return error.what();
}

// Asks for each variant once.
class CurrentHashes {
  public:
    explicit CurrentHashes(const KernelHash& kernel_hash) : kernel_hash_(kernel_hash) {}
    const std::string& of(const std::string& config) {
        const Variant variant = parse_config(config).variant;
        const auto [it, added] = hashes_.try_emplace(variant);
        if (added) it->second = kernel_hash_(variant);
        return it->second;
    }

  private:
    const KernelHash& kernel_hash_;
    std::map<Variant, std::string> hashes_;
};

// Why a row is of no use; empty: it is.
std::string outdated(const Winner& w, CurrentHashes& hashes) {
    if (const std::string why = inadmissible(w); !why.empty()) return why;
    if (w.key.measuring_policy != kMeasuringPolicy)
        return fmt::format("measuring policy {}, now {}", w.key.measuring_policy, kMeasuringPolicy);
    if (const int now = kLayoutVersion[int(w.key.layout)]; w.key.layout_version != now)
        return fmt::format("layout version {}, now {}", w.key.layout_version, now);
    if (w.key.kernel_hash != hashes.of(w.config)) return "the kernel's text has changed";
    return "";
}

std::string problem_text(Key key) {
    key.kernel_hash.clear();
    return key.text();
}

double spread(const Winner& w) { return w.us > 0 ? (w.us_p90 - w.us_p10) / w.us : 0; }

bool same_row(const Winner& a, const Winner& b) {
    return a.config == b.config && a.us == b.us && a.us_p10 == b.us_p10 && a.us_p90 == b.us_p90 &&
           a.us_default == b.us_default && a.status == b.status && a.tuned_at == b.tuned_at && a.image == b.image;
}

// Why their row should replace ours; empty: it should not.
std::string better(const Winner& theirs, const Winner& ours) {
    if (same_row(theirs, ours)) return "";
    if (theirs.tuned_at != ours.tuned_at) return theirs.tuned_at > ours.tuned_at ? "newer" : "";
    return spread(theirs) < spread(ours) ? "measured better" : "";
}

}  // namespace

const Winner& find_winner(const std::vector<Winner>& winners, const std::string& key_or_hash) {
    const Winner* found = nullptr;
    int matches = 0;
    for (const Winner& winner : winners) {
        if (winner.key.text() == key_or_hash) return winner;
        if (key_or_hash.empty() || !winner.key.hash().starts_with(key_or_hash)) continue;
        found = &winner;
        ++matches;
    }
    if (matches == 1) return *found;
    throw Error(ErrorCode::invalid_argument,
                matches == 0 ? "no winner has this key" : "more than one winner has this key",
                {fmt::format("'{}'", key_or_hash),
                 "a key as mxfp4-cache list prints it, or the unique beginning of its hash", ""});
}

std::vector<Finding> verify(const Cache& cache, const std::vector<KeptImage>& images) {
    std::vector<Finding> findings;
    for (const std::string& line : cache.integrity_problems()) findings.push_back({"", "SQLite: " + line});
    for (const std::string& key : cache.damaged()) findings.push_back({key, "the row's checksum does not match"});
    for (const Winner& winner : cache.all())
        if (std::string why = inadmissible(winner); !why.empty())
            findings.push_back({winner.key.text(), std::move(why)});
    for (const KeptImage& image : images)
        if (!image.problem.empty()) findings.push_back({image.key, "compiled image: " + image.problem});
    return findings;
}

Garbage find_garbage(const std::vector<Winner>& winners, const std::vector<KeptImage>& images,
                     const KernelHash& kernel_hash) {
    Garbage garbage;
    CurrentHashes hashes(kernel_hash);
    std::map<std::string, const Winner*> newest;  // of each problem
    std::vector<const Winner*> current;
    std::set<std::string> needed;
    const auto keep = [&](const Winner& winner) {
        needed.insert(winner.image);
        if (winner.image.empty() && parse_config(winner.config).variant != Variant::host) garbage.images_unknown = true;
    };
    for (const Winner& winner : winners) {
        if (winner.status == WinnerStatus::blocked) {
            if (inadmissible(winner).empty()) keep(winner);
        } else if (std::string why = outdated(winner, hashes); !why.empty()) {
            garbage.rows.push_back({winner.key.text(), std::move(why)});
        } else {
            current.push_back(&winner);
            const Winner*& best = newest[problem_text(winner.key)];
            if (!best || std::tie(best->tuned_at, winner.us) < std::tie(winner.tuned_at, best->us)) best = &winner;
        }
    }
    for (const Winner* winner : current) {
        if (newest[problem_text(winner->key)] == winner)
            keep(*winner);
        else
            garbage.rows.push_back({winner->key.text(), "overtaken by a newer winner of the same problem"});
    }
    for (const KeptImage& image : images) {
        if (!image.problem.empty())
            garbage.images.push_back({image.key, image.problem});
        else if (!garbage.images_unknown && !needed.contains(image.key))
            garbage.images.push_back({image.key, "no winner needs it"});
    }
    return garbage;
}

std::vector<Taken> merge(const std::vector<Winner>& ours, const std::vector<Winner>& theirs) {
    const auto here = by_key(ours);
    std::vector<Taken> taken;
    for (const Winner& winner : theirs) {
        const auto mine = here.find(winner.key.text());
        if (mine == here.end()) {
            taken.push_back({winner, "new"});
        } else if (mine->second->status == WinnerStatus::blocked) {
            continue;  // put() would leave it as it is
        } else if (std::string why = better(winner, *mine->second); !why.empty()) {
            taken.push_back({winner, std::move(why)});
        } else if (winner.status == WinnerStatus::blocked && winner.config == mine->second->config) {
            taken.push_back({*mine->second, "blocked there"});
            taken.back().winner.status = WinnerStatus::blocked;
        }
    }
    return taken;
}

Difference compare(const std::vector<Winner>& ours, const std::vector<Winner>& theirs) {
    const auto here = by_key(ours), there = by_key(theirs);
    Difference difference;
    for (const auto& [key, winner] : here) {
        const auto other = there.find(key);
        if (other == there.end())
            difference.only_ours.push_back(*winner);
        else if (!same_row(*winner, *other->second))
            difference.changed.emplace_back(*winner, *other->second);
    }
    for (const auto& [key, winner] : there)
        if (!here.contains(key)) difference.only_theirs.push_back(*winner);
    return difference;
}

}  // namespace mxfp4
