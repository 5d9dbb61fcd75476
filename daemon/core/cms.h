/* cms: the configuration management service's state machine: who is where. It is fed by a log and
 * by the links to the nodes, and does no I/O. What it decides it first puts into the log; it acts
 * on an entry only when the shell has said that the entry is durable. All times are microseconds of
 * one monotonic clock: no call is told an earlier one than the call before. Not thread safe. */
#ifndef QSM_CMS_H
#define QSM_CMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "mark.h"

struct cms;

struct cms_config {
    const char *cluster;  /* copied; nodes of another one are refused */
    uint32_t multicast;   /* first region address, IPv4, host byte order */
    uint32_t regions_max; /* addresses and regions */
    uint32_t ring_size;   /* told to the nodes with each region view */
    uint32_t cache_replicas;
    uint32_t ack_ranges;  /* at most WIRE_ACK_RANGES_MAX */
    uint32_t batch_us;    /* planned changes are gathered this long: 50,000 */
    uint32_t silence_us;  /* 1,500,000: silence on the link before members probe */
    uint32_t resume_us;   /* 150,000: a closed link must be back in this time */
    uint32_t progress_us; /* 2,000,000: a flush without progress */
};

struct cms_upcalls {
    void *ctx;
    void (*trace)(void *ctx, const char *line); /* one line, without time; NULL: none */
    uint64_t trace_replay_from; /* a replay traces entries from this index on; 0: none of them */
};

struct cms *cms_new(const struct cms_config *config, const struct cms_upcalls *upcalls,
                    uint64_t now_us);
void cms_free(struct cms *c);

/* ---- the log. Entries are numbered 1, 2, 3 ... */

/* A snapshot that stands for entries 1..index, then the entries after it, in order, before
 * cms_lead. -EPROTO: damaged; the shell refuses to start. */
int cms_restore(struct cms *c, uint64_t index, const uint8_t *snapshot, size_t bytes);
int cms_replay(struct cms *c, uint64_t index, const uint8_t *entry, size_t bytes);

/* Begins to lead: appends `lead`, whose index is the term. Links are answered when it is durable.
 */
void cms_lead(struct cms *c, uint64_t now_us);

/* The next entry to make durable, in order; false: none. The bytes are good until cms_appended. */
bool cms_append_pull(struct cms *c, uint64_t *ret_index, const uint8_t **ret_entry,
                     size_t *ret_bytes);
/* Everything up to index is durable: it is applied, and acted upon. */
void cms_appended(struct cms *c, uint64_t index, uint64_t now_us);

/* The state after the last applied entry, for a snapshot; malloc'ed, the caller frees. */
uint8_t *cms_snapshot(const struct cms *c, uint64_t *ret_index, size_t *ret_bytes);

/* ---- links, named by the shell by any number it likes */

void cms_link_up(struct cms *c, uint64_t link, uint64_t now_us);
/* -EPROTO: malformed; the shell closes the link and calls cms_link_down. */
int cms_link_receive(struct cms *c, uint64_t link, const uint8_t *bytes, size_t count,
                     uint64_t now_us);
void cms_link_down(struct cms *c, uint64_t link, uint64_t now_us);
/* Bytes for a link, at most room; 0: nothing. */
size_t cms_link_pull(struct cms *c, uint64_t link, uint8_t *out, size_t room);
/* A link that has bytes to pull, or that should be closed once drained: *ret_close is then why,
 * otherwise NULL; false: none. Each is named once; a pull that leaves bytes has it named again. */
bool cms_link_next(struct cms *c, uint64_t *ret_link, const char **ret_close);

/* ---- time */

uint64_t cms_deadline(struct cms *c);
/* The shell drains its sockets before it calls this: silence is judged here. */
void cms_expire(struct cms *c, uint64_t now_us);

/* ---- looking in */

uint64_t cms_epoch(const struct cms *c);
uint64_t cms_term(const struct cms *c);
/* The whole replicated state as JSON text, stable in its order: malloc'ed, the caller frees. */
char *cms_dump(const struct cms *c);
/* How often each rare branch was taken since cms_new, by mark: MARKS_COUNT of them. */
const uint64_t *cms_marks(const struct cms *c);

#endif
