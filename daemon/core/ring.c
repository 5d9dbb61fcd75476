/* ring: the token's way round a ring. What a visit adds to it is in ring_visit.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "ring_visit.h"
#include "rings.h"

static bool build_token(void *ctx, struct datagram *ret);
static void hop_due(void *ctx, uint64_t now_us);
static void next_due(void *ctx, uint64_t now_us);
static void lost_due(void *ctx, uint64_t now_us);

struct ring *ring_new(struct rings *all, const struct view_ring *at)
{
    struct ring *r = context_alloc(1, sizeof *r);
    r->all = all;
    r->ctx = all->ctx;
    r->at = *at;
    r->ids = context_alloc(at->count, sizeof r->ids[0]);
    for (uint32_t i = 0; i < at->count; i++) {
        r->ids[i] = all->view->members[view_ring_rank(all->view, at->level, at->first + i)];
    }
    r->token = context_alloc(1, sizeof *r->token);
    r->bytes = context_alloc(1, WIRE_TOKEN_BYTES_MAX);
    r->in.bytes = context_alloc(1, WIRE_TOKEN_BYTES_MAX);
    r->carried = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof r->carried[0]);
    r->carried_sender = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof r->carried_sender[0]);
    TAILQ_INIT(&r->acks_due);
    source_init(&r->source, OUT_TOKEN, build_token, r);
    source_init(&r->ack_source, OUT_TOKEN, ring_build_ack, r);
    timer_init(&r->hop_timer, hop_due, r);
    timer_init(&r->next, next_due, r);
    timer_init(&r->lost, lost_due, r);
    r->ring_epoch = 1;
    r->active = 1;
    r->hop_us = HOP_FIRST_US / HOP_MARGIN;
    return r;
}

void ring_free(struct ring *r)
{
    if (r == NULL) {
        return;
    }
    struct timers *ts = &r->ctx->timers;
    timer_cancel(ts, &r->hop_timer);
    timer_cancel(ts, &r->next);
    timer_cancel(ts, &r->lost);
    source_dry(r->ctx, &r->source);
    source_dry(r->ctx, &r->ack_source);
    ring_forget_proofs(r);
    free(r->ids);
    free(r->token);
    free(r->bytes);
    free(r->in.bytes);
    free(r->carried);
    free(r->carried_sender);
    free(r);
}

bool ring_leads(const struct ring *r)
{
    return r->at.index == 0;
}

bool ring_is_top(const struct ring *r)
{
    return r->at.level + 1 == view_levels(r->all->view);
}

/* ---- the leader: when a token goes */

static uint64_t least_interval(const struct ring *r)
{
    uint64_t by_size = (uint64_t)r->at.count * TOKEN_PER_MEMBER_US;
    uint64_t set = r->ctx->config.token_min_interval_us;
    return by_size > set ? by_size : set;
}

void ring_schedule(struct ring *r)
{
    if (!ring_leads(r) || r->in_flight || (!r->asked && ring_idle(r))) {
        return;
    }
    uint64_t period =
        1000000000u / (r->ctx->config.token_rate_mhz ? r->ctx->config.token_rate_mhz : 1000);
    uint64_t at = r->started_us + (r->asked ? least_interval(r) : period);
    timer_arm_sooner(&r->ctx->timers, &r->next, at > r->ctx->now_us ? at : r->ctx->now_us);
}

void ring_want(struct ring *r)
{
    if (ring_leads(r)) {
        r->asked = true;
        ring_schedule(r);
    }
}

static void round_over(struct ring *r)
{
    struct context *c = r->ctx;
    const struct view *v = r->all->view;
    timer_cancel(&c->timers, &r->lost);
    r->in_flight = false;
    if (r->at.level >= 2) {
        context_mark(c, MARK_third_level);
    }
    bool full = bitmap_count(&r->token->visited, r->at.count) == r->at.count;
#ifdef MUTANT_partial_round
    full = true;
#endif
    uint64_t trip = c->now_us - r->started_us;
    c->stats.rounds_complete += full;
    c->stats.rounds_incomplete += !full;
    r->wanted &= !full;
    if (full) {
        c->stats.round_trip_us += trip;
        c->stats.last_round_trip_us = trip;
        if (r->at.count > 1) { /* else no token went */
            histogram_note(&c->stats.token_round_trip_us, trip);
        }
    }
    context_trace(c, "round r=%u v=%llu l=%u e=%u k=%u full=%d", v->rid,
                  (unsigned long long)v->epoch, r->at.level, r->ring_epoch, r->round, full);
    struct conclusion drawn = ring_conclude(r, full);
    r->asked |= drawn.again;
    if (drawn.news && !ring_is_top(r)) {
        rings_ask(r->all, r->at.level + 1);
    }
    ring_schedule(r);
    if (r->wanted && !ring_idle(r)) { /* nobody else knows when who is silent now will answer */
        uint64_t at = r->started_us + TOKEN_AGAIN_US;
        timer_arm_sooner(&c->timers, &r->next, at > c->now_us ? at : c->now_us);
    }
}

static void next_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    if (r->in_flight || (!r->asked && ring_idle(r))) {
        return;
    }
    r->wanted |= r->asked;
    r->asked = false;
    r->in_flight = true;
    r->started_us = now_us;
    r->round++;
    r->seen_epoch = r->ring_epoch;
    r->seen_round = r->round;
    r->seen_hops = r->hops = 0;
    ring_make_token(r);
    if (r->at.count == 1) {
        ring_visit(r);
        round_over(r);
        return;
    }
    timer_arm(&r->ctx->timers, &r->lost,
              now_us + TOKEN_LOST_US + (uint64_t)r->at.count * TOKEN_LOST_PER_MEMBER_US);
    r->holding = true;
    r->visited = false;
    source_ready(r->ctx, &r->source);
}

/* "A lost token is made anew from nothing, with a higher ring epoch." */
static void lost_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    (void)now_us;
    r->ctx->stats.tokens_remade++;
    r->in_flight = r->holding = false;
    r->to_send = r->unacked = 0;
    timer_cancel(&r->ctx->timers, &r->hop_timer);
    r->ring_epoch++;
    r->round = 0;
    r->asked = true;
    ring_schedule(r);
}

/* ---- the hop */

/* The next place that answers, by the marks in the token: who was not visited, in the order of the
 * ring, who did not answer one member included; then home. When home is silent, another takes it
 * there. False: there is none. */
static bool next_hop(struct ring *r)
{
    const struct token *t = r->token;
    uint32_t others = r->at.count - 1;
    for (uint32_t i = 1; i <= others; i++) {
        uint32_t place = (r->at.index + i) % r->at.count;
        if (!bitmap_has(&t->visited, place) && !bitmap_has(&t->failed, place) &&
            !bitmap_has(&r->tried, place)) {
            r->hop = place;
            return true;
        }
    }
    r->hop = 0;
    if (ring_leads(r) || bitmap_has(&t->failed, 0)) {
        return false;
    }
    if (!bitmap_has(&r->tried, 0)) {
        return true;
    }
    for (uint32_t i = 1; i <= others; i++) {
        r->hop = (r->at.index + i) % r->at.count;
        if (r->hop != 0 && !bitmap_has(&t->skipped, r->hop) && !bitmap_has(&r->tried, r->hop)) {
            return true;
        }
    }
    return false;
}

/* Sends the token on to r->hop. */
static void start_hop(struct ring *r)
{
    const uint32_t slice = WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - WIRE_SLICE_BYTES;
    r->tries = 0;
    r->hops++;
    r->ctx->stats.tokens_sent++;
    r->total = (uint32_t)wire_write_token(r->token, r->bytes);
    r->slices = (uint8_t)((r->total + slice - 1) / slice);
    r->to_send = r->unacked = (uint8_t)((1u << r->slices) - 1);
    source_ready(r->ctx, &r->source);
}

/* One datagram of a round that gets lost must not cost as much as the rest of it: the first try
 * again comes as soon as an acknowledgement is overdue here. After that, and for who was silent
 * last time, a host that is only busy gets its time. */
static uint64_t hop_wait(const struct ring *r)
{
    uint64_t overdue = HOP_MARGIN * r->hop_us;
    if (r->tries > 0 || bitmap_has(&r->doubted, r->hop) || overdue > HOP_FIRST_US) {
        return (uint64_t)HOP_FIRST_US << r->tries;
    }
    return overdue > HOP_SOON_US ? overdue : HOP_SOON_US;
}

static bool build_slice(struct ring *r, struct datagram *ret)
{
    const uint32_t slice = WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - WIRE_SLICE_BYTES;
    uint8_t i = 0;
    while (!(r->to_send & (1u << i))) {
        i++;
    }
    r->to_send = (uint8_t)(r->to_send & ~(1u << i));
    uint32_t address = peers_address(r->all->peers, r->ids[r->hop]);
    struct wire_slice s = {.rid = r->token->rid,
                           .epoch = r->token->epoch,
                           .level = r->token->level,
                           .index = i,
                           .count = r->slices,
                           .ring_epoch = r->token->ring_epoch,
                           .round = r->token->round,
                           .hops = r->hops,
                           .offset = i * slice,
                           .total = r->total,
                           .bytes = r->bytes + i * slice};
    s.size = (uint16_t)(r->total - s.offset < slice ? r->total - s.offset : slice);
    struct writer w;
    datagram_begin(r->ctx, ret, &w, WIRE_TOKEN, address, false);
    wire_write_slice(&w, &s);
    datagram_end(ret, &w);
    if (r->to_send == 0) {
        r->hop_sent_us = r->tries == 0 ? r->ctx->now_us : r->hop_sent_us;
        timer_arm(&r->ctx->timers, &r->hop_timer, r->ctx->now_us + hop_wait(r));
    }
    return true;
}

static bool build_hop_ack(struct ring *r, struct datagram *ret)
{
    struct writer w;
    r->ack_count--;
    datagram_begin(r->ctx, ret, &w, WIRE_TOKEN_ACK, r->acks[r->ack_count].address, false);
    wire_write_token_ack(&w, &r->acks[r->ack_count].ack);
    datagram_end(ret, &w);
    return true;
}

/* The token leaves, or its round is over. */
static void go_on(struct ring *r)
{
    r->unacked = r->to_send = 0;
    if (next_hop(r)) {
        start_hop(r);
    } else if (ring_leads(r)) {
        round_over(r);
    } /* else nobody takes it: the leader will make another */
}

static bool build_token(void *ctx, struct datagram *ret)
{
    struct ring *r = ctx;
    if (r->ack_count > 0) {
        return build_hop_ack(r, ret);
    }
    if (r->holding) { /* what this node knows enters the token now, not before */
        r->holding = false;
        r->tried = (struct bitmap){{0}};
        if (!r->visited) {
            ring_visit(r);
        }
        r->visited = true;
        go_on(r);
    }
    if (r->to_send != 0) {
        return build_slice(r, ret);
    }
    source_dry(r->ctx, &r->source);
    return false;
}

/* "A silent successor is skipped, marked, reported", and left to the next one to try. */
static void skip(struct ring *r)
{
    struct token *t = r->token;
    r->ctx->stats.hops_skipped++;
    context_mark(r->ctx, MARK_successor_skipped);
    r->all->suspect(r->all->suspect_ctx, r->ids[r->hop]);
    bitmap_set(bitmap_has(&t->skipped, r->hop) ? &t->failed : &t->skipped, r->hop);
#ifdef MUTANT_skipped_counted
    bitmap_set(&t->visited, r->hop);
#endif
    bitmap_set(&r->tried, r->hop);
    bitmap_set(&r->doubted, r->hop);
    go_on(r);
}

static void hop_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    (void)now_us;
    if (r->unacked == 0) {
        return;
    }
    uint32_t tries = bitmap_has(&r->doubted, r->hop) ? 1 : HOP_TRIES;
    if (++r->tries >= tries) {
        skip(r);
        return;
    }
    r->ctx->stats.tokens_retried++;
    r->to_send = r->unacked;
    source_ready(r->ctx, &r->source);
}

/* Place of a node on the ring; false: it has none. */
static bool find_place(const struct ring *r, uint32_t node_id, uint32_t *ret_place)
{
    uint32_t rank = view_rank(r->all->view, node_id);
    struct view_ring at;
    if (rank == VIEW_NO_RANK || !view_ring(r->all->view, r->at.level, rank, &at) ||
        at.first != r->at.first) {
        return false;
    }
    *ret_place = at.index;
    return true;
}

void ring_receive_ack(struct ring *r, const struct wire_token_ack *a, uint32_t from)
{
    if (r->unacked == 0 || a->ring_epoch != r->token->ring_epoch || a->round != r->token->round ||
        from != r->ids[r->hop]) {
        return;
    }
    bool first_try = r->tries == 0 && r->to_send == 0;
    bitmap_clear(&r->doubted, r->hop);
    r->unacked = (uint8_t)(r->unacked & ~a->slices);
    r->to_send = (uint8_t)(r->to_send & ~a->slices);
    if (r->unacked == 0) {
        timer_cancel(&r->ctx->timers, &r->hop_timer);
        /* Which of several tries this answers nobody knows; it was not sooner than after the first.
         */
        uint64_t took_us = r->ctx->now_us - r->hop_sent_us;
        r->hop_us = (7 * r->hop_us + took_us) / 8;
        if (first_try) {
            histogram_note(&r->ctx->stats.token_hop_us, took_us);
        }
    }
}

/* ---- a token arrives */

static void acknowledge(struct ring *r, const struct wire_slice *s, uint32_t from, uint8_t slices)
{
    uint32_t address = peers_address(r->all->peers, from);
    if (r->ack_count == TOKEN_ACKS_MAX || address == 0) {
        return; /* it will be sent again */
    }
    r->acks[r->ack_count].address = address;
    r->acks[r->ack_count++].ack = (struct wire_token_ack){.rid = s->rid,
                                                          .epoch = s->epoch,
                                                          .level = s->level,
                                                          .slices = slices,
                                                          .ring_epoch = s->ring_epoch,
                                                          .round = s->round};
    source_ready(r->ctx, &r->source);
}

static int compare(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static uint64_t round_of(uint32_t ring_epoch, uint32_t round)
{
    return (uint64_t)ring_epoch << 32 | round;
}

/* Adds a slice to the train; true when the token is whole. */
static bool gather(struct ring *r, const struct wire_slice *s)
{
    struct train *in = &r->in;
    if (s->ring_epoch != in->ring_epoch || s->round != in->round || s->hops != in->hops ||
        s->count != in->count || s->total != in->total) {
        in->ring_epoch = s->ring_epoch;
        in->round = s->round;
        in->hops = s->hops;
        in->count = s->count;
        in->total = s->total;
        in->got = 0;
    }
    if (s->total > WIRE_TOKEN_BYTES_MAX || s->offset > s->total || s->size > s->total - s->offset) {
        r->ctx->stats.datagrams_malformed++;
        return false;
    }
    memcpy(in->bytes + s->offset, s->bytes, s->size);
    in->got = (uint8_t)(in->got | 1u << s->index);
    return in->got == (uint8_t)((1u << in->count) - 1);
}

/* Whether the token that arrived is one that goes on from here. */
static bool accept(struct ring *r, const struct wire_slice *s)
{
    if (!wire_read_token(r->in.bytes, r->in.total, r->token) || !ring_believes(r->token) ||
        r->token->rid != s->rid || r->token->epoch != s->epoch || r->token->level != s->level ||
        r->token->size != r->at.count || r->token->ring_epoch != s->ring_epoch ||
        r->token->round != s->round) {
        r->ctx->stats.datagrams_malformed++;
        return false;
    }
    r->ctx->stats.tokens_received++;
    if (s->count > 1) {
        context_mark(r->ctx, MARK_token_train);
    }
    context_trace(r->ctx, "token r=%u v=%llu l=%u e=%u k=%u", s->rid, (unsigned long long)s->epoch,
                  s->level, s->ring_epoch, s->round);
    return true;
}

/* Whether a token is to be taken: a new round, or the same one on a later hop, which comes home or
 * to be taken there; it has been with more members than the copy that is in hand. The leader knows
 * only its own. */
static bool is_new(const struct ring *r, const struct wire_slice *s)
{
    int newer = compare(round_of(s->ring_epoch, s->round), round_of(r->seen_epoch, r->seen_round));
    if (newer == 0) {
        return s->hops > r->seen_hops && (!ring_leads(r) || (r->in_flight && !r->holding));
    }
    return newer > 0 && !ring_leads(r);
}

void ring_receive(struct ring *r, const struct wire_slice *s, uint32_t from)
{
    uint32_t place;
    if (r->at.count == 1 || !find_place(r, from, &place) ||
        s->ring_epoch > r->seen_epoch + RING_EPOCHS_MAX) {
        r->ctx->stats.packets_dropped_unknown++;
        return;
    }
    bitmap_clear(&r->doubted, place);
    if (!is_new(r, s)) {
        r->ctx->stats.tokens_duplicate++;
        if (s->ring_epoch < r->seen_epoch) {
            context_mark(r->ctx, MARK_token_outlived);
        }
        acknowledge(r, s, from, (uint8_t)((1u << s->count) - 1));
        return;
    }
    bool whole = gather(r, s);
    acknowledge(r, s, from, r->in.got);
    if (!whole) {
        return;
    }
    timer_cancel(&r->ctx->timers, &r->hop_timer); /* an older one may still be under way */
    r->unacked = r->to_send = 0;
    r->in.count = 0;
    r->holding = false; /* what was in hand is overwritten */
    if (!accept(r, s)) {
        return;
    }
    if (bitmap_has(&r->token->skipped, r->at.index)) {
        context_mark(r->ctx, ring_leads(r) ? MARK_taken_home : MARK_skipped_reached);
    }
    /* Of two copies of a token each goes its way: what one of them says, the other does not. */
    r->visited = bitmap_has(&r->token->visited, r->at.index);
    r->seen_epoch = s->ring_epoch;
    r->seen_round = s->round;
    r->seen_hops = r->hops = s->hops;
    r->holding = true;
    source_ready(r->ctx, &r->source);
}
