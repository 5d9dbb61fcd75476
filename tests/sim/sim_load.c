/* sim_load: what a seed does besides faults: which hosts start when, groups that overlap at random,
 * members that send, senders that are no members, joins and leaves as time goes on, bursts. */
#include "sim.h"
#include <stdlib.h>

void load_open(struct host *h)
{
    for (uint32_t g = 0; g < h->sim->config.groups; g++) {
        if (h->wants_recv >> g & 1)
            app_subscribe(h, (h->index + g) % SIM_CONNS_MAX, g);
        if (h->wants_send >> g & 1)
            app_open_send(h, g);
    }
}

static void start(struct sim *s, void *ctx, uint64_t late)
{
    struct host *h = ctx;
    if (s->ending || h->node)
        return;
    s->counts.late_joins += late;
    host_boot(h);
    load_open(h);
}

/* ---- traffic */

static uint32_t message_bytes(struct sim *s)
{
    uint64_t kind = rng_below(&s->random, 1000);
    if (kind < 50)
        return 0;
    if (kind < 700)
        return (uint32_t)rng_range(&s->random, 1, 200);
    if (kind < 950)
        return (uint32_t)rng_range(&s->random, 200, 1400);
    return (uint32_t)rng_range(&s->random, 1400, 8000);
}

static void publish(struct sim *s, struct host *h, uint32_t g)
{
    uint64_t burst = rng_chance(&s->random, 0.3) ? rng_range(&s->random, 5, 40) : 1;
    while (burst--)
        app_publish(h, (uint32_t)rng_below(&s->random, SIM_CONNS_MAX), g, message_bytes(s),
                    rng_chance(&s->random, 0.5));
}

bool load_burst(struct host *h)
{
    struct sim *s = h->sim;
    bool any = false;
    for (uint32_t g = 0; g < s->config.groups; g++) {
        for (uint64_t n = rng_below(&s->random, 8); h->groups[g].sendable && n > 0; n--)
            any |= app_publish(h, 0, g, message_bytes(s), rng_chance(&s->random, 0.5));
    }
    return any;
}

/* A host that runs and wants to send, and one of its groups; false: none found this time. */
static bool some_sender(struct sim *s, struct host **ret_host, uint32_t *ret_group)
{
    *ret_host = &s->hosts[rng_below(&s->random, s->config.hosts)];
    *ret_group = (uint32_t)rng_below(&s->random, s->config.groups);
    for (uint32_t i = 0; i < s->config.groups; i++) {
        if ((*ret_host)->wants_send >> *ret_group & 1)
            return (*ret_host)->node && !(*ret_host)->stopping;
        *ret_group = (*ret_group + 1) % s->config.groups;
    }
    return false;
}

static void traffic(struct sim *s, void *ctx, uint64_t every_us)
{
    struct host *h;
    uint32_t g;
    (void)ctx;
    if (s->ending || s->calm)
        return;
    if (some_sender(s, &h, &g))
        publish(s, h, g);
    sim_at(s, s->now_us + rng_range(&s->random, 1, 2 * every_us), traffic, NULL, every_us);
}

static void large(struct sim *s, void *ctx, uint64_t bytes)
{
    struct host *h;
    uint32_t g;
    (void)ctx;
    if (s->ending || s->calm)
        return;
    for (int i = 0; i < 8; i++) {
        if (some_sender(s, &h, &g) && app_publish(h, 0, g, (uint32_t)bytes, true)) {
            s->counts.large++;
            return;
        }
    }
}

/* ---- joins and leaves */

static void churn(struct sim *s, void *ctx, uint64_t every_us)
{
    (void)ctx;
    if (s->ending || s->calm)
        return;
    struct host *h = &s->hosts[rng_below(&s->random, s->config.hosts)];
    uint32_t g = (uint32_t)rng_below(&s->random, s->config.groups);
    uint64_t what = rng_below(&s->random, 4);
    if (what < 2)
        h->wants_recv ^= 1u << g;
    else
        h->wants_send ^= 1u << g;
    if (h->node && !h->stopping) {
        load_open(h);
        for (uint32_t c = 0; !(h->wants_recv >> g & 1) && c < SIM_CONNS_MAX; c++)
            app_unsubscribe(h, c, g);
        if (!(h->wants_send >> g & 1))
            app_close_send(h, g);
        else if (rng_chance(&s->random, 0.3) && (h->wants_recv >> g & 1))
            app_subscribe(h, (uint32_t)rng_below(&s->random, SIM_CONNS_MAX), g);
    }
    sim_at(s, s->now_us + rng_range(&s->random, 1, 2 * every_us), churn, NULL, every_us);
}

/* ---- the plan */

/* Most hosts take one of a few sets of groups, so that regions have several members. */
static void plan_groups(struct sim *s, struct rng *r)
{
    uint32_t sets[4], count = (uint32_t)rng_range(r, 1, 4), groups = s->config.groups;
    uint32_t all = (uint32_t)((UINT64_C(1) << groups) - 1);
    for (uint32_t i = 0; i < count; i++) {
        sets[i] = (uint32_t)rng_next(r) & (uint32_t)rng_next(r) & all;
        sets[i] |= 1u << rng_below(r, groups);
    }
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        h->wants_recv = rng_chance(r, 0.08)   ? (uint32_t)rng_next(r) & all
                        : rng_chance(r, 0.05) ? 0
                                              : sets[rng_below(r, count)];
        if (rng_chance(r, 0.4))
            h->wants_send = h->wants_recv & (uint32_t)rng_next(r);
        if (rng_chance(r, 0.15))
            h->wants_send |= 1u << rng_below(r, groups); /* perhaps no member */
    }
    s->hosts[rng_below(r, s->config.hosts)].wants_send |= sets[0];
}

void load_plan(struct sim *s, struct rng *r, uint64_t until_us)
{
    bool late = rng_chance(r, 0.5);
    uint64_t messages = rng_range(r, 100, 400000 / (s->config.hosts + 8));
    uint64_t every = until_us / messages * 6;
    plan_groups(s, r);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        bool joins_late = late && rng_chance(r, 0.2);
        uint64_t at = joins_late ? rng_range(r, SIM_S, until_us) : rng_below(r, 200 * SIM_MS);
        sim_at(s, at, start, &s->hosts[i], joins_late);
    }
    sim_at(s, rng_below(r, 300 * SIM_MS), traffic, NULL, every);
    if (rng_chance(r, 0.4)) {
        for (uint64_t n = rng_range(r, 1, 3); n > 0; n--)
            sim_at(s, rng_range(r, 300 * SIM_MS, until_us), large, NULL,
                   rng_range(r, 20 << 10, s->config.hosts > 15 ? 150 << 10 : 400 << 10));
    }
    if (rng_chance(r, 0.6))
        sim_at(s, 500 * SIM_MS, churn, NULL, rng_range(r, 50 * SIM_MS, SIM_S));
}
