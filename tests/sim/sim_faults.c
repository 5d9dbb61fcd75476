/* sim_faults: a swarm: each seed turns a random subset of the kinds of fault on, each with a random
 * strength. All of them are over at the calm. */
#include "sim.h"
#include <stdlib.h>

static bool over(const struct sim *s)
{
    return s->ending || s->calm;
}

/* ---- the single faults; arg says how long, in microseconds */

static void restart(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)arg;
    if (s->ending || h->node)
        return;
    s->counts.restarts++;
    host_boot(h);
    load_open(h);
}

static void crash(struct sim *s, void *ctx, uint64_t down_us)
{
    struct host *h = ctx;
    if (over(s) || !h->node)
        return;
    s->counts.crashes++;
    host_crash(h, rng_chance(&s->random, 0.4));
    if (down_us)
        sim_at(s, s->now_us + down_us, restart, h, 0);
}

/* The first host from h on that wants to send. */
static struct host *sender_from(struct sim *s, struct host *h)
{
    for (uint32_t i = 0; i < s->config.hosts && !h->wants_send; i++)
        h = &s->hosts[(h->index + 1) % s->config.hosts];
    return h;
}

/* A sender is heard by some hosts only, and dies: the others need what those have. */
static void last_words(struct sim *s, void *ctx, uint64_t after_us)
{
    struct host *h = sender_from(s, ctx);
    if (over(s) || !h->node || !load_burst(h))
        return;
    s->counts.last_words++;
    h->muffled = true;
    uint64_t share = rng_range(&s->random, 1, 9);
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].hears = rng_below(&s->random, 10) < share;
    sim_at(s, s->now_us + after_us, crash, h, rng_below(&s->random, 2 * SIM_S));
}

static void stop(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)arg;
    if (over(s) || !h->node || h->stopping)
        return;
    s->counts.stops++;
    host_stop(h);
}

static void pause_host(struct sim *s, void *ctx, uint64_t for_us)
{
    struct host *h = ctx;
    if (over(s) || !h->node || (s->gentle && !h->link))
        return;
    s->counts.pauses++;
    host_pause(h, s->now_us + for_us);
}

static void heal(struct sim *s, void *ctx, uint64_t arg)
{
    (void)ctx;
    (void)arg;
    s->partitioned = false;
    simlink_wake(s);
}

static void partition(struct sim *s, void *ctx, uint64_t for_us)
{
    (void)ctx;
    if (over(s) || s->partitioned)
        return;
    s->counts.partitions++;
    uint64_t share = rng_range(&s->random, 1, 5);
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].side = rng_below(&s->random, 10) < share;
    s->cms.side = rng_below(&s->random, 4) == 0;
    s->partitioned = true;
    sim_at(s, s->now_us + for_us, heal, NULL, 0);
}

static void cms_back(struct sim *s, void *ctx, uint64_t arg)
{
    (void)ctx;
    (void)arg;
    if (!s->ending && !s->cms.cms)
        cmshost_start(s);
}

static void cms_dies(struct sim *s, void *ctx, uint64_t down_us)
{
    (void)ctx;
    if (over(s) || !s->cms.cms)
        return;
    s->counts.cms_crashes++;
    cmshost_crash(s);
    sim_at(s, s->now_us + down_us, cms_back, NULL, 0);
}

static void cms_sleeps(struct sim *s, void *ctx, uint64_t for_us)
{
    (void)ctx;
    if (over(s) || !s->cms.cms)
        return;
    s->counts.cms_pauses++;
    cmshost_pause(s, s->now_us + for_us);
}

static void cut(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)arg;
    if (over(s) || !h->link || (s->gentle && s->now_us < h->paused_until_us))
        return; /* a gentle seed cuts no link of a host that can't come back at once */
    simlink_cut(s, h->link);
}

static void speak(struct sim *s, void *ctx, uint64_t times)
{
    struct host *h = ctx;
    if (over(s) || !h->node)
        return;
    load_burst(h);
    if (times > 0)
        sim_at(s, s->now_us + rng_range(&s->random, 1, 8 * SIM_MS), speak, h, times - 1);
}

/* The CMS takes a host for dead that the others hear, and that sends on. */
static void exile(struct sim *s, void *ctx, uint64_t for_us)
{
    struct host *h = sender_from(s, ctx);
    if (over(s) || !h->link)
        return;
    s->counts.exiles++;
    h->exiled_until_us = s->now_us + for_us;
    simlink_cut(s, h->link);
    sim_at(s, s->now_us + 130 * SIM_MS, speak, h, rng_range(&s->random, 5, 80));
}

static void silence(struct sim *s, void *ctx, uint64_t for_us)
{
    struct host *h = ctx;
    if (!over(s) && h->link)
        simlink_silence(s, h->link, for_us);
}

/* ---- the plan */

struct kind {
    void (*fire)(struct sim *s, void *ctx, uint64_t arg);
    double chance; /* that a seed has it */
    unsigned most; /* of them */
    bool of_host;
    uint64_t min_us, max_us; /* how long */
    double never;            /* chance that arg is 0: no restart */
    bool gentle;             /* no reason to expel a host that lives */
};

static const struct kind kinds[] = {
    {crash, 0.5, 4, true, 20 * SIM_MS, 2500 * SIM_MS, 0.3, true},
    {last_words, 0.4, 3, true, 50, 100 * SIM_MS, 0, false},
    {stop, 0.2, 2, true, 0, 0, 0, true},
    {pause_host, 0.5, 5, true, 5 * SIM_MS, 2500 * SIM_MS, 0, false},
    {partition, 0.35, 2, false, 50 * SIM_MS, 4 * SIM_S, 0, false},
    {cms_dies, 0.4, 3, false, 5 * SIM_MS, 3 * SIM_S, 0, false},
    {cms_sleeps, 0.3, 2, false, 50 * SIM_MS, 2500 * SIM_MS, 0, false},
    {cut, 0.4, 6, true, 0, 0, 0, true},
    {exile, 0.3, 2, true, 50 * SIM_MS, 2 * SIM_S, 0, false},
    {silence, 0.3, 3, true, 50 * SIM_MS, 2500 * SIM_MS, 0, false},
};

static void plan_kind(struct sim *s, struct rng *r, const struct kind *k, uint64_t until_us)
{
    if (!rng_chance(r, k->chance))
        return;
    for (uint64_t n = rng_range(r, 1, k->most); n > 0; n--) {
        uint64_t at = rng_range(r, 300 * SIM_MS, until_us);
        uint64_t arg = rng_range(r, k->min_us, k->max_us);
        void *host = &s->hosts[rng_below(r, s->config.hosts)];
        if (at + arg > until_us)
            arg = until_us - at;
        if (rng_chance(r, k->never))
            arg = 0;
        sim_at(s, at, k->fire, k->of_host ? host : NULL, arg);
    }
}

/* A strength between 0 and most, rather small than large. */
static double strength(struct rng *r, double most)
{
    double x = (double)rng_below(r, 1000) / 1000;
    return x * x * most;
}

static void plan_network(struct sim *s, struct rng *r)
{
    struct net_model *m = &s->net;
    m->delay_us = rng_range(r, 20, 500);
    m->jitter_us = rng_chance(r, 0.5) ? rng_range(r, 1, 300) : 0;
    if (rng_chance(r, 0.6))
        m->loss = strength(r, 0.15);
    if (rng_chance(r, 0.4)) {
        m->burst = strength(r, 0.01);
        m->burst_us = rng_range(r, SIM_MS, 50 * SIM_MS);
        m->burst_loss = 0.3 + strength(r, 0.7);
    }
    if (rng_chance(r, 0.4))
        m->duplicate = strength(r, 0.1);
    if (rng_chance(r, 0.4)) {
        m->reorder = strength(r, 0.2);
        m->reorder_us = rng_range(r, 100, 5 * SIM_MS);
    }
    if (rng_chance(r, 0.3)) {
        m->spike = strength(r, 0.02);
        m->spike_us = rng_range(r, 10 * SIM_MS, 400 * SIM_MS);
    }
    m->bytes_per_us = rng_chance(r, 0.5) ? 125 : 1250;
    s->link_delay_us = rng_range(r, 50, 3 * SIM_MS);
    s->link_jitter_us = rng_range(r, 0, 2 * SIM_MS);
    s->cms.disk_us = rng_range(r, 100, 10 * SIM_MS);
    s->cms.disk_extra_us = rng_chance(r, 0.3) ? rng_range(r, 1, 300 * SIM_MS) : 0;
    s->cms.snapshot_chance = rng_chance(r, 0.5) ? 0.1 : 0;
}

/* Hosts that are slow, or have small buffers. */
static void plan_hosts(struct sim *s, struct rng *r)
{
    bool slow = rng_chance(r, 0.3), small = rng_chance(r, 0.3), mtus = rng_chance(r, 0.2);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (mtus && rng_chance(r, 0.5))
            h->config.datagram_bytes = (uint32_t)rng_range(r, WIRE_DATAGRAM_MIN, 8972);
        if (slow && rng_chance(r, 0.2))
            h->receive_cost_us = rng_range(r, 10, 150);
        if (small && rng_chance(r, 0.5))
            h->config.rcvbuf_bytes = rng_range(r, 16 << 10, 128 << 10);
        if (small && rng_chance(r, 0.3))
            h->buffer_share = (double)rng_range(r, 10, 100) / 100;
    }
}

/* "Nobody is expelled for a pause of 1 s or 10 % loss": a seed with no worse than that. */
static void plan_gentle(struct sim *s, struct rng *r, uint64_t until_us)
{
    s->gentle = true;
    s->net.burst = s->net.spike = 0;
    if (s->net.loss > 0.1)
        s->net.loss = 0.1;
    sim_at(s, rng_range(r, 300 * SIM_MS, until_us - SIM_S), pause_host,
           &s->hosts[rng_below(r, s->config.hosts)], rng_range(r, 10 * SIM_MS, SIM_S));
}

void faults_plan(struct sim *s, struct rng *r, uint64_t until_us)
{
    bool gentle = rng_chance(r, 0.2);
    plan_network(s, r);
    if (gentle)
        plan_gentle(s, r, until_us);
    else
        plan_hosts(s, r);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!gentle || kinds[i].gentle)
            plan_kind(s, r, &kinds[i], until_us);
    }
}

void faults_calm(struct sim *s)
{
    struct net_model *m = &s->net;
    m->loss = m->burst = m->duplicate = m->reorder = m->spike = 0;
    m->jitter_us = 0;
    s->cms.disk_extra_us = 0;
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        s->hosts[i].burst_until_us = 0;
        s->hosts[i].muffled = false;
    }
    heal(s, NULL, 0);
    cms_back(s, NULL, 0);
    s->calm = true;
    sim_trace(s, "sim", "calm");
}
