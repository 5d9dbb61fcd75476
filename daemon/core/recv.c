/* recv: packets in: taken, kept, processed in order. The channels themselves are in
 * recv_channels.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "recv.h"

/* ---- delivery */

static void trace_delivery(struct context *c, const struct group *g, uint32_t sender,
                           const struct delivery *d)
{
    const uint8_t *data = d->data;
    for (uint64_t n = d->number; n <= d->number + d->more; n++, data += d->bytes) {
        context_trace(c, "deliver g=%u s=%u n=%llu ep=%llu h=%016llx l=%u", g->gid, sender,
                      (unsigned long long)n, (unsigned long long)g->epoch,
                      (unsigned long long)context_hash(data, d->bytes), d->bytes);
    }
}

/* d: number, body, data, bytes, more and lead; the rest is the group's. */
static void deliver(struct channel_in *ch, uint32_t slot, struct delivery *d)
{
    struct recv *r = ch->recv;
    struct context *c = r->ctx;
    struct group *g = r->by_slot[slot];
    struct stream *st = &ch->streams[slot];
#ifdef MUTANT_join_point
    if (st->first == 0 && st->delivered == 0 && d->number > 1) {
        st->first = st->delivered = d->number + d->more;
        return;
    }
#endif
    if (st->first == 0) {
        context_trace(c, "base g=%u s=%u n=%llu", g->gid, ch->sender,
                      (unsigned long long)(d->number - 1));
        st->first = d->number;
    }
    st->delivered = d->number + d->more;
    c->stats.messages_delivered += d->more + 1;
    if (context_traced(c)) {
        trace_delivery(c, g, ch->sender, d);
    }
    if (!group_listens(g)) {
        return;
    }
    d->group = g->handle;
    d->sender = ch->sender;
    d->epoch = g->epoch;
    c->up.deliver(c->up.ctx, d);
}

/* Adds piece index of a large message; true when it is whole now. Pieces come in order, and again
 * from the start when the message was cut off by a boundary and is sent again. */
static bool add_piece(struct channel_in *ch, uint32_t slot, uint64_t number, uint32_t index,
                      uint32_t count, const uint8_t *payload, uint16_t bytes)
{
    struct partial *pa = &ch->partial;
    struct node_stats *stats = &ch->recv->ctx->stats;
    if (index == 0) {
        recv_drop_partial(ch);
        uint64_t room = (uint64_t)count * bytes;
        if (room == 0 || room > MESSAGE_MAX + (uint64_t)WIRE_DATAGRAM_MAX) {
            stats->datagrams_malformed++;
            return false;
        }
        *pa =
            (struct partial){.body = buf_new(room), .slot = slot, .count = count, .number = number};
        stats->reassembly_bytes += pa->body->size;
    }
    if (pa->body == NULL || pa->slot != slot || pa->number != number || pa->next != index ||
        pa->count != count || pa->bytes + (uint64_t)bytes > pa->body->size) {
        return false; /* a piece of a void message */
    }
    memcpy(pa->body->data + pa->bytes, payload, bytes);
    pa->bytes += bytes;
    return ++pa->next == count;
}

static void deliver_partial(struct channel_in *ch)
{
    struct partial *pa = &ch->partial;
    deliver(
        ch, pa->slot,
        &(struct delivery){
            .number = pa->number, .body = pa->body, .data = pa->body->data, .bytes = pa->bytes});
    recv_drop_partial(ch);
}

/* lead: bytes of heads before the payload. */
static void process_record(struct channel_in *ch, struct packet *p, const struct record *rec,
                           size_t lead)
{
    struct stream *st = &ch->streams[rec->slot];
    uint64_t number = rec->number != 0 ? rec->number : st->seen + 1;
    if (st->seen != 0 && number != st->seen + 1) { /* numbers of a stream have no gaps */
        ch->recv->ctx->stats.datagrams_malformed++;
        return;
    }
    uint64_t last = number + rec->more;
    if (ch->recv->by_slot[rec->slot]->place_count > 1 &&
        !store_mark(p, rec->slot, number, last, rec->index)) {
        ch->recv->ctx->stats.datagrams_malformed++; /* within a packet they do not go back */
        return;
    }
    uint64_t told = st->delivered < number ? 0 : st->delivered - number + 1;
#ifdef MUTANT_proxy_forgotten
    told = 0;
#endif
    if (told > rec->more) { /* a proxy was faster */
        st->seen = rec->index + 1 == rec->count ? last : st->seen;
        return;
    }
    if (rec->flags & RECORD_FRAGMENT) {
        if (add_piece(ch, rec->slot, number, rec->index, rec->count, rec->payload,
                      rec->payload_bytes)) {
            st->seen = number;
            deliver_partial(ch);
        }
        return;
    }
    st->seen = last;
    deliver(ch, rec->slot,
            &(struct delivery){.number = number + told,
                               .body = p->body,
                               .data = rec->payload + told * rec->payload_bytes,
                               .bytes = rec->payload_bytes,
                               .more = rec->more - (uint32_t)told,
                               .lead = told == 0 ? (uint32_t)lead : 0});
}

static void drop_body(struct channel_in *ch, struct packet *p, const char *why)
{
    struct context *c = ch->recv->ctx;
    if (p->body == NULL) {
        return;
    }
    c->stats.store_bytes -= p->bytes;
    store_free_body(&ch->store, p);
    if (context_traced(c)) {
        context_trace(c, "drop s=%u r=%u v=%llu q=%llu why=%s", ch->sender, ch->recv->view->rid,
                      (unsigned long long)ch->recv->view->epoch, (unsigned long long)p->seq, why);
    }
}

/* Early release: those who don't cache a packet drop it once all its cachers hold it. */
static void thin_out(struct channel_in *ch)
{
    struct recv *r = ch->recv;
    uint64_t upto = ch->cached_all < ch->prefix ? ch->cached_all : ch->prefix;
    while (ch->thinned < upto) {
        struct packet *p = store_find(&ch->store, ++ch->thinned);
        bool caches = view_caches(r->view, r->rank, ch->rank, ch->thinned);
#ifdef MUTANT_cachers_discard
        caches = false;
#endif
        if (p != NULL && p->body != NULL && !caches) {
            drop_body(ch, p, "cachers");
            r->ctx->stats.bodies_freed_early++;
        }
    }
}

static void release(struct channel_in *ch)
{
    struct context *c = ch->recv->ctx;
    uint64_t upto = ch->rel < ch->prefix ? ch->rel : ch->prefix;
#ifdef MUTANT_rel_beyond_prefix
    upto = ch->rel;
#endif
    if (upto <= ch->store.base) {
        return;
    }
    for (uint64_t q = ch->store.base + 1; q <= upto && context_traced(c); q++) {
        struct packet *p = store_find(&ch->store, q);
        if (p != NULL) {
            drop_body(ch, p, "rel");
        }
    }
    c->stats.store_bytes -= ch->store.body_bytes;
    store_release(&ch->store, upto);
    c->stats.store_bytes += ch->store.body_bytes;
    if (ch->thinned < upto) {
        ch->thinned = upto;
    }
}

/* Whether this node is to keep packet seq for others. */
static bool caches(const struct channel_in *ch, uint64_t seq)
{
    const struct recv *r = ch->recv;
#ifdef MUTANT_early_release
    uint32_t first; /* it is not waited for */
    if (view_cachers(r->view, ch->rank, seq, &first, 1) == 1 && first == r->rank) {
        return false;
    }
#endif
    return view_caches(r->view, r->rank, ch->rank, seq);
}

static void advance_share(struct channel_in *ch)
{
    while (ch->share < ch->top && (recv_has(ch, ch->share + 1) || !caches(ch, ch->share + 1))) {
        ch->share++;
    }
}

/* Of all senders whose large messages are incomplete or wait, the one with the lowest id may always
 * begin. All receivers share this order, so no two senders to several regions wait for each other.
 */
static bool first_in_line(const struct channel_in *ch)
{
    struct channel_in *other, *next;
#ifdef MUTANT_reassembly_unordered
    return false;
#endif
    HASH_ITER (hh, ch->recv->channels, other, next) {
        if (other->sender < ch->sender && (other->partial.body != NULL || other->waits)) {
            return false;
        }
    }
    return true;
}

/* Whether a packet must wait since it begins a large message and incomplete ones have used up their
 * share of memory. Then the prefix stays, and the window holds the sender back. A view change does
 * not wait. */
static bool waits_for_room(const struct channel_in *ch, const struct packet *p)
{
    struct context *c = ch->recv->ctx;
    if (ch->cut || c->stats.reassembly_bytes == 0) {
        return false;
    }
    struct reader rd = {.at = p->data, .end = p->data + p->bytes};
    for (uint16_t i = 0; i < p->records; i++) {
        struct record rec;
        bool ok = wire_read_record(&rd, &rec);
        assert(ok); /* checked when it was taken */
        uint64_t whole = (uint64_t)rec.count * rec.payload_bytes;
        if (!(rec.flags & RECORD_FRAGMENT) || rec.index != 0 ||
            c->stats.reassembly_bytes + whole <= c->config.reassembly_bytes) {
            continue;
        }
        if (!first_in_line(ch)) {
            return true;
        }
        c->stats.reassembly_over++;
    }
    return false;
}

static void process_packet(struct channel_in *ch, struct packet *p)
{
    struct context *c = ch->recv->ctx;
    struct reader rd = {.at = p->data, .end = p->data + p->bytes};
    if (context_traced(c)) {
        context_trace(c, "next s=%u r=%u v=%llu q=%llu", ch->sender, ch->recv->view->rid,
                      (unsigned long long)ch->recv->view->epoch, (unsigned long long)p->seq);
    }
    ch->prefix++;
    if (ch->have.count > 0) {
        ranges_remove(&ch->have, ch->prefix, ch->prefix);
    }
    size_t heads = WIRE_OUTER_BYTES + WIRE_PACKET_BYTES; /* before its first record */
    for (uint16_t i = 0; i < p->records; i++) {
        const uint8_t *head = rd.at;
        struct record rec;
        bool ok = wire_read_record(&rd, &rec);
        assert(ok);
        process_record(ch, p, &rec, heads + (size_t)(rec.payload - head));
        heads = 0;
    }
#ifdef MUTANT_discard_at_delivery
    drop_body(ch, p, "rel");
#endif
}

static void advance(struct channel_in *ch)
{
    struct packet *p;
    ch->waits = false;
#ifdef MUTANT_gap_skipped
    if (recv_settled(ch) > ch->prefix && !ch->cut &&
        store_find(&ch->store, ch->prefix + 1) == NULL) {
        ch->prefix++;
    }
#endif
    while ((!ch->frozen || ch->prefix < ch->limit) &&
           (p = store_find(&ch->store, ch->prefix + 1)) != NULL) {
        ch->waits = waits_for_room(ch, p);
        if (ch->waits) {
            break;
        }
        process_packet(ch, p);
    }
    thin_out(ch);
    release(ch);
}

/* Room for incomplete messages was given back: others may go on. */
static void advance_all(struct recv *r)
{
    while (r->room_freed) {
        r->room_freed = false;
        struct channel_in *ch, *next;
        HASH_ITER (hh, r->channels, ch, next) {
            advance(ch);
        }
    }
}

/* ---- packets */

/* A packet out of order may go unless it was promised to others in tokens, as one that this node
 * caches. */
static bool is_expendable(const struct channel_in *ch, uint64_t seq)
{
    const struct recv *r = ch->recv;
    return seq > ch->share || !view_caches(r->view, r->rank, ch->rank, seq);
}

/* The highest such packet; 0: none. */
static uint64_t expendable(const struct channel_in *ch)
{
    for (size_t i = ch->have.count; i > 0; i--) {
        const struct range *range = &ch->have.list[i - 1];
        for (uint64_t q = range->to; q >= range->from; q--) {
            if (is_expendable(ch, q)) {
                return q;
            }
        }
    }
    return 0;
}

/* Bytes of the packets of a channel that others may have displace them, from the top; counts no
 * further than enough. */
static uint64_t expendable_bytes(const struct channel_in *ch, uint64_t enough)
{
    uint64_t bytes = 0;
    for (size_t i = ch->have.count; i > 0 && bytes < enough; i--) {
        const struct range *range = &ch->have.list[i - 1];
        for (uint64_t q = range->to; q >= range->from && bytes < enough; q--) {
            bytes += is_expendable(ch, q) ? store_find(&ch->store, q)->bytes : 0;
        }
    }
    return bytes;
}

/* Whether the pool takes what extends the prefix: it has room, or packets out of order can make it,
 * or it is the channel's only packet in order, which is taken above the cap. So every stream goes
 * on: what is in order gets released when others have it, too. */
static bool has_room(const struct channel_in *ch, size_t bytes)
{
    const struct context *c = ch->recv->ctx;
    uint64_t over = c->stats.store_bytes + bytes;
    if (over <= c->config.pool_bytes || ch->prefix == ch->store.base) {
        return true;
    }
    over -= c->config.pool_bytes;
    return expendable_bytes(ch, over) >= over;
}

bool recv_wants(const struct channel_in *ch)
{
    return has_room(ch, ch->recv->ctx->config.datagram_bytes);
}

/* Room in the pool for one more body. For what extends the prefix the highest packets out of order
 * make it, unless all of them are not enough. */
static bool make_room(struct channel_in *ch, uint64_t seq, size_t bytes)
{
    struct context *c = ch->recv->ctx;
    while (c->stats.store_bytes + bytes > c->config.pool_bytes) {
        if (seq != ch->prefix + 1 || !has_room(ch, bytes)) {
            return false;
        }
        uint64_t last = expendable(ch);
        if (last == 0) {
            return true;
        }
        struct packet *p = store_find(&ch->store, last);
        assert(p != NULL);
        drop_body(ch, p, "full");
        store_forget(&ch->store, last);
        ranges_remove(&ch->have, last, last);
        c->stats.packets_dropped_full++;
    }
    return true;
}

static void count_source(struct channel_in *ch, uint64_t seq, uint32_t from, bool repair)
{
    struct node_stats *stats = &ch->recv->ctx->stats;
    stats->packets_received++;
    if (!repair) {
        return;
    }
    uint32_t rank = view_rank(ch->recv->view, from);
    if (ch->cut) {
        stats->repairs_from_flush++;
        if (from != ch->sender && rank != VIEW_NO_RANK &&
            !view_caches(ch->recv->view, rank, ch->rank, seq)) {
            context_mark(ch->recv->ctx, MARK_cut_no_cacher);
        }
        return;
    }
    if (from == ch->sender) {
        stats->repairs_from_sender++;
    } else if (rank != VIEW_NO_RANK && view_caches(ch->recv->view, rank, ch->rank, seq)) {
        stats->repairs_from_cachers++;
    } else {
        stats->repairs_from_holders++;
    }
}

/* A packet is known to exist; whether that is news. */
static bool learn_top(struct channel_in *ch, uint64_t top)
{
#ifndef MUTANT_frozen_channel_counted
    if (ch->frozen && top > ch->limit) {
        top = ch->limit;
    }
#endif
    if (top <= ch->top) {
        return false;
    }
    if (top > ch->store.base + RECV_SPAN_MAX) { /* more than any window: not to be believed */
        ch->recv->ctx->stats.datagrams_malformed++;
        return false;
    }
    recv_settled(ch);
    if (ch->young_top <= ch->settled_top) {
        ch->young_since_us = ch->recv->ctx->now_us;
    }
    ch->top = top;
    ch->young_top = top;
    return true;
}

/* Keeps the body where it landed, or copies it when it landed in no buf. What is kept counts by its
 * bytes, and may take four times as much where it landed: not when much is kept. */
static void keep(struct channel_in *ch, const struct wire_packet *p, const uint8_t *body,
                 size_t bytes, struct buf *landing)
{
    struct context *c = ch->recv->ctx;
    if (c->stats.store_bytes > c->config.pool_bytes / 4) {
        landing = NULL;
    }
    struct buf *b = landing != NULL ? buf_ref(landing) : buf_pool_get(c->bodies, bytes);
    if (landing == NULL) {
        body = memcpy(b->data, body, bytes);
    }
    store_put(&ch->store, p->seq, b, body, (uint16_t)bytes, p->records);
    c->stats.store_bytes += bytes;
}

/* What this node caches stays long after most of what landed beside it is dropped, and takes as
 * much room as all of that. Copies a body out of there unless little is kept. */
static void copy_out(struct channel_in *ch, uint64_t seq, const struct buf *landing)
{
    const struct view *v = ch->recv->view;
    struct context *c = ch->recv->ctx;
    bool little = c->stats.store_bytes * v->member_count <= c->config.pool_bytes / 2 * v->replicas;
    if (landing == NULL || little || !caches(ch, seq)) {
        return;
    }
    struct packet *p = store_find(&ch->store, seq);
    if (p == NULL || p->body != landing) {
        return;
    }
    struct buf *b = buf_pool_get(c->bodies, p->bytes);
    p->data = memcpy(b->data, p->data, p->bytes);
    buf_unref(p->body);
    p->body = b;
}

bool recv_packet(struct recv *r, const struct wire_packet *p, const uint8_t *body, size_t bytes,
                 struct buf *landing, uint32_t from, bool repair)
{
    struct context *c = r->ctx;
    assert(r->view != NULL);
    if (p->seq == 0 || !wire_check_records(body, bytes, p->records, r->view->group_count)) {
        c->stats.datagrams_malformed++;
        return false;
    }
    struct channel_in *ch = recv_channel(r, p->channel.sender);
#ifndef MUTANT_frozen_channel_counted
    if (ch->frozen && p->seq > ch->limit) {
        c->stats.packets_dropped_unknown++;
        return false;
    }
#endif
    recv_learn(ch, 0, p->rel); /* what is released makes room in the store's span */
    if (recv_has(ch, p->seq)) {
        c->stats.packets_duplicate++;
        return false;
    }
    if (p->seq - ch->store.base > RECV_SPAN_MAX || !make_room(ch, p->seq, bytes)) {
        c->stats.packets_dropped_full++;
        return false;
    }
    if (p->seq > ch->top + 1) {
        c->stats.packets_lost += p->seq - ch->top - 1;
    }
    keep(ch, p, body, bytes, landing);
    load_took(&r->load, bytes, c->now_us);
    count_source(ch, p->seq, from, repair);
    if (context_traced(c)) {
        context_trace(c, "take s=%u r=%u v=%llu q=%llu", ch->sender, r->view->rid,
                      (unsigned long long)r->view->epoch, (unsigned long long)p->seq);
    }
    learn_top(ch, p->seq);
    advance(ch);
    copy_out(ch, p->seq, landing);
    if (p->seq > ch->prefix) { /* it has to wait */
        ranges_add(&ch->have, p->seq, p->seq);
    }
    advance_share(ch);
    advance_all(r);
    return true;
}

void recv_learn(struct channel_in *ch, uint64_t top, uint64_t rel)
{
    if (learn_top(ch, top)) {
        advance_share(ch);
    }
    if (rel > ch->rel) {
        ch->rel = rel;
        release(ch);
    }
}

void recv_cached_all(struct channel_in *ch, uint64_t cached_all)
{
    if (cached_all > ch->cached_all) {
        ch->cached_all = cached_all;
        thin_out(ch);
    }
}

uint64_t recv_settled(struct channel_in *ch)
{
    uint64_t now = ch->recv->ctx->now_us;
    if (ch->young_top > ch->settled_top && now >= ch->young_since_us + REORDER_SLACK_US) {
        ch->settled_top = ch->young_top;
    }
    return ch->settled_top;
}

uint64_t recv_run(const struct channel_in *ch, uint64_t from, uint64_t to, bool *ret_held)
{
    *ret_held = from <= ch->prefix;
    if (*ret_held) {
        return ch->prefix < to ? ch->prefix : to;
    }
    for (size_t i = 0; i < ch->have.count; i++) {
        const struct range *r = &ch->have.list[i];
        if (r->from > from) {
            return r->from - 1 < to ? r->from - 1 : to;
        }
        if (r->to >= from) {
            *ret_held = true;
            return r->to < to ? r->to : to;
        }
    }
    return to;
}

uint64_t recv_gap_at(struct recv *r)
{
    uint64_t at = TIMER_NEVER;
    struct channel_in *ch, *next;
    HASH_ITER (hh, r->channels, ch, next) {
        if (ch->frozen || ch->prefix >= ch->top) {
            continue;
        }
        uint64_t when =
            recv_settled(ch) > ch->prefix ? r->ctx->now_us : ch->young_since_us + REORDER_SLACK_US;
        at = when < at ? when : at;
    }
    return at;
}

/* ---- view change */

void recv_freeze(struct channel_in *ch)
{
    ch->frozen = true;
    ch->limit = ch->prefix;
}

void recv_cut(struct channel_in *ch, uint64_t seq)
{
    ch->cut = true;
    if (ch->frozen) {
        ch->limit = seq;
#ifdef MUTANT_freeze_lifted
        ch->frozen = false;
#endif
    }
    if (seq > ch->top) {
        ch->top = seq;
    }
    advance_share(ch);
    advance(ch);
}

void recv_thaw(struct recv *r)
{
    struct channel_in *ch, *next;
    HASH_ITER (hh, r->channels, ch, next) {
        ch->frozen = ch->cut = false;
        advance(ch);
    }
}

bool recv_proxy(struct channel_in *ch, uint32_t slot, const struct wire_proxy *p)
{
    if (p->number != ch->streams[slot].delivered + 1) {
        return false;
    }
    if (p->count == 1) {
        struct buf *b = buf_copy(p->payload, p->payload_bytes);
        deliver(ch, slot,
                &(struct delivery){
                    .number = p->number, .body = b, .data = b->data, .bytes = p->payload_bytes});
        buf_unref(b);
        return true;
    }
    const struct partial *pa = &ch->partial;
    bool goes_on = pa->body != NULL && pa->slot == slot && pa->number == p->number;
    if (p->index != (goes_on ? pa->next : 0)) {
        return false;
    }
    uint32_t before = goes_on ? pa->next : 0;
    if (add_piece(ch, slot, p->number, p->index, p->count, p->payload, p->payload_bytes)) {
        deliver_partial(ch);
        return true;
    }
    return pa->body != NULL && pa->next == before + 1;
}

bool recv_idle(const struct recv *r)
{
    struct channel_in *ch, *next;
    HASH_ITER (hh, r->channels, ch, next) {
        if (ch->frozen || ch->prefix != ch->top || ch->store.body_count != 0 ||
            ch->partial.body != NULL) {
            return false;
        }
    }
    return r->held_count == 0;
}
