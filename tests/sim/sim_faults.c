/* sim_faults: what each kind of fault does when its time has come, and ambushes: faults that wait
 * for a certain moment in the protocol. Which of them a seed has is in sim_plan.c. */
#include "sim.h"
#include "view.h"
#include <stdlib.h>
#include <string.h>

static bool over(const struct sim *s)
{
    return s->ending || s->calm;
}

/* ---- hosts */

static void restart(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)arg;
    if (s->ending || h->node || h->given_up)
        return;
    s->counts.restarts++;
    host_boot(h);
    load_open(h);
}

static bool crash(struct sim *s, struct host *h, uint64_t down_us)
{
    if (!h->node)
        return false;
    s->counts.crashes++;
    host_crash(h, rng_chance(&s->random, 0.4));
    if (down_us)
        sim_at(s, s->now_us + down_us, restart, h, 0);
    return true;
}

static void crash_due(struct sim *s, void *ctx, uint64_t down_us)
{
    if (!over(s))
        crash(s, ctx, down_us);
}

/* The first host from h on that wants to send. */
static struct host *sender_from(struct sim *s, struct host *h)
{
    for (uint32_t i = 0; i < s->config.hosts && !h->wants_send; i++)
        h = &s->hosts[(h->index + 1) % s->config.hosts];
    return h;
}

static void hear_again(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)s;
    (void)arg;
    h->deaf = false;
}

/* One that has not heard it gets no repairs either, for longer than a view change bears. */
static void leave_deaf(struct sim *s, const struct host *sender)
{
    struct host *h = &s->hosts[rng_below(&s->random, s->config.hosts)];
    for (uint32_t i = 0; i < s->config.hosts && (h == sender || h->hears || !h->node); i++)
        h = &s->hosts[(h->index + 1) % s->config.hosts];
    h->deaf = true;
    sim_at(s, s->now_us + 5 * SIM_S, hear_again, h, 0);
}

/* A sender is heard by some hosts only, and dies: the others need what those have. */
static bool last_words(struct sim *s, struct host *h, uint64_t after_us)
{
    h = sender_from(s, h);
    if (!h->node || !load_burst(h))
        return false;
    h->muffled = true;
    uint64_t share = rng_range(&s->random, 1, 9);
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].hears = rng_below(&s->random, 10) < share;
    if (rng_chance(&s->random, 0.4))
        leave_deaf(s, h);
    sim_at(s, s->now_us + after_us, crash_due, h, rng_below(&s->random, 2 * SIM_S));
    return true;
}

static bool stop(struct sim *s, struct host *h, uint64_t arg)
{
    (void)s;
    (void)arg;
    if (!h->node || h->stopping)
        return false;
    host_stop(h);
    return true;
}

static bool pause_host(struct sim *s, struct host *h, uint64_t for_us)
{
    bool tired = h->paused_until_us && s->now_us < h->paused_until_us + 2 * SIM_S;
    if (!h->node || (s->gentle && (!h->link || tired)))
        return false; /* a gentle seed does not add pauses up */
    host_pause(h, s->now_us + for_us);
    return true;
}

static void sleep_again(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    if (over(s))
        return;
    pause_host(s, h, 500 * SIM_MS);
    sim_at(s, s->now_us + 5 * SIM_S, sleep_again, h, arg);
}

/* "Sleep 0.5 s in every 5 s" (5.3). */
static bool sleep_500ms(struct sim *s, struct host *h, uint64_t arg)
{
    sleep_again(s, h, arg);
    return true;
}

/* "Drop everything for 10 ms in every 1 s" (5.3). */
static bool drop_10ms(struct sim *s, struct host *h, uint64_t arg)
{
    (void)arg;
    h->drop_phase_us = s->now_us;
    return true;
}

static void unsqueeze(struct sim *s, void *ctx, uint64_t cost)
{
    struct host *h = ctx;
    (void)s;
    h->receive_cost_us = cost;
    h->queues[NET_DATA].bytes_max = (uint64_t)((double)h->config.rcvbuf_bytes * h->buffer_share);
}

static bool squeeze(struct sim *s, struct host *h, uint64_t for_us)
{
    if (!h->node)
        return false;
    sim_at(s, s->now_us + for_us, unsqueeze, h, h->receive_cost_us);
    h->receive_cost_us = rng_range(&s->random, 50, 400);
    h->queues[NET_DATA].bytes_max = rng_range(&s->random, 3000, 30000);
    return true;
}

/* ---- the network */

void faults_heal(struct sim *s)
{
    memset(s->blocked, 0, sizeof(s->blocked));
    s->net.token_loss = 0;
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].deaf = false;
    simlink_wake(s);
}

static void heal(struct sim *s, void *ctx, uint64_t arg)
{
    (void)ctx;
    (void)arg;
    if (over(s))
        return; /* the calm has healed all, or has partitions of its own */
    memset(s->blocked, 0, sizeof(s->blocked));
    simlink_wake(s);
}

static bool is_partitioned(const struct sim *s)
{
    uint8_t any = 0;
    for (int i = 0; i < SIM_SIDES; i++)
        any |= s->blocked[i];
    return any;
}

static void block(struct sim *s, unsigned from, unsigned to)
{
    s->blocked[from] = (uint8_t)(s->blocked[from] | 1u << to);
}

/* Two sides that share does not hear of each other; the CMS is on one of them. */
static void two_sides(struct sim *s, uint64_t share)
{
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].side = rng_below(&s->random, 10) < share;
    s->cms.side = rng_below(&s->random, 4) == 0;
}

static bool partition(struct sim *s, struct host *h, uint64_t for_us)
{
    (void)h;
    if (is_partitioned(s))
        return false;
    two_sides(s, rng_range(&s->random, 1, 5));
    block(s, 0, 1);
    block(s, 1, 0);
    sim_at(s, s->now_us + for_us, heal, NULL, 0);
    return true;
}

/* One side hears the other, which does not hear it. */
static bool one_way(struct sim *s, struct host *h, uint64_t for_us)
{
    (void)h;
    if (is_partitioned(s))
        return false;
    two_sides(s, rng_range(&s->random, 1, 5));
    bool down = rng_chance(&s->random, 0.5);
    block(s, down, !down);
    sim_at(s, s->now_us + for_us, heal, NULL, 0);
    return true;
}

/* Some do not hear some others, in one direction or both; all reach the CMS. */
static bool some_pairs(struct sim *s, struct host *h, uint64_t for_us)
{
    (void)h;
    if (is_partitioned(s))
        return false;
    for (uint32_t i = 0; i < s->config.hosts; i++)
        s->hosts[i].side = (uint8_t)rng_range(&s->random, 1, SIM_SIDES - 1);
    s->cms.side = 0;
    for (uint64_t n = rng_range(&s->random, 1, 4); n > 0; n--) {
        unsigned a = (unsigned)rng_range(&s->random, 1, SIM_SIDES - 1);
        unsigned b = (unsigned)rng_range(&s->random, 1, SIM_SIDES - 1);
        if (a == b)
            continue;
        block(s, a, b);
        if (rng_chance(&s->random, 0.5))
            block(s, b, a);
    }
    sim_at(s, s->now_us + for_us, heal, NULL, 0);
    return is_partitioned(s);
}

static bool deaf(struct sim *s, struct host *h, uint64_t for_us)
{
    if (!h->node)
        return false;
    h->deaf = true;
    sim_at(s, s->now_us + for_us, hear_again, h, 0);
    if (rng_chance(&s->random, 0.5)) /* and a sender dies before it can hear again */
        sim_at(s, s->now_us + for_us / 2, crash_due,
               sender_from(s, &s->hosts[(h->index + 1) % s->config.hosts]), 0);
    return true;
}

static void tokens_again(struct sim *s, void *ctx, uint64_t arg)
{
    (void)ctx;
    (void)arg;
    s->net.token_loss = 0;
}

static bool no_tokens(struct sim *s, struct host *h, uint64_t for_us)
{
    (void)h;
    s->net.token_loss = (double)rng_range(&s->random, 2, 10) / 10;
    sim_at(s, s->now_us + for_us, tokens_again, NULL, 0);
    return true;
}

/* ---- the CMS and its links */

static bool cms_crash(struct sim *s, struct host *h, uint64_t down_us)
{
    (void)h;
    if (!s->cms.cms)
        return false;
    cmshost_crash(s, down_us);
    return true;
}

static bool cms_step(struct sim *s, struct host *h, uint64_t down_us)
{
    (void)h;
    if (!s->cms.cms || s->cms.strike)
        return false;
    s->cms.strike = STRIKE_APPEND + (unsigned)rng_below(&s->random, 3);
    s->cms.strike_after = rng_below(&s->random, 12);
    s->cms.strike_down_us = down_us;
    return true;
}

static bool cms_pause(struct sim *s, struct host *h, uint64_t for_us)
{
    (void)h;
    if (!s->cms.cms)
        return false;
    cmshost_pause(s, s->now_us + for_us);
    return true;
}

static bool link_cut(struct sim *s, struct host *h, uint64_t arg)
{
    (void)arg;
    if (!h->link || (s->gentle && s->now_us < h->paused_until_us))
        return false; /* a gentle seed cuts no link of a host that can't come back at once */
    simlink_cut(s, h->link);
    return true;
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
static bool exile(struct sim *s, struct host *h, uint64_t for_us)
{
    h = sender_from(s, h);
    if (!h->link)
        return false;
    h->exiled_until_us = s->now_us + for_us;
    simlink_cut(s, h->link);
    sim_at(s, s->now_us + 130 * SIM_MS, speak, h, rng_range(&s->random, 5, 80));
    return true;
}

static bool silence(struct sim *s, struct host *h, uint64_t for_us)
{
    if (!h->link)
        return false;
    simlink_silence(s, h->link, for_us);
    return true;
}

/* ---- ambushes */

struct hit {
    struct host *host; /* who said the line */
    struct ambush ambush;
    uint32_t rid, sender;
    uint64_t view, seq;
};

struct cacher_search {
    const struct hit *hit;
    struct sim *sim;
    struct host *found;
};

static struct host *host_of(struct sim *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        if (s->hosts[i].node && node_id(s->hosts[i].node) == id)
            return &s->hosts[i];
    }
    return NULL;
}

static void find_cacher(void *ctx, const struct node_region_info *r)
{
    struct cacher_search *search = ctx;
    const struct hit *hit = search->hit;
    uint32_t ranks[64];
    if (r->rid != hit->rid || r->epoch != hit->view)
        return;
    struct view *v = view_new(r->rid, r->epoch, r->members, r->member_count, NULL, 0);
    v->ring_size = search->sim->config.cms.ring_size;
    v->replicas = search->sim->config.cms.cache_replicas;
    uint32_t count = view_cachers(v, view_rank(v, hit->sender), hit->seq, ranks, 64);
    if (count)
        search->found =
            host_of(search->sim, r->members[ranks[rng_below(&search->sim->random, count)]]);
    view_unref(v);
}

static void hit_due(struct sim *s, void *ctx, uint64_t arg)
{
    struct hit *hit = ctx;
    struct host *h = hit->host;
    (void)arg;
    if (!over(s) && h->node && hit->ambush.kind == FAULT_hit_cacher) {
        struct cacher_search search = {hit, s, NULL};
        node_each_region(h->node, find_cacher, &search);
        h = search.found;
    }
    if (!over(s) && h && h->node) {
        s->counts.faults[hit->ambush.kind]++;
        if (hit->ambush.crash)
            crash(s, h, hit->ambush.for_us);
        else
            pause_host(s, h, hit->ambush.for_us);
    }
    free(hit);
}

static bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

static bool is_moment(enum sim_fault kind, const char *line)
{
    switch (kind) {
    case FAULT_hit_holder:
        return begins(line, "token ");
    case FAULT_hit_leader:
        return begins(line, "round ");
    case FAULT_hit_cacher:
        return begins(line, "drop ") && strstr(line, "why=cachers");
    default:
        return begins(line, "prep ") || begins(line, "vote ");
    }
}

void faults_see(struct host *h, const char *line)
{
    struct sim *s = h->sim;
    for (uint32_t i = 0; i < s->ambush_count;) {
        struct ambush *a = &s->ambushes[i];
        if (!is_moment(a->kind, line) || a->pass-- > 0) {
            i++;
            continue;
        }
        struct hit *hit = calloc(1, sizeof(*hit));
        if (!hit)
            abort();
        *hit = (struct hit){.host = h, .ambush = *a};
        unsigned long long view = 0, seq = 0;
        sscanf(line, "drop s=%u r=%u v=%llu q=%llu", &hit->sender, &hit->rid, &view, &seq);
        hit->view = view;
        hit->seq = seq;
        sim_at(s, s->now_us, hit_due, hit, 0); /* not inside the node */
        *a = s->ambushes[--s->ambush_count];
    }
}

static bool lie_in_wait(struct sim *s, enum sim_fault kind, uint64_t for_us)
{
    static const uint64_t pass[] = {[FAULT_hit_holder] = 60,
                                    [FAULT_hit_leader] = 20,
                                    [FAULT_hit_cacher] = 200,
                                    [FAULT_hit_voter] = 12};
    if (s->ambush_count == SIM_AMBUSHES_MAX)
        return false;
    s->ambushes[s->ambush_count++] = (struct ambush){.kind = kind,
                                                     .pass = rng_below(&s->random, pass[kind]),
                                                     .for_us = for_us,
                                                     .crash = rng_chance(&s->random, 0.4)};
    return true;
}

/* ---- all */

bool fault_strike(struct sim *s, const struct planned *p)
{
    static bool (*const does[FAULTS_COUNT])(struct sim *, struct host *, uint64_t) = {
        [FAULT_drop_10ms] = drop_10ms,
        [FAULT_sleep_500ms] = sleep_500ms,
        [FAULT_crash] = crash,
        [FAULT_last_words] = last_words,
        [FAULT_stop] = stop,
        [FAULT_pause] = pause_host,
        [FAULT_partition] = partition,
        [FAULT_one_way] = one_way,
        [FAULT_some_pairs] = some_pairs,
        [FAULT_deaf] = deaf,
        [FAULT_squeeze] = squeeze,
        [FAULT_no_tokens] = no_tokens,
        [FAULT_cms_crash] = cms_crash,
        [FAULT_cms_step] = cms_step,
        [FAULT_cms_pause] = cms_pause,
        [FAULT_link_cut] = link_cut,
        [FAULT_exile] = exile,
        [FAULT_silence] = silence,
    };
    if (over(s))
        return false;
    if (!does[p->kind]) { /* it is counted when it strikes */
        lie_in_wait(s, p->kind, p->arg);
        return true;
    }
    if (!does[p->kind](s, p->host, p->arg))
        return false;
    s->counts.faults[p->kind]++;
    return true;
}
