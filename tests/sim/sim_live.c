/* sim_live: the liveness mode. When the seed's time is over, some hosts are the core: they and the
 * CMS are healed. The others stay broken for good, each in its own way. The core has to agree
 * without them, and within the times that DESIGN section 2 promises, and to go on working. */
#include "sim.h"
#include <string.h>

/* Sides: nothing of the mute gets through, nothing gets to the deaf, neither to the lost. */
enum { SIDE_CORE, SIDE_LOST, SIDE_MUTE, SIDE_DEAF };

/* A new leader gives nodes 5 s to come, who sees half of its nodes go judges nobody for 2 s, a
 * silent host is expelled in 2.5 s and may be in the way of the view change after that, a node that
 * was expelled before waits 5 s or 10 s; a view change without progress takes 2.5 s for each set
 * that is expelled. */
#define CORE_US (40 * SIM_S)
/* "Delivery within 3 token rounds": there are periodic tokens at least once a second. */
#define BURST_US (3500 * SIM_MS)

static void freeze(struct sim *s, struct host *h)
{
    enum { DOWN, PAUSED, LOST, MUTE, DEAF, WAYS };
    h->given_up = true;
    switch (rng_below(&s->random, WAYS)) {
    case DOWN:
        if (h->node)
            host_crash(h, rng_chance(&s->random, 0.5));
        break;
    case PAUSED:
        if (h->node)
            host_pause(h, UINT64_MAX / 2);
        break;
    case LOST:
        h->side = SIDE_LOST;
        break;
    case MUTE:
        h->side = SIDE_MUTE;
        break;
    default:
        h->side = SIDE_DEAF;
    }
}

static void join_core(struct sim *s, struct host *h)
{
    h->side = SIDE_CORE;
    h->exiled_until_us = 0;
    if (h->node && h->paused_until_us > s->now_us)
        host_pause(h, s->now_us);
    if (!h->node) {
        s->counts.restarts++;
        host_boot(h);
        load_open(h);
    }
}

static void block(struct sim *s, unsigned from, unsigned to)
{
    s->blocked[from] = (uint8_t)(s->blocked[from] | 1u << to);
}

/* Those outside may hear each other or not: what matters is the core. */
static void split(struct sim *s)
{
    memset(s->blocked, 0, sizeof(s->blocked));
    for (unsigned side = 0; side < SIM_SIDES; side++) {
        if (side != SIDE_LOST) {
            block(s, SIDE_LOST, side);
            block(s, side, SIDE_LOST);
        }
        block(s, SIDE_MUTE, side);
        block(s, side, SIDE_DEAF);
    }
    s->cms.side = SIDE_CORE;
    simlink_wake(s);
}

/* Every host of the core that may send says something more: it works, it does not only sit there.
 */
static void burst(struct sim *s)
{
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (s->hosts[i].node && !s->hosts[i].given_up && !s->hosts[i].stopping)
            load_burst(&s->hosts[i]);
    }
}

/* They are no part of what is judged at the end. */
static void drop_others(struct sim *s)
{
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (s->hosts[i].given_up && s->hosts[i].node)
            host_crash(&s->hosts[i], false);
    }
}

uint64_t live_heal(struct sim *s, struct rng *r)
{
    uint64_t share = rng_range(r, 3, 9), begun = s->now_us;
    uint32_t sure = (uint32_t)rng_below(r, s->config.hosts);
    faults_calm(s);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (i == sure || rng_below(r, 10) < share)
            join_core(s, &s->hosts[i]);
        else
            freeze(s, &s->hosts[i]);
    }
    split(s);
    if (!run_converge(s, CORE_US, "one core"))
        return begun;
    uint64_t took = s->now_us - begun;
    burst(s);
    if (run_converge(s, BURST_US, "through with what was sent to the core"))
        drop_others(s);
    return s->now_us - took;
}
