/* pace: a token bucket. Used for budgets of repair and for rates. */
#ifndef QSM_PACE_H
#define QSM_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t rate;      /* units per second; 0: without limit */
    uint64_t burst;     /* units that may be saved up */
    uint64_t level;     /* units left, times 1,000,000 */
    uint64_t filled_us; /* time of the last refill */
};

void pace_init(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us);

/* Takes amount units when they are there. An amount above burst is taken when the bucket is full. */
bool pace_take(struct pace *p, uint64_t amount, uint64_t now_us);

#endif
