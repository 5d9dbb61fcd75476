/* rings: see rings.h. */
#include <assert.h>
#include <string.h>
#include "ring_visit.h"
#include "rings.h"

static bool build_ask(void *ctx, struct datagram *ret);
static void gap_due(void *ctx, uint64_t now_us);

void rings_init(struct rings *rs, struct context *ctx, struct send *send, struct recv *recv,
                struct peers *peers, struct recovery *recovery, struct relay *relay)
{
    memset(rs, 0, sizeof *rs);
    rs->ctx = ctx;
    rs->send = send;
    rs->recv = recv;
    rs->peers = peers;
    rs->recovery = recovery;
    rs->relay = relay;
    source_init(&rs->ask, OUT_BEACON, build_ask, rs);
    timer_init(&rs->gap, gap_due, rs);
    rs->ask_after_us = ASK_FIRST_US;
}

static void leave_view(struct rings *rs)
{
    timer_cancel(&rs->ctx->timers, &rs->gap);
    source_dry(rs->ctx, &rs->ask);
    rs->asks_due = 0;
    for (uint32_t level = 0; level < rs->count; level++) {
        ring_free(rs->level[level]);
        rs->level[level] = NULL;
    }
    rs->count = 0;
    view_unref(rs->view);
    rs->view = NULL;
}

void rings_done(struct rings *rs)
{
    leave_view(rs);
}

void rings_move(struct rings *rs, struct view *v)
{
    leave_view(rs);
    recovery_forget(rs->recovery);
    rs->ask_after_us = ASK_FIRST_US;
    rs->ask_next_us = 0;
    if (v == NULL) {
        return;
    }
    rs->view = view_ref(v);
    uint32_t rank = view_rank(v, rs->ctx->id);
    assert(rank != VIEW_NO_RANK);
    struct view_ring at;
    while (view_ring(v, rs->count, rank, &at)) {
        rs->level[rs->count++] = ring_new(rs, &at);
    }
}

/* The ring that a datagram is for; NULL: this node has no place on it. */
static struct ring *find(const struct rings *rs, uint32_t rid, uint64_t epoch, uint8_t level)
{
    bool ours = rs->view != NULL && rs->view->rid == rid && rs->view->epoch == epoch;
    return ours && level < rs->count ? rs->level[level] : NULL;
}

void rings_receive(struct rings *rs, const struct wire_slice *s, uint32_t from)
{
    struct ring *r = find(rs, s->rid, s->epoch, s->level);
    if (r == NULL) {
        rs->ctx->stats.packets_dropped_unknown++;
        return;
    }
    ring_receive(r, s, from);
}

void rings_receive_ack(struct rings *rs, const struct wire_token_ack *a, uint32_t from)
{
    struct ring *r = find(rs, a->rid, a->epoch, a->level);
    if (r != NULL) {
        ring_receive_ack(r, a, from);
    }
}

/* Only the region's leader sends what may be collected. */
static void set_via(struct rings *rs, uint32_t sender, uint32_t via)
{
    struct ring *top = rs->level[rs->count - 1];
    if (ring_is_top(top) && ring_leads(top) && sender != rs->ctx->id) {
        ring_send_acks_via(top, sender, via);
    }
}

void rings_receive_ask(struct rings *rs, const struct wire_ask *a, uint32_t from)
{
    if (a->level == WIRE_ASK_ALL && find(rs, a->rid, a->epoch, 0) != NULL) {
        if (peers_find(rs->peers, from) != NULL) {
            set_via(rs, from, a->via);
        }
        rings_want(rs, rs->view);
        return;
    }
    struct ring *r = find(rs, a->rid, a->epoch, a->level);
    if (r != NULL) {
        ring_want(r);
    }
}

/* ---- demand */

bool rings_want(struct rings *rs, const struct view *v)
{
    if (rs->view == NULL || rs->view != v) {
        return false;
    }
    for (uint32_t level = 0; level < rs->count; level++) {
        ring_want(rs->level[level]);
    }
    return view_levels(v) == 1 && ring_leads(rs->level[0]);
}

void rings_ask(struct rings *rs, uint32_t level)
{
    if (ring_leads(rs->level[level])) {
        ring_want(rs->level[level]);
        return;
    }
    rs->asks_due |= UINT32_C(1) << level;
    source_ready(rs->ctx, &rs->ask);
}

static bool build_ask(void *ctx, struct datagram *ret)
{
    struct rings *rs = ctx;
    for (uint32_t level = 0; level < rs->count; level++) {
        uint32_t bit = UINT32_C(1) << level;
        uint32_t address = peers_address(rs->peers, rs->level[level]->ids[0]);
        if (!(rs->asks_due & bit)) {
            continue;
        }
        rs->asks_due &= ~bit;
        if (address == 0) {
            continue;
        }
        struct writer w;
        datagram_begin(rs->ctx, ret, &w, WIRE_ASK, address, false);
        wire_write_ask(&w, &(struct wire_ask){.rid = rs->view->rid,
                                              .epoch = rs->view->epoch,
                                              .level = (uint8_t)level});
        datagram_end(ret, &w);
        return true;
    }
    source_dry(rs->ctx, &rs->ask);
    return false;
}

void rings_beacon(struct rings *rs, uint32_t sender, uint32_t via)
{
    set_via(rs, sender, via);
    for (uint32_t level = 0; level < rs->count; level++) {
        struct ring *r = rs->level[level];
        if (ring_leads(r) && !ring_repeat_ack(r, sender)) {
            ring_want(r);
        }
    }
}

/* ---- a member with a gap asks */

static void arm_gap(struct rings *rs, uint64_t at_us)
{
    timer_arm(&rs->ctx->timers, &rs->gap, at_us > rs->ask_next_us ? at_us : rs->ask_next_us);
}

static void gap_due(void *ctx, uint64_t now_us)
{
    struct rings *rs = ctx;
    uint64_t at = recv_gap_at(rs->recv);
    if (at == TIMER_NEVER) {
        rs->ask_after_us = ASK_FIRST_US;
        return;
    }
    if (at > now_us || rs->ask_next_us > now_us) {
        arm_gap(rs, at);
        return;
    }
    rings_ask(rs, 0);
    if (rs->ask_after_us >= FETCH_AFTER_US) {
        recovery_help_yourself(rs->recovery);
    }
    rs->ask_next_us = now_us + rs->ask_after_us;
    rs->ask_after_us = rs->ask_after_us * 2 < ASK_MAX_US ? rs->ask_after_us * 2 : ASK_MAX_US;
    timer_arm(&rs->ctx->timers, &rs->gap, rs->ask_next_us);
}

void rings_notice(struct rings *rs, struct channel_in *ch)
{
    if (ch->prefix < ch->top && !timer_armed(&rs->gap)) {
        arm_gap(rs, rs->ctx->now_us + REORDER_SLACK_US);
    }
    for (uint32_t level = 0; level < rs->count; level++) {
        if (!timer_armed(&rs->level[level]->next)) {
            ring_schedule(rs->level[level]);
        }
    }
}

void rings_visited(struct rings *rs)
{
    rs->ask_after_us = ASK_FIRST_US;
}
