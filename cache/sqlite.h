// The wrapper around SQLite's C API: owned handles, and Error cache with the file's name where SQLite returns a code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace mxfp4::sqlite {

// A handle that is closed by Close: Unique<sqlite3, close_database>.
template <class T, auto Close>
struct Closer {
    void operator()(T* handle) const noexcept { Close(handle); }
};
template <class T, auto Close>
using Unique = std::unique_ptr<T, Closer<T, Close>>;

void close_database(sqlite3* database) noexcept;
void close_statement(sqlite3_stmt* statement) noexcept;

class Database;

// A prepared statement. Parameters count from 1, columns from 0, as in SQLite. Must not outlive its database.
class Statement {
  public:
    Statement(Database& database, std::string_view sql);

    Statement& bind(int parameter, std::string_view text);
    Statement& bind(int parameter, std::int64_t value);
    Statement& bind(int parameter, double value);
    bool step();   // true: a row is there
    void reset();  // ready to step again; keeps what is bound

    std::string text(int column) const;
    std::int64_t integer(int column) const;
    double real(int column) const;

  private:
    Database& database_;
    Unique<sqlite3_stmt, close_statement> handle_;
};

// What a database needs before it reads.
enum class Access {
    reads,
    needs_rollback,   // a writer was cut off: whoever can write must undo its half transaction first
    needs_immutable,  // a write-ahead-log database where we cannot write: no locks can be taken
    fails,            // anything else; the next call says why
};

class Database {
  public:
    // immutable: no locks and no journal; for a file that nobody can be writing.
    enum class Mode { read_only, immutable, read_write };
    Database(const std::filesystem::path& path, Mode mode);  // read_write creates the file

    void execute(const char* sql);                      // statements without parameters and results
    std::int64_t pragma(const std::string& name);       // its integer value
    Access probe();                                     // reads the schema, if it can. Throws where another process holds the file
    [[noreturn]] void fail(int code);                   // throws what SQLite's code and message say
    void check(int code);                               // fail() unless the code says success

    sqlite3* handle() const { return handle_.get(); }

  private:
    std::filesystem::path path_;
    Unique<sqlite3, close_database> handle_;
};

class Transaction {
  public:
    // read: what is read inside is one state of the file, whatever others write meanwhile. write: takes the write lock at once
    // (BEGIN IMMEDIATE), because a transaction that first reads cannot wait for the lock that it then finds it needs.
    enum class Kind { read, write };
    Transaction(Database& database, Kind kind);
    ~Transaction();  // rolls back what was not committed
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    void commit();

  private:
    Database& database_;
    bool open_ = true;
};

}  // namespace mxfp4::sqlite
