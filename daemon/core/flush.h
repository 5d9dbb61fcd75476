/* flush: the coordinator's side of a view change: PREP, REPORT, CUT, DONE, INSTALL (DESIGN section
 * 4). One at a time; all of it is volatile, a new leader starts again. */
#ifndef QSM_FLUSH_H
#define QSM_FLUSH_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "cms.pb-c.h"
#include "cms_plan.h"

struct cms;
struct buf;

enum flush_phase {
    FLUSH_IDLE,
    FLUSH_PREP,    /* waits for reports */
    FLUSH_CUT,     /* waits for votes */
    FLUSH_INSTALL, /* waits for the log */
};

/* A participant. */
struct flush_node {
    uint32_t id;
    bool reported, done;
    uint32_t *stuck; /* of whom, as it said in this attempt; owned; NULL: it did not say */
    uint32_t stuck_count;
};

/* The highest packet, or number, that somebody has of a channel, or of a dead sender in a group. */
struct flush_at {
    struct {
        uint32_t sender, of; /* rid or gid */
    } key;
    uint64_t value;
    uint64_t first;  /* of numbers: the holder's first one in this view, 0: none */
    uint32_t holder; /* 0: nobody */
    UT_hash_handle hh;
};

struct flush {
    enum flush_phase phase;
    bool due;      /* the state differs from the epoch, at due_us that is taken in */
    bool starting; /* due_us has come; waits for the log's tail or for links */
    uint64_t due_us;
    uint64_t start_us;      /* since when it is starting */
    uint64_t planned_us;    /* planned changes wait until then */
    uint32_t voided_streak; /* flushes in a row that cut a message off twice */

    uint32_t attempt;
    uint64_t began_us;    /* of the first attempt */
    uint64_t attempt_us;  /* of this one */
    uint64_t progress_us; /* of the last progress, over attempts */
    uint64_t judge_us;    /* not to be judged again before */
    bool retried;         /* since the last progress */
    uint32_t best;        /* fewest answers that were missing */
    bool voided;
    struct cms_plan plan;
    struct flush_node *nodes; /* by id; owned */
    uint32_t node_count;
    struct flush_at *channels, *numbers; /* uthash */
    struct buf *prep, *cut; /* what was sent, for those who link up later; NULL: nothing yet */
};

void flush_init(struct flush *f);
void flush_done(struct flush *f);

/* There are joins, leaves or opens to take in: soon. */
void flush_planned(struct cms *c, uint64_t now_us);
/* Somebody was expelled: at once. An attempt under way is started again with it. */
void flush_crashed(struct cms *c, uint64_t now_us);

/* Does what can be done now: begin, begin again, install. */
void flush_step(struct cms *c, uint64_t now_us);

/* Whether new changes have to wait: they would not be part of the plan that is being flushed. */
bool flush_holds_changes(const struct cms *c);

void flush_report(struct cms *c, struct cms_node *n, const Qsm__Report *m, uint64_t now_us);
void flush_vote(struct cms *c, struct cms_node *n, const Qsm__Done *m, uint64_t now_us);
/* A participant left before its vote: another attempt begins. */
void flush_left(struct cms *c, const Qsm__Left *m, uint64_t now_us);
void flush_stuck(struct cms *c, struct cms_node *n, const Qsm__Stuck *m, uint64_t now_us);

/* The node has a new link: it is told again what it takes part in. */
void flush_linked(struct cms *c, struct cms_node *n, uint64_t now_us);
/* The epoch is durable. */
void flush_installed(struct cms *c, uint64_t now_us);

uint64_t flush_deadline(const struct cms *c);
void flush_expire(struct cms *c, uint64_t now_us);
/* The CMS itself was away: nobody is to blame for the time. */
void flush_lagged(struct cms *c, uint64_t now_us);

/* One who has not answered, and whom it says it waits for. */
struct flush_waiter {
    uint32_t id;
    const uint32_t *of;
    uint32_t count;
};

/* Who has to go so that nobody waits any more: who waits for nobody is itself what all wait for;
 * of the others the fewest, and a source that several wait for before them. Returns how many ids it
 * wrote, at most max. */
uint32_t flush_blame(const struct flush_waiter *waiters, uint32_t count, uint32_t *ret,
                     uint32_t max);

#endif
