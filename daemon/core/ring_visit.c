/* ring_visit: the contents of a token. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "ring_visit.h"
#include "rings.h"

/* ---- what this node has to say of a channel */

struct state {
    uint64_t top, prefix, share, rel, rel_known;
    uint32_t behind;          /* node id of who holds the prefix back */
    const struct range *held; /* what is there above the prefix; not owned */
    size_t held_count;
    struct channel_in *in; /* NULL: our own channel, or a summary */
};

static struct state own_state(const struct ring *r)
{
    const struct view *v = r->all->view;
    const struct channel_out *out = send_find(r->all->send, v->rid);
    if (out == NULL || out->view->epoch != v->epoch) {
        return (struct state){0};
    }
    uint64_t sent = out->tx - 1; /* what is built and not sent is nobody's gap */
    return (struct state){.top = sent,
                          .prefix = sent,
                          .share = sent,
                          .rel = out->rel,
                          .rel_known = out->rel,
                          .behind = r->ctx->id};
}

static struct state received_state(struct ring *r, uint32_t sender)
{
    struct channel_in *in = recv_find(r->all->recv, sender);
    if (in == NULL && peers_find(r->all->peers, sender) == NULL) {
        return (struct state){0}; /* its epoch is still to come: nothing of it is here */
    }
    in = in != NULL ? in : recv_channel(r->all->recv, sender);
    /* What goes on where the prefix ends waits for room, and is above no gap. */
    size_t skip = in->have.count > 0 && in->have.list[0].from == in->prefix + 1;
    struct state s = {.top = in->top,
                      .prefix = in->prefix,
                      .share = in->share,
                      .rel = in->rel,
                      .rel_known = in->rel,
                      .behind = r->ctx->id,
                      .held = in->have.list + skip,
                      .held_count = in->frozen ? 0 : in->have.count - skip,
                      .in = in};
#ifdef MUTANT_frozen_channel_counted
    bool held = true;
    uint64_t to = recv_run(in, s.prefix + 1, in->top + 1, &held);
    s.prefix = in->frozen && held && s.prefix < in->top ? to : s.prefix;
#endif
    return s;
}

/* On level 0. */
static struct state state_of(struct ring *r, uint32_t sender)
{
    return sender == r->ctx->id ? own_state(r) : received_state(r, sender);
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
        ranges_done(&p->seeking.asked);
        free(p);
    }
    TAILQ_INIT(&r->acks_due);
}

/* Above level 0: what was proved for the members of the ring below. */
static struct state summary_of(struct ring *r, uint32_t sender)
{
    struct ring *below = r->all->level[r->at.level - 1];
    const struct proof *p = proof_find(below, sender);
    struct state s = state_of(r, sender);
    uint64_t top = p != NULL && p->max_seen > s.top ? p->max_seen : s.top;
    s.rel = p != NULL && p->rel > s.rel ? p->rel : s.rel;
    return (struct state){.top = top > s.rel ? top : s.rel,
                          .prefix = p != NULL ? p->stable : 0,
                          .share = p != NULL ? p->cached : 0,
                          .rel = s.rel,
                          .rel_known = p != NULL ? p->rel_known : 0,
                          .held = p != NULL ? p->held : NULL,
                          .held_count = p != NULL ? p->held_count : 0,
                          .behind = p != NULL && p->behind != 0 ? p->behind : r->ctx->id};
}

/* Quiet: all below this ring are proved to know that rel is the channel's last packet. */
static bool quiet(const struct ring *r, uint32_t sender, uint64_t top)
{
    const struct proof *p = proof_find(r, sender);
    return top == 0 || (p != NULL && p->rel_known == top && p->max_seen == top);
}

/* Calls back for each sender of whom this node knows packets that are not quiet. */
static void each_active(struct ring *r, void (*f)(void *ctx, uint32_t sender), void *ctx)
{
    uint64_t sent = own_state(r).top;
    if (!quiet(r, r->ctx->id, sent)) {
        f(ctx, r->ctx->id);
    }
    struct channel_in *in, *next;
    HASH_ITER (hh, r->all->recv->channels, in, next) {
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
    each_active(r, count_one, &active);
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
    t->rid = r->all->view->rid;
    t->epoch = r->all->view->epoch;
    t->level = (uint8_t)r->at.level;
    t->ring_epoch = r->ring_epoch;
    t->round = r->round;
    t->size = r->at.count;
    t->active = r->active;
    t->rate = 0;
    t->slowest = 0;
#ifdef MUTANT_remade_token_full
    if (r->ring_epoch == 1 || r->round > 1) /* otherwise the lost one's visits count */
#endif
        t->visited = (struct bitmap){{0}};
    t->skipped = t->failed = (struct bitmap){{0}};
    t->channel_count = t->range_count = 0;
    uint32_t active = 0;
    each_active(r, count_one, &active);
    /* "Channels rotate when even the train is full." */
    bool all_fit = active <= WIRE_TOKEN_CHANNELS_MAX;
    struct making m = {.ring = r, .skip = all_fit ? 0 : r->rotate % active};
    each_active(r, add_channel, &m);
    if (!all_fit) {
        context_mark(r->ctx, MARK_channels_rotated);
    }
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
            c->cached_all > c->max_seen ||
            (c->held_count > 0 && c->held[c->held_count - 1].to > c->max_seen)) {
            return false;
        }
    }
    return true;
}

/* A leader passes on what it hears from above, with the next tokens of the rings below. */
static void hand_down(struct ring *r, const struct token_channel *tc)
{
    for (uint32_t level = 0; level < r->at.level; level++) {
        struct proof *p = proof_of(r->all->level[level], tc->sender);
        p->cached_all = tc->cached_all > p->cached_all ? tc->cached_all : p->cached_all;
    }
}

static void learn(struct ring *r, const struct token_channel *tc)
{
    hand_down(r, tc);
    if (tc->sender == r->ctx->id || peers_find(r->all->peers, tc->sender) == NULL) {
        return;
    }
    struct channel_in *in = recv_channel(r->all->recv, tc->sender);
    recv_learn(in, tc->max_seen, tc->rel);
    recv_cached_all(in, tc->cached_all);
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
    context_detail(r->ctx, "gap r=%u v=%llu s=%u q=%llu n=%llu", r->token->rid,
                   (unsigned long long)r->token->epoch, l->sender, (unsigned long long)from,
                   (unsigned long long)to);
    return token_lacks(r->token, l->channel, r->at.index, from, to);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void add_gaps(struct ring *r, uint32_t index, struct channel_in *in)
{
    token_has(r->token, index, r->at.index, held_run, in);
    uint64_t settled = recv_settled(in);
    if (!in->frozen && settled > in->prefix && recv_wants(in)) {
        struct lacking l = {.ring = r, .channel = index, .sender = in->sender};
        ranges_gaps(&in->have, in->prefix + 1, settled, lack, &l);
    }
}

/* What the visited and this node hold, above the first gap of either: of the one with the lower
 * prefix what the other has as well. Nobody has a gap in a token that visited nobody yet. */
static void add_held(struct ring *r, struct token_channel *tc, const struct state *s)
{
    struct range both[WIRE_ACK_RANGES_MAX];
    uint32_t max = r->all->view->ack_ranges, count;
    if (s->prefix < tc->prefix) {
        count =
            ranges_common(s->held, s->held_count, tc->prefix, tc->held, tc->held_count, both, max);
    } else {
        count =
            ranges_common(tc->held, tc->held_count, s->prefix, s->held, s->held_count, both, max);
    }
#ifdef MUTANT_held_by_one
    if (tc->prefix != UINT64_MAX) {
        return;
    }
#endif
    memcpy(tc->held, both, count * sizeof both[0]);
    tc->held_count = (uint8_t)count;
}

static void add_state(struct ring *r, uint32_t index)
{
    struct token_channel *tc = &r->token->channels[index];
    learn(r, tc);
    struct state s = r->at.level > 0 ? summary_of(r, tc->sender) : state_of(r, tc->sender);
#ifdef MUTANT_leader_for_ring
    s = state_of(r, tc->sender);
    s.in = r->at.level > 0 ? NULL : s.in;
#endif
    tc->max_seen = s.top > tc->max_seen ? s.top : tc->max_seen;
    tc->rel = s.rel > tc->rel ? s.rel : tc->rel;
    add_held(r, tc, &s);
    if (s.prefix < tc->prefix) {
        tc->prefix = s.prefix;
        tc->behind = s.behind;
    }
    tc->cached = least(tc->cached, s.share);
    tc->rel_known = least(tc->rel_known, s.rel_known);
    if (s.in != NULL) {
        add_gaps(r, index, s.in);
    }
}

/* "Channels present from its first hop: a member that knows another names it for the next", unless
 * this node's part in it is over. */
static void name_late(void *ctx, uint32_t sender)
{
    struct ring *r = ctx;
    struct token *t = r->token;
    uint32_t index;
    if (t->channel_count == WIRE_TOKEN_CHANNELS_MAX || find_channel(t, sender, &index) != NULL) {
        return;
    }
    struct state s = r->at.level > 0 ? summary_of(r, sender) : state_of(r, sender);
    if (s.rel_known < s.top) {
        t->channels[t->channel_count++] =
            (struct token_channel){.sender = sender, .late = true, .max_seen = s.top, .rel = s.rel};
        context_mark(r->ctx, MARK_late_channel);
    }
}

/* The least rate that a member can take, and its name. */
static void add_rate(struct ring *r)
{
    struct token *t = r->token;
    const struct ring *below = r->at.level > 0 ? r->all->level[r->at.level - 1] : NULL;
    uint64_t rate = below ? below->rate : load_limit(&r->all->recv->load, r->ctx->now_us);
    if (rate != 0 && (t->rate == 0 || rate < t->rate)) {
        t->rate = rate;
        t->slowest = below ? below->slowest : r->ctx->id;
    }
}

void ring_visit(struct ring *r)
{
    struct token *t = r->token;
    bitmap_set(&t->visited, r->at.index);
    for (uint32_t i = 0; i < t->channel_count; i++) {
        if (!t->channels[i].late) {
            add_state(r, i);
        }
    }
    add_rate(r);
    if (!ring_leads(r)) {
        for (uint32_t level = 0; level < r->at.level; level++) {
            r->all->level[level]->active = t->active;
        }
        each_active(r, name_late, r);
    }
    if (r->at.level == 0) {
        recovery_act(r->all->recovery, t, &r->at);
        rings_visited(r->all);
    }
}

/* ---- the leader concludes */

/* The proofs of the top ring are those of the region. The leader of another partition says only
 * what the sender has to send again. */
static void fill_ack(const struct ring *r, struct proof *p)
{
    bool top = ring_is_top(r);
    p->ack.channel = (struct channel_id){r->all->view->rid, r->all->view->epoch, p->sender};
    p->ack.round = top ? (uint64_t)r->ring_epoch << 32 | r->round : 0;
    p->ack.stable = top ? p->stable : 0;
    p->ack.rel_known = top ? p->rel_known : 0;
    p->ack.held_count = top ? p->held_count : 0;
    memcpy(p->ack.held, p->held, sizeof p->held);
    p->ack.active = r->active;
    p->ack.rate = r->rate;
    p->ack.slowest = r->slowest;
    p->ack.behind = p->stable < p->max_seen ? p->behind : 0;
}

static void tell(struct ring *r, struct proof *p)
{
    fill_ack(r, p);
    context_detail(r->ctx, "ack r=%u v=%llu s=%u q=%llu n=%u", r->all->view->rid,
                   (unsigned long long)r->all->view->epoch, p->sender,
                   (unsigned long long)p->ack.stable, p->ack.lack_count);
    p->beaconed = false;
    r->ctx->stats.acks_sent++;
    if (p->sender == r->ctx->id) {
        send_ack(r->all->send, &p->ack);
        recovery_resend(r->all->recovery, &p->ack);
        p->ack.lack_count = 0;
        return;
    }
    if (p->via == r->ctx->id && relay_may(&p->ack)) {
        relay_take(r->all->relay, &p->ack);
        return;
    }
    if (!p->ack_due) {
        p->ack_due = true;
        TAILQ_INSERT_TAIL(&r->acks_due, p, entry);
    }
    source_ready(r->ctx, &r->ack_source);
}

/* Where an ACK goes: to who collects those of its sender, if there is somebody; 0: nowhere. */
static uint32_t ack_address(const struct ring *r, const struct proof *p)
{
    uint32_t via = relay_may(&p->ack) ? peers_address(r->all->peers, p->via) : 0;
    return via != 0 ? via : peers_address(r->all->peers, p->sender);
}

bool ring_build_ack(void *ctx, struct datagram *ret)
{
    struct ring *r = ctx;
    struct proof *p;
    while ((p = TAILQ_FIRST(&r->acks_due)) != NULL) {
        TAILQ_REMOVE(&r->acks_due, p, entry);
        p->ack_due = false;
        uint32_t address = ack_address(r, p);
        if (address == 0) {
            continue;
        }
        struct writer w;
        datagram_begin(r->ctx, ret, &w, WIRE_ACK, address, false);
        wire_write_acks(&w, &p->ack, 1);
        datagram_end(ret, &w);
        p->ack.lack_count = 0;
        return true;
    }
    source_dry(r->ctx, &r->ack_source);
    return false;
}

void ring_send_acks_via(struct ring *r, uint32_t sender, uint32_t via)
{
    proof_of(r, sender)->via = via != sender ? via : 0;
}

bool ring_repeat_ack(struct ring *r, uint32_t sender)
{
    struct proof *p = proof_of(r, sender);
    p->beaconed = ring_is_top(r);
    if (!quiet(r, sender, state_of(r, sender).top)) {
        return false;
    }
    if (ring_is_top(r)) {
        tell(r, p);
    }
    return true;
}

static bool raise(uint64_t *value, uint64_t to)
{
    bool more = to > *value;
    *value = more ? to : *value;
    return more;
}

/* Unlike the rest these do not only grow: with a full pool a packet out of order makes room. */
static bool prove_held(struct proof *p, const struct token_channel *tc)
{
    struct range held[WIRE_ACK_RANGES_MAX];
    uint8_t count = 0;
    for (uint8_t i = 0; i < tc->held_count; i++) {
        if (tc->held[i].from - 1 > p->stable) {
            held[count++] = tc->held[i];
        }
    }
    size_t bytes = count * sizeof held[0];
    if (count == p->held_count && memcmp(p->held, held, bytes) == 0) {
        return false;
    }
    memcpy(p->held, held, bytes);
    p->held_count = count;
    return true;
}

/* Proofs of one channel; true when somebody should hear of it: the sender from the top, the ring
 * above from the others. */
static bool prove(struct ring *r, struct proof *p, const struct token_channel *tc)
{
    bool news = p->beaconed;
    p->behind = tc->behind;
    raise(&p->rel, tc->rel);
    raise(&p->max_seen, tc->max_seen);
    news |= raise(&p->stable, tc->prefix);
    news |= prove_held(p, tc);
    news |= raise(&p->rel_known, tc->rel_known);
    bool more_cached = raise(&p->cached, tc->cached);
    if (!ring_is_top(r)) {
        return news || more_cached;
    }
    p->cached_all = p->cached;
    struct token_channel told = *tc;
    told.cached_all = p->cached;
    hand_down(r, &told);
    return news;
}

static void conclude_range(struct ring *r, const struct token_range *range)
{
    if (bitmap_empty(&range->lackers, r->at.count)) {
        return;
    }
    uint32_t sender = r->token->channels[range->channel].sender;
    struct proof *p = proof_of(r, sender);
    recovery_seek(r->all->recovery, sender, &r->at, range, &p->seeking, &p->ack);
    r->carried_sender[r->carried_count] = sender;
    struct token_range *to = &r->carried[r->carried_count++];
    *to = *range;
    to->served = (struct bitmap){{0}};
    to->age = (uint8_t)(range->age < UINT8_MAX ? range->age + 1 : UINT8_MAX);
}

/* Senders with unreleased data in the region, as a complete round of the top ring saw them. */
static void count_active(struct ring *r)
{
    const struct token *t = r->token;
    uint32_t active = 0;
    for (uint32_t i = 0; i < t->channel_count; i++) {
        active += t->channels[i].late || t->channels[i].max_seen > t->channels[i].rel_known;
    }
    for (uint32_t level = 0; level <= r->at.level; level++) {
        r->all->level[level]->active = active ? active : 1;
    }
}

/* A channel that was named in mid-round; whether it wants another one. */
static bool take_up(struct ring *r, const struct token_channel *tc)
{
    if (tc->sender != r->ctx->id && peers_find(r->all->peers, tc->sender) == NULL) {
        return false;
    }
    learn(r, tc);
    return !quiet(r, tc->sender, tc->max_seen);
}

struct conclusion ring_conclude(struct ring *r, bool full)
{
    struct token *t = r->token;
    struct conclusion drawn = {0};
    r->rate = t->rate;
    r->slowest = t->slowest;
    r->carried_count = 0;
    for (uint32_t i = 0; i < t->range_count; i++) {
        conclude_range(r, &t->ranges[i]);
    }
    if (full && ring_is_top(r)) {
        count_active(r);
    }
    drawn.again = r->carried_count > 0;
    for (uint32_t i = 0; i < t->channel_count; i++) {
        const struct token_channel *tc = &t->channels[i];
        if (tc->late) {
            drawn.again |= take_up(r, tc);
            continue;
        }
        struct proof *p = proof_of(r, tc->sender);
        bool news = full && prove(r, p, tc);
        drawn.news |= news;
        if ((news && ring_is_top(r)) || p->ack.lack_count > 0) {
            tell(r, p);
        }
    }
    return drawn;
}
