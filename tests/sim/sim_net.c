/* sim_net: datagrams on the modelled network: who hears a multicast, what is lost, late, doubled or
 * out of order, and the bounded receive queues, where the paper's losses happen. */
#include "sim.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define STORM 100000u /* drops at full queues that no seed has a reason for */

void parcel_unref(struct parcel *p)
{
    if (--p->refs == 0)
        free(p);
}

/* ---- receive queues */

/* A kernel charges more than the bytes of a datagram. */
static uint64_t weight(const struct parcel *p)
{
    return p->bytes + 400;
}

struct parcel *queue_take(struct queue *q)
{
    if (!q->count)
        return NULL;
    struct parcel *p = q->ring[q->head];
    q->head = (q->head + 1) % q->room;
    q->count--;
    q->bytes -= weight(p);
    return p;
}

void queue_clear(struct queue *q)
{
    for (struct parcel *p; (p = queue_take(q)) != NULL;)
        parcel_unref(p);
    free(q->ring);
    q->ring = NULL;
    q->room = q->head = 0;
}

/* False: full, the datagram is lost. An empty queue takes any one, as a kernel's does. */
static bool queue_put(struct queue *q, struct parcel *p)
{
    if (q->count && q->bytes + weight(p) > q->bytes_max)
        return false;
    if (q->count == q->room) {
        size_t room = q->room ? q->room * 2 : 16;
        struct parcel **ring = malloc(room * sizeof(struct parcel *));
        assert(ring);
        for (size_t i = 0; i < q->count; i++)
            ring[i] = q->ring[(q->head + i) % q->room];
        free(q->ring);
        q->ring = ring;
        q->head = 0;
        q->room = room;
    }
    q->ring[(q->head + q->count++) % q->room] = p;
    q->bytes += weight(p);
    return true;
}

/* ---- on the way */

bool net_reachable(const struct sim *s, uint8_t from, uint8_t to)
{
    return !(s->blocked[from] >> to & 1);
}

static enum wire_kind kind_of(const struct parcel *p)
{
    struct reader r = {.at = p->data, .end = p->data + p->bytes};
    struct wire_outer outer = {0};
    wire_read_outer(&r, 0, &outer); /* whose cluster it is of does not matter */
    return outer.kind;
}

static void arrive(struct sim *s, void *ctx, uint64_t arg)
{
    struct parcel *p = ctx;
    struct host *to = &s->hosts[arg];
    if (!to->node || !net_reachable(s, s->hosts[p->from].side, to->side)) {
        parcel_unref(p);
        return;
    }
    if (!queue_put(&to->queues[p->net], p)) {
        to->drops += p->net == NET_DATA;
        if (++s->counts.overruns == STORM)
            sim_fail(s, "STORM: %u datagrams dropped at full queues", STORM);
        parcel_unref(p);
        return;
    }
    host_wake(to, s->now_us);
}

#define DROP_EVERY_US (1 * SIM_S)
#define DROP_FOR_US (10 * SIM_MS)

static bool is_lost(struct sim *s, const struct parcel *p, struct host *to)
{
    const struct net_model *m = &s->net;
    if (to->drop_phase_us && (s->now_us - to->drop_phase_us) % DROP_EVERY_US < DROP_FOR_US) {
        s->counts.perturbed++;
        return true;
    }
    if (m->token_loss > 0 && rng_chance(&s->random, m->token_loss) &&
        (kind_of(p) == WIRE_TOKEN || kind_of(p) == WIRE_TOKEN_ACK)) {
        s->counts.tokens_lost++;
        return true;
    }
    if (s->now_us >= to->burst_until_us && rng_chance(&s->random, m->burst))
        to->burst_until_us = s->now_us + rng_range(&s->random, 1, m->burst_us);
    if (s->now_us < to->burst_until_us && rng_chance(&s->random, m->burst_loss)) {
        s->counts.burst_lost++;
        return true;
    }
    if (rng_chance(&s->random, m->loss)) {
        s->counts.lost++;
        return true;
    }
    return false;
}

static void deliver(struct sim *s, struct parcel *p, struct host *to, uint64_t left_us)
{
    const struct net_model *m = &s->net;
    uint64_t at = left_us + m->delay_us + rng_below(&s->random, m->jitter_us + 1);
    if (m->late_data_us && p->net != NET_CONTROL)
        at += rng_below(&s->random, m->late_data_us);
    if (rng_chance(&s->random, m->reorder)) {
        s->counts.reordered++;
        at += rng_range(&s->random, 1, m->reorder_us);
    }
    if (rng_chance(&s->random, m->spike)) {
        s->counts.delayed++;
        at += rng_range(&s->random, 1, m->spike_us);
    }
    p->refs++;
    sim_at(s, at, arrive, p, to->index);
}

static void send_to(struct sim *s, struct parcel *p, struct host *to, uint64_t left_us)
{
    struct sim_look look = {p->from, to->index, p};
    if (!net_reachable(s, s->hosts[p->from].side, to->side))
        return;
    if (s->hosts[p->from].muffled && !to->hears)
        return;
    if (s->filter && s->filter(s->filter_ctx, &look))
        return;
    if (p->net != NET_CONTROL && p->bytes > to->config.datagram_bytes)
        return; /* its link has a smaller MTU */
    if (++s->sent == s->lose)
        return;
    if (to->deaf && p->net != NET_CONTROL)
        return;
    if (is_lost(s, p, to))
        return;
    deliver(s, p, to, left_us);
    if (rng_chance(&s->random, s->net.duplicate)) {
        s->counts.duplicated++;
        deliver(s, p, to, left_us);
    }
}

void net_send(struct sim *s, struct host *from, const struct datagram *d)
{
    uint32_t bytes = d->head_bytes + d->body_bytes;
    struct parcel *p = malloc(sizeof(*p) + bytes);
    assert(p);
    p->refs = 1;
    p->bytes = bytes;
    p->net = d->net;
    p->from = from->index;
    memcpy(p->data, d->head, d->head_bytes);
    if (d->head_room) { /* what lies there must be nobody's */
        memcpy(d->head_room, d->head, d->head_bytes);
        assert(d->head_room + d->head_bytes == d->body);
    }
    if (d->body_bytes)
        memcpy(p->data + d->head_bytes, d->body, d->body_bytes);
    if (from->wire_until_us < s->now_us)
        from->wire_until_us = s->now_us;
    if (s->net.bytes_per_us)
        from->wire_until_us += (bytes + 42) / s->net.bytes_per_us;
    struct host *one = d->multicast ? NULL : host_at(s, d->address);
    if (one && one != from && one->node)
        send_to(s, p, one, from->wire_until_us);
    for (uint32_t i = 0; d->multicast && i < s->config.hosts; i++) {
        struct host *to = &s->hosts[i];
        if (to != from && to->node && to->listen == d->address)
            send_to(s, p, to, from->wire_until_us);
    }
    parcel_unref(p);
}
