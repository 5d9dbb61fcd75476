/* send: feeds are pulled into channels, and what comes back. One channel is in send_channel.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "send.h"
#include "send_channel.h"

#define GROUP_OF(f) ((struct group *)(void *)((char *)(f)-offsetof(struct group, feed)))
#define TX_CHANNEL_OF(f)                                                                           \
    ((struct channel_out *)(void *)((char *)(f)-offsetof(struct channel_out, tx_feed)))

static const size_t RUN_RECORD_HEAD = WIRE_RECORD_BYTES + WIRE_NUMBER_BYTES + WIRE_RUN_BYTES;
static const size_t FULL_RECORD_HEAD = WIRE_RECORD_BYTES + WIRE_NUMBER_BYTES + WIRE_FRAGMENT_BYTES;

static bool build_data(void *ctx, struct datagram *ret);

void send_init(struct send *s, struct context *ctx, struct groups *groups, struct peers *peers)
{
    memset(s, 0, sizeof *s);
    s->ctx = ctx;
    s->groups = groups;
    s->peers = peers;
    sink_init(&s->feeds);
    sink_init(&s->tx);
    TAILQ_INIT(&s->waiting);
    source_init(&s->data, OUT_DATA, build_data, s);
}

struct channel_out *send_find(const struct send *s, uint32_t rid)
{
    struct channel_out *ch;
    HASH_FIND(hh, s->channels, &rid, sizeof rid, ch);
    return ch;
}

enum verdict { MAY_SEND, NO_ROOM, CLAIMED, PAUSED, BUSY };

/* Whether the next unit of the group may enter all its channels. */
static enum verdict may_send(const struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        const struct channel_out *ch = g->places[i].channel;
        if (g->places[i].paused) {
            return PAUSED;
        }
        if (ch == NULL) {
            continue;
        }
        if (ch->claimed && ch->busy != g) { /* what is unfinished must end first */
            return CLAIMED;
        }
        if (!send_channel_has_room(ch)) {
            return NO_ROOM;
        }
        if (g->pending.body != NULL && g->count > 1 && ch->busy != NULL && ch->busy != g) {
            return BUSY;
        }
    }
    return MAY_SEND;
}

/* Room may have opened for those who wait. */
static void reconsider(struct send *s)
{
    s->reconsider = true;
    if (!TAILQ_EMPTY(&s->waiting) || s->feeds.ready > 0) {
        source_ready(s->ctx, &s->data);
    }
}

static void seal_all(struct send *s)
{
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        send_channel_seal(ch);
    }
}

/* ---- messages */

/* Each message of the pending run by itself: here they are few, and who sent them is asked of each.
 */
static void deliver_here(struct send *s, struct group *g)
{
    struct context *c = s->ctx;
    if (!(g->installed & NODE_RECV)) {
        return;
    }
    struct delivery d = {.group = g->handle,
                         .sender = c->id,
                         .number = g->sent - g->pending.more,
                         .epoch = g->epoch,
                         .body = g->pending.body,
                         .data = g->pending.data,
                         .bytes = g->pending.bytes};
    for (; d.number <= g->sent; d.number++, d.data += d.bytes) {
        c->stats.messages_delivered++;
        if (context_traced(c)) {
            context_trace(c, "deliver g=%u s=%u n=%llu ep=%llu h=%016llx l=%u", g->gid, c->id,
                          (unsigned long long)d.number, (unsigned long long)d.epoch,
                          (unsigned long long)context_hash(d.data, d.bytes), d.bytes);
        }
        if (group_listens(g)) {
            c->up.deliver(c->up.ctx, &d);
        }
    }
}

static void units_stable(struct send *s, struct group *g)
{
    struct context *c = s->ctx;
    bool more = group_units_stable(g, group_least_stable(g));
#ifdef MUTANT_stable_said_twice
    more = g->stable > 0;
#endif
    if (more) {
        context_trace(c, "stable g=%u n=%llu", g->gid, (unsigned long long)g->stable);
        sample_end(&s->sample, g, g->stable, c->now_us, &c->stats.send_to_stable_us);
        if (g->handle != GROUP_NO_HANDLE) {
            c->up.stable(c->up.ctx, g->handle, g->stable, false);
        }
    }
}

/* How the pending message is cut: one piece when it fits, else pieces of the size that the least
 * region of the group can take. */
static void plan_pieces(struct send *s, struct group *g)
{
    uint32_t room = s->ctx->config.datagram_bytes - WIRE_OUTER_BYTES - WIRE_PACKET_BYTES;
    for (uint32_t i = 0; i < g->place_count; i++) {
        const struct channel_out *ch = g->places[i].channel;
        if (ch != NULL && send_channel_room(ch) < room) {
            room = send_channel_room(ch);
        }
    }
    g->fragment_bytes = room - (uint32_t)FULL_RECORD_HEAD;
    g->index = 0;
    g->count = g->pending.bytes <= g->fragment_bytes
                   ? 1
                   : (g->pending.bytes + g->fragment_bytes - 1) / g->fragment_bytes;
}

static void set_busy(struct group *g, struct group *who)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].channel != NULL) {
            g->places[i].channel->busy = who;
        }
    }
}

static void trace_sent(struct context *c, const struct group *g, uint64_t number,
                       const uint8_t *data)
{
    context_trace(c, "send g=%u n=%llu ep=%llu h=%016llx l=%u", g->gid, (unsigned long long)number,
                  (unsigned long long)g->epoch,
                  (unsigned long long)context_hash(data, g->pending.bytes), g->pending.bytes);
    for (uint32_t i = 0; i < g->place_count; i++) {
        const struct channel_out *ch = g->places[i].channel;
        if (ch != NULL) {
            context_trace(c, "pack r=%u v=%llu q=%llu g=%u n=%llu", ch->rid,
                          (unsigned long long)ch->view->epoch,
                          (unsigned long long)(ch->last + (ch->open != NULL)), g->gid,
                          (unsigned long long)number);
        }
    }
}

/* The pending message, or run of them, is wholly in packets. */
static void message_done(struct send *s, struct group *g)
{
    struct context *c = s->ctx;
    uint32_t more = g->pending.more;
    group_sent(g, more);
    c->stats.messages_sent += more + 1;
    sample_begin(&s->sample, g, g->sent, c->now_us);
    for (uint32_t i = 0; context_traced(c) && i <= more; i++) {
        trace_sent(c, g, g->sent - more + i, g->pending.data + (size_t)i * g->pending.bytes);
    }
    deliver_here(s, g);
    buf_unref(g->pending.body);
    g->pending.body = NULL;
    if (g->voided) {
        context_mark(c, MARK_sent_again);
    }
    if (more > 0) {
        context_mark(c, MARK_run_sent);
    }
    g->voided = false;
    if (g->count > 1) {
        set_busy(g, NULL);
        reconsider(s);
    }
}

/* The next unit of the pending message enters all its channels. Returns its bytes. */
static uint32_t put_unit(struct send *s, struct group *g)
{
    struct record rec = {.count = 1, .more = g->pending.more, .payload = g->pending.data};
    if (g->count > 1) {
        set_busy(g, g);
        rec.flags = RECORD_FRAGMENT;
        rec.index = g->index;
        rec.count = g->count;
        rec.payload += (size_t)g->index * g->fragment_bytes;
    }
    uint32_t left = g->pending.bytes - g->index * g->fragment_bytes;
    rec.payload_bytes = (uint16_t)(left < g->fragment_bytes ? left : g->fragment_bytes);
    g->unit_sent += 1 + rec.more;
    bool alone = true; /* no other node is there: stable at once */
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].channel != NULL) {
            send_channel_put(g->places[i].channel, &g->places[i], g, g->sent + 1, rec);
            alone = false;
        }
    }
    if (++g->index == g->count) {
        message_done(s, g);
        if (alone) {
            units_stable(s, g);
        }
    }
    return WIRE_RECORD_BYTES + (uint32_t)rec.payload_bytes * (rec.more + 1);
}

/* ---- the scheduler of feeds */

static void stop_waiting(struct send *s, struct group *g)
{
    if (g->waits) {
        TAILQ_REMOVE(&s->waiting, g, waiting);
        g->waits = false;
    }
}

/* "A feed passed over for want of room queues in all its channels under one ticket, the lowest goes
 * first": channels in which somebody waits for room are claimed against those behind. */
static void claim(struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].channel != NULL) {
            g->places[i].channel->claimed = true;
        }
    }
}

static void wait_for_room(struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].channel != NULL && !send_channel_has_room(g->places[i].channel)) {
            send_channel_wait(g->places[i].channel);
        }
    }
}

static struct group *first_that_waits(struct send *s)
{
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        ch->claimed = false;
    }
    struct group *g;
    TAILQ_FOREACH (g, &s->waiting, waiting) {
        enum verdict v = may_send(g);
        if (v == MAY_SEND) {
            return g;
        }
        if (v == NO_ROOM || v == CLAIMED) {
            claim(g);
            wait_for_room(g);
        }
    }
    s->reconsider = false;
    return NULL;
}

/* The feed that is first takes no further part. */
static void turn_over(struct send *s, struct group *g)
{
    if (sink_first(&s->feeds) == &g->feed) {
        s->turn_bytes = 0;
    }
    feed_dry(&s->feeds, &g->feed);
}

static void pass_over(struct send *s, struct group *g, enum verdict v)
{
    turn_over(s, g);
    TAILQ_INSERT_TAIL(&s->waiting, g, waiting);
    g->waits = true;
    if (v != NO_ROOM && v != CLAIMED) {
        return;
    }
    s->ctx->stats.window_full++;
    claim(g);
    wait_for_room(g);
}

void send_pace_due(void *ctx, uint64_t now_us)
{
    struct channel_out *ch = ctx;
    (void)now_us;
    reconsider(ch->send);
}

static struct group *next_feed(struct send *s)
{
    struct feed *f = sink_first(&s->feeds);
    if (s->turn_bytes > 0 && f != NULL && may_send(GROUP_OF(f)) == MAY_SEND) {
        return GROUP_OF(f); /* its turn is not over */
    }
    if (s->reconsider && !TAILQ_EMPTY(&s->waiting)) {
        struct group *g = first_that_waits(s);
        if (g != NULL) {
            return g;
        }
    }
    while ((f = sink_first(&s->feeds)) != NULL) {
        enum verdict v = may_send(GROUP_OF(f));
        if (v == MAY_SEND) {
            return GROUP_OF(f);
        }
        pass_over(s, GROUP_OF(f), v);
    }
    return NULL;
}

static void ran_dry(struct send *s, struct group *g)
{
    g->dry = true;
    stop_waiting(s, g);
    turn_over(s, g);
}

/* A feed has sent so many bytes: a turn is about a packet's worth, so that a group gets as much by
 * messages that come one by one as another by runs. */
static void count_turn(struct send *s, const struct group *g, uint32_t bytes)
{
    if (sink_first(&s->feeds) != &g->feed) {
        return;
    }
    s->turn_bytes += bytes;
    if (s->turn_bytes + WIRE_OUTER_BYTES + WIRE_PACKET_BYTES + FULL_RECORD_HEAD >=
        s->ctx->config.datagram_bytes) {
        sink_turn(&s->feeds);
        s->turn_bytes = 0;
    }
}

/* Bytes that the next messages of a group may take together: what is left of the packet that is
 * open, or all of another when that is little. 0: each is sent by itself, to all its regions. */
static uint32_t run_room(const struct group *g)
{
    const struct channel_out *ch = g->places[0].channel;
    if (g->place_count != 1 || ch == NULL) {
        return 0;
    }
    uint32_t whole = send_channel_room(ch), left = whole - ch->open_used;
    if (ch->open == NULL || left < whole / 8) {
        left = whole;
    }
    return left - (uint32_t)RUN_RECORD_HEAD;
}

/* One unit of one feed, or word that it is dry. False: no feed can send. */
static bool fill_one(struct send *s)
{
    struct group *g = next_feed(s);
    if (g == NULL) {
        return false;
    }
    if (g->pending.body == NULL) {
        struct context *c = s->ctx;
        if (g->handle == GROUP_NO_HANDLE || !(g->installed & NODE_SEND) ||
            !c->up.pull(c->up.ctx, g->handle, g->sent + 1, run_room(g), &g->pending)) {
            ran_dry(s, g);
            return true;
        }
        g->dry = g->pending.last; /* or until there is word of more while it is being sent */
        plan_pieces(s, g);
        if (g->count > 1 && may_send(g) != MAY_SEND) {
            return true; /* an unfinished message of another group is in the way */
        }
    }
    uint32_t bytes = put_unit(s, g);
    if (g->waits) { /* that was the begin of its turn */
        stop_waiting(s, g);
        feed_ready_first(&s->feeds, &g->feed);
        s->turn_bytes = 0;
    }
    count_turn(s, g, bytes);
    if (g->pending.body == NULL && g->dry) {
        ran_dry(s, g);
        return true;
    }
    stop_waiting(s, g);
    feed_ready(&s->feeds, &g->feed);
    return true;
}

static bool build_data(void *ctx, struct datagram *ret)
{
    struct send *s = ctx;
    struct context *c = s->ctx;
    while (s->tx.ready == 0) {
        if (!fill_one(s)) {
            seal_all(s);
            break;
        }
    }
    struct feed *f = sink_turn(&s->tx);
    if (f == NULL) {
        source_dry(c, &s->data);
        return false;
    }
    struct channel_out *ch = TX_CHANNEL_OF(f);
    const struct packet *p = store_find(&ch->store, ch->tx);
    assert(p != NULL && p->body != NULL);
    struct writer w;
    datagram_begin(c, ret, &w, WIRE_DATA, ch->view->address, true);
    wire_write_packet(&w, &(struct wire_packet){.channel = {ch->rid, ch->view->epoch, c->id},
                                                .seq = ch->tx,
                                                .rel = ch->rel,
                                                .records = p->records,
                                                .pad = p->pad});
    datagram_end(ret, &w);
    ret->body_ref = buf_ref(p->body);
    ret->body = p->data;
    ret->body_bytes = p->bytes + (uint32_t)p->pad;
    ret->head_room = p->body->data + (p->data - p->body->data) - PACKET_HEAD_BYTES;
    if (++ch->tx > ch->last) {
        feed_dry(&s->tx, &ch->tx_feed);
    }
    return true;
}

static void register_feed(struct send *s, struct group *g)
{
    if ((g->installed & NODE_SEND) && !g->waits) {
        feed_ready(&s->feeds, &g->feed);
        source_ready(s->ctx, &s->data);
    }
}

void send_ready(struct send *s, struct group *g)
{
    g->dry = false;
    register_feed(s, g);
}

void send_forget(struct send *s, struct group *g)
{
    stop_waiting(s, g);
    turn_over(s, g);
    reconsider(s);
}

void send_close(struct send *s, uint32_t rid)
{
    struct channel_out *ch = send_find(s, rid);
    if (ch == NULL) {
        return;
    }
    struct group *g, *next;
    HASH_ITER (by_name, s->groups->by_name, g, next) {
        for (uint32_t i = 0; i < g->place_count; i++) {
            if (g->places[i].channel == ch) {
                g->places[i].channel = NULL;
            }
        }
    }
    send_channel_free(s, ch);
    reconsider(s);
}

void send_done(struct send *s)
{
    struct group *g, *next_group;
    HASH_ITER (by_name, s->groups->by_name, g, next_group) {
        send_forget(s, g);
        sample_forget(&s->sample, g);
        for (uint32_t i = 0; i < g->place_count; i++) {
            g->places[i].channel = NULL;
        }
    }
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        send_channel_free(s, ch);
    }
    source_dry(s->ctx, &s->data);
}

void send_link(struct send *s, struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        struct place *p = &g->places[i];
        uint32_t others = p->view->member_count - (view_rank(p->view, s->ctx->id) != VIEW_NO_RANK);
        if (p->channel != NULL || others == 0) {
            continue;
        }
        p->channel = send_find(s, p->view->rid);
        if (p->channel == NULL) {
            p->channel = send_channel_new(s, p->view);
        }
        assert(p->channel->view == p->view);
        p->unit_stable = g->unit_sent;
    }
    if (g->pending.body != NULL && g->index == 0) {
        uint32_t before = g->fragment_bytes;
        plan_pieces(s, g); /* the regions may take other sizes now */
        if (g->fragment_bytes < before) {
            context_mark(s->ctx, MARK_smaller_pieces);
        }
    }
    if (!g->dry || g->pending.body != NULL) {
        register_feed(s, g);
    }
}

void send_settle(struct send *s, struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        g->places[i].unit_stable = g->unit_sent;
    }
    units_stable(s, g);
}

/* ---- what comes back */

static void release(struct channel_out *ch)
{
    struct context *c = ch->send->ctx;
    uint64_t before = ch->rel;
    while (ch->rel < ch->stable) {
        const struct packet *p = store_find(&ch->store, ch->rel + 1);
        assert(p != NULL && p->body != NULL);
        bool all = true;
        const struct mark *marks = packet_marks(p);
        for (uint16_t i = 0; i < p->mark_count && all; i++) {
#ifndef MUTANT_rel_at_region_stable
            all = ch->groups[marks[i].slot]->unit_stable >= marks[i].unit;
#else
            (void)marks;
#endif
        }
        if (!all) {
            break;
        }
        ch->unreleased_bytes -= p->bytes;
        c->stats.unreleased_bytes -= p->bytes;
        ch->rel++;
        if (context_traced(c)) {
            context_trace(c, "drop s=%u r=%u v=%llu q=%llu why=rel", c->id, ch->rid,
                          (unsigned long long)ch->view->epoch, (unsigned long long)ch->rel);
        }
    }
    if (ch->rel != before) {
        store_release(&ch->store, ch->rel);
        reconsider(ch->send);
        if (ch->rel == ch->last && ch->open == NULL) {
            send_channel_drop_slab(ch);
        }
        if (ch->rel == ch->last) { /* nothing else will carry it */
            source_ready(c, &ch->beacon);
            send_channel_arm_beacon(ch, BEACON_FIRST_US);
        }
    }
}

/* Units of a group up to this are stable in the region of ch. */
static void stable_in(const struct channel_out *ch, struct group *g, uint64_t unit)
{
    for (uint32_t k = 0; k < g->place_count; k++) {
        if (g->places[k].channel == ch) {
            g->places[k].unit_stable = unit;
        }
    }
}

static void stable_to(struct channel_out *ch, uint64_t stable)
{
    struct send *s = ch->send;
    struct group *moved = NULL; /* packets in a row are often of one group */
    uint64_t bytes = 0;
    while (ch->stable < stable) {
        const struct packet *p = store_find(&ch->store, ++ch->stable);
        assert(p != NULL && p->body != NULL);
        bytes += p->bytes;
        if (ch->ahead.count == 0 || !ranges_contain(&ch->ahead, ch->stable)) {
            ch->inflight_bytes -= p->bytes;
        }
        const struct mark *marks = packet_marks(p);
        for (uint16_t i = 0; i < p->mark_count; i++) {
            struct group *g = ch->groups[marks[i].slot];
            if (moved != NULL && moved != g) {
                units_stable(s, moved);
            }
            moved = g;
            stable_in(ch, g, marks[i].unit);
        }
    }
    if (moved != NULL) {
        units_stable(s, moved);
    }
    ranges_remove(&ch->ahead, 0, ch->stable);
    flight_acked(&ch->flight, ch->stable, bytes, send_window(ch), s->ctx->now_us);
    send_channel_limit(ch);
    reconsider(s);
    struct channel_out *other, *next;
    HASH_ITER (hh, s->channels, other, next) {
        release(other);
    }
}

void send_ack(struct send *s, const struct wire_ack *a)
{
    struct channel_out *ch = send_find(s, a->channel.rid);
    if (ch == NULL || ch->view->epoch != a->channel.epoch || a->channel.sender != s->ctx->id ||
        a->stable >= ch->tx || a->rel_known >= ch->tx ||
        (a->held_count > 0 && a->held[a->held_count - 1].to >= ch->tx)) {
        s->ctx->stats.packets_dropped_unknown++;
        return;
    }
    s->ctx->stats.acks_received++;
    ch->asked_us = a->round != 0 ? 0 : ch->asked_us;
    if (a->round > ch->ack_round) {
        ch->ack_round = a->round;
        ch->active = a->active ? a->active : 1;
        ch->rate = a->rate;
        ch->slowest = a->slowest;
        ch->behind = a->behind;
        send_channel_pace(ch);
        send_channel_limit(ch);
        ch->ask_after_us = ASK_FIRST_US;
        ch->ask_next_us = 0;
        reconsider(s);
    }
    if (a->rel_known > ch->rel_known) {
        ch->rel_known = a->rel_known;
    }
    if (a->stable > ch->stable) {
        stable_to(ch, a->stable);
    }
    if (a->held_count > 0) {
        send_channel_ahead(ch, a);
        reconsider(s);
    }
    if (ch->rel_known == ch->last && ch->open == NULL) {
        timer_cancel(&s->ctx->timers, &ch->beacon_timer);
    }
}

/* ---- view change */

void send_pause(struct send *s, uint32_t rid)
{
    struct channel_out *ch = send_find(s, rid);
    if (ch != NULL) {
        send_channel_seal(ch);
        ch->paused = true;
    }
    /* Where nobody else is in the region there is no channel, and yet its groups must wait. */
    struct group *g, *next;
    HASH_ITER (by_name, s->groups->by_name, g, next) {
        for (uint32_t i = 0; i < g->place_count; i++) {
            g->places[i].paused |= g->places[i].view->rid == rid;
#ifdef MUTANT_lone_not_paused
            g->places[i].paused &= g->places[i].channel != NULL;
#endif
        }
    }
}

void send_resume(struct send *s)
{
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        ch->paused = false;
        release(ch); /* what the votes proved may end in regions out of scope */
    }
    struct group *g, *next_group;
    HASH_ITER (by_name, s->groups->by_name, g, next_group) {
        for (uint32_t i = 0; i < g->place_count; i++) {
            g->places[i].paused = false;
        }
    }
    reconsider(s);
}

bool send_idle(const struct send *s)
{
    struct channel_out *ch, *next;
    HASH_ITER (hh, s->channels, ch, next) {
        if (ch->open != NULL || ch->rel_known != ch->last || ch->paused || ch->busy != NULL) {
            return false;
        }
    }
    return TAILQ_EMPTY(&s->waiting) && s->feeds.ready == 0;
}
