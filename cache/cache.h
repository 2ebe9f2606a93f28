// Winners in SQLite. The one place that knows SQL; the hit path of the dispatcher never comes here.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
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
    std::string tuned_at;       // ISO 8601, UTC
};

class Cache {
  public:
    enum class Mode { read_only, read_write };
    // read_write creates the file and its folder. read_only of a missing file: an empty cache. Throws Error cache for a
    // file of a newer schema, a damaged one, or no database at all, saying what to do.
    static Cache open(const std::filesystem::path& path, Mode mode);

    std::vector<Winner> all() const;
    std::vector<std::string> damaged() const;  // keys of rows whose checksum fails; all() leaves them out
    void put(const Winner& winner);        // one transaction (BEGIN IMMEDIATE); replaces the same key
    void remove(const std::string& key_text);

    Cache(Cache&&) noexcept;
    Cache& operator=(Cache&&) noexcept;
    ~Cache();

  private:
    struct Impl;
    explicit Cache(std::unique_ptr<Impl>);
    std::unique_ptr<Impl> impl_;
};

}  // namespace mxfp4
