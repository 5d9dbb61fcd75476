/* sim_load: what a seed does besides faults: which hosts start when, groups that overlap at random,
 * members that send, senders that are no members, joins and leaves as time goes on, bursts. */
#include "sim.h"
#include "wire_token.h"
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
    if (s->ending || h->node || h->given_up)
        return;
    s->counts.faults[FAULT_late] += late;
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

/* Half of the bursts are of one size, so that they leave in runs. */
static void publish(struct sim *s, struct host *h, uint32_t g)
{
    uint64_t burst = rng_chance(&s->random, 0.3) ? rng_range(&s->random, 5, 40) : 1;
    bool alike = burst > 1 && rng_chance(&s->random, 0.5);
    uint32_t bytes = message_bytes(s);
    while (burst--) {
        app_publish(h, (uint32_t)rng_below(&s->random, SIM_CONNS_MAX), g, bytes,
                    rng_chance(&s->random, 0.5));
        bytes = alike ? bytes : message_bytes(s);
    }
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
            s->counts.faults[FAULT_large]++;
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
        h->wants_recv ^= UINT64_C(1) << g;
    else
        h->wants_send ^= UINT64_C(1) << g;
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

static uint64_t bit(uint64_t group)
{
    return UINT64_C(1) << group;
}

static uint64_t all_groups(const struct sim *s)
{
    return s->config.groups == 64 ? UINT64_MAX : bit(s->config.groups) - 1;
}

/* Most hosts take one of a few sets of groups, so that regions have several members. */
static void plan_sets(struct sim *s, struct rng *r)
{
    uint64_t sets[12], all = all_groups(s);
    uint32_t count = (uint32_t)rng_range(r, 1, s->config.hosts > 100 ? 12 : 4);
    for (uint32_t i = 0; i < count; i++)
        sets[i] = (rng_next(r) & rng_next(r) & all) | bit(rng_below(r, s->config.groups));
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].wants_recv = sets[rng_below(r, count)];
}

/* "There will be a hierarchy of overlapping groups" (2, figure 1): groups of the whole cluster, and
 * below them services, replicated parts of services and so on, each on some of the hosts of the one
 * above. Components of a service overlap exactly. */
static void nest(struct sim *s, struct rng *r, uint32_t first, uint32_t count, uint32_t *group)
{
    uint64_t mine = 0;
    for (uint64_t n = rng_range(r, 1, 3); n > 0 && *group < s->config.groups; n--)
        mine |= bit((*group)++);
    for (uint32_t i = first; i < first + count; i++)
        s->hosts[i].wants_recv |= mine;
    uint32_t parts = (uint32_t)rng_range(r, 2, 4);
    for (uint32_t p = 0; p < parts && count >= parts * 2 && *group < s->config.groups; p++) {
        uint32_t from = first + count * p / parts, to = first + count * (p + 1) / parts;
        if (rng_chance(r, 0.85)) /* some hosts have no part in what is below */
            nest(s, r, from, to - from, group);
    }
}

static void plan_nested(struct sim *s, struct rng *r)
{
    uint32_t group = 0;
    nest(s, r, 0, s->config.hosts, &group);
    for (; group < s->config.groups; group++) { /* what is left lies across the services */
        uint32_t step = (uint32_t)rng_range(r, 2, 7);
        for (uint32_t i = group % step; i < s->config.hosts; i += step)
            s->hosts[i].wants_recv |= bit(group);
    }
}

/* "Irregular layouts": groups of very different sizes whose members have nothing to do with each
 * other, on at most a hundred kinds of hosts: every set of groups is a region with an address. */
static void plan_irregular(struct sim *s, struct rng *r)
{
    uint32_t kinds = s->config.hosts < 100 ? s->config.hosts : 100;
    for (uint32_t g = 0; g < s->config.groups; g++) {
        double share = 0.7 / (double)rng_range(r, 1, g + 2);
        for (uint32_t i = 0; i < kinds; i++) {
            if (rng_chance(r, share))
                s->hosts[i].wants_recv |= bit(g);
        }
    }
    for (uint32_t i = kinds; i < s->config.hosts; i++)
        s->hosts[i].wants_recv = s->hosts[i % kinds].wants_recv;
}

static void plan_senders(struct sim *s, struct rng *r)
{
    double members = rng_chance(r, 0.15) ? 1 : 0.4, others = 0.15;
    if (s->config.hosts > 100 && rng_chance(r, 0.7)) {
        members = 20.0 / s->config.hosts;
        others = 5.0 / s->config.hosts;
    }
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (rng_chance(r, members))
            h->wants_send = h->wants_recv & (rng_next(r) | rng_next(r));
        if (rng_chance(r, others))
            h->wants_send |= bit(rng_below(r, s->config.groups)); /* perhaps no member */
    }
    struct host *sure = &s->hosts[rng_below(r, s->config.hosts)];
    sure->wants_send |= sure->wants_recv | bit(rng_below(r, s->config.groups));
}

/* Many senders to a few members: more channels in one region than a token takes. */
static void plan_crowd(struct sim *s, struct rng *r)
{
    uint64_t members = rng_range(r, 3, 12);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        s->hosts[i].wants_recv = i < members;
        s->hosts[i].wants_send = 1;
    }
    s->crowd = true;
}

/* They all speak at once, now and then. */
static void chorus(struct sim *s, void *ctx, uint64_t every_us)
{
    (void)ctx;
    if (s->ending || s->calm)
        return;
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (s->hosts[i].node && !s->hosts[i].stopping)
            load_burst(&s->hosts[i]);
    }
    sim_at(s, s->now_us + every_us, chorus, NULL, every_us);
}

/* Who is in which groups: the shapes of section 2 of the paper, and others. */
static void plan_groups(struct sim *s, struct rng *r)
{
    static void (*const shapes[])(struct sim *, struct rng *) = {plan_sets, plan_sets, plan_nested,
                                                                 plan_nested, plan_irregular};
    if (s->config.hosts > WIRE_TOKEN_CHANNELS_MAX && rng_chance(r, 0.4)) {
        plan_crowd(s, r);
        return;
    }
    shapes[rng_below(r, sizeof(shapes) / sizeof(shapes[0]))](s, r);
    double odd = s->config.hosts > 100 ? 5.0 / s->config.hosts : 0.08;
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (rng_chance(r, odd))
            h->wants_recv = rng_next(r) & all_groups(s);
        else if (rng_chance(r, 0.05))
            h->wants_recv = 0;
    }
    plan_senders(s, r);
}

static void plan_starts(struct sim *s, struct rng *r, uint64_t until_us)
{
    struct rng late;
    bool some_late = faults_have(s, FAULT_late, 0.5, &late);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        uint64_t at = rng_below(r, 200 * SIM_MS);
        bool is_late = some_late && rng_chance(&late, 0.2);
        if (is_late)
            at = rng_range(&late, SIM_S, until_us);
        sim_at(s, at, start, &s->hosts[i], is_late);
    }
}

void load_plan(struct sim *s, struct rng *r, uint64_t until_us, bool storm)
{
    struct rng own;
    uint64_t messages = rng_range(r, 100, 400000 / (s->config.hosts + 8));
    uint64_t every = until_us / messages * 6;
    plan_groups(s, r);
    plan_starts(s, r, until_us);
    sim_at(s, rng_below(r, 300 * SIM_MS), traffic, NULL, every);
    if (s->crowd)
        sim_at(s, until_us / 3, chorus, NULL, until_us / 6);
    if (faults_have(s, FAULT_large, 0.5, &own)) {
        for (uint64_t n = rng_range(&own, 1, storm ? 10 : 3); n > 0; n--)
            sim_at(s, rng_range(&own, 300 * SIM_MS, until_us), large, NULL,
                   rng_range(&own, 20 << 10, s->config.hosts > 15 ? 150 << 10 : 400 << 10));
    }
    if (faults_have(s, FAULT_churn, storm ? 4 : 0.6, &own)) {
        s->counts.faults[FAULT_churn]++;
        uint64_t quick = storm ? 5 * SIM_MS : 50 * SIM_MS;
        sim_at(s, 500 * SIM_MS, churn, NULL, rng_range(&own, quick, storm ? 80 * SIM_MS : SIM_S));
    }
}
