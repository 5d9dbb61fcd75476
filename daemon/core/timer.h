/* timer: the alarms of one node, in a splay tree as in the paper (section 4). Nothing here reads a
 * clock: time comes in as an argument, in microseconds of any monotonic clock. */
#ifndef QSM_TIMER_H
#define QSM_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h> /* for bsd/sys/tree.h */
#include <bsd/sys/tree.h>

#define TIMER_NEVER UINT64_MAX

struct timer {
    SPLAY_ENTRY(timer) entry;
    uint64_t at_us;                              /* TIMER_NEVER: not armed */
    uint64_t order;                              /* breaks ties: first armed, first fired */
    void (*fire)(void *ctx, uint64_t now_us);
    void *ctx;                                   /* not owned */
};

struct timers {
    SPLAY_HEAD(timer_tree, timer) tree;
    uint64_t armed;                              /* counts timer_arm calls */
};

void timers_init(struct timers *ts);

/* A timer that is not armed. */
void timer_init(struct timer *t, void (*fire)(void *ctx, uint64_t now_us), void *ctx);

/* Arms t for at_us, moving it when it is armed already. */
void timer_arm(struct timers *ts, struct timer *t, uint64_t at_us);

/* Arms t for at_us unless it is armed for an earlier time. */
void timer_arm_sooner(struct timers *ts, struct timer *t, uint64_t at_us);

/* Disarms t; nothing happens when it is not armed. */
void timer_cancel(struct timers *ts, struct timer *t);

bool timer_armed(const struct timer *t);

/* The earliest time at which something fires, or TIMER_NEVER. */
uint64_t timers_next(struct timers *ts);

/* Fires what is due at now_us, earliest first; a timer armed for now_us or before while this runs
 * waits for the next call, and so does what is beyond `most`. Returns how many fired. */
unsigned timers_expire(struct timers *ts, uint64_t now_us, unsigned most);

#endif
