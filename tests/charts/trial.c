/* trial: see trial.h. */
#include "trial.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/core/view.h"
#include "daemon/core/wire_token.h"
#include "sim.h"

#define WARM_UP_US (500 * SIM_MS)
#define COOL_DOWN_US SIM_S
#define LOOK_EVERY_US SIM_MS
#define FILL_EVERY_US 200u /* an unlimited sender looks for room so often */
#define SENDER_RANK 3u
#define JITTER_US 20u

/* The round of a ring that is under way, by the datagrams that its leader sends and gets. */
struct watched_ring {
    uint64_t round, started_us; /* 0: none */
    uint64_t trips, sum_us;
};

struct run {
    const struct trial *trial;
    struct trial_result *result;
    struct sim *sim;
    struct rng random;
    struct host *sender, *victim; /* NULL: nobody */
    uint32_t cluster;
    uint64_t from_us, until_us; /* measured are messages accepted from then until then */
    uint64_t offered_us;        /* when the next message is offered, in ns */
    uint64_t *accepted_us;      /* by number - 1; owned */
    size_t accepted, accepted_room;
    uint64_t stable;
    uint64_t *delivered; /* by host */
    uint64_t *bins;
    bool deaf;
    struct watched_ring (*rings)[TRIAL_LEVELS_MAX]; /* by host that leads, and level */
};

/* ---- samples */

static void add(struct samples *s, uint64_t value)
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 4096;
        s->values = realloc(s->values, s->room * sizeof(*s->values));
        assert(s->values);
    }
    s->values[s->count++] = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
    s->sorted = false;
}

double samples_mean(const struct samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->count; i++)
        sum += s->values[i];
    return s->count ? sum / (double)s->count : 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

uint32_t samples_quantile(struct samples *s, double q)
{
    if (!s->count)
        return 0;
    if (!s->sorted)
        qsort(s->values, s->count, sizeof(*s->values), compare);
    s->sorted = true;
    return s->values[(size_t)(q * (double)(s->count - 1))];
}

/* ---- what is seen */

static void on_deliver(void *ctx, const struct host *h, const struct delivery *d)
{
    struct run *r = ctx;
    uint64_t now = r->sim->now_us;
    if (h == r->sender || h == r->victim)
        return;
    assert(d->number <= r->accepted);
    uint64_t accepted = r->accepted_us[d->number - 1];
    if (accepted >= r->from_us && accepted < r->until_us)
        add(&r->result->latency_us, now - accepted);
    if (now >= r->from_us && now < r->until_us) {
        r->delivered[h->index]++;
        r->bins[(now - r->from_us) / TRIAL_BIN_US]++;
    }
}

static void on_stable(void *ctx, const struct host *h, uint64_t number)
{
    struct run *r = ctx;
    assert(h == r->sender);
    for (; r->stable < number; r->stable++) {
        uint64_t accepted = r->accepted_us[r->stable];
        if (accepted >= r->from_us && accepted < r->until_us)
            add(&r->result->stable_us, r->sim->now_us - accepted);
    }
}

/* A round is as long as from its leader's first hop to the token's arrival there. */
static void watch_token(struct run *r, const struct sim_look *look)
{
    struct wire_outer outer;
    struct wire_slice s;
    struct reader reader = {.at = look->parcel->data,
                            .end = look->parcel->data + look->parcel->bytes};
    if (wire_read_outer(&reader, r->cluster, &outer) != WIRE_OK || outer.kind != WIRE_TOKEN ||
        !wire_read_slice(&reader, &s) || s.level >= TRIAL_LEVELS_MAX)
        return;
    uint64_t round = (uint64_t)s.ring_epoch << 32 | s.round, now = r->sim->now_us;
    struct watched_ring *from = &r->rings[look->from][s.level], *to = &r->rings[look->to][s.level];
    if (s.hops == 1 && from->round != round) {
        from->round = round;
        from->started_us = now;
        return;
    }
    if (to->round != round || to->started_us == 0)
        return;
    if (now >= r->from_us && now < r->until_us) {
        to->trips++;
        to->sum_us += now + r->sim->net.delay_us - to->started_us;
    }
    to->started_us = 0;
}

static bool filter(void *ctx, const struct sim_look *look)
{
    struct run *r = ctx;
    if (r->deaf && &r->sim->hosts[look->to] == r->victim)
        return true;
    if (look->parcel->net == NET_CONTROL)
        watch_token(r, look);
    return false;
}

static void look_at_region(void *ctx, const struct node_region_info *info)
{
    struct run *r = ctx;
    if (!info->ours)
        return;
    r->result->window_bytes = info->window_bytes;
    add(&r->result->unacked_bytes, info->inflight_bytes);
}

static void look_at_sender(struct sim *s, void *ctx, uint64_t arg)
{
    struct run *r = ctx;
    (void)arg;
    if (s->ending || s->now_us >= r->until_us)
        return;
    node_each_region(r->sender->node, look_at_region, r);
    sim_at(s, s->now_us + LOOK_EVERY_US, look_at_sender, r, 0);
}

/* ---- what is done */

static bool publish(struct run *r)
{
    if (!app_publish(r->sender, 0, 0, r->trial->message_bytes, false))
        return false;
    if (r->accepted == r->accepted_room) {
        r->accepted_room = r->accepted_room ? r->accepted_room * 2 : 65536;
        r->accepted_us = realloc(r->accepted_us, r->accepted_room * sizeof(*r->accepted_us));
        assert(r->accepted_us);
    }
    r->accepted_us[r->accepted++] = r->sim->now_us;
    return true;
}

/* A message that is not taken is not sent: its application waits, and misses this beat. */
static void offer(struct sim *s, void *ctx, uint64_t arg)
{
    struct run *r = ctx;
    (void)arg;
    if (s->ending || s->now_us >= r->until_us)
        return;
    if (r->trial->rate == 0) {
        while (publish(r))
            continue;
        sim_at(s, s->now_us + FILL_EVERY_US, offer, r, 0);
        return;
    }
    publish(r);
    r->offered_us += UINT64_C(1000000000) / r->trial->rate;
    sim_at(s, r->offered_us / 1000, offer, r, 0);
}

/* ---- the perturbation */

static void begin(struct sim *s, void *ctx, uint64_t for_us)
{
    struct run *r = ctx;
    if (s->ending)
        return;
    if (r->trial->perturbation == ASLEEP)
        host_pause(r->victim, s->now_us + for_us);
    else
        r->deaf = true;
    for (uint64_t at = s->now_us; at < s->now_us + for_us; at += DEAF_US)
        r->result->perturbed[(at - r->from_us) / TRIAL_BIN_US] = true;
    r->result->perturbed[(s->now_us + for_us - 1 - r->from_us) / TRIAL_BIN_US] = true;
}

static void end(struct sim *s, void *ctx, uint64_t arg)
{
    struct run *r = ctx;
    (void)s;
    (void)arg;
    r->deaf = false;
}

static void plan_perturbation(struct run *r)
{
    bool asleep = r->trial->perturbation == ASLEEP;
    uint64_t for_us = asleep ? ASLEEP_US : DEAF_US;
    uint64_t every_us = asleep ? ASLEEP_EVERY_US : DEAF_EVERY_US;
    if (r->trial->perturbation == UNPERTURBED)
        return;
    for (uint64_t at = r->from_us; at + every_us <= r->until_us; at += every_us) {
        uint64_t begins = at + rng_below(&r->random, every_us - 2 * for_us);
        sim_at(r->sim, begins, begin, r, for_us);
        sim_at(r->sim, begins + for_us, end, r, 0);
    }
}

/* ---- the region */

static void fail(const struct run *r, const char *why)
{
    fprintf(stderr, "trial of %u nodes, ring_size %u: %s\n", r->trial->nodes, r->trial->ring_size,
            why);
    exit(1);
}

static void run_until(struct run *r, uint64_t until_us)
{
    sim_run_until(r->sim, until_us);
    if (sim_failed(r->sim))
        fail(r, r->sim->failure[0] ? r->sim->failure : "the checker found a failure");
}

static void settle(struct run *r)
{
    char why[200] = "";
    for (int i = 0; i < 600; i++) {
        run_until(r, r->sim->now_us + 100 * SIM_MS);
        if (sim_converged(r->sim, why, sizeof(why)))
            return;
    }
    fail(r, why);
}

/* Hosts get ids, and so ranks, in the order of their indices. */
static void admit_all(struct run *r)
{
    for (uint32_t i = 0; i < r->trial->nodes; i++) {
        struct host *h = &r->sim->hosts[i];
        host_boot(h);
        while (!node_id(h->node)) {
            if (r->sim->now_us > 600 * SIM_S)
                fail(r, "not all are admitted");
            run_until(r, r->sim->now_us + 5 * SIM_MS);
        }
        assert(i == 0 || node_id(h->node) > node_id(r->sim->hosts[i - 1].node));
    }
}

static void join_all(struct run *r)
{
    for (uint32_t i = 0; i < r->trial->nodes; i++) {
        if (!app_subscribe(&r->sim->hosts[i], 0, 0))
            fail(r, "a host can't subscribe");
    }
    settle(r);
    r->sender = &r->sim->hosts[SENDER_RANK];
    if (!app_open_send(r->sender, 0))
        fail(r, "the sender can't open the group");
    settle(r);
}

/* VIEW_NO_RANK: there is none. */
static uint32_t rank_of_victim(const struct trial *t)
{
    uint32_t partitions = (t->nodes + t->ring_size - 1) / t->ring_size;
    switch (t->victim) {
    case A_MEMBER:
        return t->nodes - 1;
    case A_NEIGHBOUR:
        return SENDER_RANK + 1;
    case A_PARTITION_LEADER:
        return partitions > 1 ? t->nodes / partitions : VIEW_NO_RANK;
    case THE_REGION_LEADER:
        return 0;
    default:
        return VIEW_NO_RANK;
    }
}

const char *victim_name(enum victim who)
{
    static const char *const names[VICTIMS] = {"member", "neighbour", "partition-leader",
                                               "region-leader"};
    return names[who];
}

static struct sim *make_sim(const struct trial *t)
{
    struct sim_config c = sim_config_default();
    c.hosts = t->nodes;
    c.groups = 1;
    c.seed = t->seed;
    c.unwatched = true;
    c.cms.ring_size = t->ring_size;
    struct sim *s = sim_new(&c);
    s->net.jitter_us = JITTER_US;
    s->net.bytes_per_us = t->wire_bytes_per_us;
    return s;
}

/* ---- results */

static void conclude_rings(const struct run *r)
{
    struct trial_result *res = r->result;
    for (uint32_t level = 0; level < TRIAL_LEVELS_MAX; level++) {
        for (uint32_t i = 0; i < r->trial->nodes; i++) {
            const struct watched_ring *w = &r->rings[i][level];
            double mean = w->trips ? (double)w->sum_us / (double)w->trips : 0;
            if (w->trips)
                res->levels = level + 1;
            if (mean > res->round_trip_us[level])
                res->round_trip_us[level] = mean;
        }
        res->path_us += res->round_trip_us[level];
        if (res->round_trip_us[level] > res->longest_us)
            res->longest_us = res->round_trip_us[level];
    }
}

static void conclude(const struct run *r)
{
    struct trial_result *res = r->result;
    uint32_t others = 0;
    double seconds = (double)r->trial->us / 1e6, sum = 0;
    res->worst_throughput = -1;
    for (uint32_t i = 0; i < r->trial->nodes; i++) {
        const struct host *h = &r->sim->hosts[i];
        if (h == r->sender || h == r->victim)
            continue;
        double rate = (double)r->delivered[i] / seconds;
        others++;
        sum += rate;
        if (res->worst_throughput < 0 || rate < res->worst_throughput)
            res->worst_throughput = rate;
    }
    res->throughput = sum / others;
    res->bins = calloc(res->bin_count, sizeof(*res->bins));
    assert(res->bins);
    for (size_t i = 0; i < res->bin_count; i++)
        res->bins[i] = (double)r->bins[i] / others * (1e6 / (double)TRIAL_BIN_US);
    res->expelled = r->sim->counts.expelled;
    conclude_rings(r);
}

bool trial_run(const struct trial *t, struct trial_result *ret)
{
    memset(ret, 0, sizeof(*ret));
    uint32_t rank = rank_of_victim(t);
    if (t->perturbation != UNPERTURBED && rank == VIEW_NO_RANK)
        return false;
    assert(t->nodes > SENDER_RANK + 2 && t->us % TRIAL_BIN_US == 0);
    struct run r = {.trial = t, .result = ret, .sim = make_sim(t)};
    r.random.state = t->seed;
    r.cluster = wire_cluster_tag(r.sim->config.node.cluster);
    cmshost_start(r.sim);
    admit_all(&r);
    join_all(&r);
    r.victim = t->perturbation != UNPERTURBED ? &r.sim->hosts[rank] : NULL;
    r.from_us = r.sim->now_us + WARM_UP_US;
    r.until_us = r.from_us + t->us;
    r.delivered = calloc(t->nodes, sizeof(*r.delivered));
    r.bins = calloc((size_t)(t->us / TRIAL_BIN_US), sizeof(*r.bins));
    ret->bin_count = (size_t)(t->us / TRIAL_BIN_US);
    ret->perturbed = calloc(ret->bin_count, sizeof(*ret->perturbed));
    r.rings = calloc(t->nodes, sizeof(*r.rings));
    assert(r.delivered && r.bins && r.rings && ret->perturbed);
    r.sim->filter = filter;
    r.sim->filter_ctx = &r;
    r.sim->on_deliver = on_deliver;
    r.sim->on_stable = on_stable;
    r.sim->look_ctx = &r;
    r.offered_us = r.sim->now_us * 1000;
    sim_at(r.sim, r.sim->now_us, offer, &r, 0);
    sim_at(r.sim, r.from_us, look_at_sender, &r, 0);
    plan_perturbation(&r);
    run_until(&r, r.until_us + COOL_DOWN_US);
    conclude(&r);
    sim_free(r.sim);
    free(r.accepted_us);
    free(r.delivered);
    free(r.bins);
    free(r.rings);
    return true;
}

void trial_result_done(struct trial_result *r)
{
    free(r->stable_us.values);
    free(r->unacked_bytes.values);
    free(r->latency_us.values);
    free(r->bins);
    free(r->perturbed);
}
