/* sim_plan: which faults a seed has. Each turns a random subset of the kinds on, each with a random
 * strength ("swarm testing": a run without some kind of fault reaches what a run with all of them
 * does not). All of them are over at the calm. */
#include "sim.h"
#include <stdlib.h>
#include <string.h>

const char *fault_name(enum sim_fault kind)
{
    static const char *const names[] = {
#define X(name, text) #name,
        SIM_FAULTS(X)
#undef X
    };
    return names[kind];
}

bool faults_have(struct sim *s, enum sim_fault kind, double chance, struct rng *r)
{
    *r = (struct rng){s->config.seed * UINT64_C(0xff51afd7ed558ccd) +
                      (uint64_t)kind * UINT64_C(0xc4ceb9fe1a85ec53)};
    rng_next(r);
    /* Some seeds have many kinds, some hardly any. */
    static const double densities[] = {0.25, 0.6, 1, 1};
    struct rng all = {s->config.seed * UINT64_C(0x94d049bb133111eb)};
    double density = densities[rng_below(&all, 4)];
    return rng_chance(r, chance * density) && !(s->without.kinds >> kind & 1);
}

/* ---- faults at certain times */

struct kind {
    enum sim_fault kind;
    double chance; /* that a seed has it, when it has many */
    unsigned most; /* of them */
    bool of_host;
    uint64_t min_us, max_us; /* how long */
    double never;            /* chance that arg is 0: no restart */
    bool gentle;             /* no reason to expel a host that lives */
    double storm_chance;     /* in a storm of view changes */
    unsigned storm_most;
};

static const struct kind kinds[] = {
    {FAULT_crash, 0.5, 4, true, 20 * SIM_MS, 2500 * SIM_MS, 0.3, true, 0.9, 12},
    {FAULT_last_words, 0.4, 3, true, 50, 100 * SIM_MS, 0, false, 0.5, 4},
    {FAULT_stop, 0.2, 2, true, 0, 0, 0, true, 0.4, 4},
    {FAULT_pause, 0.4, 5, true, 5 * SIM_MS, 2500 * SIM_MS, 0, false, 0.2, 3},
    {FAULT_partition, 0.3, 2, false, 50 * SIM_MS, 4 * SIM_S, 0, false, 0.1, 1},
    {FAULT_one_way, 0.25, 2, false, 50 * SIM_MS, 4 * SIM_S, 0, false, 0.1, 1},
    {FAULT_some_pairs, 0.3, 3, false, 50 * SIM_MS, 4 * SIM_S, 0, false, 0.1, 1},
    {FAULT_deaf, 0.35, 6, true, 5 * SIM_MS, 4500 * SIM_MS, 0, false, 0.1, 2},
    {FAULT_squeeze, 0.25, 3, true, 20 * SIM_MS, 2 * SIM_S, 0, false, 0, 0},
    {FAULT_no_tokens, 0.25, 3, false, 20 * SIM_MS, 1500 * SIM_MS, 0, false, 0.1, 1},
    {FAULT_cms_crash, 0.3, 3, false, 5 * SIM_MS, 3 * SIM_S, 0, false, 0.4, 4},
    {FAULT_cms_step, 0.35, 4, false, 5 * SIM_MS, 2 * SIM_S, 0, false, 0.7, 8},
    {FAULT_cms_pause, 0.25, 2, false, 50 * SIM_MS, 8 * SIM_S, 0, true, 0.2, 2},
    {FAULT_link_cut, 0.4, 6, true, 0, 0, 0, true, 0.5, 12},
    {FAULT_exile, 0.3, 2, true, 50 * SIM_MS, 2 * SIM_S, 0, false, 0.3, 3},
    {FAULT_silence, 0.3, 3, true, 50 * SIM_MS, 2500 * SIM_MS, 0, false, 0.2, 2},
    {FAULT_hit_holder, 0.25, 3, true, 2 * SIM_MS, 1500 * SIM_MS, 0.2, false, 0.2, 3},
    {FAULT_hit_leader, 0.25, 3, true, 2 * SIM_MS, 1500 * SIM_MS, 0.2, false, 0.2, 3},
    {FAULT_hit_cacher, 0.25, 3, true, 2 * SIM_MS, 1500 * SIM_MS, 0.2, false, 0.2, 3},
    {FAULT_hit_voter, 0.25, 3, true, 2 * SIM_MS, 1500 * SIM_MS, 0.2, false, 0.9, 16},
    /* the paper's perturbations begin once and last */
    {FAULT_sleep_500ms, 0.15, 3, true, 0, 0, 0, true, 0.1, 1},
    {FAULT_drop_10ms, 0.15, 3, true, 0, 0, 0, true, 0.1, 1},
};

static void planned_due(struct sim *s, void *ctx, uint64_t arg)
{
    (void)arg;
    fault_strike(s, ctx);
}

static void plan_one(struct sim *s, uint64_t at_us, const struct planned *fault)
{
    uint32_t number = s->planned_count;
    if (number == SIM_PLANNED_MAX)
        return;
    s->planned[s->planned_count++] = *fault;
    s->planned[number].number = number;
    if (!(s->without.planned[number / 8] >> number % 8 & 1))
        sim_at(s, at_us, planned_due, &s->planned[number], 0);
}

static void plan_kind(struct sim *s, const struct kind *k, uint64_t until_us, bool storm)
{
    struct rng r;
    if (!faults_have(s, k->kind, storm ? k->storm_chance : k->chance, &r))
        return;
    for (uint64_t n = rng_range(&r, 1, storm ? k->storm_most : k->most); n > 0; n--) {
        struct planned fault = {.kind = k->kind};
        uint64_t at = rng_range(&r, 300 * SIM_MS, until_us);
        fault.arg = rng_range(&r, k->min_us, k->max_us);
        fault.host = k->of_host ? &s->hosts[rng_below(&r, s->config.hosts)] : NULL;
        if (storm)
            fault.arg /= 4;
        if (at + fault.arg > until_us)
            fault.arg = until_us - at;
        if (rng_chance(&r, k->never))
            fault.arg = 0;
        plan_one(s, at, &fault);
    }
}

/* ---- the network and the hosts, for the whole run */

/* A strength between 0 and most, rather small than large. */
static double strength(struct rng *r, double most)
{
    double x = (double)rng_below(r, 1000) / 1000;
    return x * x * most;
}

/* The same, counting the seeds that have it. */
static bool have(struct sim *s, enum sim_fault kind, double chance, struct rng *r)
{
    bool has = faults_have(s, kind, chance, r);
    s->counts.faults[kind] += has;
    return has;
}

static void plan_network(struct sim *s, bool storm)
{
    struct net_model *m = &s->net;
    struct rng r;
    double less = storm ? 0.3 : 1;
    if (have(s, FAULT_loss, 0.6 * less, &r))
        m->loss = strength(&r, 0.15);
    if (!s->gentle && have(s, FAULT_bursts, 0.4 * less, &r)) {
        m->burst = strength(&r, 0.01);
        m->burst_us = rng_range(&r, SIM_MS, 50 * SIM_MS);
        m->burst_loss = 0.3 + strength(&r, 0.7);
    }
    if (have(s, FAULT_duplicates, 0.4, &r))
        m->duplicate = strength(&r, 0.1);
    if (have(s, FAULT_reorder, 0.4, &r)) {
        m->reorder = strength(&r, 0.2);
        m->reorder_us = rng_range(&r, 100, 5 * SIM_MS);
    }
    if (!s->gentle && have(s, FAULT_spikes, 0.3 * less, &r)) {
        m->spike = strength(&r, 0.02);
        m->spike_us = rng_range(&r, 10 * SIM_MS, 400 * SIM_MS);
    }
    if (have(s, FAULT_late_data, 0.3, &r))
        m->late_data_us = rng_range(&r, 200, rng_chance(&r, 0.5) ? 3 * SIM_MS : 30 * SIM_MS);
    if (s->gentle && m->loss > 0.1)
        m->loss = 0.1;
}

/* What is no fault, but differs: delays and speeds. */
static void plan_speeds(struct sim *s)
{
    struct rng r = {s->config.seed * UINT64_C(0xd6e8feb86659fd93)};
    struct rng disk;
    s->net.delay_us = rng_range(&r, 20, 500);
    s->net.jitter_us = rng_chance(&r, 0.5) ? rng_range(&r, 1, 300) : 0;
    s->net.bytes_per_us = rng_chance(&r, 0.5) ? 125 : 1250;
    s->link_delay_us = rng_range(&r, 50, 3 * SIM_MS);
    s->link_jitter_us = rng_range(&r, 0, 2 * SIM_MS);
    s->cms.disk_us = rng_range(&r, 100, 10 * SIM_MS);
    s->cms.snapshot_chance = rng_chance(&r, 0.5) ? 0.1 : 0;
    s->cms.group_commit = s->config.hosts > 60 || rng_chance(&r, 0.4);
    if (have(s, FAULT_slow_disk, 0.3, &disk))
        s->cms.disk_extra_us = rng_range(&disk, 1, 300 * SIM_MS);
}

static void plan_hosts(struct sim *s)
{
    struct rng slow, small, mtus;
    bool has_slow = have(s, FAULT_slow_hosts, 0.3, &slow);
    bool has_small = have(s, FAULT_small_buffers, 0.3, &small);
    bool has_mtus = have(s, FAULT_mtus, 0.25, &mtus);
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (has_mtus && rng_chance(&mtus, 0.5))
            h->config.datagram_bytes = (uint32_t)rng_range(&mtus, WIRE_DATAGRAM_MIN, 8972);
        if (has_slow && rng_chance(&slow, 0.2))
            h->receive_cost_us = rng_range(&slow, 10, 150);
        if (has_small && rng_chance(&small, 0.5))
            h->config.rcvbuf_bytes = rng_range(&small, 16 << 10, 128 << 10);
        if (has_small && rng_chance(&small, 0.3))
            h->buffer_share = (double)rng_range(&small, 10, 100) / 100;
    }
}

/* "Nobody is expelled for a pause of 1 s or 10 % loss": a seed with no worse than that. */
static void plan_gentle_pause(struct sim *s, uint64_t until_us)
{
    struct rng r;
    if (!faults_have(s, FAULT_pause, 4, &r))
        return;
    struct planned fault = {.kind = FAULT_pause,
                            .host = &s->hosts[rng_below(&r, s->config.hosts)],
                            .arg = rng_range(&r, 10 * SIM_MS, SIM_S)};
    plan_one(s, rng_range(&r, 300 * SIM_MS, until_us - SIM_S), &fault);
}

void faults_plan(struct sim *s, uint64_t until_us, bool storm)
{
    struct rng r = {s->config.seed * UINT64_C(0xa0761d6478bd642f)};
    s->gentle = !storm && rng_chance(&r, 0.2);
    plan_speeds(s);
    plan_network(s, storm);
    if (s->gentle)
        plan_gentle_pause(s, until_us);
    else
        plan_hosts(s);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!s->gentle || kinds[i].gentle)
            plan_kind(s, &kinds[i], until_us, storm);
    }
}

/* ---- the calm */

void faults_calm(struct sim *s)
{
    struct net_model *m = &s->net;
    m->loss = m->burst = m->duplicate = m->reorder = m->spike = 0;
    m->jitter_us = m->late_data_us = 0;
    cmshost_calm(s);
    s->ambush_count = 0;
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        s->hosts[i].burst_until_us = s->hosts[i].drop_phase_us = 0;
        s->hosts[i].muffled = false;
    }
    faults_heal(s);
    if (!s->cms.cms)
        cmshost_start(s);
    s->calm = true;
    sim_trace(s, "sim", "calm");
}
