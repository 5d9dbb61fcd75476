/* session_info: what a client may ask about the node: its state, groups, regions, counters. Answers
 * are built in the scratch arena; long lists go out in several frames, the last without `more`. */
#include "session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MEMBERS_MAX                                                                          \
    8192u /* of a frame of a list: well below FRAME_CONTROL_MAX with names                         \
           */
#define CHUNK_ENTRIES_MAX 512u
#define FACTS_MAX 64u
#define COUNTERS_MAX 256u
#define HISTOGRAMS_MAX 16u

static const char *host_name(const struct session *s)
{
    const struct node_peer *self = node_find_peer(s->node, node_id(s->node));
    if (s->config.host)
        return s->config.host;
    return self && self->name ? self->name : "";
}

static char *scratch_copy(struct session *s, const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(session_arena_need(&s->scratch, size), text, size);
}

void info_hello(struct client *c)
{
    struct session *s = c->s;
    Qsm__DaemonHello h = QSM__DAEMON_HELLO__INIT;
    h.version = IPC_VERSION;
    h.daemon_version = (char *)(uintptr_t)(s->config.version ? s->config.version : "");
    h.host = (char *)(uintptr_t)host_name(s);
    h.node_id = node_id(s->node);
    h.admitted = h.node_id != 0;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_HELLO;
    m.hello = &h;
    out_control(c, &m);
}

/* ---- members, as they go into any answer */

static Qsm__Member **members_list(struct client *c, const uint32_t *ids, uint32_t count)
{
    struct arena *a = &c->s->scratch;
    Qsm__Member *members = session_arena_need(a, count * sizeof(*members));
    Qsm__Member **list = session_arena_need(a, count * sizeof(Qsm__Member *));
    for (uint32_t i = 0; i < count; i++) {
        qsm__member__init(&members[i]);
        members[i].node = ids[i];
        members[i].host = name_to_tell(c, ids[i]);
        list[i] = &members[i];
    }
    return list;
}

/* ---- groups */

/* A list that is being sent in frames. */
struct listing {
    struct client *c;
    uint64_t request;
    const char *name; /* of the one group that was asked for; NULL: all */
    uint32_t count, members;
    bool over; /* too much for the client's queue: the answer is an error */
    void *entries[CHUNK_ENTRIES_MAX];
};

/* An answer is bounded by what may wait for a client at all. */
static bool listing_over(struct listing *t)
{
    if (!t->over && t->c->out.bytes > t->c->s->config.queue_bytes) {
        t->over = true;
        out_result(t->c, t->request, -ENOBUFS, "the list is longer than queue_bytes");
    }
    return t->over;
}

static bool listing_full(const struct listing *t, uint32_t members)
{
    return t->count == CHUNK_ENTRIES_MAX ||
           (t->count > 0 && t->members + members > CHUNK_MEMBERS_MAX);
}

static void listing_clear(struct listing *t)
{
    t->count = t->members = 0;
    session_arena_reset(&t->c->s->scratch, SCRATCH_ARENA_MAX);
}

static void groups_flush(struct listing *t, bool more)
{
    Qsm__GroupList list = QSM__GROUP_LIST__INIT;
    list.request = t->request;
    list.n_group = t->count;
    list.group = (Qsm__GroupInfo **)t->entries;
    list.more = more;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_GROUPS;
    m.groups = &list;
    out_control(t->c, &m);
    listing_clear(t);
}

static void group_add(void *ctx, const struct node_group_info *g)
{
    struct listing *t = ctx;
    struct session *s = t->c->s;
    const struct local *l;

    if ((t->name && strcmp(t->name, g->name) != 0) || listing_over(t))
        return;
    if (listing_full(t, g->member_count))
        groups_flush(t, true);
    l = local_find(s, g->name);
    Qsm__GroupInfo *i = session_arena_need(&s->scratch, sizeof(*i));
    qsm__group_info__init(i);
    i->name = scratch_copy(s, g->name);
    i->gid = g->gid;
    i->epoch = g->epoch;
    i->recv = (g->mode & NODE_RECV) != 0;
    i->send = (g->mode & NODE_SEND) != 0;
    i->n_member = g->member_count;
    i->member = members_list(t->c, g->members, g->member_count);
    i->regions = g->region_count;
    i->sent = g->sent;
    i->stable = g->stable;
    i->held = l && l->held;
    t->entries[t->count++] = i;
    t->members += g->member_count;
}

static void answer_groups(struct client *c, const Qsm__Ask *m)
{
    struct listing t = {.c = c, .request = m->request, .name = *m->name ? m->name : NULL};
    listing_clear(&t);
    node_each_group(c->s->node, group_add, &t);
    if (!t.over)
        groups_flush(&t, false);
}

/* ---- regions */

static void regions_flush(struct listing *t, bool more)
{
    Qsm__RegionList list = QSM__REGION_LIST__INIT;
    list.request = t->request;
    list.n_region = t->count;
    list.region = (Qsm__RegionInfo **)t->entries;
    list.more = more;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_REGIONS;
    m.regions = &list;
    out_control(t->c, &m);
    listing_clear(t);
}

static void region_add(void *ctx, const struct node_region_info *r)
{
    struct listing *t = ctx;
    struct session *s = t->c->s;

    if (listing_over(t))
        return;
    if (listing_full(t, r->member_count))
        regions_flush(t, true);
    char address[16];
    snprintf(address, sizeof(address), "%u.%u.%u.%u", r->address >> 24, r->address >> 16 & 255,
             r->address >> 8 & 255, r->address & 255);
    const struct node_peer *slowest = r->slowest ? node_find_peer(s->node, r->slowest) : NULL;
    Qsm__RegionInfo *i = session_arena_need(&s->scratch, sizeof(*i));
    qsm__region_info__init(i);
    i->rid = r->rid;
    i->epoch = r->epoch;
    i->address = scratch_copy(s, address);
    i->n_member = r->member_count;
    i->member = members_list(t->c, r->members, r->member_count);
    i->groups = r->group_count;
    i->ours = r->ours;
    i->sent = r->sent;
    i->stable = r->stable;
    i->rel = r->rel;
    i->inflight_bytes = r->inflight_bytes;
    i->window_bytes = r->window_bytes;
    i->rate = r->rate;
    i->slowest = scratch_copy(s, slowest && slowest->name ? slowest->name : "");
    t->entries[t->count++] = i;
    t->members += r->member_count;
}

static void answer_regions(struct client *c, const Qsm__Ask *m)
{
    struct listing t = {.c = c, .request = m->request};
    listing_clear(&t);
    node_each_region(c->s->node, region_add, &t);
    if (!t.over)
        regions_flush(&t, false);
}

/* ---- counters and histograms */

struct counters {
    struct session *s;
    uint32_t count, histogram_count;
    Qsm__Counter *list[COUNTERS_MAX];
    Qsm__Histogram *histograms[HISTOGRAMS_MAX];
};

static void counter_add(void *to, const char *name, uint64_t value)
{
    struct counters *t = to;
    if (t->count == COUNTERS_MAX)
        return;
    Qsm__Counter *k = session_arena_need(&t->s->scratch, sizeof(*k));
    qsm__counter__init(k);
    k->name = scratch_copy(t->s, name);
    k->value = value;
    t->list[t->count++] = k;
}

static void histogram_add(void *to, const char *name, const struct histogram *h)
{
    struct counters *t = to;
    if (t->histogram_count == HISTOGRAMS_MAX)
        return;
    Qsm__Histogram *k = session_arena_need(&t->s->scratch, sizeof(*k));
    qsm__histogram__init(k);
    k->name = scratch_copy(t->s, name);
    k->count = h->count;
    k->sum = h->sum;
    k->max = h->max;
    k->up_to = session_arena_need(&t->s->scratch, HISTOGRAM_BUCKETS * sizeof(k->up_to[0]));
    k->counts = session_arena_need(&t->s->scratch, HISTOGRAM_BUCKETS * sizeof(k->counts[0]));
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (h->buckets[i] == 0)
            continue;
        k->up_to[k->n_up_to++] = histogram_up_to(i);
        k->counts[k->n_counts++] = h->buckets[i];
    }
    t->histograms[t->histogram_count++] = k;
}

static struct session_gauges gauges(const struct session *s)
{
    struct session_gauges g = {
        .clients = s->client_count,
        .clients_max = s->config.clients_max,
        .client_groups = s->use_count,
        .client_output_bytes_cap = s->config.queue_bytes,
        .client_latest_bytes = s->late_bytes,
        .client_granted_extra = s->purse.extra,
        .client_granted_extra_max = GRANT_EXTRA_MAX,
        .client_granted = s->purse.used[GRANT_SMALL] + s->purse.used[GRANT_LARGE],
        .client_granted_max = s->purse.max[GRANT_SMALL] + s->purse.max[GRANT_LARGE],
        .client_granted_large = s->purse.used[GRANT_LARGE],
        .client_granted_large_max = s->purse.max[GRANT_LARGE],
    };
    const struct client *c;
    const struct use *u;
    TAILQ_FOREACH (u, &s->wanting, outbox->wanting)
        g.client_grants_waiting++;
    TAILQ_FOREACH (c, &s->waiting, waiting)
        g.client_output_bytes += c->out.bytes;
    return g;
}

/* To count walks through all groups, which all clients wait for. */
static uint64_t state_bytes(struct session *s, uint64_t groups)
{
    if (groups != s->state_groups || s->now_us >= s->state_us + groups * STATE_US_PER_GROUP) {
        s->state_bytes = node_group_bytes(s->node) + locals_bytes(s);
        s->state_groups = groups;
        s->state_us = s->now_us;
    }
    return s->state_bytes;
}

static void answer_stats(struct client *c, const Qsm__Ask *m)
{
    struct session *s = c->s;
    struct counters t = {.s = s};
    const struct node_stats *n = node_stats(s->node);

    session_arena_reset(&s->scratch, SCRATCH_ARENA_MAX);
#define X(name, text) counter_add(&t, #name, n->name);
    NODE_COUNTERS(X)
    NODE_GAUGES(X)
#undef X
#define X(name, text) counter_add(&t, #name, s->stats.name);
    SESSION_COUNTERS(X)
#undef X
    struct session_gauges g = gauges(s);
    g.groups_known = node_group_count(s->node);
    g.group_state_bytes = state_bytes(s, g.groups_known);
#define X(name, text) counter_add(&t, #name, g.name);
    SESSION_GAUGES(X)
#undef X
    if (s->config.shell_counters)
        s->config.shell_counters(s->config.ctx, counter_add, &t);
#define X(name, text) histogram_add(&t, #name, &s->stats.name);
    SESSION_HISTOGRAMS(X)
#undef X
#define X(name, text) histogram_add(&t, #name, &n->name);
    NODE_HISTOGRAMS(X)
#undef X
    if (s->config.shell_histograms)
        s->config.shell_histograms(s->config.ctx, histogram_add, &t);
    Qsm__StatsList list = QSM__STATS_LIST__INIT;
    list.request = m->request;
    list.n_counter = t.count;
    list.counter = t.list;
    list.n_histogram = t.histogram_count;
    list.histogram = t.histograms;
    Qsm__ToClient out = QSM__TO_CLIENT__INIT;
    out.what_case = QSM__TO_CLIENT__WHAT_STATS;
    out.stats = &list;
    out_control(c, &out);
}

void info_watch(struct session *s)
{
    if (!session_traced(s) || s->now_us < s->watch_us)
        return;
    const struct node_stats *n = node_stats(s->node);
    const struct session_gauges g = gauges(s);
    const struct {
        const char *name;
        uint64_t value, max;
    } watched[WATCHED_MAX] = {
        {"store_bytes", n->store_bytes, n->store_bytes_max},
        {"relay_acks", n->relay_acks, n->relay_acks_max},
        {"reassembly_bytes", n->reassembly_bytes, n->reassembly_bytes_max},
        {"held_packets", n->held_packets, n->held_packets_max},
        {"repair_queue", n->repair_queue, n->repair_queue_max},
        {"clients", g.clients, g.clients_max},
        {"client_granted", g.client_granted, g.client_granted_max},
    };
    for (size_t i = 0; i < WATCHED_MAX; i++) {
        if (watched[i].value <= s->peaks[i])
            continue;
        s->peaks[i] = watched[i].value;
        session_trace(s, "full name=%s value=%llu max=%llu", watched[i].name,
                      (unsigned long long)watched[i].value, (unsigned long long)watched[i].max);
    }
    s->watch_us = s->now_us + WATCH_US;
}

/* ---- status */
struct facts {
    struct session *s;
    uint32_t count;
    Qsm__Fact *list[FACTS_MAX];
};

static void fact_add(void *to, const char *name, const char *value)
{
    struct facts *t = to;
    if (t->count == FACTS_MAX)
        return;
    Qsm__Fact *f = session_arena_need(&t->s->scratch, sizeof(*f));
    qsm__fact__init(f);
    f->name = scratch_copy(t->s, name);
    f->value = scratch_copy(t->s, value);
    t->list[t->count++] = f;
}

/* What is counted by going through everything. */
struct census {
    uint32_t groups, regions, count, room;
    uint32_t *nodes; /* owned; with repeats until sorted */
};

static void census_group(void *ctx, const struct node_group_info *g)
{
    struct census *t = ctx;
    (void)g;
    t->groups++;
}

static void census_region(void *ctx, const struct node_region_info *r)
{
    struct census *t = ctx;
    t->regions++;
    if (t->count + r->member_count > t->room) {
        t->room = (t->count + r->member_count) * 2;
        t->nodes = session_grow(t->nodes, t->room, sizeof(*t->nodes));
    }
    if (r->member_count > 0)
        memcpy(t->nodes + t->count, r->members, r->member_count * sizeof(*t->nodes));
    t->count += r->member_count;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* A node is in one region; while regions are being mapped anew it may look like two. */
static uint32_t census_nodes(struct census *t, uint32_t self)
{
    uint32_t distinct = 0;
    bool seen = self == 0;
    if (t->count > 0)
        qsort(t->nodes, t->count, sizeof(*t->nodes), compare_ids);
    for (uint32_t i = 0; i < t->count; i++) {
        distinct += i == 0 || t->nodes[i] != t->nodes[i - 1];
        seen = seen || t->nodes[i] == self;
    }
    return distinct + !seen;
}

static void answer_status(struct client *c, const Qsm__Ask *m)
{
    struct session *s = c->s;
    struct facts facts = {.s = s};
    struct census census = {0};

    session_arena_reset(&s->scratch, SCRATCH_ARENA_MAX);
    node_each_group(s->node, census_group, &census);
    node_each_region(s->node, census_region, &census);
    if (s->config.shell_facts)
        s->config.shell_facts(s->config.ctx, fact_add, &facts);
    Qsm__NodeStatus n = QSM__NODE_STATUS__INIT;
    n.request = m->request;
    n.host = scratch_copy(s, host_name(s));
    n.node_id = node_id(s->node);
    n.epoch = node_epoch(s->node);
    n.linked = node_linked(s->node);
    n.nodes = census_nodes(&census, n.node_id);
    n.groups = census.groups;
    n.regions = census.regions;
    n.clients = s->client_count;
    n.version = (char *)(uintptr_t)(s->config.version ? s->config.version : "");
    n.n_fact = facts.count;
    n.fact = facts.list;
    free(census.nodes);
    Qsm__ToClient out = QSM__TO_CLIENT__INIT;
    out.what_case = QSM__TO_CLIENT__WHAT_STATUS;
    out.status = &n;
    out_control(c, &out);
}

int info_answer(struct client *c, const Qsm__Ask *m)
{
    switch (m->question) {
    case QSM__QUESTION__STATUS:
        answer_status(c, m);
        return 0;
    case QSM__QUESTION__GROUPS:
        answer_groups(c, m);
        return 0;
    case QSM__QUESTION__REGIONS:
        answer_regions(c, m);
        return 0;
    case QSM__QUESTION__STATS:
        answer_stats(c, m);
        return 0;
    default:
        out_result(c, m->request, -EOPNOTSUPP, "this daemon does not know the question");
        return 0;
    }
}
