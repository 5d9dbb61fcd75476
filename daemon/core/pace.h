/* pace: a token bucket that may go into debt: what is whole leaves whole, and the next one waits.
 */
#ifndef QSM_PACE_H
#define QSM_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t rate;      /* units per second; 0: without limit */
    uint64_t burst;     /* units that may be saved up; at most 2^40 */
    int64_t level;      /* units left, times 1,000,000; below 0: debt */
    uint64_t filled_us; /* time of the last refill */
};

/* Begins with a full bucket. */
void pace_init(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us);

/* Another rate and burst from now on; what is saved up beyond the burst is lost. */
void pace_set(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us);

/* Whether anything is left to spend. */
bool pace_ready(const struct pace *p, uint64_t now_us);

/* When something will be; at most now_us when it is. */
uint64_t pace_next(const struct pace *p, uint64_t now_us);

/* Spends amount (at most 2^40), be it there or not. */
void pace_spend(struct pace *p, uint64_t amount, uint64_t now_us);

#endif
