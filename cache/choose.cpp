#include "cache/choose.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <tuple>

#include "core/config_text.h"

namespace mxfp4 {
namespace {

// Fields in which a near winner must equal the problem.
constexpr std::array kBinding = {"device",      "sm_count", "layout", "layout_version", "scale_warps",
                                 "scale_class", "n",        "k",      "prologue",       "epilogue"};

struct Judged {
    Candidate candidate;
    double distance = 0;  // in rows, experts and groups; 1 is a factor of two in one of them
    std::string key_text;
};

double log_distance(std::int64_t a, std::int64_t b) {
    const auto log = [](std::int64_t v) { return std::log2(double(std::max<std::int64_t>(v, 1))); };
    return std::abs(log(a) - log(b));
}

class Judge {
  public:
    Judge(const Key& wanted, const KernelHash& kernel_hash)
        : wanted_(normal(wanted)), wanted_fields_(wanted_.fields()), kernel_hash_(kernel_hash) {}

    // Nothing where the config does not read: another version wrote it.
    std::optional<Judged> operator()(const Winner& winner) {
        const std::optional<KernelConfig> config = read_config(winner.config);
        if (!config || config->layout != winner.key.layout) return {};
        const Key key = normal(winner.key);
        Judged judged{{winner, How::fallback, differing(key)}, 0, key.text()};
        judged.distance = log_distance(key.rows, wanted_.rows) + log_distance(key.experts, wanted_.experts) +
                          log_distance(key.groups, wanted_.groups);
        std::vector<std::string>& differs = judged.candidate.differs;
        // The hash of another device's variants may not be known here.
        const bool near = is_near(key, differs);
        if (near && key.kernel_hash != current_hash(config->variant))
            differs.insert(std::find_if(differs.begin(), differs.end(), comes_after_kernel_hash), "kernel_hash");
        if (winner.status == WinnerStatus::blocked) {
            differs.push_back("status");
            return judged;
        }
        if (near) judged.candidate.how = differs.empty() ? How::exact : How::near;
        return judged;
    }

  private:
    static Key normal(Key key) {
        if (key.groups == 0) key.groups = key.experts;
        return key;
    }
    static bool comes_after_kernel_hash(const std::string& field) {
        return field != "device" && field != "sm_count" && field != "memory_gib" && field != "compiler";
    }

    std::vector<std::string> differing(const Key& key) const {
        std::vector<std::string> differs;
        const auto fields = key.fields();
        for (std::size_t i = 0; i < fields.size(); ++i)
            if (fields[i].first != "kernel_hash" && fields[i] != wanted_fields_[i]) differs.push_back(fields[i].first);
        return differs;
    }
    bool is_near(const Key& key, const std::vector<std::string>& differs) const {
        for (const char* field : kBinding)
            if (std::find(differs.begin(), differs.end(), field) != differs.end()) return false;
        // Kernels for aligned data fail on other data, not the other way round.
        if ((key.x_aligned && !wanted_.x_aligned) || (key.y_aligned && !wanted_.y_aligned)) return false;
        return log_distance(key.rows, wanted_.rows) <= std::log2(double(kNearRowsFactor));
    }
    const std::string& current_hash(Variant variant) {
        std::optional<std::string>& hash = hashes_[std::size_t(variant)];
        if (!hash) hash = kernel_hash_(variant);
        return *hash;
    }

    Key wanted_;
    std::vector<std::pair<std::string, std::string>> wanted_fields_;
    const KernelHash& kernel_hash_;
    std::array<std::optional<std::string>, 5> hashes_;  // by Variant
};

// Of two runs that timed the same problem the newer knew more candidates; the texts decide what is left.
bool newer_first(const Judged& a, const Judged& b) {
    const Winner &wa = a.candidate.winner, &wb = b.candidate.winner;
    return std::tie(wb.tuned_at, wa.us, a.key_text, wa.config) < std::tie(wa.tuned_at, wb.us, b.key_text, wb.config);
}

bool better(const Judged& a, const Judged& b) {
    if (a.candidate.how != b.candidate.how) return a.candidate.how < b.candidate.how;
    if (a.distance != b.distance) return a.distance < b.distance;
    if (a.candidate.differs.size() != b.candidate.differs.size())
        return a.candidate.differs.size() < b.candidate.differs.size();
    // As far below as above: the larger is tuned for what the rows of this bucket can be.
    if (a.candidate.winner.key.rows != b.candidate.winner.key.rows)
        return a.candidate.winner.key.rows > b.candidate.winner.key.rows;
    return newer_first(a, b);
}

// By key: one that is the very problem, but blocked, tells more than a neighbour.
bool more_alike(const Judged& a, const Judged& b) {
    const auto fields = [](const Judged& j) {
        return j.candidate.differs.size() - (j.candidate.winner.status == WinnerStatus::blocked ? 1 : 0);
    };
    if (fields(a) != fields(b)) return fields(a) < fields(b);
    if (a.distance != b.distance) return a.distance < b.distance;
    return better(a, b);
}

bool is_same_problem(const std::vector<std::string>& differs) {
    const auto beside_the_problem = [](const std::string& field) {
        return field == "memory_gib" || field == "compiler" || field == "kernel_hash" || field == "measuring_policy" || field == "status";
    };
    return std::all_of(differs.begin(), differs.end(), beside_the_problem);
}

// Whether the quickly compared of kBinding agree. Most rows of a database are for other weights.
bool may_serve(const Key& key, const Key& wanted) {
    return key.n == wanted.n && key.k == wanted.k && key.layout == wanted.layout && key.device == wanted.device;
}

std::vector<Judged> judge_all(const std::vector<Winner>& winners, const Key& wanted, const KernelHash& kernel_hash, bool serving) {
    Judge judge(wanted, kernel_hash);
    std::vector<Judged> all;
    for (const Winner& winner : winners)
        if (!serving || may_serve(winner.key, wanted))
            if (auto judged = judge(winner)) all.push_back(std::move(*judged));
    return all;
}

}  // namespace

std::vector<Candidate> choose(const std::vector<Winner>& winners, const Key& wanted, const KernelHash& kernel_hash) {
    std::vector<Judged> all = judge_all(winners, wanted, kernel_hash, /*serving=*/true);
    // A person who blocked a config for this problem does not want it from a neighbour either.
    std::set<std::string> blocked;
    for (const Judged& j : all)
        if (j.candidate.winner.status == WinnerStatus::blocked && is_same_problem(j.candidate.differs))
            blocked.insert(j.candidate.winner.config);
    std::erase_if(all, [&](const Judged& j) {
        return j.candidate.how == How::fallback || blocked.contains(j.candidate.winner.config);
    });
    std::sort(all.begin(), all.end(), better);
    std::vector<Candidate> candidates;
    for (Judged& j : all) candidates.push_back(std::move(j.candidate));
    return candidates;
}

std::optional<Candidate> nearest(const std::vector<Winner>& winners, const Key& wanted, const KernelHash& kernel_hash) {
    std::vector<Judged> all = judge_all(winners, wanted, kernel_hash, /*serving=*/false);
    const auto least = std::min_element(all.begin(), all.end(), more_alike);
    if (least == all.end()) return {};
    return std::move(least->candidate);
}

}  // namespace mxfp4
