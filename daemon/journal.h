/* journal: keeps the CMS log: entries numbered 1, 2, 3 ... and a snapshot that stands for the first
 * of them. What it has once reported as durable it gives back at the next open or it refuses to
 * open; it never shortens the log on its own. Blocking, for one thread; one process per file. */
#ifndef QSM_JOURNAL_H
#define QSM_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

struct journal;

struct journal_hooks {
    void *ctx; /* not owned; first argument of each */

    /* The log as it was: the snapshot, when there is one, then the entries after it, in order. What
     * they return other than 0 ends journal_open with that error. */
    int (*snapshot)(void *ctx, uint64_t index, const uint8_t *bytes, size_t count);
    int (*entry)(void *ctx, uint64_t index, const uint8_t *bytes, size_t count);

    /* Called at each named step of an append or a snapshot, so that a test can die there. NULL: not
     * called. Names: journal_steps. */
    void (*step)(void *ctx, const char *name);
};

struct journal_entry {
    uint64_t index;
    const uint8_t *bytes;
    size_t count;
};

/* The steps' names, in order, ended by NULL. */
extern const char *const journal_steps[];

/* Opens the log in the file path, made when there is none, and replays it through the hooks, which
 * are copied. Negative errno otherwise, and *ret is NULL: -EBADMSG damaged, -EBUSY another process
 * has it, -ENOSPC, -EACCES, -EIO. error then says what is wrong and with which file. */
int journal_open(struct journal **ret, const char *path, const struct journal_hooks *hooks,
                 char *error, size_t error_bytes);

/* Makes count entries durable, all or none; their indices follow the last one. Negative errno as
 * above, and then journal_error says more; nothing can be appended any more. */
int journal_append(struct journal *j, const struct journal_entry *entries, size_t count);

/* Makes a snapshot durable in place of the entries up to index and of the snapshot before it. */
int journal_snapshot(struct journal *j, uint64_t index, const uint8_t *bytes, size_t count);

/* Index of the last durable entry, 0: none; and the one that the snapshot stands for. */
uint64_t journal_last(const struct journal *j);
uint64_t journal_snapshot_index(const struct journal *j);

/* Index of the last entry that was reported as durable by whoever had the log in path open; what is
 * above it in the log was never acted upon. 0: none, or not known. */
uint64_t journal_marked(const char *path);

/* What failed, with the file's name. Good until the next call. */
const char *journal_error(const struct journal *j);

void journal_close(struct journal *j); /* NULL is fine */

#endif
