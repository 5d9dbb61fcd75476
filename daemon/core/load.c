/* load: see load.h. */
#include "load.h"

/* Best rate of the last ticks: a receiver that slept for a moment is as fast as before. */
static uint64_t best(const struct load *l)
{
    uint64_t most = LOAD_RATE_MIN;

    for (int i = 0; i < LOAD_TICKS; i++)
        most = l->taken[i] > most ? l->taken[i] : most;
    return most;
}

static void end_tick(struct load *l, uint64_t now_us)
{
    l->taken[l->tick++ % LOAD_TICKS] = l->bytes * 1000000 / (now_us - l->since_us);
    if (l->pressed) {
        uint64_t lower = best(l) - best(l) / 8;

        l->limit = l->limit == 0 || lower < l->limit ? lower : l->limit - l->limit / 8;
        if (l->limit < LOAD_RATE_MIN)
            l->limit = LOAD_RATE_MIN;
    } else if (l->limit != 0) {
        l->limit += l->limit / 8;
        if (l->limit > 4 * best(l))
            l->limit = 0; /* something else limits the stream */
    }
    l->pressed = false;
    l->bytes = 0;
    l->since_us = now_us;
}

static void advance(struct load *l, uint64_t now_us)
{
    if (l->since_us == 0)
        l->since_us = now_us;
    if (now_us >= l->since_us + LOAD_TICK_US)
        end_tick(l, now_us);
}

void load_took(struct load *l, uint64_t bytes, uint64_t now_us)
{
    advance(l, now_us);
    l->bytes += bytes;
}

void load_socket(struct load *l, uint64_t drops, uint32_t backlog_permille)
{
    l->pressed |= drops > l->drops || backlog_permille >= LOAD_BACKLOG_HIGH;
    l->drops = drops;
}

uint64_t load_limit(struct load *l, uint64_t now_us)
{
    advance(l, now_us);
    return l->limit;
}
