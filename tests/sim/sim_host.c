/* sim_host: a host: its node, started, crashed and started again, and the turn of DESIGN section 3:
 * sockets first, in the order of their classes, then timers, applications, and what can leave. */
#include "sim.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DATA_PER_TURN 16
#define FIRST_ADDRESS 0x0a000001u
#define WIRE_BACKLOG_US 1000u /* a socket's send buffer, as time on the wire */
#define WAKEUP_US 5u          /* from an arrival to the turn */

void host_init(struct sim *s, uint32_t index)
{
    struct host *h = &s->hosts[index];
    h->sim = s;
    h->index = index;
    h->address = FIRST_ADDRESS + index;
    h->wake_us = UINT64_MAX;
    h->receive_cost_us = 5;
    h->buffer_share = 1;
    h->config = s->config.node;
    h->random.state = s->config.seed * UINT64_C(0x2545f4914f6cdd1d) + index;
    snprintf(h->name, sizeof(h->name), "p%u", index);
    app_init(h);
}

bool host_up(const struct host *h)
{
    return h->node != NULL;
}

struct host *host_at(struct sim *s, uint32_t address)
{
    uint32_t index = address - FIRST_ADDRESS;
    return index < s->config.hosts ? &s->hosts[index] : NULL;
}

/* ---- start and end */

static void count_node(struct host *h)
{
    const struct node_stats *st = node_stats(h->node);
    struct sim_counts *c = &h->sim->counts;
    c->repairs_cachers += st->repairs_from_cachers;
    c->repairs_holders += st->repairs_from_holders;
    c->repairs_sender += st->repairs_from_sender;
    c->repairs_flush += st->repairs_from_flush;
    c->deliveries += st->messages_delivered;
    for (int i = 0; i < MARKS_COUNT; i++)
        c->marks[i] += st->marks[i];
    c->node_us += h->sim->now_us - h->booted_us;
}

static void go_down(struct host *h)
{
    count_node(h);
    node_free(h->node);
    h->node = NULL;
    h->listen = 0;
    h->stopping = h->muffled = false;
    h->paused_until_us = 0;
    h->wake_us = UINT64_MAX;
    for (int net = 0; net < NET_CLASSES; net++)
        queue_clear(&h->queues[net]);
    app_reset(h);
}

void host_done(struct host *h)
{
    if (h->node)
        go_down(h);
}

void host_boot(struct host *h)
{
    struct sim *s = h->sim;
    assert(!h->node);
    struct upcalls up = app_upcalls(h);
    h->boots++;
    h->config.name = h->name;
    h->config.address = h->address;
    h->config.seed = rng_next(&h->random);
    h->booted_us = s->now_us;
    h->busy_until_us = s->now_us;
    for (int net = 0; net < NET_CLASSES; net++)
        h->queues[net].bytes_max = (uint64_t)((double)h->config.rcvbuf_bytes * h->buffer_share);
    memset(h->peaks, 0, sizeof(h->peaks));
    sim_trace(s, h->name, "boot");
    app_boot(h);
    h->node = node_new(&h->config, &up, s->now_us);
    assert(h->node);
    simlink_try(s, h, 0);
    host_wake(h, s->now_us);
}

void host_crash(struct host *h, bool silent)
{
    struct link *l = h->link;
    sim_trace(h->sim, h->name, "crash");
    if (l && silent)
        l->node_up = false;
    else if (l)
        simlink_close(h->sim, l, true);
    h->link = NULL;
    go_down(h);
}

void host_stop(struct host *h)
{
    h->stopping = true;
    node_stop(h->node, h->sim->now_us);
    host_wake(h, h->sim->now_us);
}

static void resume(struct sim *s, void *ctx, uint64_t boots)
{
    struct host *h = ctx;
    if (h->node && h->boots == boots && s->now_us >= h->paused_until_us)
        host_wake(h, s->now_us);
}

void host_pause(struct host *h, uint64_t until_us)
{
    h->paused_until_us = until_us;
    sim_at(h->sim, until_us, resume, h, h->boots);
}

/* ---- the turn */

static void host_turn(struct host *h);

static void wake_due(struct sim *s, void *ctx, uint64_t at_us)
{
    struct host *h = ctx;
    if (!h->node || s->ending || h->wake_us != at_us)
        return; /* down, or another turn was arranged since */
    h->wake_us = UINT64_MAX;
    if (s->now_us >= h->paused_until_us)
        host_turn(h);
}

void host_wake(struct host *h, uint64_t at_us)
{
    if (!h->node || h->sim->ending)
        return;
    if (at_us < h->busy_until_us)
        at_us = h->busy_until_us;
    if (at_us < h->sim->now_us + WAKEUP_US)
        at_us = h->sim->now_us + WAKEUP_US;
    if (at_us >= h->wake_us)
        return;
    h->wake_us = at_us;
    sim_at(h->sim, at_us, wake_due, h, at_us);
}

/* Who gives the CMS up waits before it is back: it may try other servers first. */
static void drop_link(struct host *h, bool given_up)
{
    simlink_close(h->sim, h->link, true);
    h->link = NULL;
    node_link_down(h->node, h->sim->now_us);
    simlink_try(h->sim, h, given_up ? rng_range(&h->sim->random, 20 * SIM_MS, SIM_S) : 0);
}

static void read_link(struct host *h)
{
    struct link *l = h->link;
    if (!l)
        return;
    if (!l->node_told) {
        l->node_told = true;
        node_link_up(h->node, h->sim->now_us);
    }
    struct pipe *p = &l->pipes[TO_NODE];
    if (p->arrived_count) {
        int bad = node_link_receive(h->node, p->arrived, p->arrived_count, h->sim->now_us);
        p->arrived_count = 0;
        if (bad < 0)
            sim_fail(h->sim, "LINK: %s refuses bytes of the CMS: %d", h->name, bad);
    }
    bool reset = node_link_reset(h->node);
    if (p->fin || reset)
        drop_link(h, reset);
}

static void write_link(struct host *h)
{
    struct link *l = h->link;
    uint8_t bytes[16384];
    if (!l)
        return;
    for (size_t n; l->pipes[TO_CMS].in_flight < LINK_IN_FLIGHT_MAX;) {
        n = node_link_pull(h->node, bytes, sizeof(bytes), h->sim->now_us);
        if (!n)
            break;
        simlink_send(h->sim, l, TO_CMS, bytes, n);
    }
    if (node_link_reset(h->node))
        drop_link(h, true);
}

static unsigned drain(struct host *h, enum net_class net, unsigned max)
{
    unsigned n = 0;
    for (struct parcel *p; n < max && (p = queue_take(&h->queues[net])) != NULL; n++) {
        /* Every other one lands where it may be kept. */
        struct buf *landing = p->bytes % 2 ? buf_copy(p->data, p->bytes) : NULL;
        node_receive(h->node, net, landing ? landing->data : p->data, p->bytes, landing,
                     h->sim->now_us);
        buf_unref(landing);
        h->busy_until_us += h->receive_cost_us;
        parcel_unref(p);
    }
    return n;
}

static void pull(struct host *h)
{
    struct sim *s = h->sim;
    struct datagram d;
    for (;;) {
        bool full = h->wire_until_us > s->now_us + WIRE_BACKLOG_US;
        if (!node_pull(h->node, full ? NET_REPAIR : NET_DATA, &d, s->now_us))
            break;
        net_send(s, h, &d);
        buf_unref(d.body_ref);
        h->busy_until_us += 2;
    }
    if (h->wire_until_us > s->now_us + WIRE_BACKLOG_US)
        host_wake(h, h->wire_until_us - WIRE_BACKLOG_US / 2);
}

/* Says `full` when a queue or pool stands higher than ever in this life (S12). */
static void watch_gauges(struct host *h)
{
    const struct node_stats *st = node_stats(h->node);
    const struct {
        const char *name;
        uint64_t value, max;
    } gauges[] = {
        {"store_bytes", st->store_bytes, st->store_bytes_max},
        {"relay_acks", st->relay_acks, st->relay_acks_max},
        {"reassembly_bytes", st->reassembly_bytes, st->reassembly_bytes_max},
        {"held_packets", st->held_packets, st->held_packets_max},
        {"repair_queue", st->repair_queue, st->repair_queue_max},
    };
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
        if (gauges[i].value <= h->peaks[i])
            continue;
        h->peaks[i] = gauges[i].value;
        sim_trace(h->sim, h->name, "full name=%s value=%llu max=%llu", gauges[i].name,
                  (unsigned long long)gauges[i].value, (unsigned long long)gauges[i].max);
    }
    h->gauges_us = h->sim->now_us + 5 * SIM_MS;
}

static void tell_load(struct host *h)
{
    const struct queue *q = &h->queues[NET_DATA];
    node_load(h->node, h->drops, (uint32_t)(q->bytes * 1000 / q->bytes_max));
    h->load_us = h->sim->now_us + 100 * SIM_MS;
}

static void host_turn(struct host *h)
{
    struct sim *s = h->sim;
    h->busy_until_us = s->now_us;
    if (s->now_us >= h->load_us && h->queues[NET_DATA].count)
        tell_load(h);
    read_link(h);
    drain(h, NET_CONTROL, UINT32_MAX);
    drain(h, NET_REPAIR, UINT32_MAX);
    while (drain(h, NET_DATA, DATA_PER_TURN) && h->busy_until_us < s->now_us + 50 * SIM_MS)
        continue;
    if (node_deadline(h->node) <= s->now_us)
        node_expire(h->node, s->now_us);
    app_turn(h);
    pull(h);
    write_link(h);
    h->listen = node_listen_address(h->node);
    if (s->now_us >= h->gauges_us)
        watch_gauges(h);
    if (h->stopping && node_stopped(h->node)) {
        write_link(h);
        host_crash(h, false);
        return;
    }
    uint64_t at = h->queues[NET_DATA].count ? s->now_us : node_deadline(h->node);
    if (at != UINT64_MAX)
        host_wake(h, at);
}
