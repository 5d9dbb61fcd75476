/* ring: the token's way round a region view. What a visit adds to it is in ring_visit.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "ring.h"
#include "ring_visit.h"

static bool build_token(void *ctx, struct datagram *ret);
static bool build_ask(void *ctx, struct datagram *ret);
static void hop_due(void *ctx, uint64_t now_us);
static void next_due(void *ctx, uint64_t now_us);
static void lost_due(void *ctx, uint64_t now_us);
static void gap_due(void *ctx, uint64_t now_us);

void ring_init(struct ring *r, struct context *ctx, struct send *send, struct recv *recv,
               struct peers *peers, struct recovery *recovery)
{
    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->send = send;
    r->recv = recv;
    r->peers = peers;
    r->recovery = recovery;
    r->token = context_alloc(1, sizeof *r->token);
    r->bytes = context_alloc(1, WIRE_TOKEN_BYTES_MAX);
    r->in.bytes = context_alloc(1, WIRE_TOKEN_BYTES_MAX);
    r->carried = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof r->carried[0]);
    r->carried_sender = context_alloc(WIRE_TOKEN_RANGES_MAX, sizeof r->carried_sender[0]);
    TAILQ_INIT(&r->acks_due);
    source_init(&r->source, OUT_TOKEN, build_token, r);
    source_init(&r->ack_source, OUT_TOKEN, ring_build_ack, r);
    source_init(&r->ask, OUT_BEACON, build_ask, r);
    timer_init(&r->hop_timer, hop_due, r);
    timer_init(&r->next, next_due, r);
    timer_init(&r->lost, lost_due, r);
    timer_init(&r->gap, gap_due, r);
    r->ask_after_us = ASK_FIRST_US;
}

static void leave_view(struct ring *r)
{
    struct timers *ts = &r->ctx->timers;
    timer_cancel(ts, &r->hop_timer);
    timer_cancel(ts, &r->next);
    timer_cancel(ts, &r->lost);
    timer_cancel(ts, &r->gap);
    source_dry(r->ctx, &r->source);
    source_dry(r->ctx, &r->ack_source);
    source_dry(r->ctx, &r->ask);
    ring_forget_proofs(r);
    view_unref(r->view);
    r->view = NULL;
}

void ring_done(struct ring *r)
{
    leave_view(r);
    free(r->token);
    free(r->bytes);
    free(r->in.bytes);
    free(r->carried);
    free(r->carried_sender);
}

void ring_move(struct ring *r, struct view *v)
{
    leave_view(r);
    r->holding = r->in_flight = r->asked = false;
    r->unacked = r->to_send = 0;
    r->seen_epoch = r->seen_round = 0;
    r->in.count = r->in.got = 0;
    r->in.ring_epoch = r->in.round = 0;
    r->ack_count = 0;
    r->ring_epoch = 1;
    r->round = 0;
    r->active = 1;
    r->rotate = 0;
    r->carried_count = 0;
    r->started_us = 0;
    r->ask_after_us = ASK_FIRST_US;
    r->ask_next_us = 0;
    if (v != NULL) {
        r->view = view_ref(v);
        r->rank = view_rank(v, r->ctx->id);
        r->size = v->member_count;
        assert(r->rank != VIEW_NO_RANK);
    }
}

bool ring_leads(const struct ring *r)
{
    return r->view != NULL && r->rank == 0;
}

/* ---- the leader: when a token goes */

static uint64_t least_interval(const struct ring *r)
{
    uint64_t by_size = (uint64_t)r->size * TOKEN_PER_MEMBER_US;
    uint64_t set = r->ctx->config.token_min_interval_us;
    return by_size > set ? by_size : set;
}

static void schedule(struct ring *r)
{
    if (!ring_leads(r) || r->in_flight || ring_idle(r)) {
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
        schedule(r);
    }
}

static void round_over(struct ring *r)
{
    struct context *c = r->ctx;
    timer_cancel(&c->timers, &r->lost);
    r->in_flight = false;
    bool full = bitmap_count(&r->token->visited, r->size) == r->size;
#ifdef MUTANT_partial_round
    full = true;
#endif
    uint64_t trip = c->now_us - r->started_us;
    c->stats.rounds_complete += full;
    c->stats.rounds_incomplete += !full;
    if (full) {
        c->stats.round_trip_us += trip;
        c->stats.last_round_trip_us = trip;
    }
    context_trace(c, "round r=%u v=%llu e=%u k=%u full=%d", r->view->rid,
                  (unsigned long long)r->view->epoch, r->ring_epoch, r->round, full);
    r->asked |= ring_conclude(r, full);
    schedule(r);
}

static void next_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    if (r->in_flight || ring_idle(r)) {
        return;
    }
    r->asked = false;
    r->in_flight = true;
    r->started_us = now_us;
    r->round++;
    r->seen_epoch = r->ring_epoch;
    r->seen_round = r->round;
    ring_make_token(r);
    if (r->size == 1) {
        ring_visit(r);
        round_over(r);
        return;
    }
    timer_arm(&r->ctx->timers, &r->lost,
              now_us + TOKEN_LOST_US + (uint64_t)r->size * TOKEN_LOST_PER_MEMBER_US);
    r->holding = true;
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
    schedule(r);
}

void ring_beacon(struct ring *r, uint32_t sender)
{
    if (!ring_leads(r)) {
        return;
    }
    if (!ring_repeat_ack(r, sender)) {
        ring_want(r);
    }
}

/* ---- the hop */

static uint32_t successor(const struct ring *r, uint32_t rank)
{
    return (rank + 1) % r->size;
}

static void encode(struct ring *r)
{
    const uint32_t slice = WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - WIRE_SLICE_BYTES;
    r->total = (uint32_t)wire_write_token(r->token, r->bytes);
    r->slices = (uint8_t)((r->total + slice - 1) / slice);
    r->to_send = r->unacked = (uint8_t)((1u << r->slices) - 1);
}

static bool build_slice(struct ring *r, struct datagram *ret)
{
    const uint32_t slice = WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - WIRE_SLICE_BYTES;
    uint8_t i = 0;
    while (!(r->to_send & (1u << i))) {
        i++;
    }
    r->to_send = (uint8_t)(r->to_send & ~(1u << i));
    uint32_t address = peers_address(r->peers, r->view->members[r->hop]);
    struct wire_slice s = {.rid = r->view->rid,
                           .epoch = r->view->epoch,
                           .level = r->level,
                           .index = i,
                           .count = r->slices,
                           .ring_epoch = r->token->ring_epoch,
                           .round = r->token->round,
                           .offset = i * slice,
                           .total = r->total,
                           .bytes = r->bytes + i * slice};
    s.size = (uint16_t)(r->total - s.offset < slice ? r->total - s.offset : slice);
    struct writer w;
    datagram_begin(r->ctx, ret, &w, WIRE_TOKEN, address, false);
    wire_write_slice(&w, &s);
    datagram_end(ret, &w);
    if (r->to_send == 0) {
        timer_arm(&r->ctx->timers, &r->hop_timer,
                  r->ctx->now_us + ((uint64_t)HOP_FIRST_US << r->tries));
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

static bool build_token(void *ctx, struct datagram *ret)
{
    struct ring *r = ctx;
    if (r->ack_count > 0) {
        return build_hop_ack(r, ret);
    }
    if (r->holding) { /* what this node knows enters the token now, not before */
        r->holding = false;
        ring_visit(r);
        r->hop = successor(r, r->rank);
        r->tries = 0;
        encode(r);
        r->ctx->stats.tokens_sent++;
    }
    if (r->to_send != 0) {
        return build_slice(r, ret);
    }
    source_dry(r->ctx, &r->source);
    return false;
}

static void hop_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    (void)now_us;
    if (r->unacked == 0) {
        return;
    }
    if (++r->tries < HOP_TRIES) {
        r->ctx->stats.tokens_retried++;
        r->to_send = r->unacked;
        source_ready(r->ctx, &r->source);
        return;
    }
    /* "A silent successor is skipped, marked, reported." */
    r->ctx->stats.hops_skipped++;
    r->suspect(r->suspect_ctx, r->view->members[r->hop]);
    bitmap_set(&r->token->skipped, r->hop);
    bool leader_silent = r->hop == 0;
    r->hop = successor(r, r->hop);
    if (leader_silent) {
        r->unacked = 0; /* it will make another */
        return;
    }
    if (r->hop == r->rank) { /* only the leader gets here: nobody else answers */
        r->unacked = 0;
        round_over(r);
        return;
    }
    r->tries = 0;
    encode(r);
    source_ready(r->ctx, &r->source);
}

void ring_receive_ack(struct ring *r, const struct wire_token_ack *a, uint32_t from)
{
    if (r->view == NULL || a->rid != r->view->rid || a->epoch != r->view->epoch ||
        a->level != r->level || r->unacked == 0 || a->ring_epoch != r->token->ring_epoch ||
        a->round != r->token->round || from != r->view->members[r->hop]) {
        return;
    }
    r->unacked = (uint8_t)(r->unacked & ~a->slices);
    r->to_send = (uint8_t)(r->to_send & ~a->slices);
    if (r->unacked == 0) {
        timer_cancel(&r->ctx->timers, &r->hop_timer);
    }
}

/* ---- a token arrives */

static void acknowledge(struct ring *r, const struct wire_slice *s, uint32_t from, uint8_t slices)
{
    uint32_t address = peers_address(r->peers, from);
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

static int compare(uint32_t epoch_a, uint32_t round_a, uint32_t epoch_b, uint32_t round_b)
{
    uint64_t a = (uint64_t)epoch_a << 32 | round_a, b = (uint64_t)epoch_b << 32 | round_b;
    return a < b ? -1 : a > b;
}

/* Adds a slice to the train; true when the token is whole. */
static bool gather(struct ring *r, const struct wire_slice *s)
{
    struct train *in = &r->in;
    if (compare(s->ring_epoch, s->round, in->ring_epoch, in->round) != 0 || s->count != in->count ||
        s->total != in->total) {
        in->ring_epoch = s->ring_epoch;
        in->round = s->round;
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
        r->token->rid != s->rid || r->token->epoch != s->epoch || r->token->size != r->size ||
        r->token->ring_epoch != s->ring_epoch || r->token->round != s->round) {
        r->ctx->stats.datagrams_malformed++;
        return false;
    }
    r->ctx->stats.tokens_received++;
    context_trace(r->ctx, "token r=%u v=%llu e=%u k=%u", s->rid, (unsigned long long)s->epoch,
                  s->ring_epoch, s->round);
    return true;
}

void ring_receive(struct ring *r, const struct wire_slice *s, uint32_t from)
{
    if (r->view == NULL || s->rid != r->view->rid || s->epoch != r->view->epoch ||
        s->level != r->level || r->size == 1 || view_rank(r->view, from) == VIEW_NO_RANK ||
        s->ring_epoch > r->seen_epoch + RING_EPOCHS_MAX) {
        r->ctx->stats.packets_dropped_unknown++;
        return;
    }
    int newer = compare(s->ring_epoch, s->round, r->seen_epoch, r->seen_round);
    bool home = r->rank == 0 && newer == 0 && r->in_flight && !r->holding;
    if (newer < 0 || (newer == 0 && !home) || (newer > 0 && r->rank == 0)) {
        r->ctx->stats.tokens_duplicate++;
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
    if (!accept(r, s)) {
        return;
    }
    r->seen_epoch = s->ring_epoch;
    r->seen_round = s->round;
    if (home) {
        round_over(r);
        return;
    }
    r->holding = true;
    source_ready(r->ctx, &r->source);
}

/* ---- a member with a gap asks */

static bool build_ask(void *ctx, struct datagram *ret)
{
    struct ring *r = ctx;
    source_dry(r->ctx, &r->ask);
    uint32_t address = peers_address(r->peers, r->view->members[0]);
    if (address == 0) {
        return false;
    }
    struct writer w;
    datagram_begin(r->ctx, ret, &w, WIRE_ASK, address, false);
    wire_write_ask(&w, &(struct wire_ask){
                           .rid = r->view->rid, .epoch = r->view->epoch, .round = r->seen_round});
    datagram_end(ret, &w);
    return true;
}

static void gap_due(void *ctx, uint64_t now_us)
{
    struct ring *r = ctx;
    uint64_t at = recv_gap_at(r->recv);
    if (at == TIMER_NEVER) {
        r->ask_after_us = ASK_FIRST_US;
        return;
    }
    if (at > now_us || r->ask_next_us > now_us) {
        timer_arm(&r->ctx->timers, &r->gap, at > r->ask_next_us ? at : r->ask_next_us);
        return;
    }
    if (ring_leads(r)) {
        ring_want(r);
    } else {
        source_ready(r->ctx, &r->ask);
    }
    r->ask_next_us = now_us + r->ask_after_us;
    r->ask_after_us = r->ask_after_us * 2 < ASK_MAX_US ? r->ask_after_us * 2 : ASK_MAX_US;
    timer_arm(&r->ctx->timers, &r->gap, r->ask_next_us);
}

void ring_notice(struct ring *r, struct channel_in *ch)
{
    if (ch->prefix < ch->top && !timer_armed(&r->gap)) {
        uint64_t at = r->ctx->now_us + REORDER_SLACK_US;
        timer_arm(&r->ctx->timers, &r->gap, at > r->ask_next_us ? at : r->ask_next_us);
    }
    if (r->rank == 0 && !timer_armed(&r->next)) {
        schedule(r);
    }
}
