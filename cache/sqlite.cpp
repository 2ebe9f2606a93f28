#include "cache/sqlite.h"

#include <fmt/format.h>
#include <mxfp4/error.h>
#include <sqlite3.h>

namespace mxfp4::sqlite {
namespace {

// How long a call waits for other processes' transactions. Each lasts milliseconds, but hundreds may queue.
constexpr int kBusyTimeoutMs = 30000;

// A path as a URI, so that immutable=1 can follow: everything but plain characters is escaped.
std::string uri(const std::filesystem::path& path, const char* parameters) {
    std::string text = "file:";
    for (const char c : std::filesystem::absolute(path).string()) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
                           c == '.' || c == '-' || c == '_';
        text += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return text + parameters;
}

ErrorDetail detail(int code) {
    const char* damaged = "delete it (winners are tuned again) or put a copy in its place";
    switch (code & 0xff) {  // the low byte is the primary code
        case SQLITE_CORRUPT:
        case SQLITE_ERROR: return {"", "", damaged};  // our SQL is fixed, so the schema it meets is not ours
        case SQLITE_NOTADB: return {"", "", "delete the file or name another"};
        case SQLITE_BUSY:
            return {"", "",
                    fmt::format("another process has held it for {} s; end that process", kBusyTimeoutMs / 1000)};
        case SQLITE_CANTOPEN:
        case SQLITE_READONLY: return {"", "", "check the permissions of the file and of its folder, or name another"};
        case SQLITE_FULL: return {"", "", "free some space or name a file elsewhere"};
        default: return {};
    }
}

}  // namespace

void close_database(sqlite3* database) noexcept { sqlite3_close_v2(database); }
void close_statement(sqlite3_stmt* statement) noexcept { sqlite3_finalize(statement); }

Database::Database(const std::filesystem::path& path, Mode mode) : path_(path) {
    const std::string name = uri(path, mode == Mode::immutable ? "?immutable=1" : "");
    const int access = mode == Mode::read_write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(name.c_str(), &handle, access | SQLITE_OPEN_URI | SQLITE_OPEN_FULLMUTEX, nullptr);
    handle_.reset(handle);  // SQLite gives a handle even where it fails
    if (!handle) throw std::bad_alloc();
    if (code != SQLITE_OK) fail(sqlite3_extended_errcode(handle));
    sqlite3_extended_result_codes(handle, 1);
    sqlite3_busy_timeout(handle, kBusyTimeoutMs);
    // A file may be hostile or damaged: no surprises from its schema, and cells are looked at before they are used.
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    execute("PRAGMA cell_size_check = ON");
}

void Database::fail(int code) {
    const char* why = sqlite3_extended_errcode(handle()) == code ? sqlite3_errmsg(handle()) : sqlite3_errstr(code);
    throw Error(ErrorCode::cache, fmt::format("tuning database '{}': {}", path_.string(), why), detail(code));
}

void Database::check(int code) {
    if (code != SQLITE_OK) fail(code);
}

void Database::execute(const char* sql) { check(sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr)); }

std::int64_t Database::pragma(const std::string& name) {
    Statement statement(*this, "PRAGMA " + name);
    return statement.step() ? statement.integer(0) : 0;
}

Access Database::probe() {
    const int code = sqlite3_exec(handle(), "SELECT count(*) FROM sqlite_schema", nullptr, nullptr, nullptr);
    if (code == SQLITE_OK) return Access::reads;
    if (code == SQLITE_READONLY_ROLLBACK) return Access::needs_rollback;
    const int primary = code & 0xff;
    if (primary == SQLITE_BUSY) fail(code);  // it was waited for
    return primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY ? Access::needs_immutable : Access::fails;
}

Statement::Statement(Database& database, std::string_view sql) : database_(database) {
    sqlite3_stmt* handle = nullptr;
    database.check(sqlite3_prepare_v2(database.handle(), sql.data(), int(sql.size()), &handle, nullptr));
    handle_.reset(handle);
}

Statement& Statement::bind(int parameter, std::string_view text) {
    database_.check(sqlite3_bind_text(handle_.get(), parameter, text.data(), int(text.size()), SQLITE_TRANSIENT));
    return *this;
}

Statement& Statement::bind(int parameter, std::int64_t value) {
    database_.check(sqlite3_bind_int64(handle_.get(), parameter, value));
    return *this;
}

Statement& Statement::bind(int parameter, double value) {
    database_.check(sqlite3_bind_double(handle_.get(), parameter, value));
    return *this;
}

bool Statement::step() {
    const int code = sqlite3_step(handle_.get());
    if (code != SQLITE_ROW && code != SQLITE_DONE) database_.fail(code);
    return code == SQLITE_ROW;
}

void Statement::reset() {
    sqlite3_reset(handle_.get());  // returns the code of the last step(), which has been thrown already
}

std::string Statement::text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
    return bytes ? std::string(bytes, std::size_t(sqlite3_column_bytes(handle_.get(), column))) : std::string();
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(handle_.get(), column); }
double Statement::real(int column) const { return sqlite3_column_double(handle_.get(), column); }

Transaction::Transaction(Database& database, Kind kind) : database_(database) {
    database_.execute(kind == Kind::write ? "BEGIN IMMEDIATE" : "BEGIN");
}

Transaction::~Transaction() {
    if (open_) sqlite3_exec(database_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
    database_.execute("COMMIT");
    open_ = false;
}

}  // namespace mxfp4::sqlite
