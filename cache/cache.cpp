#include "cache/cache.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <mutex>

#include <fmt/format.h>
#include <mxfp4/error.h>
#include <nlohmann/json.hpp>

#include "cache/sqlite.h"
#include "core/config_text.h"
#include "core/sha256.h"

namespace mxfp4 {
namespace {

constexpr int kApplicationId = 0x6d786634;  // "mxf4" in the file's header: tells our databases from others'

// key: Key::text(). hash: Key::hash(). fields: the key's fields as JSON, for people who look with SQL.
// checksum: row_checksum().
constexpr const char* kSchemaSql = R"(
    CREATE TABLE winners (
        key TEXT PRIMARY KEY NOT NULL,
        hash TEXT NOT NULL,
        fields TEXT NOT NULL,
        config TEXT NOT NULL,
        us REAL NOT NULL,
        us_p10 REAL NOT NULL,
        us_p90 REAL NOT NULL,
        us_default REAL NOT NULL,
        status INTEGER NOT NULL,
        tuned_at TEXT NOT NULL,
        image TEXT NOT NULL,
        checksum TEXT NOT NULL
    ) STRICT)";
constexpr const char* kColumns =
    "key, hash, fields, config, us, us_p10, us_p90, us_default, status, tuned_at, image, checksum";

constexpr const char* kStatuses[] = {"ok", "blocked"};

std::string fields_json(const Key& key) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    // A device's name may be any bytes; JSON takes UTF-8 alone.
    for (const auto& [name, value] : key.fields()) json[name] = value;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

// A row as it is stored.
struct Row {
    std::string key, hash, fields, config;
    double us, us_p10, us_p90, us_default;
    std::int64_t status;
    std::string tuned_at, image;
};

// Over every column: SQLite has no checksums, and its integrity check overlooks most flipped bits.
std::string row_checksum(const Row& row) {
    std::string bytes;
    for (const std::string* text : {&row.key, &row.hash, &row.fields, &row.config, &row.tuned_at, &row.image})
        bytes += fmt::format("{}:{};", text->size(), *text);
    for (const double number : {row.us, row.us_p10, row.us_p90, row.us_default}) bytes += fmt::format("{:a};", number);
    bytes += fmt::format("{}", row.status);
    return sha256_hex(bytes);
}

Row to_row(const Winner& w) {
    return {w.key.text(), w.key.hash(), fields_json(w.key),     w.config,   w.us,   w.us_p10,
            w.us_p90,     w.us_default, std::int64_t(w.status), w.tuned_at, w.image};
}

// Columns in the order of kColumns.
Row read_row(const sqlite::Statement& s) {
    return {s.text(0), s.text(1), s.text(2),    s.text(3), s.real(4), s.real(5),
            s.real(6), s.real(7), s.integer(8), s.text(9), s.text(10)};
}

// Nothing where key or status does not read: one foreign row must not take the others away.
std::optional<Winner> to_winner(const Row& row) try {
    if (row.status < 0 || row.status >= std::int64_t(std::size(kStatuses))) return {};
    return Winner{Key::parse(row.key),      row.config,   row.us,   row.us_p10, row.us_p90, row.us_default,
                  WinnerStatus(row.status), row.tuned_at, row.image};
} catch (const Error&) {
    return {};
}

void check_winner(const Winner& w) {
    parse_config(w.config);
    for (const double us : {w.us, w.us_p10, w.us_p90, w.us_default})
        if (!std::isfinite(us) || us < 0)
            throw Error(ErrorCode::invalid_argument, "a winner's time",
                        {fmt::format("{} us", us), "finite and not negative", ""});
}

void write_row(sqlite::Database& database, const Row& row) {
    sqlite::Statement insert(
        database, fmt::format("INSERT OR REPLACE INTO winners ({}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", kColumns));
    insert.bind(1, row.key).bind(2, row.hash).bind(3, row.fields).bind(4, row.config);
    insert.bind(5, row.us).bind(6, row.us_p10).bind(7, row.us_p90).bind(8, row.us_default);
    insert.bind(9, row.status).bind(10, row.tuned_at).bind(11, row.image).bind(12, row_checksum(row));
    insert.step();
}

struct Contents {
    std::vector<Winner> winners;
    std::vector<std::string> damaged;
};

Contents read_all(sqlite::Database& database) {
    Contents contents;
    // NOT INDEXED: the table alone, so that a damaged index cannot hide or repeat a row.
    sqlite::Statement select(database, fmt::format("SELECT {} FROM winners NOT INDEXED", kColumns));
    while (select.step()) {
        const Row row = read_row(select);
        std::optional<Winner> winner;
        if (select.text(11) == row_checksum(row)) winner = to_winner(row);
        if (winner)
            contents.winners.push_back(std::move(*winner));
        else
            contents.damaged.push_back(row.key);
    }
    const auto by_text = [](const Winner& a, const Winner& b) { return a.key.text() < b.key.text(); };
    std::sort(contents.winners.begin(), contents.winners.end(), by_text);
    std::sort(contents.damaged.begin(), contents.damaged.end());
    return contents;
}

std::optional<Row> find_row(sqlite::Database& database, const std::string& key_text) {
    sqlite::Statement select(database, fmt::format("SELECT {} FROM winners WHERE key = ?", kColumns));
    select.bind(1, key_text);
    if (!select.step()) return {};
    const Row row = read_row(select);
    return select.text(11) == row_checksum(row) ? std::optional(row) : std::nullopt;
}

// SQLite takes a file that ends inside a page for a whole one.
void check_size(sqlite::Database& database, const std::filesystem::path& path) {
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (error) return;  // deleted meanwhile
    if (const std::int64_t page = database.pragma("page_size"); size % std::uintmax_t(page) != 0)
        throw Error(ErrorCode::cache, fmt::format("tuning database '{}' is cut off", path.string()),
                    {fmt::format("{} bytes", size), fmt::format("a multiple of {}", page),
                     "delete it; winners are tuned again"});
}

// True where the file holds our tables, false where it holds nothing yet. Call inside a transaction: between two looks without
// one, another process may create the tables, and the answers together describe a file that never was.
bool check_schema(sqlite::Database& database, const std::filesystem::path& path) {
    const std::int64_t schema = database.pragma("user_version"), application = database.pragma("application_id");
    sqlite::Statement count(database, "SELECT count(*) FROM sqlite_schema");
    count.step();
    check_size(database, path);
    if (schema == 0 && application == 0 && count.integer(0) == 0) return false;
    if (application != kApplicationId)
        throw Error(ErrorCode::cache, fmt::format("'{}' is a database of another program", path.string()),
                    {"", "", "name another file"});
    if (schema > kCacheSchema)
        throw Error(ErrorCode::cache, fmt::format("tuning database '{}' was written by a newer mxfp4", path.string()),
                    {fmt::format("schema {}", schema), fmt::format("at most {}", kCacheSchema),
                     "upgrade this mxfp4, or name another file; nothing was changed"});
    if (schema != kCacheSchema)
        throw Error(
            ErrorCode::cache, fmt::format("tuning database '{}' is damaged", path.string()),
            {fmt::format("schema {}", schema), fmt::to_string(kCacheSchema), "delete it; winners are tuned again"});
    return true;
}

bool has_schema(sqlite::Database& database, const std::filesystem::path& path) {
    const sqlite::Transaction transaction(database, sqlite::Transaction::Kind::read);
    return check_schema(database, path);
}

void create_schema(sqlite::Database& database, const std::filesystem::path& path) {
    sqlite::Transaction transaction(database, sqlite::Transaction::Kind::write);
    if (check_schema(database, path)) return;  // another process was first
    database.execute(kSchemaSql);
    database.execute(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str());
    database.execute(fmt::format("PRAGMA user_version = {}", kCacheSchema).c_str());
    transaction.commit();
}

std::unique_ptr<sqlite::Database> open_for_reading(const std::filesystem::path& path) {
    using enum sqlite::Database::Mode;
    auto database = std::make_unique<sqlite::Database>(path, read_only);
    switch (database->probe()) {
        case sqlite::Access::needs_rollback:
            sqlite::Database(path, read_write).probe();
            return std::make_unique<sqlite::Database>(path, read_only);
        case sqlite::Access::needs_immutable: return std::make_unique<sqlite::Database>(path, immutable);
        default: return database;
    }
}

}  // namespace

const char* to_string(WinnerStatus status) { return kStatuses[int(status)]; }

WinnerStatus parse_winner_status(std::string_view text) {
    if (text == kStatuses[0]) return WinnerStatus::ok;
    if (text == kStatuses[1]) return WinnerStatus::blocked;
    throw Error(ErrorCode::invalid_argument, "unknown status of a winner",
                {fmt::format("'{}'", text), "ok or blocked", ""});
}

std::string utc_now() {
    const std::time_t now = std::time(nullptr);
    std::tm utc = {};
    gmtime_r(&now, &utc);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
}

std::filesystem::path image_folder(const std::filesystem::path& database) { return database.parent_path() / "cubin"; }

bool is_missing(const std::filesystem::path& database) {
    std::error_code error;
    return !std::filesystem::exists(database, error) && !error;
}

struct Cache::Impl {
    std::filesystem::path path;
    Mode mode;
    std::unique_ptr<sqlite::Database> database;  // null: read-only and nothing there
    mutable std::mutex mutex;  // one transaction at a time on the one connection

    // f(database) inside one write transaction.
    template <class F>
    void write(F&& f) {
        const std::lock_guard lock(mutex);
        if (mode != Mode::read_write)
            throw Error(ErrorCode::cache, fmt::format("tuning database '{}' is open for reading only", path.string()),
                        {"", "", "open it with Mode::read_write"});
        sqlite::Transaction transaction(*database, sqlite::Transaction::Kind::write);
        f(*database);
        transaction.commit();
    }
    Contents read() const {
        const std::lock_guard lock(mutex);
        return database ? read_all(*database) : Contents{};
    }
};

Cache::Cache(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Cache::Cache(Cache&&) noexcept = default;
Cache& Cache::operator=(Cache&&) noexcept = default;
Cache::~Cache() = default;

// The journal is SQLite's default, a rollback journal, not a write-ahead log: the file is whole by itself, reads in a
// read-only folder and on a network file system. docs/decisions/0005-rollback-journal.md has the reasons.
Cache Cache::open(const std::filesystem::path& path, Mode mode) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->mode = mode;
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        throw Error(ErrorCode::cache, fmt::format("tuning database '{}' is a folder", path.string()),
                    {"", "", "name a file"});
    if (mode == Mode::read_write) {
        std::error_code error;
        if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
        if (error)
            throw Error(
                ErrorCode::cache,
                fmt::format("cannot create the folder of tuning database '{}': {}", path.string(), error.message()),
                {"", "", "check the permissions, or name another file"});
        impl->database = std::make_unique<sqlite::Database>(path, sqlite::Database::Mode::read_write);
        if (!has_schema(*impl->database, path)) create_schema(*impl->database, path);
        return Cache(std::move(impl));
    }
    if (is_missing(path)) return Cache(std::move(impl));
    impl->database = open_for_reading(path);
    if (!has_schema(*impl->database, path)) impl->database.reset();
    return Cache(std::move(impl));
}

std::vector<Winner> Cache::all() const { return impl_->read().winners; }
std::vector<std::string> Cache::damaged() const { return impl_->read().damaged; }

std::vector<std::string> Cache::integrity_problems() const {
    const std::lock_guard lock(impl_->mutex);
    std::vector<std::string> problems;
    if (!impl_->database) return problems;
    sqlite::Statement check(*impl_->database, "PRAGMA integrity_check");
    while (check.step())
        if (std::string line = check.text(0); line != "ok") problems.push_back(std::move(line));
    return problems;
}

void Cache::put(const Winner& winner) { put(std::vector<Winner>{winner}); }

void Cache::put(const std::vector<Winner>& winners) {
    for (const Winner& winner : winners) check_winner(winner);
    impl_->write([&](sqlite::Database& database) {
        for (const Winner& winner : winners) {
            Row row = to_row(winner);
            if (row.tuned_at.empty()) row.tuned_at = utc_now();
            const std::optional<Row> old = find_row(database, row.key);
            if (!old || old->status != std::int64_t(WinnerStatus::blocked)) write_row(database, row);
        }
    });
}

void Cache::set_status(const std::string& key_text, WinnerStatus status) {
    impl_->write([&](sqlite::Database& database) {
        std::optional<Row> row = find_row(database, key_text);
        if (!row) return;
        row->status = std::int64_t(status);
        write_row(database, *row);
    });
}

void Cache::remove(const std::string& key_text) { remove(std::vector<std::string>{key_text}); }

void Cache::remove(const std::vector<std::string>& key_texts) {
    impl_->write([&](sqlite::Database& database) {
        sqlite::Statement erase(database, "DELETE FROM winners WHERE key = ?");
        for (const std::string& key_text : key_texts) {
            erase.bind(1, key_text).step();
            erase.reset();
        }
    });
}

// Empties the table and writes the good rows anew: a damaged row can't be trusted to be found by its key.
void Cache::remove_damaged() {
    impl_->write([&](sqlite::Database& database) {
        const Contents contents = read_all(database);
        if (contents.damaged.empty()) return;
        database.execute("DELETE FROM winners");
        for (const Winner& winner : contents.winners) write_row(database, to_row(winner));
    });
}

}  // namespace mxfp4
