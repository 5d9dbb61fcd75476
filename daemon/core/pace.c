/* pace: see pace.h. The level counts millionths of a unit, so that refilling after any number of
 * microseconds is exact. */
#include "pace.h"
#include <assert.h>

#define SCALE UINT64_C(1000000)

void pace_init(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us)
{
    assert(burst <= UINT64_MAX / SCALE);
    *p = (struct pace){.rate = rate, .burst = burst, .level = burst * SCALE, .filled_us = now_us};
}

static void refill(struct pace *p, uint64_t now_us)
{
    uint64_t full = p->burst * SCALE;
    uint64_t elapsed_us;

    if (now_us <= p->filled_us)
        return;
    elapsed_us = now_us - p->filled_us;
    p->filled_us = now_us;
    /* Divided, not multiplied: a long pause at a high rate would overflow. */
    if (p->level >= full || elapsed_us > (full - p->level) / p->rate)
        p->level = full;
    else
        p->level += elapsed_us * p->rate;
}

bool pace_take(struct pace *p, uint64_t amount, uint64_t now_us)
{
    uint64_t cost = (amount < p->burst ? amount : p->burst) * SCALE;

    if (p->rate == 0)
        return true;
    refill(p, now_us);
    if (p->level < cost)
        return false;
    p->level -= cost;
    return true;
}
