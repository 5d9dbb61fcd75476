/* ring_visit: the contents of a token. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "ring_visit.h"

/* ---- what this node knows of a channel */

struct state {
    uint64_t top, prefix, share, rel;
    struct channel_in *in; /* NULL: our own channel */
};

static struct state state_of(struct ring *r, uint32_t sender)
{
    if (sender == r->ctx->id) {
        const struct channel_out *out = send_find(r->send, r->view->rid);
        if (out == NULL || out->view->epoch != r->view->epoch) {
            return (struct state){0};
        }
        return (struct state){
            .top = out->last, .prefix = out->last, .share = out->last, .rel = out->rel};
    }
    struct channel_in *in = recv_find(r->recv, sender);
    if (in == NULL && peers_find(r->peers, sender) == NULL) {
        return (struct state){0}; /* its epoch is still to come: nothing of it is here */
    }
    in = in != NULL ? in : recv_channel(r->recv, sender);
    struct state s = {
        .top = in->top, .prefix = in->prefix, .share = in->share, .rel = in->rel, .in = in};
#ifdef MUTANT_frozen_channel_counted
    bool held = true;
    uint64_t to = recv_run(in, s.prefix + 1, in->top + 1, &held);
    s.prefix = in->frozen && held && s.prefix < in->top ? to : s.prefix;
#endif
    return s;
}

static struct proof *proof_find(const struct ring *r, uint32_t sender)
{
    struct proof *p;
    HASH_FIND(hh, r->proofs, &sender, sizeof sender, p);
    return p;
}

static struct proof *proof_of(struct ring *r, uint32_t sender)
{
    struct proof *p = proof_find(r, sender);
    if (p == NULL) {
        p = context_alloc(1, sizeof *p);
        p->sender = sender;
        HASH_ADD(hh, r->proofs, sender, sizeof p->sender, p);
    }
    return p;
}

void ring_forget_proofs(struct ring *r)
{
    struct proof *p, *next;
    HASH_ITER (hh, r->proofs, p, next) {
        HASH_DEL(r->proofs, p);
        free(p);
    }
    TAILQ_INIT(&r->acks_due);
}

/* Quiet: all members are proved to know that rel is the channel's last packet. */
static bool quiet(const struct ring *r, uint32_t sender, uint64_t top)
{
    const struct proof *p = proof_find(r, sender);
    return top == 0 || (p != NULL && p->rel_known == top && p->max_seen == top);
}

/* Calls back for each sender of whom this node knows packets that are not quiet. */
static void each_active(struct ring *r, void (*f)(void *ctx, uint32_t sender), void *ctx)
{
    const struct channel_out *out = send_find(r->send, r->view->rid);
    if (out != NULL && out->view->epoch == r->view->epoch && !quiet(r, r->ctx->id, out->last)) {
        f(ctx, r->ctx->id);
    }
    struct channel_in *in, *next;
    HASH_ITER (hh, r->recv->channels, in, next) {
        if (!quiet(r, in->sender, in->top)) {
            f(ctx, in->sender);
        }
    }
}

static void count_one(void *ctx, uint32_t sender)
{
    (void)sender;
    ++*(uint32_t *)ctx;
}

bool ring_idle(struct ring *r)
{
    uint32_t active = 0;
    if (r->view != NULL && r->rank == 0) {
        each_active(r, count_one, &active);
    }
    return active == 0;
}

/* ---- the leader makes a token */

static struct token_channel *find_channel(struct token *t, uint32_t sender, uint32_t *ret_index)
{
    for (uint32_t i = 0; i < t->channel_count; i++) {
        if (t->channels[i].sender == sender) {
            *ret_index = i;
            return &t->channels[i];
        }
    }
    return NULL;
}

struct making {
    struct ring *ring;
    uint32_t skip, seen;
};

static void add_channel(void *ctx, uint32_t sender)
{
    struct making *m = ctx;
    struct token *t = m->ring->token;
    if (m->seen++ < m->skip || t->channel_count == WIRE_TOKEN_CHANNELS_MAX) {
        return;
    }
    const struct proof *p = proof_of(m->ring, sender);
    t->channels[t->channel_count++] = (struct token_channel){.sender = sender,
                                                             .prefix = UINT64_MAX,
                                                             .cached = UINT64_MAX,
                                                             .rel_known = UINT64_MAX,
                                                             .rel = p->rel,
                                                             .stable = p->stable,
                                                             .cached_all = p->cached_all};
}

/* What somebody still lacked at the end of the last round goes round again, so that holders that it
 * had passed see it. */
static void add_carried(struct ring *r)
{
    struct token *t = r->token;
    for (uint32_t i = 0; i < r->carried_count; i++) {
        uint32_t channel;
        if (find_channel(t, r->carried_sender[i], &channel) == NULL) {
            continue;
        }
        struct token_range *to = &t->ranges[t->range_count++];
        *to = r->carried[i];
        to->channel = (uint16_t)channel;
    }
    r->carried_count = 0;
}

void ring_make_token(struct ring *r)
{
    struct token *t = r->token;
    t->rid = r->view->rid;
    t->epoch = r->view->epoch;
    t->level = r->level;
    t->ring_epoch = r->ring_epoch;
    t->round = r->round;
    t->size = r->size;
    t->active = r->active;
    t->visited = t->skipped = (struct bitmap){{0}};
    t->channel_count = t->range_count = 0;
    uint32_t active = 0;
    each_active(r, count_one, &active);
    /* "Channels rotate when even the train is full." */
    bool all_fit = active <= WIRE_TOKEN_CHANNELS_MAX;
    struct making m = {.ring = r, .skip = all_fit ? 0 : r->rotate % active};
    each_active(r, add_channel, &m);
    if (!all_fit && t->channel_count < WIRE_TOKEN_CHANNELS_MAX) {
        m = (struct making){.ring = r}; /* round the end */
        uint32_t first = t->channels[0].sender;
        each_active(r, add_channel, &m);
        for (uint32_t i = 1; i < t->channel_count; i++) {
            if (t->channels[i].sender == first) {
                t->channel_count = i;
            }
        }
    }
    r->rotate = all_fit ? 0 : (r->rotate + t->channel_count) % active;
    add_carried(r);
}

/* ---- a visit */

static bool at_most(uint64_t value, uint64_t max)
{
    return value <= max || value == UINT64_MAX; /* that: nobody has said yet */
}

bool ring_believes(const struct token *t)
{
    for (uint32_t i = 0; i < t->channel_count; i++) {
        const struct token_channel *c = &t->channels[i];
        if (!at_most(c->prefix, c->max_seen) || !at_most(c->cached, c->max_seen) ||
            !at_most(c->rel_known, c->max_seen) || c->rel > c->max_seen ||
            c->stable > c->max_seen || c->cached_all > c->max_seen) {
            return false;
        }
    }
    return true;
}

static void learn(const struct state *s, const struct token_channel *tc)
{
    if (s->in != NULL) {
        recv_learn(s->in, tc->max_seen, tc->rel);
        recv_cached_all(s->in, tc->cached_all);
    }
}

static uint64_t held_run(void *ctx, uint64_t from, uint64_t to, bool *ret_held)
{
    return recv_run(ctx, from, to, ret_held);
}

struct lacking {
    struct ring *ring;
    uint32_t channel, sender;
};

static bool lack(void *ctx, uint64_t from, uint64_t to)
{
    struct lacking *l = ctx;
    struct ring *r = l->ring;
    context_trace(r->ctx, "gap r=%u v=%llu s=%u q=%llu n=%llu", r->view->rid,
                  (unsigned long long)r->view->epoch, l->sender, (unsigned long long)from,
                  (unsigned long long)to);
    return token_lacks(r->token, l->channel, r->rank, from, to);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void add_state(struct ring *r, uint32_t index)
{
    struct token_channel *tc = &r->token->channels[index];
    struct state s = state_of(r, tc->sender);
    learn(&s, tc);
    s = state_of(r, tc->sender);
    tc->max_seen = s.top > tc->max_seen ? s.top : tc->max_seen;
    tc->rel = s.rel > tc->rel ? s.rel : tc->rel;
    tc->prefix = least(tc->prefix, s.prefix);
    tc->cached = least(tc->cached, s.share);
    tc->rel_known = least(tc->rel_known, s.rel);
    if (s.in == NULL) {
        return;
    }
    token_has(r->token, index, r->rank, held_run, s.in);
    uint64_t settled = recv_settled(s.in);
    if (!s.in->frozen && settled > s.in->prefix) {
        struct lacking l = {.ring = r, .channel = index, .sender = tc->sender};
        ranges_gaps(&s.in->have, s.in->prefix + 1, settled, lack, &l);
    }
}

/* "Channels present from its first hop: a member that knows another names it for the next." */
static void name_late(void *ctx, uint32_t sender)
{
    struct ring *r = ctx;
    struct token *t = r->token;
    uint32_t index;
    if (t->channel_count == WIRE_TOKEN_CHANNELS_MAX || find_channel(t, sender, &index) != NULL) {
        return;
    }
    struct state s = state_of(r, sender);
    t->channels[t->channel_count++] =
        (struct token_channel){.sender = sender, .late = true, .max_seen = s.top, .rel = s.rel};
}

void ring_visit(struct ring *r)
{
    struct token *t = r->token;
    bitmap_set(&t->visited, r->rank);
    for (uint32_t i = 0; i < t->channel_count; i++) {
        if (!t->channels[i].late) {
            add_state(r, i);
        }
    }
    recovery_act(r->recovery, t, r->rank);
    if (r->rank != 0) {
        each_active(r, name_late, r);
    }
    r->ask_after_us = ASK_FIRST_US;
}

/* ---- the leader concludes */

static void tell(struct ring *r, struct proof *p)
{
    context_trace(r->ctx, "ack r=%u v=%llu s=%u q=%llu", r->view->rid,
                  (unsigned long long)r->view->epoch, p->sender, (unsigned long long)p->stable);
    p->ack.channel = (struct channel_id){r->view->rid, r->view->epoch, p->sender};
    p->ack.stable = p->stable;
    p->ack.rel_known = p->rel_known;
    p->ack.active = r->active;
    p->beaconed = false;
    r->ctx->stats.acks_sent++;
    if (p->sender == r->ctx->id) {
        send_ack(r->send, &p->ack);
        recovery_resend(r->recovery, &p->ack);
        p->ack.lack_count = 0;
        return;
    }
    if (!p->ack_due) {
        p->ack_due = true;
        TAILQ_INSERT_TAIL(&r->acks_due, p, entry);
    }
    source_ready(r->ctx, &r->ack_source);
}

bool ring_build_ack(void *ctx, struct datagram *ret)
{
    struct ring *r = ctx;
    struct proof *p;
    while ((p = TAILQ_FIRST(&r->acks_due)) != NULL) {
        TAILQ_REMOVE(&r->acks_due, p, entry);
        p->ack_due = false;
        uint32_t address = peers_address(r->peers, p->sender);
        if (address == 0) {
            continue;
        }
        struct writer w;
        datagram_begin(r->ctx, ret, &w, WIRE_ACK, address, false);
        wire_write_ack(&w, &p->ack);
        datagram_end(ret, &w);
        p->ack.lack_count = 0;
        return true;
    }
    source_dry(r->ctx, &r->ack_source);
    return false;
}

bool ring_repeat_ack(struct ring *r, uint32_t sender)
{
    struct proof *p = proof_of(r, sender);
    struct state s = state_of(r, sender);
    p->beaconed = true;
    if (!quiet(r, sender, s.top)) {
        return false;
    }
    tell(r, p);
    return true;
}

/* Proofs of one channel; true when the sender should hear of it. */
static bool prove(struct ring *r, struct proof *p, const struct token_channel *tc)
{
    if (tc->rel > p->rel) {
        p->rel = tc->rel;
    }
    bool news = tc->prefix > p->stable || tc->rel_known > p->rel_known || p->beaconed;
    p->max_seen = tc->max_seen;
    p->stable = tc->prefix > p->stable ? tc->prefix : p->stable;
    p->cached_all = tc->cached > p->cached_all ? tc->cached : p->cached_all;
    p->rel_known = tc->rel_known > p->rel_known ? tc->rel_known : p->rel_known;
    p->ack.round = (uint64_t)r->ring_epoch << 32 | r->round;
    return news;
}

static uint32_t first_bit(const struct bitmap *b, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (bitmap_has(b, i)) {
            return i;
        }
    }
    return 0;
}

/* Whether the sender must send a range again: the whole region lacks it, or it stayed missing for
 * two rounds whoever lacks it. */
static bool for_sender(const struct ring *r, const struct token_range *range, uint32_t lackers,
                       uint32_t sender)
{
    uint32_t others = r->size - (view_rank(r->view, sender) != VIEW_NO_RANK);
    return lackers > 0 && (lackers == others || range->age >= REPAIR_AGE_SENDER);
}

static void conclude_range(struct ring *r, const struct token_range *range)
{
    uint32_t sender = r->token->channels[range->channel].sender;
    struct proof *p = proof_of(r, sender);
    uint32_t lackers = bitmap_count(&range->lackers, r->size);
    if (lackers == 0) {
        return;
    }
    if (for_sender(r, range, lackers, sender) && p->ack.lack_count < WIRE_ACK_LACKS_MAX) {
        uint64_t count = range->to - range->from + 1;
        p->ack.lacks[p->ack.lack_count].from = range->from;
        p->ack.lacks[p->ack.lack_count].count = (uint32_t)least(count, UINT32_MAX);
        p->ack.lacks[p->ack.lack_count].requesters = lackers;
        p->ack.lacks[p->ack.lack_count++].one =
            r->view->members[first_bit(&range->lackers, r->size)];
    }
    r->carried_sender[r->carried_count] = sender;
    struct token_range *to = &r->carried[r->carried_count++];
    *to = *range;
    to->served = (struct bitmap){{0}};
    to->age = (uint8_t)(range->age < UINT8_MAX ? range->age + 1 : UINT8_MAX);
}

bool ring_conclude(struct ring *r, bool full)
{
    struct token *t = r->token;
    r->carried_count = 0;
    for (uint32_t i = 0; i < t->range_count; i++) {
        conclude_range(r, &t->ranges[i]);
    }
    uint32_t active = 0;
    for (uint32_t i = 0; i < t->channel_count; i++) {
        active += t->channels[i].late || t->channels[i].max_seen > t->channels[i].rel_known;
    }
    if (full) {
        r->active = active ? active : 1;
    }
    bool again = r->carried_count > 0;
    for (uint32_t i = 0; i < t->channel_count; i++) {
        const struct token_channel *tc = &t->channels[i];
        if (tc->late && peers_find(r->peers, tc->sender) == NULL) {
            continue;
        }
        struct proof *p = proof_of(r, tc->sender);
        if (tc->late) {
            struct state s = state_of(r, tc->sender);
            learn(&s, tc);
            again = true;
            continue;
        }
        if ((full && prove(r, p, tc)) || p->ack.lack_count > 0) {
            tell(r, p);
        }
    }
    return again;
}
