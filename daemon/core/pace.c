/* pace: see pace.h. Levels are kept in millionths of a unit, so that a refill after any number of
 * microseconds is exact. */
#include "pace.h"
#include <assert.h>

#define SCALE INT64_C(1000000)
#define UNITS_MAX (UINT64_C(1) << 40)

/* Level at a time: grows with the rate, up to the burst. */
static int64_t level_at(const struct pace *p, uint64_t now_us)
{
    int64_t full = (int64_t)p->burst * SCALE;
    uint64_t missing = p->level < full ? (uint64_t)(full - p->level) : 0;
    uint64_t elapsed_us = now_us > p->filled_us ? now_us - p->filled_us : 0;

    /* Divided, not multiplied: a long pause at a high rate would overflow. */
    if (missing == 0 || elapsed_us > missing / p->rate)
        return full;
    return p->level + (int64_t)(elapsed_us * p->rate);
}

void pace_init(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us)
{
    assert(burst <= UNITS_MAX);
    *p = (struct pace){
        .rate = rate, .burst = burst, .level = (int64_t)burst * SCALE, .filled_us = now_us};
}

void pace_set(struct pace *p, uint64_t rate, uint64_t burst, uint64_t now_us)
{
    assert(burst <= UNITS_MAX);
    int64_t full = (int64_t)burst * SCALE;
    int64_t level = p->rate != 0 ? level_at(p, now_us) : full;

    *p = (struct pace){
        .rate = rate, .burst = burst, .level = level < full ? level : full, .filled_us = now_us};
}

bool pace_ready(const struct pace *p, uint64_t now_us)
{
    return p->rate == 0 || level_at(p, now_us) > 0;
}

uint64_t pace_next(const struct pace *p, uint64_t now_us)
{
    int64_t level;

    if (p->rate == 0)
        return now_us;
    level = level_at(p, now_us);
    return level > 0 ? now_us : now_us + (uint64_t)-level / p->rate + 1;
}

void pace_spend(struct pace *p, uint64_t amount, uint64_t now_us)
{
    assert(amount <= UNITS_MAX);
    if (p->rate == 0)
        return;
    p->level = level_at(p, now_us) - (int64_t)amount * SCALE;
    if (now_us > p->filled_us)
        p->filled_us = now_us;
}
