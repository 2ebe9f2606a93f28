// Winners in SQLite. The one place that knows SQL; the hit path of the dispatcher never comes here.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/key.h"

namespace mxfp4 {

enum class WinnerStatus { ok, blocked };  // blocked: by a person, never served

struct Winner {
    Key key;
    std::string config;         // text form
    double us = 0, us_p10 = 0, us_p90 = 0;
    double us_default = 0;      // the library's default choice, timed in the same run
    WinnerStatus status = WinnerStatus::ok;
    std::string tuned_at;       // ISO 8601, UTC: 2026-01-31T12:00:00Z; put() fills it in where it is empty
    std::string image;          // key of the compiled image (CompileReport::image_key); empty on the host
};

const char* to_string(WinnerStatus status);
WinnerStatus parse_winner_status(std::string_view text);  // throws Error invalid_argument
std::string utc_now();                                    // in the form of tuned_at

inline constexpr int kCacheSchema = 1;  // SQLite's user_version. Raise with any change of the tables

// Where the compiled images of a database lie: cubin/ beside it.
std::filesystem::path image_folder(const std::filesystem::path& database);
// Whether there is no such file. One that cannot be looked at may be there: Cache::open says what is wrong with it.
bool is_missing(const std::filesystem::path& database);

class Cache {
  public:
    enum class Mode { read_only, read_write };
    // read_write creates the file and its folder. read_only of a missing file: an empty cache. Throws Error cache for a
    // file of a newer schema, a damaged one, or no database at all, saying what to do.
    static Cache open(const std::filesystem::path& path, Mode mode);

    std::vector<Winner> all() const;
    std::vector<std::string> damaged() const;  // keys of rows whose checksum fails; all() leaves them out
    // What SQLite's own integrity check says; empty: nothing. It overlooks flipped bits, damaged() does not.
    std::vector<std::string> integrity_problems() const;

    // Each of these is one transaction (BEGIN IMMEDIATE). Writers wait for each other, threads and processes alike.
    // Replaces the same key, except that a blocked row stays as it is: it says which config a person blocked. Throws Error invalid_argument
    // for a config that does not read and for times that are no times.
    void put(const Winner& winner);
    void put(const std::vector<Winner>& winners);  // all or none
    void set_status(const std::string& key_text, WinnerStatus status);  // these two: a missing key is no error
    void remove(const std::string& key_text);
    void remove(const std::vector<std::string>& key_texts);
    void remove_damaged();

    Cache(Cache&&) noexcept;
    Cache& operator=(Cache&&) noexcept;
    ~Cache();

  private:
    struct Impl;
    explicit Cache(std::unique_ptr<Impl>);
    std::unique_ptr<Impl> impl_;
};

}  // namespace mxfp4
