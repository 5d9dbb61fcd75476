/* recovery: who repairs what. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "recovery.h"

/* A request that is passed on: rare, and it holds nothing that gets stale. */
struct passed {
    TAILQ_ENTRY(passed) entry;
    struct wire_fetch fetch;
    uint32_t address;
};

static bool build_repair(void *ctx, struct datagram *ret);
static bool build_passed(void *ctx, struct datagram *ret);

void recovery_init(struct recovery *rc, struct context *ctx, struct send *send, struct recv *recv,
                   struct peers *peers)
{
    memset(rc, 0, sizeof *rc);
    rc->ctx = ctx;
    rc->send = send;
    rc->recv = recv;
    rc->peers = peers;
    TAILQ_INIT(&rc->queue);
    TAILQ_INIT(&rc->spare);
    ranges_init(&rc->resent);
    source_init(&rc->source, OUT_REPAIR, build_repair, rc);
    TAILQ_INIT(&rc->passed);
    source_init(&rc->pass_source, OUT_FLUSH, build_passed, rc);
}

static void clear(struct repair_list *list)
{
    struct repair *r;
    while ((r = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, r, entry);
        free(r);
    }
}

void recovery_done(struct recovery *rc)
{
    clear(&rc->queue);
    clear(&rc->spare);
    struct passed *p;
    while ((p = TAILQ_FIRST(&rc->passed)) != NULL) {
        TAILQ_REMOVE(&rc->passed, p, entry);
        free(p);
    }
    ranges_done(&rc->resent);
}

/* ---- the queue */

bool recovery_queue(struct recovery *rc, const struct channel_id *channel, uint64_t seq,
                    uint32_t address, bool multicast)
{
    struct context *c = rc->ctx;
    if (rc->queued >= REPAIR_QUEUE_MAX) {
        c->stats.repairs_over_budget++;
        return false;
    }
    if (address == 0) {
        return false;
    }
    struct repair *r = TAILQ_FIRST(&rc->spare);
    if (r != NULL) {
        TAILQ_REMOVE(&rc->spare, r, entry);
    } else {
        r = context_alloc(1, sizeof *r);
    }
    *r = (struct repair){
        .channel = *channel, .seq = seq, .address = address, .multicast = multicast};
    TAILQ_INSERT_TAIL(&rc->queue, r, entry);
    c->stats.repair_queue = ++rc->queued;
    source_ready(c, &rc->source);
    return true;
}

/* The packet that a repair is for, if its body is still here, and the rel to tell with it. */
static const struct packet *body_of(const struct recovery *rc, const struct channel_id *id,
                                    uint64_t seq, uint64_t *ret_rel)
{
    const struct packet *p = NULL;
    if (id->sender == rc->ctx->id) {
        const struct channel_out *out = send_find(rc->send, id->rid);
        if (out != NULL && out->view->epoch == id->epoch && seq < out->tx) {
            p = store_find(&out->store, seq);
            *ret_rel = out->rel;
        }
    } else if (rc->recv->view != NULL && rc->recv->view->rid == id->rid &&
               rc->recv->view->epoch == id->epoch) {
        const struct channel_in *in = recv_find(rc->recv, id->sender);
        if (in != NULL) {
            p = store_find(&in->store, seq);
            *ret_rel = in->rel;
        }
    }
    return p != NULL && p->body != NULL ? p : NULL;
}

static bool build_repair(void *ctx, struct datagram *ret)
{
    struct recovery *rc = ctx;
    struct context *c = rc->ctx;
    struct repair *r;
    while ((r = TAILQ_FIRST(&rc->queue)) != NULL) {
        TAILQ_REMOVE(&rc->queue, r, entry);
        TAILQ_INSERT_HEAD(&rc->spare, r, entry);
        c->stats.repair_queue = --rc->queued;
        uint64_t rel = 0;
        const struct packet *p = body_of(rc, &r->channel, r->seq, &rel);
        if (p == NULL) {
            continue; /* released meanwhile */
        }
        struct writer w;
        datagram_begin(c, ret, &w, WIRE_REPAIR, r->address, r->multicast);
        wire_write_packet(
            &w, &(struct wire_packet){
                    .channel = r->channel, .seq = r->seq, .rel = rel, .records = p->records});
        datagram_end(ret, &w);
        ret->body_ref = buf_ref(p->body);
        ret->body = p->body->data;
        ret->body_bytes = p->body->size;
        c->stats.repairs_sent++;
        return true;
    }
    source_dry(c, &rc->source);
    return false;
}

/* ---- tokens */

/* Whether this node should serve packet seq: it holds it, and caches it or sees that all who cache
 * it lack it. The sender itself is asked last, by an ACK. */
static bool serves(const struct recovery *rc, const struct channel_in *ch,
                   const struct token_range *r, uint32_t rank, uint64_t seq)
{
    const struct view *v = rc->recv->view;
    const struct packet *p = store_find(&ch->store, seq);
    if (p == NULL || p->body == NULL) {
        return false;
    }
    if (view_caches(v, rank, ch->rank, seq)) {
        return true;
    }
    uint32_t cachers[64];
    uint32_t count = view_cachers(v, ch->rank, seq, cachers, 64);
    for (uint32_t i = 0; i < count; i++) {
        if (!bitmap_has(&r->lackers, cachers[i]) && !bitmap_has(&r->served, cachers[i])) {
            return false;
        }
    }
    return true;
}

struct visit {
    struct recovery *rc;
    uint32_t rank;
    uint32_t looked;
    uint32_t *given; /* packets by requester's rank */
    struct token_range *out;
    uint32_t out_count;
};

/* Queues packet seq for all who lack it. */
static bool give(struct visit *v, const struct channel_in *ch, const struct token_range *r,
                 uint64_t seq)
{
    struct recovery *rc = v->rc;
    const struct view *view = rc->recv->view;
    struct channel_id id = {view->rid, view->epoch, ch->sender};
    uint32_t count = bitmap_count(&r->lackers, view->member_count);
    if (count >= REPAIR_MULTICAST_FROM) {
        return recovery_queue(rc, &id, seq, view->address, true);
    }
    bool all = true;
    for (uint32_t i = 0; i < view->member_count; i++) {
        if (!bitmap_has(&r->lackers, i)) {
            continue;
        }
        if (v->given[i] >= REPAIR_REQUESTER_MAX) {
            rc->ctx->stats.repairs_over_budget++;
            all = false;
            continue;
        }
        v->given[i]++;
        all &= recovery_queue(rc, &id, seq, peers_address(rc->peers, view->members[i]), false);
    }
    return all;
}

/* Appends from..to of a range, as served or as it was. */
static void emit(struct visit *v, const struct token_range *r, uint64_t from, uint64_t to,
                 bool served)
{
    struct token_range *o = &v->out[v->out_count++];
    *o = *r;
    o->from = from;
    o->to = to;
    if (served) {
        for (size_t i = 0; i < BITMAP_BYTES; i++) {
            o->served.bits[i] |= o->lackers.bits[i];
            o->lackers.bits[i] = 0;
        }
    }
}

static void act_on_range(struct visit *v, const struct token *t, const struct token_range *r,
                         uint32_t ranges_left)
{
    const struct channel_in *ch = recv_find(v->rc->recv, t->channels[r->channel].sender);
    uint64_t from = r->from;
    bool was = false;
    for (uint64_t q = r->from; q <= r->to; q++) {
        /* Every range still to come needs a place, and so do both halves of this one. */
        bool room =
            v->out_count + ranges_left + 2 < WIRE_TOKEN_RANGES_MAX && v->looked < REPAIR_VISIT_MAX;
        v->looked++;
        bool now = room && ch != NULL && !bitmap_empty(&r->lackers, t->size) &&
                   serves(v->rc, ch, r, v->rank, q) && give(v, ch, r, q);
        if (q == r->from) {
            was = now;
        } else if (now != was) {
            emit(v, r, from, q - 1, was);
            from = q;
            was = now;
        }
        if (!room) {
            break;
        }
    }
    emit(v, r, from, r->to, was);
}

void recovery_act(struct recovery *rc, struct token *t, uint32_t rank)
{
    if (t->range_count == 0) {
        return;
    }
    struct visit v = {.rc = rc, .rank = rank};
    v.given = context_alloc(t->size, sizeof v.given[0]);
    v.out = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof v.out[0]);
    for (uint32_t i = 0; i < t->range_count; i++) {
        act_on_range(&v, t, &t->ranges[i], t->range_count - i);
    }
    assert(v.out_count <= WIRE_TOKEN_RANGES_MAX);
    memcpy(t->ranges, v.out, v.out_count * sizeof v.out[0]);
    t->range_count = v.out_count;
    free(v.out);
    free(v.given);
    token_compact(t);
}

/* ---- the sender */

void recovery_resend(struct recovery *rc, const struct wire_ack *a)
{
    struct context *c = rc->ctx;
    const struct channel_out *ch = send_find(rc->send, a->channel.rid);
    if (c->config.no_sender_repair || ch == NULL || ch->view->epoch != a->channel.epoch ||
        a->channel.sender != c->id) {
        return;
    }
    if (rc->resent_rid != a->channel.rid || c->now_us >= rc->resent_since_us + RESEND_AGAIN_US) {
        ranges_done(&rc->resent);
        ranges_init(&rc->resent);
        rc->resent_rid = a->channel.rid;
        rc->resent_since_us = c->now_us;
    }
    for (uint16_t i = 0; i < a->lack_count; i++) {
        uint64_t to = a->lacks[i].from + a->lacks[i].count;
        bool one = a->lacks[i].requesters == 1;
        uint32_t address = one ? peers_address(rc->peers, a->lacks[i].one) : ch->view->address;
        for (uint64_t q = a->lacks[i].from; q < to && q < ch->tx; q++) {
            if (ranges_contain(&rc->resent, q)) {
                continue;
            }
            if (!recovery_queue(rc, &a->channel, q, address, !one)) {
                return;
            }
            ranges_add(&rc->resent, q, q);
        }
    }
}

/* ---- view change */

static bool build_passed(void *ctx, struct datagram *ret)
{
    struct recovery *rc = ctx;
    struct passed *p = TAILQ_FIRST(&rc->passed);
    if (p == NULL) {
        source_dry(rc->ctx, &rc->pass_source);
        return false;
    }
    struct writer w;
    datagram_begin(rc->ctx, ret, &w, WIRE_FETCH, p->address, false);
    wire_write_fetch(&w, &p->fetch);
    datagram_end(ret, &w);
    TAILQ_REMOVE(&rc->passed, p, entry);
    rc->passed_count--;
    free(p);
    return true;
}

static void pass_on(struct recovery *rc, const struct wire_fetch *f, uint64_t seq)
{
    const struct view *v = rc->recv->view;
    uint32_t cachers[64];
    uint32_t count = view_cachers(v, view_rank(v, f->channel.sender), seq, cachers, 64);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = v->members[cachers[i]];
        uint32_t address = peers_address(rc->peers, id);
        if (id == rc->ctx->id || id == f->requester || address == 0 ||
            rc->passed_count >= REPAIR_PASSED_MAX) {
            continue;
        }
        struct passed *p = context_alloc(1, sizeof *p);
        p->address = address;
        p->fetch = *f;
        p->fetch.count = 1;
        p->fetch.want[0].from = seq;
        p->fetch.want[0].count = 1;
        TAILQ_INSERT_TAIL(&rc->passed, p, entry);
        rc->passed_count++;
        source_ready(rc->ctx, &rc->pass_source);
    }
}

void recovery_fetch(struct recovery *rc, const struct wire_fetch *f, uint32_t from)
{
    const struct view *v = rc->recv->view;
    uint32_t address = peers_address(rc->peers, f->requester);
    bool ours = v != NULL && v->rid == f->channel.rid && v->epoch == f->channel.epoch;
    uint32_t looked = 0;
    for (uint16_t i = 0; i < f->count; i++) {
        uint64_t first = f->want[i].from;
        for (uint64_t q = first; q < first + f->want[i].count && looked < REPAIR_VISIT_MAX; q++) {
            looked++;
            uint64_t rel = 0;
            if (body_of(rc, &f->channel, q, &rel) != NULL) {
                recovery_queue(rc, &f->channel, q, address, false);
            } else if (ours && from == f->requester && f->channel.sender != rc->ctx->id &&
                       !view_caches(v, view_rank(v, rc->ctx->id), view_rank(v, f->channel.sender),
                                    q)) {
                pass_on(rc, f, q);
            }
        }
    }
}
