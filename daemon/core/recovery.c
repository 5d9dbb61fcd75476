/* recovery: who repairs what. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "recovery.h"

/* A FETCH that waits to be sent; it holds nothing that gets stale. */
struct asked {
    TAILQ_ENTRY(asked) entry;
    struct wire_fetch fetch;
    uint32_t address;
};

static bool build_repair(void *ctx, struct datagram *ret);
static bool build_fetch(void *ctx, struct datagram *ret);

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
    rc->ranges = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof rc->ranges[0]);
    source_init(&rc->source, OUT_REPAIR, build_repair, rc);
    TAILQ_INIT(&rc->asked);
    source_init(&rc->ask_source, OUT_BEACON, build_fetch, rc);
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
    struct requester *q, *next;
    HASH_ITER (hh, rc->requesters, q, next) {
        HASH_DEL(rc->requesters, q);
        free(q);
    }
    struct asked *a;
    while ((a = TAILQ_FIRST(&rc->asked)) != NULL) {
        TAILQ_REMOVE(&rc->asked, a, entry);
        free(a);
    }
    ranges_done(&rc->resent);
    recovery_forget(rc);
    free(rc->ranges);
}

void recovery_forget(struct recovery *rc)
{
    struct remembered *m, *next;
    HASH_ITER (hh, rc->remembered, m, next) {
        HASH_DEL(rc->remembered, m);
        free(m);
    }
}

/* ---- the queue */

/* False: the requester has its share of the queue. */
static bool charge(struct recovery *rc, uint32_t address)
{
    struct requester *q;
    HASH_FIND(hh, rc->requesters, &address, sizeof address, q);
    if (q == NULL) {
        q = context_alloc(1, sizeof *q);
        q->address = address;
        HASH_ADD(hh, rc->requesters, address, sizeof q->address, q);
    } else if (q->queued >= REPAIR_QUEUE_ONE_MAX) {
        return false;
    }
    q->queued++;
    return true;
}

static void discharge(struct recovery *rc, uint32_t address)
{
    struct requester *q;
    HASH_FIND(hh, rc->requesters, &address, sizeof address, q);
    assert(q != NULL);
    if (--q->queued == 0) {
        HASH_DEL(rc->requesters, q);
        free(q);
    }
}

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
    if (!multicast && !charge(rc, address)) {
        c->stats.repairs_over_budget++;
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
        if (!r->multicast) {
            discharge(rc, r->address);
        }
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
        ret->body = p->data;
        ret->body_bytes = p->bytes;
        c->stats.repairs_sent++;
        return true;
    }
    source_dry(c, &rc->source);
    return false;
}

/* ---- tokens */

/* Whether this node should serve packet seq to members of its partition: it holds it, and caches it
 * or sees that all here who cache it lack it. The sender itself is asked last, by an ACK. */
static bool serves(const struct recovery *rc, const struct channel_in *ch,
                   const struct token_range *r, const struct view_ring *at, uint64_t seq)
{
    const struct view *v = rc->recv->view;
    const struct packet *p = store_find(&ch->store, seq);
    if (p == NULL || p->body == NULL) {
        return false;
    }
    uint32_t cachers[64];
    uint32_t count = view_cachers(v, ch->rank, seq, cachers, 64);
    for (uint32_t i = 0; i < count; i++) {
        if (cachers[i] == rc->recv->rank) {
            return true;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = cachers[i] - at->first; /* beyond count: in another partition */
        if (cachers[i] >= at->first && place < at->count && !bitmap_has(&r->lackers, place) &&
            !bitmap_has(&r->served, place)) {
            return false;
        }
    }
    return true;
}

struct visit {
    struct recovery *rc;
    const struct view_ring *at;
    uint32_t looked;
    uint32_t *given; /* packets by requester's place */
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
    uint32_t count = bitmap_count(&r->lackers, v->at->count);
    if (count >= REPAIR_MULTICAST_FROM) {
        return recovery_queue(rc, &id, seq, view->address, true);
    }
    bool all = true;
    for (uint32_t i = 0; i < v->at->count; i++) {
        if (!bitmap_has(&r->lackers, i)) {
            continue;
        }
        if (v->given[i] >= REPAIR_REQUESTER_MAX) {
            rc->ctx->stats.repairs_over_budget++;
            all = false;
            continue;
        }
        v->given[i]++;
        uint32_t address = peers_address(rc->peers, view->members[v->at->first + i]);
        all &= recovery_queue(rc, &id, seq, address, false);
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
                   serves(v->rc, ch, r, v->at, q) && give(v, ch, r, q);
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

void recovery_act(struct recovery *rc, struct token *t, const struct view_ring *at)
{
    if (t->range_count == 0) {
        return;
    }
    struct visit v = {.rc = rc, .at = at, .given = rc->given, .out = rc->ranges};
    memset(rc->given, 0, t->size * sizeof rc->given[0]);
    for (uint32_t i = 0; i < t->range_count; i++) {
        act_on_range(&v, t, &t->ranges[i], t->range_count - i);
    }
    assert(v.out_count <= WIRE_TOKEN_RANGES_MAX);
    memcpy(t->ranges, v.out, v.out_count * sizeof v.out[0]);
    t->range_count = v.out_count;
    token_compact(t);
}

/* ---- requests */

static bool build_fetch(void *ctx, struct datagram *ret)
{
    struct recovery *rc = ctx;
    struct asked *a = TAILQ_FIRST(&rc->asked);
    if (a == NULL) {
        source_dry(rc->ctx, &rc->ask_source);
        return false;
    }
    struct writer w;
    datagram_begin(rc->ctx, ret, &w, WIRE_FETCH, a->address, false);
    wire_write_fetch(&w, &a->fetch);
    datagram_end(ret, &w);
    TAILQ_REMOVE(&rc->asked, a, entry);
    rc->asked_count--;
    free(a);
    return true;
}

static bool same_channel(const struct channel_id *a, const struct channel_id *b)
{
    return a->rid == b->rid && a->epoch == b->epoch && a->sender == b->sender;
}

/* Adds a packet to a FETCH that waits already; false: there is none for it with room. */
static bool join_fetch(struct recovery *rc, uint32_t address, const struct channel_id *channel,
                       uint32_t requester, uint64_t seq)
{
    uint32_t looked = 0;
    struct asked *a;
    TAILQ_FOREACH_REVERSE(a, &rc->asked, asked_list, entry)
    {
        struct wire_fetch *f = &a->fetch;
        if (looked++ == REPAIR_JOIN_MAX) {
            return false;
        }
        if (a->address != address || f->requester != requester ||
            !same_channel(&f->channel, channel)) {
            continue;
        }
        if (f->want[f->count - 1].from + f->want[f->count - 1].count == seq) {
            f->want[f->count - 1].count++;
            return true;
        }
        if (f->count < WIRE_FETCH_MAX) {
            f->want[f->count].from = seq;
            f->want[f->count++].count = 1;
            return true;
        }
    }
    return false;
}

/* Asks a node to send packet seq to the requester. */
static void request(struct recovery *rc, uint32_t node_id, const struct channel_id *channel,
                    uint32_t requester, uint64_t seq)
{
    uint32_t address = peers_address(rc->peers, node_id);
    if (node_id == rc->ctx->id || node_id == requester || address == 0 ||
        join_fetch(rc, address, channel, requester, seq)) {
        return;
    }
    if (rc->asked_count >= REPAIR_ASKED_MAX) {
        rc->ctx->stats.repairs_over_budget++;
        return;
    }
    struct asked *a = context_alloc(1, sizeof *a);
    a->address = address;
    a->fetch.channel = *channel;
    a->fetch.requester = requester;
    a->fetch.count = 1;
    a->fetch.want[0].from = seq;
    a->fetch.want[0].count = 1;
    TAILQ_INSERT_TAIL(&rc->asked, a, entry);
    rc->asked_count++;
    source_ready(rc->ctx, &rc->ask_source);
}

/* Asks one of a packet's cachers, another one each time, so that the load is spread. */
static void ask_cacher(struct recovery *rc, const struct channel_id *channel, uint32_t requester,
                       uint64_t seq, uint32_t turn)
{
    const struct view *v = rc->recv->view;
    uint32_t cachers[64];
    uint32_t count = view_cachers(v, view_rank(v, channel->sender), seq, cachers, 64);
    if (count > 0) {
        request(rc, v->members[cachers[(seq + turn) % count]], channel, requester, seq);
    }
}

/* ---- what the partition can't mend itself */

struct seek {
    struct recovery *rc;
    const struct view_ring *at;
    const struct token_range *range;
    struct channel_id channel;
    struct wire_ack *ack;
    uint32_t lackers;
    bool whole; /* all of the partition lack it, but the sender */
};

/* Tells the sender to send from..to again. */
static void ask_sender(struct seek *k, uint64_t from, uint64_t to)
{
    struct wire_ack *ack = k->ack;
    if (ack->lack_count > 0) {
        uint16_t last = (uint16_t)(ack->lack_count - 1);
        if (ack->lacks[last].requesters == k->lackers &&
            ack->lacks[last].from + ack->lacks[last].count == from) {
            ack->lacks[last].count += (uint32_t)(to - from + 1);
            return;
        }
    }
    if (ack->lack_count == WIRE_ACK_LACKS_MAX) {
        return;
    }
    uint32_t place = 0;
    while (!bitmap_has(&k->range->lackers, place)) {
        place++;
    }
    ack->lacks[ack->lack_count].from = from;
    ack->lacks[ack->lack_count].count = (uint32_t)(to - from + 1);
    ack->lacks[ack->lack_count].requesters = k->lackers;
    ack->lacks[ack->lack_count++].one = k->rc->recv->view->members[k->at->first + place];
}

static void ask_elsewhere(struct seek *k, uint64_t seq)
{
    context_mark(k->rc->ctx, MARK_sought_elsewhere);
    if (k->lackers >= REPAIR_MULTICAST_FROM) {
        ask_cacher(k->rc, &k->channel, 0, seq, k->range->age);
        return;
    }
    for (uint32_t place = 0; place < k->at->count; place++) {
        if (bitmap_has(&k->range->lackers, place)) {
            uint32_t requester = k->rc->recv->view->members[k->at->first + place];
            ask_cacher(k->rc, &k->channel, requester, seq, k->range->age);
        }
    }
}

void recovery_seek(struct recovery *rc, uint32_t sender, const struct view_ring *at,
                   const struct token_range *range, struct seeking *seeking, struct wire_ack *ack)
{
    const struct view *v = rc->recv->view;
    struct seek k = {.rc = rc,
                     .at = at,
                     .range = range,
                     .channel = {v->rid, v->epoch, sender},
                     .ack = ack,
                     .lackers = bitmap_count(&range->lackers, at->count)};
    uint32_t rank = view_rank(v, sender), partitions = view_partitions(v);
    bool sender_here = rank - at->first < at->count; /* VIEW_NO_RANK is beyond */
    k.whole = k.lackers == at->count - sender_here;
    if (partitions == 1) {
        if (k.whole || range->age >= REPAIR_AGE_SENDER) {
            ask_sender(&k, range->from, range->to);
        }
        return;
    }
    if (rc->ctx->now_us >= seeking->since_us + SEEK_AGAIN_US) {
        ranges_done(&seeking->asked);
        ranges_init(&seeking->asked);
        seeking->since_us = rc->ctx->now_us;
    }
    uint32_t own = view_partition(v, rc->recv->rank), looked = 0;
    for (uint64_t q = range->from; q <= range->to && looked++ < REPAIR_REQUESTER_MAX; q++) {
        bool ours = q % partitions == own;
        if (range->age >= REPAIR_AGE_ANYBODY ||
            (ours && (k.whole || range->age >= REPAIR_AGE_SENDER))) {
            ask_sender(&k, q, q);
        } else if (!ours && (k.whole || range->age >= REPAIR_AGE_CACHERS) &&
                   !ranges_contain(&seeking->asked, q)) {
            ranges_add(&seeking->asked, q, q);
            ask_elsewhere(&k, q);
        }
    }
}

struct helping {
    struct recovery *rc;
    struct channel_id channel;
    uint32_t asked;
};

static bool help_range(void *ctx, uint64_t from, uint64_t to)
{
    struct helping *h = ctx;
    for (uint64_t q = from; q <= to && h->asked < REPAIR_REQUESTER_MAX; q++, h->asked++) {
        ask_cacher(h->rc, &h->channel, h->rc->ctx->id, q, (uint32_t)context_random(h->rc->ctx));
    }
    return h->asked < REPAIR_REQUESTER_MAX;
}

void recovery_help_yourself(struct recovery *rc)
{
    const struct view *v = rc->recv->view;
    context_mark(rc->ctx, MARK_helped_itself);
    struct channel_in *ch, *next;
    HASH_ITER (hh, rc->recv->channels, ch, next) {
        uint64_t settled = recv_settled(ch);
        if (ch->frozen || settled <= ch->prefix || !recv_wants(ch)) {
            continue;
        }
        struct helping h = {.rc = rc, .channel = {v->rid, v->epoch, ch->sender}};
        ranges_gaps(&ch->have, ch->prefix + 1, settled, help_range, &h);
    }
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

/* ---- serving requests */

/* Remembers who asked for a packet that is still to come here. */
static void remember(struct recovery *rc, uint32_t sender, uint64_t seq, uint32_t requester)
{
    struct remembered *m, key;
    memset(&key, 0, sizeof key);
    key.key.sender = sender;
    key.key.seq = seq;
    HASH_FIND(hh, rc->remembered, &key.key, sizeof key.key, m);
    if (m != NULL) {
        m->requester = m->requester == requester ? requester : 0;
        return;
    }
    if (HASH_COUNT(rc->remembered) >= REPAIR_REMEMBERED_MAX) {
        struct remembered *oldest = rc->remembered;
        HASH_DEL(rc->remembered, oldest);
        free(oldest);
    }
    m = context_alloc(1, sizeof *m);
    m->key.sender = sender;
    m->key.seq = seq;
    m->requester = requester;
    HASH_ADD(hh, rc->remembered, key, sizeof m->key, m);
}

/* Queues a repair for one node, or for the region when the requester is 0. */
static void answer(struct recovery *rc, const struct channel_id *channel, uint64_t seq,
                   uint32_t requester)
{
    if (requester != 0) {
        recovery_queue(rc, channel, seq, peers_address(rc->peers, requester), false);
    } else if (rc->recv->view != NULL && rc->recv->view->rid == channel->rid) {
        recovery_queue(rc, channel, seq, rc->recv->view->address, true);
    }
}

void recovery_arrived(struct recovery *rc, uint32_t sender, uint64_t seq)
{
    struct remembered *m, key;
    if (rc->remembered == NULL) {
        return;
    }
    memset(&key, 0, sizeof key);
    key.key.sender = sender;
    key.key.seq = seq;
    HASH_FIND(hh, rc->remembered, &key.key, sizeof key.key, m);
    if (m != NULL) {
        context_mark(rc->ctx, MARK_served_on_arrival);
        const struct view *v = rc->recv->view;
        answer(rc, &(struct channel_id){v->rid, v->epoch, sender}, seq, m->requester);
        HASH_DEL(rc->remembered, m);
        free(m);
    }
}

static void pass_on(struct recovery *rc, const struct wire_fetch *f, uint64_t seq)
{
    const struct view *v = rc->recv->view;
    uint32_t cachers[64];
    uint32_t count = view_cachers(v, view_rank(v, f->channel.sender), seq, cachers, 64);
    for (uint32_t i = 0; i < count; i++) {
        context_mark(rc->ctx, MARK_passed_packets);
        request(rc, v->members[cachers[i]], &f->channel, f->requester, seq);
    }
}

/* Of a channel into our region: a packet that is not here. */
static void lacks_too(struct recovery *rc, const struct wire_fetch *f, uint64_t seq, uint32_t from)
{
    const struct view *v = rc->recv->view;
    const struct channel_in *in = recv_find(rc->recv, f->channel.sender);
    bool caches = view_caches(v, rc->recv->rank, view_rank(v, f->channel.sender), seq);
    if (caches && in != NULL && seq > in->rel && seq <= in->top + RECV_SPAN_MAX &&
        !recv_has(in, seq)) {
        remember(rc, f->channel.sender, seq, f->requester);
    } else if (!caches && from == f->requester) {
        pass_on(rc, f, seq);
    }
}

void recovery_fetch(struct recovery *rc, const struct wire_fetch *f, uint32_t from)
{
    const struct view *v = rc->recv->view;
    bool ours = v != NULL && v->rid == f->channel.rid && v->epoch == f->channel.epoch &&
                f->channel.sender != rc->ctx->id;
    uint32_t looked = 0;
    for (uint16_t i = 0; i < f->count; i++) {
        uint64_t first = f->want[i].from;
        for (uint64_t q = first; q < first + f->want[i].count && looked < REPAIR_VISIT_MAX; q++) {
            looked++;
            uint64_t rel = 0;
            if (body_of(rc, &f->channel, q, &rel) != NULL) {
                answer(rc, &f->channel, q, f->requester);
            } else if (ours) {
                lacks_too(rc, f, q, from);
            }
        }
    }
}
