/* sim_run: one run from start to end, in one of the modes. Safety: a plan, faults, calm, and then
 * convergence, judged here and by the checker. Storm: the same with view changes all the time.
 * Liveness is in sim_live.c, small in sim_small.c. */
#include "sim.h"
#include <stdlib.h>
#include <string.h>

#define HEAL_US (60 * SIM_S)
#define EVENTS_MAX UINT64_C(60000000)

/* ---- convergence */

struct dead_search {
    char *why;
    size_t room;
    const uint32_t *living; /* node ids, ascending */
    size_t count;
    bool found;
};

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void look_for_dead(void *ctx, const struct node_group_info *g)
{
    struct dead_search *d = ctx;
    for (uint32_t i = 0; i < g->member_count && !d->found; i++) {
        if (bsearch(&g->members[i], d->living, d->count, sizeof(g->members[i]), compare_ids))
            continue;
        d->found = true;
        snprintf(d->why, d->room, "node %u is dead but a member of %s", g->members[i], g->name);
    }
}

/* Whether a member of a group, as any node knows it, is dead. */
static bool any_dead(struct sim *s, char *why, size_t room)
{
    uint32_t living[SIM_HOSTS_MAX];
    struct dead_search d = {.why = why, .room = room, .living = living};
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (s->hosts[i].node && !s->hosts[i].given_up)
            living[d.count++] = node_id(s->hosts[i].node);
    }
    if (d.count)
        qsort(living, d.count, sizeof(living[0]), compare_ids);
    for (uint32_t i = 0; i < s->config.hosts && !d.found; i++) {
        if (s->hosts[i].node && !s->hosts[i].given_up)
            node_each_group(s->hosts[i].node, look_for_dead, &d);
    }
    return d.found;
}

static bool host_converged(struct sim *s, struct host *h, char *why, size_t room)
{
    if (!h->node || h->given_up)
        return true;
    const char *what = NULL;
    if (h->stopping)
        what = "has not stopped yet";
    else if (!node_linked(h->node))
        what = "has no CMS";
    else if (!node_id(h->node))
        what = "is not admitted";
    else if (node_epoch(h->node) != cms_epoch(s->cms.cms))
        what = "is not in the last epoch";
    else if (!node_idle(h->node))
        what = "is not idle";
    if (what) {
        snprintf(why, room, "%s (node %u, epoch %llu of %llu) %s", h->name, node_id(h->node),
                 (unsigned long long)node_epoch(h->node), (unsigned long long)cms_epoch(s->cms.cms),
                 what);
        return false;
    }
    return app_settled(h, why, room);
}

bool sim_converged(struct sim *s, char *why, size_t room)
{
    if (!s->cms.cms) {
        snprintf(why, room, "the CMS is down");
        return false;
    }
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (!host_converged(s, &s->hosts[i], why, room))
            return false;
    }
    return !any_dead(s, why, room);
}

/* For readers: what channels have not got to their end. */
static void trace_region(void *ctx, const struct node_region_info *r)
{
    struct host *h = ctx;
    if (r->sent && r->rel < r->sent)
        sim_trace(h->sim, h->name, "stuck r=%u v=%llu sent=%llu stable=%llu rel=%llu slowest=%u",
                  r->rid, (unsigned long long)r->epoch, (unsigned long long)r->sent,
                  (unsigned long long)r->stable, (unsigned long long)r->rel, r->slowest);
}

static void trace_stuck(struct sim *s)
{
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (!h->node)
            continue;
        const struct node_stats *st = node_stats(h->node);
        sim_trace(s, h->name, "idle now=%d held=%llu store=%llu partial=%llu unreleased=%llu",
                  node_idle(h->node), (unsigned long long)st->held_packets,
                  (unsigned long long)st->store_bytes, (unsigned long long)st->reassembly_bytes,
                  (unsigned long long)st->unreleased_bytes);
        node_each_region(h->node, trace_region, h);
    }
}

bool run_converge(struct sim *s, uint64_t within_us, const char *what)
{
    char why[200] = "";
    uint64_t from = s->now_us;
    while (!sim_failed(s) && s->now_us < from + within_us) {
        sim_run_until(s, s->now_us + 100 * SIM_MS);
        if (sim_failed(s))
            return false;
        if (s->counts.events > EVENTS_MAX)
            sim_fail(s, "RUNAWAY: %llu events", (unsigned long long)s->counts.events);
        if (sim_converged(s, why, sizeof(why)))
            return true;
    }
    if (!sim_failed(s)) {
        trace_stuck(s);
        sim_fail(s, "LIVE: not %s %llu ms after calm: %s", what,
                 (unsigned long long)within_us / SIM_MS, why);
    }
    return false;
}

/* ---- a seed */

/* Most seeds are small: what goes wrong at all mostly goes wrong with few. */
static uint32_t plan_nodes(const struct run_config *config, struct rng *r)
{
    uint64_t kind = rng_below(r, 100);
    uint64_t least = kind < 92   ? 5
                     : kind < 98 ? 31
                                 : 100,
             most = kind < 92   ? 30
                    : kind < 98 ? 80
                                : 200;
    if (config->nodes_max) {
        least = config->nodes_min;
        most = config->nodes_max;
    }
    return (uint32_t)rng_range(r, least, most);
}

static struct sim_config plan_config(const struct run_config *config, uint64_t seed, struct rng *r)
{
    struct sim_config c = sim_config_default();
    c.seed = seed;
    c.trace = config->trace;
    c.hosts = plan_nodes(config, r);
    c.groups = (uint32_t)(rng_chance(r, 0.7) ? rng_range(r, 1, 12) : rng_range(r, 13, 48));
    c.cms.regions_max = 1000;
    c.node.window_bytes = UINT64_C(1) << rng_range(r, 16, 22);
    c.node.token_rate_mhz = (uint32_t)rng_range(r, 1, 5) * 1000;
    c.node.no_sender_repair = false;
    if (rng_chance(r, 0.3))
        c.node.datagram_bytes = (uint32_t)rng_range(r, WIRE_DATAGRAM_MIN, 4000);
    if (rng_chance(r, 0.2))
        c.node.reassembly_bytes = rng_range(r, 420 << 10, 900 << 10);
    if (rng_chance(r, 0.2))
        c.node.pool_bytes = rng_range(r, 64 << 10, 2 << 20);
    if (rng_chance(r, 0.3))
        c.cms.cache_replicas = (uint32_t)rng_range(r, 1, 4);
    if (rng_chance(r, 0.3))
        c.cms.ring_size = (uint32_t)rng_range(r, 2, 12);
    if (rng_chance(r, 0.4))
        c.cms.ack_ranges = (uint32_t)rng_range(r, 1, WIRE_ACK_RANGES_MAX);
    return c;
}

static void add_failure(struct run_result *ret, const char *text)
{
    size_t slot = ret->failure_count++;
    ret->failed = true;
    if (slot < sizeof(ret->failures) / sizeof(ret->failures[0]))
        snprintf(ret->failures[slot], sizeof(ret->failures[0]), "%s", text);
}

void run_result_fill(struct sim *s, struct run_result *ret)
{
    if (s->failure[0])
        add_failure(ret, s->failure);
    for (size_t i = 0; i < checker_failures(s->checker) && i < CHECKER_FAILURES_MAX; i++)
        add_failure(ret, checker_failure(s->checker, i));
    ret->nodes = s->config.hosts;
    ret->planned = s->planned_count;
    ret->hash = s->trace_hash;
    ret->lines = s->trace_lines;
    ret->virtual_us = s->now_us;
    for (uint32_t i = 0; i < s->config.hosts; i++)
        host_done(&s->hosts[i]); /* counts its node */
    cmshost_count(s);
    ret->counts = s->counts;
}

void run_seed(const struct run_config *config, struct run_result *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (config->mode == MODE_small) {
        small_run(config, ret);
        return;
    }
    /* The same seed is another story in each mode. */
    uint64_t seed = config->seed + ((uint64_t)config->mode << 24);
    struct rng r = {seed * UINT64_C(0x9e3779b97f4a7c15) + 7};
    struct sim_config c = plan_config(config, seed, &r);
    struct sim *s = sim_new(&c);
    bool storm = config->mode == MODE_storm;
    uint64_t until = rng_range(&r, 3 * SIM_S, 8 * SIM_S) + c.hosts * 2 * SIM_MS;
    s->without = config->without;
    cmshost_start(s);
    faults_plan(s, until, storm);
    load_plan(s, &r, until, storm);
    sim_run_until(s, until);
    uint64_t calm = s->now_us;
    if (!sim_failed(s) && config->mode == MODE_liveness) {
        calm = live_heal(s, &r);
    } else if (!sim_failed(s)) {
        faults_calm(s);
        run_converge(s, HEAL_US, "healed");
    }
    if (!sim_failed(s)) {
        ret->healed_us = s->now_us - calm;
        sim_trace(s, "sim", "finish");
    }
    run_result_fill(s, ret);
    sim_free(s);
}
