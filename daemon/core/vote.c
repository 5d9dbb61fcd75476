/* vote: a node's part in a view change. What it serves to others is in vote_proxy.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "vote.h"
#include "vote_proxy.h"

static bool build_fetch(void *ctx, struct datagram *ret);
static void fetch_due(void *ctx, uint64_t now_us);

void vote_init(struct vote *v, struct context *ctx, struct groups *groups, struct send *send,
               struct recv *recv, struct peers *peers, struct recovery *recovery)
{
    memset(v, 0, sizeof *v);
    v->ctx = ctx;
    v->groups = groups;
    v->send = send;
    v->recv = recv;
    v->peers = peers;
    v->recovery = recovery;
    TAILQ_INIT(&v->out);
    TAILQ_INIT(&v->passed);
    timer_init(&v->fetch_timer, fetch_due, v);
    source_init(&v->fetch_source, OUT_FLUSH, build_fetch, v);
    source_init(&v->proxy_source, OUT_REPAIR, vote_build_proxy, v);
}

static void forget_cut(struct vote *v)
{
    free(v->cuts);
    free(v->numbers);
    v->cuts = NULL;
    v->numbers = NULL;
    v->cut_count = v->number_count = 0;
    v->next_cut = v->next_number = 0;
    v->cut_known = v->done = false;
    timer_cancel(&v->ctx->timers, &v->fetch_timer);
    source_dry(v->ctx, &v->fetch_source);
}

void vote_done(struct vote *v)
{
    forget_cut(v);
    vote_drop_pieces(v);
}

static void trace(struct vote *v, const char *event)
{
    context_trace(v->ctx, "%s t=%llu e=%llu a=%u", event, (unsigned long long)v->tag.term,
                  (unsigned long long)v->tag.epoch, v->tag.attempt);
}

static void put_tag(const struct vote *v, Qsm__Tag *tag)
{
    tag->term = v->tag.term;
    tag->epoch = v->tag.epoch;
    tag->attempt = v->tag.attempt;
}

static bool same_tag(const struct vote *v, const Qsm__Tag *t)
{
    return t != NULL && t->term == v->tag.term && t->epoch == v->tag.epoch &&
           t->attempt == v->tag.attempt;
}

/* ---- PREP and REPORT */

struct report {
    Qsm__Report m;
    Qsm__Tag tag;
    Qsm__ChannelAt *channels;
    Qsm__ChannelAt **boundary, **heard;
    Qsm__NumberAt *numbers;
    Qsm__NumberAt **number;
};

static void report_boundaries(struct vote *v, struct report *r)
{
    struct channel_out *ch, *next;
    HASH_ITER (hh, v->send->channels, ch, next) {
        if (!ch->paused) {
            continue;
        }
        Qsm__ChannelAt *at = &r->channels[r->m.n_boundary + r->m.n_heard];
        qsm__channel_at__init(at);
        at->rid = ch->rid;
        at->seq = ch->last;
        r->boundary[r->m.n_boundary++] = at;
    }
}

static void report_numbers(struct vote *v, const struct channel_in *ch, struct report *r)
{
    const struct view *view = v->recv->view;
    for (uint32_t slot = 0; slot < view->group_count; slot++) {
        const struct stream *st = &ch->streams[slot];
        if (st->delivered == 0 || v->recv->by_slot[slot]->place_count < 2) {
            continue;
        }
        Qsm__NumberAt *at = &r->numbers[r->m.n_number];
        qsm__number_at__init(at);
        at->sender = ch->sender;
        at->group = view->groups[slot];
        at->number = st->delivered;
        at->first = st->first;
        r->number[r->m.n_number++] = at;
    }
}

/* Notes when a node died that cached what this one dropped since others cache it. */
static void mark_cacher_lost(struct vote *v, uint32_t dead)
{
    const struct view *view = v->recv->view;
    uint32_t rank = view_rank(view, dead);
    struct channel_in *ch, *next;
    HASH_ITER (hh, v->recv->channels, ch, next) {
        const struct packet *p = store_find(&ch->store, ch->thinned);
        if (rank != VIEW_NO_RANK && p != NULL && p->body == NULL &&
            view_caches(view, rank, ch->rank, p->seq)) {
            context_mark(v->ctx, MARK_cacher_lost);
        }
    }
}

/* Freezes the dead senders' channels and reports how far this node has them. */
static void report_dead(struct vote *v, const Qsm__Prep *m, struct report *r)
{
    for (size_t i = 0; i < m->n_dead; i++) {
        struct channel_in *ch = recv_channel(v->recv, m->dead[i]);
        recv_freeze(ch);
        mark_cacher_lost(v, m->dead[i]);
        Qsm__ChannelAt *at = &r->channels[r->m.n_boundary + r->m.n_heard];
        qsm__channel_at__init(at);
        at->sender = ch->sender;
        at->rid = v->recv->view->rid;
        at->seq = ch->prefix;
        r->heard[r->m.n_heard++] = at;
        report_numbers(v, ch, r);
    }
}

static bool in_scope(const Qsm__Prep *m, const struct recv *recv)
{
    for (size_t i = 0; recv->view != NULL && i < m->n_region; i++) {
        if (m->region[i] == recv->view->rid) {
            return true;
        }
    }
    return false;
}

/* In several messages when there are many numbers: the CMS takes each as it comes. */
static void say_report(struct vote *v, struct report *r)
{
    size_t count = r->m.n_number, told = 0;
    do {
        size_t left = count - told;
        r->m.number = r->number + told;
        r->m.n_number = left < NUMBERS_PER_REPORT ? left : NUMBERS_PER_REPORT;
        told += r->m.n_number;
        r->m.more = told < count;
        Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
        out.what_case = QSM__NODE_TO_CMS__WHAT_REPORT;
        out.report = &r->m;
        v->say(v->say_ctx, &out);
        r->m.n_boundary = r->m.n_heard = 0;
    } while (r->m.more);
}

static void report(struct vote *v, const Qsm__Prep *m)
{
    struct report r;
    qsm__report__init(&r.m);
    qsm__tag__init(&r.tag);
    put_tag(v, &r.tag);
    r.m.tag = &r.tag;
    size_t channels = HASH_CNT(hh, v->send->channels) + m->n_dead;
    size_t groups = v->recv->view != NULL ? v->recv->view->group_count : 0;
    r.channels = context_alloc(channels, sizeof r.channels[0]);
    r.boundary = context_alloc(channels, sizeof r.boundary[0]);
    r.heard = context_alloc(channels, sizeof r.heard[0]);
    r.numbers = context_alloc(m->n_dead * groups, sizeof r.numbers[0]);
    r.number = context_alloc(m->n_dead * groups, sizeof r.number[0]);
    r.m.boundary = r.boundary;
    r.m.heard = r.heard;
    r.m.number = r.number;
    report_boundaries(v, &r);
    if (in_scope(m, v->recv)) {
        report_dead(v, m, &r);
    }
    struct group *g, *next;
    HASH_ITER (by_name, v->groups->by_name, g, next) {
        r.m.voided |= g->voided && g->pending.body != NULL;
    }
    say_report(v, &r);
    free(r.channels);
    free(r.boundary);
    free(r.heard);
    free(r.numbers);
    free(r.number);
}

void vote_prep(struct vote *v, const Qsm__Prep *m)
{
    if (m->tag == NULL || m->previous != v->ctx->epoch) {
        return; /* of an epoch that this node does not start from */
    }
    if (v->left && same_tag(v, m->tag)) {
        vote_say_left(v);
        return;
    }
#ifdef MUTANT_attempt_state_kept
    if (!v->active)
#endif
        forget_cut(v);
    v->active = true;
    v->left = false;
    v->tag = (struct vote_tag){m->tag->term, m->tag->epoch, m->tag->attempt};
    trace(v, "prep");
    send_resume(v->send); /* the scope of an attempt before this one may have been larger */
    for (size_t i = 0; i < m->n_region; i++) {
        send_pause(v->send, m->region[i]);
    }
    report(v, m);
}

/* ---- CUT */

/* The group's slot in the own region. */
static uint32_t slot_of_gid(const struct vote *v, uint32_t gid)
{
    const struct group *g = groups_by_gid(v->groups, gid);
    for (uint32_t i = 0; g != NULL && i < g->place_count; i++) {
        if (g->places[i].view == v->recv->view) {
            return g->places[i].slot;
        }
    }
    return UINT32_MAX;
}

static void take_numbers(struct vote *v, const Qsm__Cut *m)
{
    v->numbers = context_alloc(m->n_number, sizeof v->numbers[0]);
    for (size_t i = 0; i < m->n_number; i++) {
        const Qsm__NumberAt *at = m->number[i];
        uint32_t slot = slot_of_gid(v, at->group);
        if (slot == UINT32_MAX || at->sender == v->ctx->id || at->first == 0) {
            continue; /* first 0: the holder has nothing of it in this view */
        }
        v->numbers[v->number_count++] = (struct cut_number){.sender = at->sender,
                                                            .holder = at->holder,
                                                            .group = at->group,
                                                            .slot = slot,
                                                            .number = at->number,
                                                            .first = at->first};
    }
}

void vote_cut(struct vote *v, const Qsm__Cut *m)
{
    if (!v->active || v->left || !same_tag(v, m->tag)) {
        return;
    }
    if (v->cut_known) {
#ifdef MUTANT_attempt_state_kept
        v->done = false; /* votes for this attempt by the cut of the last one */
        vote_check(v);
#endif
        return;
    }
    v->cut_known = true;
    const struct view *view = v->recv->view;
    v->cuts = context_alloc(m->n_channel, sizeof v->cuts[0]);
    for (size_t i = 0; view != NULL && i < m->n_channel; i++) {
        const Qsm__ChannelAt *at = m->channel[i];
        if (at->rid == view->rid && at->sender != v->ctx->id) {
            v->cuts[v->cut_count++] =
                (struct cut_channel){.sender = at->sender, .holder = at->holder, .seq = at->seq};
            recv_cut(recv_channel(v->recv, at->sender), at->seq);
        }
    }
    take_numbers(v, m);
    v->fetch_after_us = FETCH_FIRST_US;
    v->progress_us = v->ctx->now_us;
    v->missing = UINT64_MAX;
    vote_check(v);
    if (!v->done) {
        fetch_due(v, v->ctx->now_us);
    }
}

/* ---- fetching */

static bool lacks_channel(const struct vote *v, const struct cut_channel *cut)
{
    const struct channel_in *ch = recv_find(v->recv, cut->sender);
    return ch == NULL ? cut->seq > 0 : ch->prefix < cut->seq;
}

/* "A joiner has no number for a stream until its first message in the view": when its channel
 * brought none, the holder's first one in this view is where it starts. */
static void start_streams(struct vote *v)
{
#ifdef MUTANT_stream_not_started
    return;
#endif
    for (uint32_t i = 0; i < v->number_count; i++) {
        const struct cut_number *n = &v->numbers[i];
        struct channel_in *ch = recv_channel(v->recv, n->sender);
        if (ch->prefix >= ch->limit && ch->streams[n->slot].delivered == 0) {
            ch->streams[n->slot].delivered = n->first - 1;
        }
    }
}

/* Numbers are asked for when the channel has brought what it can. */
static bool lacks_number(const struct vote *v, const struct cut_number *n)
{
#ifdef MUTANT_numbers_not_fetched
    return false;
#endif
    const struct channel_in *ch = recv_find(v->recv, n->sender);
    return ch != NULL && ch->streams[n->slot].delivered < n->number;
}

/* What is missing in all, to see progress by. */
static uint64_t missing(const struct vote *v)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < v->cut_count; i++) {
        const struct channel_in *ch = recv_find(v->recv, v->cuts[i].sender);
        uint64_t prefix = ch != NULL ? ch->prefix : 0;
        sum += v->cuts[i].seq > prefix ? v->cuts[i].seq - prefix : 0;
    }
    for (uint32_t i = 0; i < v->number_count; i++) {
        const struct channel_in *ch = recv_find(v->recv, v->numbers[i].sender);
        if (ch != NULL && lacks_number(v, &v->numbers[i])) {
            sum += v->numbers[i].number - ch->streams[v->numbers[i].slot].delivered;
            sum += ch->partial.body != NULL ? 0 : 1; /* the first piece is progress, too */
        }
    }
    return sum;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* One holder may have a hundred thousand numbers. Returns how many ids are left. */
static size_t each_once(uint32_t *ids, size_t count)
{
    size_t kept = 0;
    if (count > 0) {
        qsort(ids, count, sizeof ids[0], compare_ids);
    }
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || ids[kept - 1] != ids[i]) {
            ids[kept++] = ids[i];
        }
    }
    return kept;
}

static void say_stuck(struct vote *v)
{
    Qsm__Tag tag = QSM__TAG__INIT;
    put_tag(v, &tag);
    Qsm__Stuck m = QSM__STUCK__INIT;
    m.tag = &tag;
    m.of = context_alloc(v->cut_count + v->number_count + send_partial_members(v->send, NULL),
                         sizeof m.of[0]);
    for (uint32_t i = 0; i < v->cut_count; i++) {
        if (lacks_channel(v, &v->cuts[i])) {
            m.of[m.n_of++] = v->cuts[i].holder;
        }
    }
    for (uint32_t i = 0; i < v->number_count; i++) {
        if (lacks_number(v, &v->numbers[i])) {
            m.of[m.n_of++] = v->numbers[i].holder;
        }
    }
    m.n_of += send_partial_members(v->send, m.of + m.n_of);
    m.n_of = each_once(m.of, m.n_of);
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_STUCK;
    out.stuck = &m;
    v->say(v->say_ctx, &out);
    free(m.of);
}

static void fetch_due(void *ctx, uint64_t now_us)
{
    struct vote *v = ctx;
    if (!v->active || !v->cut_known || v->done) {
        return;
    }
    send_hurry_partial(v->send);
    uint64_t now_missing = missing(v);
    if (now_missing < v->missing) {
        v->progress_us = now_us;
        v->fetch_after_us = FETCH_FIRST_US;
    } else if (now_us >= v->progress_us + STUCK_US) {
        v->progress_us = now_us;
        say_stuck(v);
    }
    v->missing = now_missing;
    v->next_cut = v->next_number = 0;
    source_ready(v->ctx, &v->fetch_source);
    timer_arm(&v->ctx->timers, &v->fetch_timer, now_us + v->fetch_after_us);
    v->fetch_after_us = v->fetch_after_us * 2 < FETCH_MAX_US ? v->fetch_after_us * 2 : FETCH_MAX_US;
}

static bool add_want(void *ctx, uint64_t from, uint64_t to)
{
    struct wire_fetch *f = ctx;
    f->want[f->count].from = from;
    f->want[f->count++].count = (uint32_t)(to - from < UINT32_MAX ? to - from + 1 : UINT32_MAX);
    return f->count < WIRE_FETCH_MAX;
}

static bool fetch_channel(struct vote *v, const struct cut_channel *cut, struct datagram *ret)
{
    uint32_t address = peers_address(v->peers, cut->holder);
    struct channel_in *ch = recv_channel(v->recv, cut->sender);
    if (!lacks_channel(v, cut) || cut->holder == v->ctx->id || address == 0) {
        return false;
    }
    struct wire_fetch f = {.channel = {v->recv->view->rid, v->recv->view->epoch, cut->sender},
                           .requester = v->ctx->id};
    ranges_gaps(&ch->have, ch->prefix + 1, cut->seq, add_want, &f);
    struct writer w;
    datagram_begin(v->ctx, ret, &w, WIRE_FETCH, address, false);
    wire_write_fetch(&w, &f);
    datagram_end(ret, &w);
    return true;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool fetch_number(struct vote *v, struct cut_number *n, struct datagram *ret)
{
    uint32_t address = peers_address(v->peers, n->holder);
    if (!lacks_number(v, n) || n->holder == v->ctx->id || address == 0) {
        return false;
    }
    const struct channel_in *ch = recv_find(v->recv, n->sender);
    for (uint32_t i = 0; i < v->cut_count; i++) {
        if (v->cuts[i].sender == n->sender && lacks_channel(v, &v->cuts[i])) {
            return false;
        }
    }
    uint64_t delivered = ch->streams[n->slot].delivered;
    struct wire_fetch_num f = {.epoch = v->tag.epoch,
                               .requester = v->ctx->id,
                               .sender = n->sender,
                               .group = n->group,
                               .first = delivered + 1,
                               .last = least(n->number, delivered + FETCH_NUMBERS_MAX)};
    n->asked = f.last;
    if (ch->partial.body != NULL && ch->partial.slot == n->slot && ch->partial.number == f.first) {
        f.index = ch->partial.next;
    }
    struct writer w;
    datagram_begin(v->ctx, ret, &w, WIRE_FETCH_NUM, address, false);
    wire_write_fetch_num(&w, &f);
    datagram_end(ret, &w);
    return true;
}

static bool build_fetch(void *ctx, struct datagram *ret)
{
    struct vote *v = ctx;
    while (v->next_cut < v->cut_count) {
        if (fetch_channel(v, &v->cuts[v->next_cut++], ret)) {
            return true;
        }
    }
    while (v->next_number < v->number_count) {
        if (fetch_number(v, &v->numbers[v->next_number++], ret)) {
            return true;
        }
    }
    source_dry(v->ctx, &v->fetch_source);
    return false;
}

/* ---- the vote */

static bool complete(const struct vote *v)
{
#ifdef MUTANT_done_before_repair
    return true;
#endif
    for (uint32_t i = 0; i < v->cut_count; i++) {
        if (lacks_channel(v, &v->cuts[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < v->number_count; i++) {
        if (lacks_number(v, &v->numbers[i])) {
            return false;
        }
    }
    return send_partial_stable(v->send);
}

void vote_check(struct vote *v)
{
    if (!v->active || !v->cut_known || v->done || v->left) {
        return;
    }
    start_streams(v);
    if (!complete(v)) {
        return;
    }
    v->done = true;
    timer_cancel(&v->ctx->timers, &v->fetch_timer);
    v->ctx->stats.flushes_joined++;
    trace(v, "vote");
    Qsm__Tag tag = QSM__TAG__INIT;
    put_tag(v, &tag);
    Qsm__Done m = QSM__DONE__INIT;
    m.tag = &tag;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_DONE;
    out.done = &m;
    v->say(v->say_ctx, &out);
}

void vote_void(struct vote *v)
{
    if (!v->active) {
        return;
    }
    trace(v, "thaw");
    forget_cut(v);
    v->active = false;
    recv_thaw(v->recv);
    send_resume(v->send);
}

void vote_leave(struct vote *v)
{
    bool voted = v->done;
#ifdef MUTANT_leave_after_vote
    voted = false;
#endif
    if (!v->active || voted) {
        return;
    }
    trace(v, "leave");
    context_mark(v->ctx, MARK_attempt_left);
    v->ctx->stats.flushes_left++;
    vote_void(v);
    v->left = true;
    vote_say_left(v);
}

void vote_say_left(struct vote *v)
{
    if (!v->left) {
        return;
    }
    Qsm__Tag tag = QSM__TAG__INIT;
    put_tag(v, &tag);
    Qsm__Left m = QSM__LEFT__INIT;
    m.tag = &tag;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_LEFT;
    out.left = &m;
    v->say(v->say_ctx, &out);
}

void vote_install(struct vote *v)
{
    forget_cut(v);
    v->active = v->left = false;
    vote_drop_pieces(v);
}
