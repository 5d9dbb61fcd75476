/* send_channel: one channel out: its limits, its packets, its beacons. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "send_channel.h"

static bool build_beacon(void *ctx, struct datagram *ret);
static bool build_ask(void *ctx, struct datagram *ret);
static void beacon_due(void *ctx, uint64_t now_us);

/* ---- limits */

uint32_t send_channel_room(const struct channel_out *ch)
{
    return ch->datagram_bytes - PACKET_HEAD_BYTES;
}

static uint64_t at_least_one(const struct channel_out *ch, uint64_t bytes)
{
    return bytes > ch->datagram_bytes ? bytes : ch->datagram_bytes;
}

/* In flight at most a quarter of the least receive buffer divided by the active senders; a new
 * sender starts with one datagram (DESIGN section 5, Flow). */
static uint64_t inflight_share(const struct channel_out *ch)
{
    return ch->active == 0 ? ch->datagram_bytes
                           : at_least_one(ch, ch->view->rcvbuf_bytes / 4 / ch->active);
}

void send_channel_limit(struct channel_out *ch)
{
    const struct node_config *c = &ch->send->ctx->config;
    uint64_t share = inflight_share(ch);
    uint64_t window = c->window_bytes < c->pool_bytes / 2 ? c->window_bytes : c->pool_bytes / 2;

    /* And no more in flight than the receivers have shown that they take in time. */
    ch->inflight_max = share < ch->flight.window ? share : ch->flight.window;
    ch->unreleased_max = at_least_one(ch, window / (ch->active ? ch->active : 1));
}

uint64_t send_window(const struct channel_out *ch)
{
    uint64_t share = inflight_share(ch);

    return share < ch->unreleased_max ? share : ch->unreleased_max;
}

bool send_channel_has_room(const struct channel_out *ch)
{
    uint64_t more = ch->datagram_bytes + (uint64_t)ch->open_used;
#ifdef MUTANT_window_unlimited
    return ch->last - ch->rel < SEND_PACKETS_MAX;
#endif
    return pace_ready(&ch->pace, ch->send->ctx->now_us) && ch->last - ch->rel < SEND_PACKETS_MAX &&
           (ch->inflight_bytes + ch->open_used == 0 ||
            ch->inflight_bytes + more <= ch->inflight_max) &&
           (ch->unreleased_bytes + ch->open_used == 0 ||
            ch->unreleased_bytes + more <= ch->unreleased_max);
}

/* The senders share what the slowest member can take, and none takes more than rate_max. */
void send_channel_pace(struct channel_out *ch)
{
    struct context *c = ch->send->ctx;
    uint64_t most = c->config.rate_max, share = ch->rate / (ch->active ? ch->active : 1);
    uint64_t rate = share != 0 && (most == 0 || share < most) ? share : most;
    uint64_t burst = at_least_one(ch, rate / PACE_BURSTS);
    pace_set(&ch->pace, rate, burst, c->now_us);
}

void send_channel_wait(struct channel_out *ch)
{
    struct context *c = ch->send->ctx;
    if (pace_ready(&ch->pace, c->now_us)) {
        send_channel_want_token(ch);
    } else {
        timer_arm(&c->timers, &ch->pace_timer, pace_next(&ch->pace, c->now_us));
    }
}

/* Packets that all members have and that were in flight up to now. */
static bool arrived_ahead(void *ctx, uint64_t from, uint64_t to)
{
    struct channel_out *ch = ctx;
    struct context *c = ch->send->ctx;
    for (uint64_t seq = from; seq <= to; seq++) {
        const struct packet *p = store_find(&ch->store, seq);
        assert(p != NULL && p->body != NULL);
        ch->inflight_bytes -= p->bytes;
    }
    context_mark(c, MARK_window_past_gap);
    context_trace(c, "ahead s=%u r=%u v=%llu q=%llu n=%llu", c->id, ch->rid,
                  (unsigned long long)ch->view->epoch, (unsigned long long)from,
                  (unsigned long long)to);
    return true;
}

void send_channel_ahead(struct channel_out *ch, const struct wire_ack *a)
{
    for (uint16_t i = 0; i < a->held_count; i++) {
        uint64_t from = a->held[i].from > ch->stable ? a->held[i].from : ch->stable + 1;
        if (from <= a->held[i].to) {
            ranges_gaps(&ch->ahead, from, a->held[i].to, arrived_ahead, ch);
            ranges_add(&ch->ahead, from, a->held[i].to);
        }
    }
}

/* ---- beginning and end */

static int by_rid(const struct channel_out *a, const struct channel_out *b)
{
    return (a->rid > b->rid) - (a->rid < b->rid);
}

struct channel_out *send_channel_new(struct send *s, struct view *v)
{
    struct channel_out *ch = context_alloc(1, sizeof *ch);
    ch->send = s;
    ch->view = view_ref(v);
    ch->rid = v->rid;
    uint32_t own = s->ctx->config.datagram_bytes;
    ch->datagram_bytes = v->datagram_bytes < own ? v->datagram_bytes : own;
    ch->tx = 1;
    ch->ask_after_us = ASK_FIRST_US;
    store_init(&ch->store);
    flight_init(&ch->flight);
    send_channel_limit(ch);
    ranges_init(&ch->ahead);
    ch->groups = context_alloc(v->group_count, sizeof(struct group *));
    ch->started = context_alloc((v->group_count + 7) / 8, 1);
#ifdef MUTANT_number_not_carried
    memset(ch->started, 0xff, (v->group_count + 7) / 8);
#endif
    source_init(&ch->beacon, OUT_BEACON, build_beacon, ch);
    source_init(&ch->ask, OUT_BEACON, build_ask, ch);
    timer_init(&ch->beacon_timer, beacon_due, ch);
    timer_init(&ch->pace_timer, send_pace_due, ch);
    pace_init(&ch->pace, 0, 0, s->ctx->now_us);
    send_channel_pace(ch);
    HASH_ADD_INORDER(hh, s->channels, rid, sizeof ch->rid, ch, by_rid);
    s->ctx->stats.channels_out++;
    return ch;
}

void send_channel_free(struct send *s, struct channel_out *ch)
{
    struct context *c = s->ctx;
    HASH_DEL(s->channels, ch);
    source_dry(c, &ch->beacon);
    source_dry(c, &ch->ask);
    timer_cancel(&c->timers, &ch->beacon_timer);
    timer_cancel(&c->timers, &ch->pace_timer);
    feed_dry(&s->tx, &ch->tx_feed);
    c->stats.unreleased_bytes -= ch->unreleased_bytes;
    c->stats.channels_out--;
    store_done(&ch->store);
    ranges_done(&ch->ahead);
    buf_unref(ch->slab);
    if (ch->draft.mark_count > 1) {
        free(ch->draft.more);
    }
    free(ch->groups);
    free(ch->started);
    view_unref(ch->view);
    free(ch);
}

/* ---- who collects the ACKs */

static bool unreleased(const struct channel_out *ch)
{
    return ch->rel_known != ch->last;
}

/* Channels with unreleased data, by rid, form runs of at most ring_size; the leader of the first
 * region of a run collects the ACKs of all of it. Regions that this node leads itself need nobody.
 */
static void name_collectors(struct send *s)
{
    uint32_t active = 0, left = 0, collector = 0;
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        active += unreleased(ch);
    }
    HASH_ITER (hh, s->channels, ch, next) {
        ch->via = 0;
        if (active < COLLECTORS_FROM || !unreleased(ch)) {
            continue;
        }
        if (left == 0) {
            left = ch->view->ring_size;
            collector = 0;
        }
        left--;
        if (ch->view->members[0] != s->ctx->id) {
            collector = collector != 0 ? collector : ch->view->members[0];
            ch->via = collector;
        }
    }
}

void send_channel_hear_directly(struct channel_out *ch)
{
    ch->asked_us = 0;
    ch->direct_until_us = ch->send->ctx->now_us + DIRECT_FOR_US;
}

/* Whom an ASK or a BEACON names. A sender that waits for an ACK in vain names nobody for a while,
 * so that a dead collector delays one ACK in that time, and not for long. */
static uint32_t collector_of(struct channel_out *ch)
{
    struct send *s = ch->send;
    struct context *c = s->ctx;
    if (c->now_us >= s->collectors_at_us) {
        name_collectors(s);
        s->collectors_at_us = c->now_us + COLLECTORS_AGAIN_US;
    }
    if (ch->via == 0 || c->now_us < ch->direct_until_us) {
        return 0;
    }
    if (ch->asked_us == 0) {
        ch->asked_us = c->now_us;
    }
#ifndef MUTANT_collector_trusted
    if (c->now_us >= ch->asked_us + COLLECTOR_SILENT_US) {
        context_mark(c, MARK_collector_left);
        send_channel_hear_directly(ch);
        return 0;
    }
#endif
    return ch->via;
}

/* ---- tokens on demand, beacons */

void send_channel_want_token(struct channel_out *ch)
{
    struct context *c = ch->send->ctx;
    if (c->now_us < ch->ask_next_us) {
        return;
    }
    ch->ask_next_us = c->now_us + ch->ask_after_us;
    ch->ask_after_us = ch->ask_after_us * 2 < ASK_MAX_US ? ch->ask_after_us * 2 : ASK_MAX_US;
    if (!ch->send->ask_self(ch->send->ask_ctx, ch->view)) {
        source_ready(c, &ch->ask);
    }
}

static bool build_ask(void *ctx, struct datagram *ret)
{
    struct channel_out *ch = ctx;
    struct context *c = ch->send->ctx;
    source_dry(c, &ch->ask);
    bool many = view_levels(ch->view) > 1; /* leaders */
    uint32_t address =
        many ? ch->view->address : peers_address(ch->send->peers, ch->view->members[0]);
    if (address == 0) {
        return false;
    }
    struct writer w;
    datagram_begin(c, ret, &w, WIRE_ASK, address, many);
    wire_write_ask(&w, &(struct wire_ask){.rid = ch->rid,
                                          .epoch = ch->view->epoch,
                                          .level = WIRE_ASK_ALL,
                                          .via = collector_of(ch)});
    datagram_end(ret, &w);
    return true;
}

/* A sender into many regions begins them together: their ACKs must not come together for ever. */
static void arm_beacon(struct channel_out *ch, uint64_t at_us)
{
    struct context *c = ch->send->ctx;
    timer_arm(&c->timers, &ch->beacon_timer,
              at_us + context_random(c) % (ch->beacon_after_us / 4 + 1));
}

void send_channel_arm_beacon(struct channel_out *ch, uint64_t after_us)
{
#ifdef MUTANT_no_tail_beacon
    (void)after_us;
    (void)ch;
#else
    ch->beacon_after_us = after_us;
    arm_beacon(ch, ch->send->ctx->now_us + after_us);
#endif
}

/* A packet leaves: the beacon follows the last one. The timer is not armed for each, it finds out
 * that it is early. */
static void beacon_after_this(struct channel_out *ch)
{
    uint64_t from_us = ch->send->ctx->now_us + BEACON_FIRST_US;

    ch->beacon_from_us = from_us;
    ch->beacon_after_us = BEACON_FIRST_US;
    if (ch->beacon_timer.at_us > from_us + BEACON_FIRST_US / 4) { /* or it is not armed */
        send_channel_arm_beacon(ch, BEACON_FIRST_US);
    }
}

/* "A sender's beacon tells its last packet until it is stable, so the tail of a burst is never
 * lost"; it goes on until all know that rel is the last packet. */
static void beacon_due(void *ctx, uint64_t now_us)
{
    struct channel_out *ch = ctx;
    if (!unreleased(ch)) {
        return;
    }
    if (now_us < ch->beacon_from_us) {
        arm_beacon(ch, ch->beacon_from_us);
        return;
    }
    source_ready(ch->send->ctx, &ch->beacon);
    ch->send->ask_self(ch->send->ask_ctx, ch->view);
    send_channel_arm_beacon(ch, ch->beacon_after_us * 2 < BEACON_MAX_US ? ch->beacon_after_us * 2
                                                                        : BEACON_MAX_US);
}

static bool build_beacon(void *ctx, struct datagram *ret)
{
    struct channel_out *ch = ctx;
    struct context *c = ch->send->ctx;
    source_dry(c, &ch->beacon);
    struct writer w;
    datagram_begin(c, ret, &w, WIRE_BEACON, ch->view->address, true);
    wire_write_beacon(&w, &(struct wire_beacon){.channel = {ch->rid, ch->view->epoch, c->id},
                                                .last = ch->last,
                                                .rel = ch->rel,
                                                .via = collector_of(ch)});
    datagram_end(ret, &w);
    c->stats.beacons_sent++;
    return true;
}

/* ---- packets */

void send_channel_drop_slab(struct channel_out *ch)
{
    buf_unref(ch->slab);
    ch->slab = NULL;
}

/* A new packet, behind the one before, so that a train of them leaves in one piece. A channel with
 * little to send takes a buf for each: what has not left pins little else. */
static void open_packet(struct channel_out *ch)
{
    struct context *c = ch->send->ctx;
    if (ch->slab == NULL) {
        bool busy = ch->inflight_bytes >= SLAB_BYTES / 4;
        ch->slab =
            busy ? buf_pool_get(c->slabs, SLAB_BYTES) : buf_pool_get(c->bodies, ch->datagram_bytes);
        ch->slab_used = 0;
    }
    ch->open = ch->slab->data + ch->slab_used + PACKET_HEAD_BYTES;
}

/* Packets that follow each other leave as a train when they are of one size: who is nearly full is
 * made as large as the others. */
static uint32_t padding(const struct channel_out *ch)
{
    uint32_t room = send_channel_room(ch);
    uint32_t missing = room - ch->open_used;
    return missing <= room / 8 ? missing : 0;
}

/* full: another packet follows at once. */
static void seal(struct channel_out *ch, bool full)
{
    if (ch->open == NULL) {
        return;
    }
    struct send *s = ch->send;
    struct context *c = s->ctx;
    struct packet *p = store_put(&ch->store, ++ch->last, buf_ref(ch->slab), ch->open,
                                 (uint16_t)ch->open_used, ch->open_records);
    p->mark_count = ch->draft.mark_count;
    if (p->mark_count > 1) {
        p->more = ch->draft.more;
    } else {
        p->mark = ch->draft.mark;
    }
    ch->draft.mark_count = 0;
    p->pad = full ? (uint16_t)padding(ch) : 0;
    memset(ch->open + ch->open_used, 0, p->pad);
    ch->open = NULL;
    ch->slab_used += PACKET_HEAD_BYTES + ch->open_used + p->pad;
    if (ch->slab->size - ch->slab_used < ch->datagram_bytes) {
        send_channel_drop_slab(ch);
    }
    ch->inflight_bytes += ch->open_used;
    flight_sent(&ch->flight, ch->last, c->now_us);
    pace_spend(&ch->pace, ch->open_used + (uint64_t)p->pad, c->now_us);
    ch->unreleased_bytes += ch->open_used;
    c->stats.unreleased_bytes += ch->open_used;
    ch->open_used = 0;
    ch->open_records = 0;
    c->stats.packets_sent++;
    feed_ready(&s->tx, &ch->tx_feed);
    source_ready(c, &s->data);
    beacon_after_this(ch);
    if (ch->inflight_bytes * 4 >= ch->inflight_max ||
        ch->unreleased_bytes * 4 >= ch->unreleased_max) {
        send_channel_want_token(ch);
    }
    if (context_traced(c)) {
        context_trace(c, "take s=%u r=%u v=%llu q=%llu", c->id, ch->rid,
                      (unsigned long long)ch->view->epoch, (unsigned long long)ch->last);
        context_trace(c, "next s=%u r=%u v=%llu q=%llu", c->id, ch->rid,
                      (unsigned long long)ch->view->epoch, (unsigned long long)ch->last);
    }
}

void send_channel_seal(struct channel_out *ch)
{
    seal(ch, false);
}

/* Puts one record into the packet that is open, a new one when it does not fit. */
void send_channel_put(struct channel_out *ch, const struct place *place, struct group *g,
                      uint64_t number, struct record rec)
{
    uint8_t bit = (uint8_t)(1u << (place->slot % 8));
    rec.slot = place->slot;
    rec.number = number;
    if (rec.flags & RECORD_FRAGMENT || !(ch->started[place->slot / 8] & bit)) {
        rec.flags |= RECORD_NUMBER;
        ch->started[place->slot / 8] |= bit;
    }
    if (rec.more > 0) {
        rec.flags |= RECORD_RUN;
    }
    size_t bytes = wire_record_bytes(rec.flags, (size_t)rec.payload_bytes * (rec.more + 1));
    if (ch->open != NULL && ch->open_used + bytes > send_channel_room(ch)) {
        seal(ch, true);
    }
    if (ch->open == NULL) {
        open_packet(ch);
    }
    struct writer w = {.at = ch->open + ch->open_used, .end = ch->open + send_channel_room(ch)};
    wire_write_record(&w, &rec);
    assert(!w.bad);
    ch->open_used += (uint32_t)bytes;
    ch->open_records++;
    bool ascending = store_mark(&ch->draft, place->slot, number, number + rec.more, g->unit_sent);
    assert(ascending);
    ch->groups[place->slot] = g;
    if (ch->open_records == UINT16_MAX) {
        send_channel_seal(ch);
    }
}
