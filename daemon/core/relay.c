/* relay: see relay.h. */
#include <stdlib.h>
#include <string.h>
#include "relay.h"

#define HOLD_SHARE 4 /* of token_min_interval */

/* What waits for one sender; never nothing. */
struct relay_sender {
    UT_hash_handle hh;
    struct relay *relay; /* not owned */
    uint32_t sender;     /* node id */
    uint32_t count, room;
    struct wire_ack *list; /* owned */
    struct timer due;
    struct source source;
};

static bool build_acks(void *ctx, struct datagram *ret);

void relay_init(struct relay *re, struct context *ctx, const struct peers *peers)
{
    *re = (struct relay){.ctx = ctx, .peers = peers};
    ctx->stats.relay_acks_max = RELAY_ACKS_MAX;
}

static void forget(struct relay_sender *rs)
{
    struct context *c = rs->relay->ctx;
    HASH_DEL(rs->relay->senders, rs);
    c->stats.relay_acks -= rs->count;
    timer_cancel(&c->timers, &rs->due);
    source_dry(c, &rs->source);
    free(rs->list);
    free(rs);
}

void relay_done(struct relay *re)
{
    struct relay_sender *rs, *next;
    HASH_ITER (hh, re->senders, rs, next) {
        forget(rs);
    }
}

bool relay_may(const struct wire_ack *a)
{
    return a->round != 0 && a->lack_count == 0;
}

static void due(void *ctx, uint64_t now_us)
{
    struct relay_sender *rs = ctx;
    (void)now_us;
    source_ready(rs->relay->ctx, &rs->source);
}

/* The first of a batch sets the time at which it goes. Regions that were asked together answer
 * together, so a part of the least time between two ACKs of one region gathers most of them, and
 * delays none so much that the sender's window has to be larger for it. */
static struct relay_sender *sender_of(struct relay *re, uint32_t sender)
{
    struct relay_sender *rs;
    struct context *c = re->ctx;
    HASH_FIND(hh, re->senders, &sender, sizeof sender, rs);
    if (rs != NULL) {
        return rs;
    }
    rs = context_alloc(1, sizeof *rs);
    rs->relay = re;
    rs->sender = sender;
    timer_init(&rs->due, due, rs);
    source_init(&rs->source, OUT_TOKEN, build_acks, rs);
    timer_arm(&c->timers, &rs->due, c->now_us + c->config.token_min_interval_us / HOLD_SHARE);
    HASH_ADD(hh, re->senders, sender, sizeof rs->sender, rs);
    return rs;
}

static struct wire_ack *find(struct relay_sender *rs, uint32_t rid)
{
    for (uint32_t i = 0; i < rs->count; i++) {
        if (rs->list[i].channel.rid == rid) {
            return &rs->list[i];
        }
    }
    return NULL;
}

static bool is_newer(const struct wire_ack *a, const struct wire_ack *than)
{
    if (a->channel.epoch != than->channel.epoch) {
        return a->channel.epoch > than->channel.epoch;
    }
    return a->round > than->round;
}

void relay_take(struct relay *re, const struct wire_ack *a)
{
    struct context *c = re->ctx;
    if (!relay_may(a) || peers_find(re->peers, a->channel.sender) == NULL) {
        c->stats.packets_dropped_unknown++;
        return;
    }
    if (c->stats.relay_acks >= RELAY_ACKS_MAX) {
        c->stats.packets_dropped_full++;
        return;
    }
    struct relay_sender *rs = sender_of(re, a->channel.sender);
    struct wire_ack *known = find(rs, a->channel.rid);
    if (known != NULL) {
        context_mark(c, MARK_ack_replaced);
        *known = is_newer(a, known) ? *a : *known;
        return;
    }
    if (rs->count == RELAY_SENDER_ACKS_MAX) {
        c->stats.packets_dropped_full++;
        return;
    }
    if (rs->count == rs->room) {
        rs->room = rs->room ? rs->room * 2 : 8;
        rs->list = context_grow(rs->list, rs->room, sizeof rs->list[0]);
    }
    rs->list[rs->count++] = *a;
    c->stats.relay_acks++;
}

/* As many as fit; the rest follows at once. */
static bool build_acks(void *ctx, struct datagram *ret)
{
    struct relay_sender *rs = ctx;
    struct context *c = rs->relay->ctx;
    uint32_t address = peers_address(rs->relay->peers, rs->sender);
    if (address == 0) { /* gone meanwhile */
        forget(rs);
        return false;
    }
    uint16_t fit = wire_acks_fit(rs->list, rs->count);
    struct writer w;
    datagram_begin(c, ret, &w, WIRE_ACK, address, false);
    wire_write_acks(&w, rs->list, fit);
    datagram_end(ret, &w);
    c->stats.acks_relayed += fit;
    if (fit > 1) {
        context_mark(c, MARK_acks_combined);
    }
    c->stats.relay_acks -= fit;
    rs->count -= fit;
    memmove(rs->list, rs->list + fit, rs->count * sizeof rs->list[0]);
    if (rs->count == 0) {
        forget(rs);
    }
    return true;
}
