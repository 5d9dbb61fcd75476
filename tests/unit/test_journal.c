/* Tests of the CMS log in a file: what was durable comes back, or the file is refused by name. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "journal.h"
#include "suites.h"

#define ENTRIES_MAX 4000

/* What a replay gave. */
struct replayed {
    uint64_t snapshot_index;
    size_t snapshot_count;
    uint64_t first, last;
    unsigned entries;
    const char *die_at; /* step at which the process kills itself */
    unsigned die_count;
};

static char directory[64], path[96], error[512];

static void set_up(void)
{
    strcpy(directory, "/tmp/test_journal.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/cms.db", directory);
    error[0] = '\0';
}

static void tear_down(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-index", "-new", "-journal"};
    char name[128];

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        unlink(name);
    }
    rmdir(directory);
}

/* Entry number index: a length and bytes that follow from it. */
static size_t make_entry(uint64_t index, uint8_t out[256])
{
    size_t count = (size_t)(index * 37 % 256);

    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)(index + i * 7);
    return count;
}

static int on_snapshot(void *ctx, uint64_t index, const uint8_t *bytes, size_t count)
{
    struct replayed *r = ctx;

    size_t good = 0;

    while (good < count && bytes[good] == (uint8_t)(index + good))
        good++;
    ck_assert_uint_eq(good, count);
    r->snapshot_index = index;
    r->snapshot_count = count;
    r->last = index;
    return 0;
}

static int on_entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t count)
{
    struct replayed *r = ctx;
    uint8_t expected[256];

    ck_assert_uint_eq(index, r->last + 1);
    ck_assert_uint_eq(count, make_entry(index, expected));
    if (count > 0)
        ck_assert_mem_eq(bytes, expected, count);
    if (r->entries++ == 0)
        r->first = index;
    r->last = index;
    return 0;
}

static void on_step(void *ctx, const char *name)
{
    struct replayed *r = ctx;

    if (r->die_at && strcmp(r->die_at, name) == 0 && --r->die_count == 0)
        raise(SIGKILL);
}

static int open_journal(struct journal **ret, struct replayed *r)
{
    struct journal_hooks hooks = {r, on_snapshot, on_entry, on_step};

    return journal_open(ret, path, &hooks, error, sizeof(error));
}

static int append(struct journal *j, unsigned count)
{
    static uint8_t bytes[ENTRIES_MAX][256];
    struct journal_entry entries[ENTRIES_MAX];

    for (unsigned i = 0; i < count; i++) {
        entries[i].index = journal_last(j) + 1 + i;
        entries[i].bytes = bytes[i];
        entries[i].count = make_entry(entries[i].index, bytes[i]);
    }
    return journal_append(j, entries, count);
}

static int snapshot(struct journal *j, uint64_t index, size_t count)
{
    uint8_t *bytes = malloc(count + 1);
    int rc;

    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(index + i);
    rc = journal_snapshot(j, index, bytes, count);
    free(bytes);
    return rc;
}

/* Writes a log of count entries, three to a transaction. */
static void write_log(unsigned count)
{
    struct replayed r = {0};
    struct journal *j;

    ck_assert_int_eq(open_journal(&j, &r), 0);
    for (unsigned i = 0; i < count; i += 3)
        ck_assert_int_eq(append(j, count - i < 3 ? count - i : 3), 0);
    journal_close(j);
}

static void expect_refused(int rc, const char *file)
{
    struct replayed r = {0};
    struct journal *j;

    ck_assert_int_eq(open_journal(&j, &r), rc);
    ck_assert_ptr_null(j);
    ck_assert_msg(strstr(error, file) != NULL, "the file is not named in: %s", error);
}

static void copy_file(const char *from, const char *to)
{
    char command[300];

    snprintf(command, sizeof(command), "cp %s %s", from, to);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(a_new_log_is_empty)
{
    struct replayed r = {0};
    struct journal *j;

    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(journal_last(j), 0);
    journal_close(j);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.entries, 0);
    journal_close(j);
}
END_TEST

START_TEST(what_was_appended_is_replayed_in_order)
{
    struct replayed r = {0};
    struct journal *j;

    write_log(100);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.entries, 100);
    ck_assert_uint_eq(r.first, 1);
    ck_assert_uint_eq(journal_last(j), 100);
    ck_assert_int_eq(append(j, 1), 0);
    ck_assert_uint_eq(journal_last(j), 101);
    journal_close(j);
}
END_TEST

START_TEST(a_snapshot_stands_for_the_entries_before_it)
{
    struct replayed r = {0};
    struct journal *j;

    write_log(1000);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_int_eq(snapshot(j, 400, 10), 0);
    ck_assert_int_eq(snapshot(j, 990, 100000), 0);
    ck_assert_uint_eq(journal_snapshot_index(j), 990);
    ck_assert_int_eq(append(j, 2), 0);
    journal_close(j);

    r = (struct replayed){0};
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.snapshot_index, 990);
    ck_assert_uint_eq(r.snapshot_count, 100000);
    ck_assert_uint_eq(r.first, 991);
    ck_assert_uint_eq(r.last, 1002);
    journal_close(j);
}
END_TEST

/* Runs SQL on the file of a journal that is closed. */
static void sql(const char *text)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static const struct {
    size_t count;       /* of the snapshot */
    const char *damage; /* NULL: none */
} large_snapshots[] = {
    {3 * 524288 - 1, NULL},
    {3 * 524288, NULL},
    {3 * 524288 + 1, NULL},
    {30000000, NULL},
    {3 * 524288, "DELETE FROM snapshot WHERE part = 0"},
    {3 * 524288, "DELETE FROM snapshot WHERE part = 1"},
    {3 * 524288, "DELETE FROM snapshot WHERE part = 2"},
    {3 * 524288, "DELETE FROM snapshot WHERE part = 2; UPDATE snapshot SET parts = 2"},
    {3 * 524288, "UPDATE snapshot SET part = 9 WHERE part = 0; UPDATE snapshot SET part = 0 WHERE "
                 "part = 1; UPDATE snapshot SET part = 1 WHERE part = 9"},
    {3 * 524288, "UPDATE snapshot SET idx = 89"},
    {3 * 524288, "UPDATE snapshot SET bytes = zeroblob(524288) WHERE part = 1"},
};

START_TEST(a_large_snapshot_lies_in_bounded_rows_and_is_whole_or_refused)
{
    size_t count = large_snapshots[_i].count;
    const char *damage = large_snapshots[_i].damage;
    struct replayed r = {0};
    struct journal *j;

    write_log(100);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_int_eq(snapshot(j, 90, count), 0);
    journal_close(j);
    sql("CREATE TABLE bounded (size INTEGER CHECK (size <= 524288));"
        "INSERT INTO bounded SELECT length(bytes) FROM snapshot; DROP TABLE bounded;");
    if (damage) {
        sql(damage);
        expect_refused(-EBADMSG, "cms.db");
        return;
    }
    r = (struct replayed){0};
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.snapshot_index, 90);
    ck_assert_uint_eq(r.snapshot_count, count);
    ck_assert_uint_eq(r.last, 100);
    ck_assert_int_eq(snapshot(j, 95, 10), 0); /* fewer rows than before */
    journal_close(j);
    r = (struct replayed){0};
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.snapshot_count, 10);
    journal_close(j);
}
END_TEST

START_TEST(a_snapshot_may_stand_for_the_whole_log)
{
    struct replayed r = {0};
    struct journal *j;

    write_log(5);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_int_eq(snapshot(j, 5, 3), 0);
    journal_close(j);
    r = (struct replayed){0};
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.entries, 0);
    ck_assert_uint_eq(journal_last(j), 5);
    ck_assert_int_eq(append(j, 3), 0);
    ck_assert_uint_eq(journal_last(j), 8);
    journal_close(j);
}
END_TEST

START_TEST(a_process_killed_at_any_step_loses_nothing_durable)
{
    const char *name = journal_steps[_i];
    struct replayed r = {.die_at = name, .die_count = 1};
    struct journal *j;
    int status;
    pid_t child;

    write_log(10);
    child = fork();
    if (child == 0) {
        if (open_journal(&j, &r) == 0 && append(j, 5) == 0)
            snapshot(j, 12, 50);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "%s is not a step", name);

    r = (struct replayed){0};
    ck_assert_msg(open_journal(&j, &r) == 0, "%s: %s", name, error);
    ck_assert_uint_eq(r.last, _i < 3 ? 10 : 15);
    ck_assert_uint_eq(r.snapshot_index, strcmp(name, "after-snapshot") == 0 ? 12 : 0);
    ck_assert_int_eq(append(j, 1), 0);
    journal_close(j);
}
END_TEST

START_TEST(a_flipped_byte_is_never_replayed)
{
    struct replayed r;
    struct journal *j;
    struct stat st;
    char good[128];
    unsigned refused = 0, tried = 0;

    write_log(200);
    snprintf(good, sizeof(good), "%s/good", directory);
    copy_file(path, good);
    ck_assert_int_eq(stat(path, &st), 0);
    for (off_t at = 3; at < st.st_size; at += 211) {
        int fd = open(path, O_RDWR);
        uint8_t byte;

        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x55;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        r = (struct replayed){0};
        tried++;
        /* The hooks check each byte, so what opens is whole: the flip hit unused space. */
        if (open_journal(&j, &r) == 0) {
            ck_assert_uint_eq(r.last, 200);
            journal_close(j);
        } else {
            refused++;
            ck_assert_msg(strstr(error, path) != NULL, "the file is not named in: %s", error);
        }
        copy_file(good, path);
    }
    unlink(good);
    ck_assert_uint_gt(refused, tried / 2);
}
END_TEST

START_TEST(a_file_cut_off_is_refused)
{
    struct stat st;

    write_log(200);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
    expect_refused(-EBADMSG, path);
    ck_assert_int_eq(truncate(path, 0), 0);
    expect_refused(-EBADMSG, path);
    ck_assert_int_eq(unlink(path), 0);
    expect_refused(-EBADMSG, path);
}
END_TEST

START_TEST(an_old_copy_is_refused)
{
    char old[128];

    write_log(3);
    snprintf(old, sizeof(old), "%s/old", directory);
    copy_file(path, old);
    write_log(3);
    ck_assert_int_eq(rename(old, path), 0);
    expect_refused(-EBADMSG, path);
}
END_TEST

START_TEST(a_damaged_tail_of_the_wal_is_refused)
{
    struct replayed r = {.die_at = "before-begin", .die_count = 4};
    struct stat st;
    struct journal *j;
    char wal[128];
    int fd, status;
    pid_t child = fork();

    if (child == 0) {
        if (open_journal(&j, &r) == 0)
            while (append(j, 3) == 0)
                continue;
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    snprintf(wal, sizeof(wal), "%s-wal", path);
    ck_assert_int_eq(stat(wal, &st), 0);
    fd = open(wal, O_RDWR);
    ck_assert_int_eq(pwrite(fd, "damage", 6, st.st_size - 100), 6);
    close(fd);
    expect_refused(-EBADMSG, path);
    expect_refused(-EBADMSG, path); /* and it did not heal itself by that */
}
END_TEST

START_TEST(another_file_is_refused)
{
    FILE *f = fopen(path, "w");

    for (unsigned i = 0; i < 1000; i++)
        fprintf(f, "not a database\n");
    fclose(f);
    expect_refused(-EBADMSG, path);
    ck_assert_int_eq(unlink(path), 0);
    snprintf(path + strlen(path), 20, "/none/cms.db");
    expect_refused(-ENOENT, path);
    path[strlen(directory) + strlen("/cms.db")] = '\0';
}
END_TEST

START_TEST(one_process_at_a_time_has_the_log)
{
    struct replayed r = {0};
    struct journal *j;

    ck_assert_int_eq(open_journal(&j, &r), 0);
    expect_refused(-EBUSY, path);
    ck_assert_int_eq(append(j, 1), 0);
    journal_close(j);
}
END_TEST

START_TEST(a_full_disk_stops_appends_and_keeps_what_was_durable)
{
    struct rlimit limit = {256 * 1024, 256 * 1024};
    struct replayed r = {0};
    struct journal *j;
    int status;
    pid_t child = fork();

    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (open_journal(&j, &r) < 0)
            _exit(1);
        for (unsigned i = 0; i < 100; i++) {
            if (append(j, 100) == 0)
                continue;
            if (!strstr(journal_error(j), path) || append(j, 1) == 0)
                _exit(2);
            _exit(i < 2 ? 3 : 100 + (int)i);
        }
        _exit(4);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_gt(WEXITSTATUS(status), 100);
    ck_assert_int_eq(open_journal(&j, &r), 0);
    ck_assert_uint_eq(r.last, (unsigned)(WEXITSTATUS(status) - 100) * 100);
    journal_close(j);
}
END_TEST

Suite *suite_journal(void)
{
    Suite *s = suite_create("journal");
    TCase *t = tcase_create("journal");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_new_log_is_empty);
    tcase_add_test(t, what_was_appended_is_replayed_in_order);
    tcase_add_test(t, a_snapshot_stands_for_the_entries_before_it);
    tcase_add_test(t, a_snapshot_may_stand_for_the_whole_log);
    tcase_add_loop_test(t, a_large_snapshot_lies_in_bounded_rows_and_is_whole_or_refused, 0,
                        (int)(sizeof(large_snapshots) / sizeof(large_snapshots[0])));
    tcase_add_loop_test(t, a_process_killed_at_any_step_loses_nothing_durable, 0, 8);
    tcase_add_test(t, a_flipped_byte_is_never_replayed);
    tcase_add_test(t, a_file_cut_off_is_refused);
    tcase_add_test(t, an_old_copy_is_refused);
    tcase_add_test(t, a_damaged_tail_of_the_wal_is_refused);
    tcase_add_test(t, another_file_is_refused);
    tcase_add_test(t, one_process_at_a_time_has_the_log);
    tcase_add_test(t, a_full_disk_stops_appends_and_keeps_what_was_durable);
    suite_add_tcase(s, t);
    return s;
}
