/* load: what rate of data a receiver can take (DESIGN section 5, "Flow"). While its socket drops
 * nothing and stays drained there is no limit; when it can't keep up, the limit is a little less
 * than what it took of late, and rises again step by step. Tokens carry the least limit of a
 * region. */
#ifndef QSM_LOAD_H
#define QSM_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#define LOAD_TICK_US 100000
#define LOAD_TICKS 8              /* of which the best one counts */
#define LOAD_RATE_MIN (64u << 10) /* bytes/s: the least that is ever asked for */
#define LOAD_BACKLOG_HIGH 750     /* thousandths of the receive buffer */

struct load {
    uint64_t limit;             /* bytes/s; 0: none */
    uint64_t bytes, since_us;   /* taken in this tick */
    uint64_t taken[LOAD_TICKS]; /* bytes/s in the last ticks */
    uint32_t tick;
    uint64_t drops; /* of the socket so far */
    bool pressed;   /* dropped something, or was near it, in this tick */
};

/* A packet was taken. */
void load_took(struct load *l, uint64_t bytes, uint64_t now_us);

/* The state of the data socket: drops since it was made, thousandths of its buffer in use. */
void load_socket(struct load *l, uint64_t drops, uint32_t backlog_permille);

/* The limit now, in bytes/s; 0: none. */
uint64_t load_limit(struct load *l, uint64_t now_us);

#endif
