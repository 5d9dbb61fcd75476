/* journal_sqlite: the CMS log in an SQLite file: WAL, synchronous=FULL, one transaction per append.
 * SQLite itself drops what it cannot read at the end of its WAL, so beside the file there is a
 * mark, PATH-index, with the last index that was reported as durable. A log that ends below it is
 * damaged or an old copy, and is refused. */
#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_APPLICATION 0x51534d4a /* "QSMJ" */
#define JOURNAL_FORMAT 2
#define SNAPSHOT_ROW_BYTES (512u << 10) /* of a snapshot in one row */
#define MARK_BYTES 16
#define ERROR_BYTES 512

struct journal {
    struct journal_hooks hooks;
    char *path; /* of the database */
    sqlite3 *db;
    sqlite3_stmt *insert;
    int mark; /* descriptor of PATH-index */
    uint64_t last, snapshot_index;
    int failed; /* the first error; nothing is written after it */
    char error[ERROR_BYTES];
};

const char *const journal_steps[] = {
    "before-begin",           "after-insert",    "before-commit",
    "after-commit",           "before-snapshot", "insert-snapshot",
    "before-commit-snapshot", "after-snapshot",  NULL,
};

static const char schema[] =
    "PRAGMA journal_mode = DELETE;"
    "BEGIN;"
    "CREATE TABLE entry (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL, sum INTEGER NOT NULL);"
    "CREATE TABLE snapshot (part INTEGER PRIMARY KEY, parts INTEGER NOT NULL, idx INTEGER NOT NULL,"
    " bytes BLOB NOT NULL, sum INTEGER NOT NULL);"
    "PRAGMA application_id = 1364413770;"
    "PRAGMA user_version = 2;"
    "COMMIT;";

/* ---- errors */

static int fail(struct journal *j, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct journal *j, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(j->error, sizeof(j->error), format, args);
    va_end(args);
    j->failed = error;
    return error;
}

static int fail_sqlite(struct journal *j, int rc, const char *doing)
{
    static const struct {
        int rc, error;
        const char *text;
    } table[] = {
        {SQLITE_FULL, -ENOSPC, "the disk is full"},
        {SQLITE_CORRUPT, -EBADMSG, "the file is damaged"},
        {SQLITE_NOTADB, -EBADMSG, "the file is damaged: it is not an SQLite database"},
        {SQLITE_BUSY, -EBUSY, "another process has the file open"},
        {SQLITE_CANTOPEN, -EACCES, "the file cannot be opened"},
        {SQLITE_READONLY, -EACCES, "the file cannot be written"},
        {SQLITE_PERM, -EACCES, "access denied"},
        {SQLITE_NOMEM, -ENOMEM, "out of memory"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].rc == (rc & 0xff))
            return fail(j, table[i].error, "%s: %s (%s)", j->path, table[i].text, doing);
    }
    return fail(j, -EIO, "%s: %s failed: %s", j->path, doing, sqlite3_errstr(rc));
}

static int fail_errno(struct journal *j, const char *suffix, const char *doing)
{
    int error = -errno;

    return fail(j, error, "%s%s: cannot %s: %s", j->path, suffix, doing, strerror(-error));
}

static int run(struct journal *j, const char *sql, const char *doing)
{
    int rc = sqlite3_exec(j->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : fail_sqlite(j, rc, doing);
}

static void step(struct journal *j, const char *name)
{
    if (j->hooks.step)
        j->hooks.step(j->hooks.ctx, name);
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_u64(uint64_t hash, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        hash = (hash ^ (v >> (8 * i) & 0xff)) * 0x100000001b3u;
    return hash;
}

/* FNV-1a over the index and the bytes: an entry that changed or moved is noticed. */
static uint64_t checksum(uint64_t index, const uint8_t *bytes, size_t count)
{
    return hash_bytes(hash_u64(0xcbf29ce484222325u, index), bytes, count);
}

/* Likewise of a row of a snapshot: also one that is missing or stands elsewhere. */
static uint64_t checksum_part(uint64_t index, uint64_t part, uint64_t parts, const uint8_t *bytes,
                              size_t count)
{
    uint64_t hash = hash_u64(hash_u64(0xcbf29ce484222325u, part), parts);

    return hash_bytes(hash_u64(hash, index), bytes, count);
}

/* ---- the mark */

static void put_u64(uint8_t *out, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)in[i] << (8 * i);
    return v;
}

/* The commit before it is on disk, so the mark needs no sync of its own: it is never ahead. */
static int mark_write(struct journal *j)
{
    uint8_t bytes[MARK_BYTES];

    put_u64(bytes, j->last);
    put_u64(bytes + 8, checksum(j->last, NULL, 0));
    if (pwrite(j->mark, bytes, sizeof(bytes), 0) != MARK_BYTES)
        return fail_errno(j, "-index", "write");
    return 0;
}

/* Reads a mark: its index, 0 when it is new or lost its contents unsynced. -EBADMSG: damaged. */
static int mark_read(int fd, uint64_t *ret_index)
{
    uint8_t bytes[MARK_BYTES];
    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);

    *ret_index = 0;
    if (n <= 0)
        return n < 0 ? -errno : 0;
    if (n != MARK_BYTES || get_u64(bytes + 8) != checksum(get_u64(bytes), NULL, 0))
        return -EBADMSG;
    *ret_index = get_u64(bytes);
    return 0;
}

/* Opens PATH-index. */
static int mark_file(const char *path, int flags)
{
    char *name;
    int fd;

    if (asprintf(&name, "%s-index", path) < 0)
        return -1;
    fd = open(name, flags | O_CLOEXEC, 0640);
    free(name);
    return fd;
}

static int mark_open(struct journal *j, uint64_t *ret_index)
{
    int rc;

    j->mark = mark_file(j->path, O_RDWR | O_CREAT);
    if (j->mark < 0)
        return fail_errno(j, "-index", "open");
    rc = mark_read(j->mark, ret_index);
    if (rc == -EBADMSG)
        return fail(j, rc, "%s-index: the file is damaged", j->path);
    return rc < 0 ? fail_errno(j, "-index", "read") : 0;
}

uint64_t journal_marked(const char *path)
{
    int fd = mark_file(path, O_RDONLY);
    uint64_t index = 0;

    if (fd < 0)
        return 0;
    mark_read(fd, &index);
    close(fd);
    return index;
}

/* ---- making and opening the database */

static int sync_directory(struct journal *j)
{
    char *copy = strdup(j->path);
    int fd, rc = 0;

    if (!copy)
        return fail(j, -ENOMEM, "out of memory");
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        rc = fail_errno(j, "", "sync the directory of the file");
    if (fd >= 0)
        close(fd);
    free(copy);
    return rc;
}

/* A new log is made under another name and then renamed, so that a file under the real name that is
 * empty or has no tables is never taken for a new one. */
static int make_database(struct journal *j)
{
    char *path;
    int rc;

    if (asprintf(&path, "%s-new", j->path) < 0)
        return fail(j, -ENOMEM, "out of memory");
    unlink(path);
    rc = sqlite3_open_v2(path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    rc = rc == SQLITE_OK ? run(j, schema, "making the log") : fail_sqlite(j, rc, "making the log");
    sqlite3_close(j->db);
    j->db = NULL;
    if (rc == 0 && rename(path, j->path) < 0)
        rc = fail_errno(j, "-new", "rename");
    if (rc == 0)
        rc = sync_directory(j);
    free(path);
    return rc;
}

static int ensure_database(struct journal *j, uint64_t marked)
{
    struct stat st;

    if (stat(j->path, &st) == 0) {
        if (st.st_size == 0)
            return fail(j, -EBADMSG, "%s: the file is damaged: it is empty", j->path);
        return 0;
    }
    if (errno != ENOENT)
        return fail_errno(j, "", "open");
    if (marked > 0)
        return fail(j, -EBADMSG, "%s: the file is missing, but %llu entries were written to it",
                    j->path, (unsigned long long)marked);
    return make_database(j);
}

/* The first integer that a statement gives, or -1. */
static int64_t ask_number(struct journal *j, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int64_t value = -1;

    if (sqlite3_prepare_v2(j->db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static int check_database(struct journal *j)
{
    sqlite3_stmt *stmt = NULL;
    bool good;
    int rc;

    rc = sqlite3_prepare_v2(j->db, "PRAGMA quick_check(1)", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW) {
        sqlite3_finalize(stmt);
        return fail_sqlite(j, rc, "checking the log");
    }
    good = strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") == 0;
    sqlite3_finalize(stmt);
    if (!good)
        return fail(j, -EBADMSG, "%s: the file is damaged", j->path);
    if (ask_number(j, "PRAGMA application_id") != JOURNAL_APPLICATION)
        return fail(j, -EBADMSG, "%s: the file is damaged or not a log of the CMS", j->path);
    if (ask_number(j, "PRAGMA user_version") != JOURNAL_FORMAT)
        return fail(j, -EBADMSG, "%s: the log is of another version", j->path);
    return 0;
}

static int open_database(struct journal *j)
{
    int rc = sqlite3_open_v2(j->path, &j->db, SQLITE_OPEN_READWRITE, NULL);

    if (rc != SQLITE_OK)
        return fail_sqlite(j, rc, "opening the log");
    sqlite3_extended_result_codes(j->db, 1);
    /* Exclusive: two leaders on one file would be two histories. The empty transaction takes the
     * lock now instead of at the first append. */
    rc = run(j, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;", "opening the log");
    if (rc == 0)
        rc = run(j, "PRAGMA synchronous = FULL; BEGIN IMMEDIATE; COMMIT;", "opening the log");
    if (rc == 0)
        rc = check_database(j);
    if (rc < 0)
        return rc;
    rc = sqlite3_prepare_v2(j->db, "INSERT INTO entry VALUES (?, ?, ?)", -1, &j->insert, NULL);
    return rc == SQLITE_OK ? 0 : fail_sqlite(j, rc, "opening the log");
}

/* ---- replay */

/* Gives an entry, a row of (idx, bytes, sum), to the hook, once its sum is right. */
static int replay_entry(struct journal *j, sqlite3_stmt *row)
{
    uint64_t index = (uint64_t)sqlite3_column_int64(row, 0);
    const uint8_t *bytes = sqlite3_column_blob(row, 1);
    size_t count = (size_t)sqlite3_column_bytes(row, 1);
    int rc;

    if ((uint64_t)sqlite3_column_int64(row, 2) != checksum(index, bytes, count))
        return fail(j, -EBADMSG, "%s: the file is damaged: entry %llu has changed", j->path,
                    (unsigned long long)index);
    rc = j->hooks.entry(j->hooks.ctx, index, bytes, count);
    if (rc < 0)
        return fail(j, rc, "%s: the file is damaged: entry %llu cannot be understood", j->path,
                    (unsigned long long)index);
    j->last = index;
    return 0;
}

/* A snapshot while its rows are put together. */
struct gathered {
    uint64_t index, part, parts; /* part: rows so far */
    uint8_t *bytes;              /* owned */
    size_t count;
};

/* Takes the next row of (part, parts, idx, bytes, sum). */
static int gather_row(struct journal *j, sqlite3_stmt *row, struct gathered *g)
{
    uint64_t part = (uint64_t)sqlite3_column_int64(row, 0);
    uint64_t parts = (uint64_t)sqlite3_column_int64(row, 1);
    uint64_t index = (uint64_t)sqlite3_column_int64(row, 2);
    const uint8_t *bytes = sqlite3_column_blob(row, 3);
    size_t count = (size_t)sqlite3_column_bytes(row, 3);
    uint8_t *room;

    if ((uint64_t)sqlite3_column_int64(row, 4) != checksum_part(index, part, parts, bytes, count))
        return fail(j, -EBADMSG, "%s: the file is damaged: the snapshot at %llu has changed",
                    j->path, (unsigned long long)index);
    if (part != g->part || (part > 0 && (parts != g->parts || index != g->index)))
        return fail(j, -EBADMSG,
                    "%s: the file is damaged: a part of the snapshot at %llu is missing", j->path,
                    (unsigned long long)index);
    room = realloc(g->bytes, g->count + count + 1);
    if (!room)
        return fail(j, -ENOMEM, "out of memory");
    if (count > 0)
        memcpy(room + g->count, bytes, count);
    g->bytes = room;
    g->count += count;
    g->index = index;
    g->parts = parts;
    g->part++;
    return 0;
}

static int gather_snapshot(struct journal *j, struct gathered *g)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(
        j->db, "SELECT part, parts, idx, bytes, sum FROM snapshot ORDER BY part", -1, &row, NULL);
    int result = 0;

    while (result == 0 && rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        result = gather_row(j, row, g);
        rc = SQLITE_OK;
    }
    if (result == 0 && rc != SQLITE_DONE)
        result = fail_sqlite(j, rc, "reading the snapshot");
    sqlite3_finalize(row);
    if (result == 0 && g->part != g->parts)
        result =
            fail(j, -EBADMSG, "%s: the file is damaged: the end of the snapshot at %llu is missing",
                 j->path, (unsigned long long)g->index);
    return result;
}

static int replay_snapshot(struct journal *j)
{
    struct gathered g = {0};
    int result = gather_snapshot(j, &g);

    if (result == 0 && g.parts > 0) {
        result = j->hooks.snapshot(j->hooks.ctx, g.index, g.bytes, g.count);
        if (result < 0)
            fail(j, result, "%s: the file is damaged: the snapshot at %llu cannot be understood",
                 j->path, (unsigned long long)g.index);
        j->last = j->snapshot_index = g.index;
    }
    free(g.bytes);
    return result;
}

static int replay_entries(struct journal *j)
{
    sqlite3_stmt *row = NULL;
    int rc =
        sqlite3_prepare_v2(j->db, "SELECT idx, bytes, sum FROM entry ORDER BY idx", -1, &row, NULL);
    int result = 0;

    while (result == 0 && rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        if ((uint64_t)sqlite3_column_int64(row, 0) != j->last + 1)
            result = fail(j, -EBADMSG, "%s: the file is damaged: entry %llu is missing", j->path,
                          (unsigned long long)j->last + 1);
        else
            result = replay_entry(j, row);
        rc = SQLITE_OK;
    }
    if (result == 0 && rc != SQLITE_DONE)
        result = fail_sqlite(j, rc, "reading the log");
    sqlite3_finalize(row);
    return result;
}

static int open_and_replay(struct journal *j)
{
    uint64_t marked;
    int rc = mark_open(j, &marked);

    if (rc == 0)
        rc = ensure_database(j, marked);
    if (rc == 0)
        rc = open_database(j);
    if (rc == 0)
        rc = replay_snapshot(j);
    if (rc == 0)
        rc = replay_entries(j);
    if (rc == 0 && j->last < marked)
        rc = fail(j, -EBADMSG,
                  "%s: the file is damaged or an old copy: it ends at entry %llu, but entry %llu "
                  "was written",
                  j->path, (unsigned long long)j->last, (unsigned long long)marked);
    return rc;
}

int journal_open(struct journal **ret, const char *path, const struct journal_hooks *hooks,
                 char *error, size_t error_bytes)
{
    struct journal *j;
    int rc;

    *ret = NULL;
    j = calloc(1, sizeof(*j));
    if (!j || !(j->path = strdup(path))) {
        free(j);
        snprintf(error, error_bytes, "out of memory");
        return -ENOMEM;
    }
    j->hooks = *hooks;
    j->mark = -1;
    rc = open_and_replay(j);
    if (rc < 0) {
        snprintf(error, error_bytes, "%s", j->error);
        journal_close(j);
        return rc;
    }
    *ret = j;
    return 0;
}

/* ---- writing */

/* A NULL pointer would bind as SQL's NULL; an empty entry is an empty blob. */
static void bind_bytes(sqlite3_stmt *into, int column, const uint8_t *bytes, size_t count)
{
    sqlite3_bind_blob64(into, column, count ? bytes : (const uint8_t *)"", count, SQLITE_STATIC);
}

static int run_insert(struct journal *j, sqlite3_stmt *into)
{
    int rc = sqlite3_step(into);

    sqlite3_reset(into);
    sqlite3_clear_bindings(into);
    return rc == SQLITE_DONE ? 0 : fail_sqlite(j, rc, "writing");
}

static int insert_entry(struct journal *j, const struct journal_entry *e)
{
    sqlite3_bind_int64(j->insert, 1, (sqlite3_int64)e->index);
    bind_bytes(j->insert, 2, e->bytes, e->count);
    sqlite3_bind_int64(j->insert, 3, (sqlite3_int64)checksum(e->index, e->bytes, e->count));
    return run_insert(j, j->insert);
}

int journal_append(struct journal *j, const struct journal_entry *entries, size_t count)
{
    int rc;

    assert(count > 0);
    if (j->failed)
        return j->failed;
    step(j, "before-begin");
    rc = run(j, "BEGIN IMMEDIATE", "writing");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        assert(entries[i].index == j->last + 1 + i);
        rc = insert_entry(j, &entries[i]);
        step(j, "after-insert");
    }
    if (rc < 0)
        return rc;
    step(j, "before-commit");
    rc = run(j, "COMMIT", "writing");
    if (rc < 0)
        return rc;
    step(j, "after-commit");
    j->last += count;
    return mark_write(j);
}

/* In rows of a bounded size. */
static int insert_parts(struct journal *j, sqlite3_stmt *into, uint64_t index, const uint8_t *bytes,
                        size_t count)
{
    uint64_t parts = count == 0 ? 1 : (count - 1) / SNAPSHOT_ROW_BYTES + 1;
    int rc = 0;

    for (uint64_t part = 0; rc == 0 && part < parts; part++) {
        const uint8_t *at = bytes + part * SNAPSHOT_ROW_BYTES;
        size_t left = count - (size_t)part * SNAPSHOT_ROW_BYTES;
        size_t size = left < SNAPSHOT_ROW_BYTES ? left : SNAPSHOT_ROW_BYTES;

        sqlite3_bind_int64(into, 1, (sqlite3_int64)part);
        sqlite3_bind_int64(into, 2, (sqlite3_int64)parts);
        sqlite3_bind_int64(into, 3, (sqlite3_int64)index);
        bind_bytes(into, 4, at, size);
        sqlite3_bind_int64(into, 5, (sqlite3_int64)checksum_part(index, part, parts, at, size));
        rc = run_insert(j, into);
    }
    return rc;
}

static int write_snapshot(struct journal *j, uint64_t index, const uint8_t *bytes, size_t count)
{
    sqlite3_stmt *into = NULL;
    char sql[80];
    int rc;

    rc = run(j, "BEGIN IMMEDIATE; DELETE FROM snapshot;", "writing a snapshot");
    if (rc < 0)
        return rc;
    rc = sqlite3_prepare_v2(j->db, "INSERT INTO snapshot VALUES (?, ?, ?, ?, ?)", -1, &into, NULL);
    rc = rc == SQLITE_OK ? insert_parts(j, into, index, bytes, count)
                         : fail_sqlite(j, rc, "writing a snapshot");
    sqlite3_finalize(into);
    step(j, "insert-snapshot");
    if (rc < 0)
        return rc;
    snprintf(sql, sizeof(sql), "DELETE FROM entry WHERE idx <= %llu", (unsigned long long)index);
    rc = run(j, sql, "writing a snapshot");
    step(j, "before-commit-snapshot");
    return rc < 0 ? rc : run(j, "COMMIT", "writing a snapshot");
}

int journal_snapshot(struct journal *j, uint64_t index, const uint8_t *bytes, size_t count)
{
    int rc;

    assert(index <= j->last);
    assert(index >= j->snapshot_index);
    if (j->failed)
        return j->failed;
    step(j, "before-snapshot");
    rc = write_snapshot(j, index, bytes, count);
    if (rc < 0)
        return rc;
    step(j, "after-snapshot");
    j->snapshot_index = index;
    if (fdatasync(j->mark) < 0)
        return fail_errno(j, "-index", "sync");
    return 0;
}

uint64_t journal_last(const struct journal *j)
{
    return j->last;
}

uint64_t journal_snapshot_index(const struct journal *j)
{
    return j->snapshot_index;
}

const char *journal_error(const struct journal *j)
{
    return j->error;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    sqlite3_finalize(j->insert);
    sqlite3_close(j->db);
    if (j->mark >= 0)
        close(j->mark);
    free(j->path);
    free(j);
}
