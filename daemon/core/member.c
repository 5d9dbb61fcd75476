/* member: the link to the CMS. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "member.h"

enum { FRAME_NODE_TO_CMS = 1, FRAME_CMS_TO_NODE = 2 };

static void ping_due(void *ctx, uint64_t now_us);
static void watch_due(void *ctx, uint64_t now_us);
static void probe_due(void *ctx, uint64_t now_us);
static void stop_due(void *ctx, uint64_t now_us);
static void tell_due(void *ctx, uint64_t now_us);
static bool build_probe(void *ctx, struct datagram *ret);
static bool build_probe_ack(void *ctx, struct datagram *ret);

void member_init(struct member *m, struct context *ctx)
{
    memset(m, 0, sizeof *m);
    m->ctx = ctx;
    m->incarnation = context_random(ctx) | 1;
    timer_init(&m->ping, ping_due, m);
    timer_init(&m->watch, watch_due, m);
    timer_init(&m->probe_timer, probe_due, m);
    timer_init(&m->stop, stop_due, m);
    timer_init(&m->tell, tell_due, m);
    source_init(&m->probe_source, OUT_BEACON, build_probe, m);
    source_init(&m->probe_ack_source, OUT_BEACON, build_probe_ack, m);
}

void member_done(struct member *m)
{
    member_forget_regions(m);
    free(m->in);
    free(m->out);
    parts_reset(&m->parts);
}

/* ---- out */

void member_say(void *member, const Qsm__NodeToCms *msg)
{
    struct member *m = member;
    size_t size = qsm__node_to_cms__get_packed_size(msg);
    if (!m->up) {
        return; /* said again when the link is up */
    }
    if (m->out_used - m->out_sent + size > LINK_OUT_MAX) {
        m->reset = true; /* on a new link all is said again */
        return;
    }
    if (m->out_sent > 0) {
        memmove(m->out, m->out + m->out_sent, m->out_used - m->out_sent);
        m->out_used -= m->out_sent;
        m->out_sent = 0;
    }
    if (m->out_used + size + FRAME_HEAD_BYTES > m->out_room) {
        m->out_room = (m->out_used + size + FRAME_HEAD_BYTES) * 2;
        m->out = context_grow(m->out, m->out_room, 1);
    }
    frame_write_head(m->out + m->out_used, FRAME_NODE_TO_CMS, 0, size);
    qsm__node_to_cms__pack(msg, m->out + m->out_used + FRAME_HEAD_BYTES);
    m->out_used += size + FRAME_HEAD_BYTES;
}

/* Which channels some group goes on to send into. */
static void mark_wanted(struct member *m)
{
    struct channel_out *ch, *next_channel;
    HASH_ITER (hh, m->send->channels, ch, next_channel) {
        ch->wanted = false;
    }
    struct group *g, *next;
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        for (uint32_t i = 0; i < g->place_count && (g->want & NODE_SEND); i++) {
            if (g->places[i].channel != NULL) {
                g->places[i].channel->wanted = true;
            }
        }
    }
}

/* A group may be told to the CMS as no longer sent to only when all that was sent is stable; and
 * the last one of a channel when all members know that it is released, since from then on nothing
 * tells them. */
static unsigned tellable(struct member *m, const struct group *g, bool *marked)
{
    bool settled = g->sent == g->stable && g->pending.body == NULL && g->dry;
    for (uint32_t i = 0; i < g->place_count && settled && !(g->want & NODE_SEND); i++) {
        const struct channel_out *ch = g->places[i].channel;
        if (ch == NULL || ch->rel_known == ch->last) {
            continue;
        }
        if (!*marked) {
            mark_wanted(m);
            *marked = true;
        }
        settled = ch->wanted;
    }
#ifdef MUTANT_close_at_once
    settled = true;
#endif
    return g->want | (settled ? 0 : g->asked & NODE_SEND);
}

static void say_some(struct member *m, Qsm__Change **list, size_t count)
{
    Qsm__Changes msg = QSM__CHANGES__INIT;
    msg.request = ++m->requests;
    msg.change = list;
    msg.n_change = count;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_CHANGES;
    out.changes = &msg;
    if (count > 0) {
        member_say(m, &out);
    }
}

/* Any number of changes, in requests that fit a frame. */
static void say_changes(struct member *m)
{
    m->dirty = false;
    bool marked = false;
    size_t count = 0;
    Qsm__Change *changes = context_alloc(CHANGES_PER_REQUEST, sizeof changes[0]);
    Qsm__Change **list = context_alloc(CHANGES_PER_REQUEST, sizeof list[0]);
    struct group *g, *next;
    TAILQ_FOREACH_SAFE (g, &m->groups->noted, note, next) {
        unsigned want = tellable(m, g, &marked);
        if (want == g->want && g->tell == 0 && (want == g->asked || g->refused)) {
            groups_unnote(m->groups, g);
            member_drop_unused(m, g);
            continue;
        }
        m->dirty = true; /* looked at again in the next turn */
        if (want == g->asked || g->refused) {
            continue;
        }
        g->asked = (uint8_t)want;
        Qsm__Change *c = &changes[count];
        qsm__change__init(c);
        c->name = g->name;
        c->recv = (want & NODE_RECV) != 0;
        c->send = (want & NODE_SEND) != 0;
        list[count++] = c;
        if (count == CHANGES_PER_REQUEST) {
            say_some(m, list, count);
            count = 0;
        }
    }
    say_some(m, list, count);
    free(changes);
    free(list);
}

size_t member_link_pull(struct member *m, uint8_t *out, size_t room)
{
    if (m->welcome && m->dirty && !m->stopping) {
        say_changes(m);
    }
    size_t n = m->out_used - m->out_sent;
    n = n < room ? n : room;
    if (n > 0) {
        memcpy(out, m->out + m->out_sent, n);
        m->out_sent += n;
    }
    return n;
}

void member_note(struct member *m, struct group *g)
{
    groups_note(m->groups, g);
    m->dirty = true;
}

/* Events are not told inside node_open and node_close, which the shell is still in. */
static void tell_soon(struct member *m, struct group *g, unsigned bits)
{
    g->tell |= (uint8_t)bits;
    groups_note(m->groups, g);
    timer_arm(&m->ctx->timers, &m->tell, m->ctx->now_us);
}

void member_open(struct member *m, struct group *g, unsigned mode)
{
    unsigned fresh = mode & ~g->want & g->installed; /* what was on its way out goes on */
#ifdef MUTANT_answer_before_install
    fresh = mode & ~g->want;
    g->installed |= fresh & NODE_SEND;
#endif
    g->want |= (uint8_t)mode;
    g->refused = false;
    if (mode & NODE_RECV) {
        g->leaving = false;
    }
    member_note(m, g);
    if (fresh != 0) {
        tell_soon(m, g,
                  (fresh & NODE_RECV ? TELL_VIEW : 0) | (fresh & NODE_SEND ? TELL_SENDABLE : 0));
    }
}

void member_close(struct member *m, struct group *g, unsigned mode)
{
    unsigned lost = g->want & mode;
    g->want &= (uint8_t)~mode;
    g->refused = false;
    member_note(m, g);
    if ((lost & NODE_RECV) && !(g->installed & NODE_RECV)) {
        tell_soon(m, g, TELL_LEFT);
    } else if (lost & NODE_RECV) {
        g->leaving = true;
    }
    member_drop_unused(m, g);
}

void member_drop_unused(struct member *m, struct group *g)
{
    if (g->want == 0 && !g->leaving && !(g->tell & TELL_LEFT)) {
        groups_drop_handle(m->groups, g);
    }
}

static void tell_due(void *ctx, uint64_t now_us)
{
    struct member *m = ctx;
    (void)now_us;
    struct group *g, *next;
    TAILQ_FOREACH_SAFE (g, &m->groups->noted, note, next) {
        unsigned tell = g->tell;
        g->tell = 0;
        if (tell & TELL_LEFT) {
            member_tell(m, g, GROUP_LEFT);
        }
        if ((tell & TELL_VIEW) && (g->installed & NODE_RECV)) {
            member_tell(m, g, GROUP_VIEW);
        }
        if ((tell & TELL_SENDABLE) && (g->installed & g->want & NODE_SEND)) {
            member_tell(m, g, GROUP_SENDABLE);
        }
        member_drop_unused(m, g);
    }
}

void member_tell(struct member *m, const struct group *g, enum group_event_kind kind)
{
    if (g->handle == GROUP_NO_HANDLE || (kind == GROUP_VIEW && !group_listens(g))) {
        return;
    }
    struct group_event e = {.kind = kind,
                            .group = g->handle,
                            .epoch = g->epoch,
                            .members = g->members,
                            .member_count = g->member_count};
    m->ctx->up.group(m->ctx->up.ctx, &e);
}

static void say_hello(struct member *m)
{
    const struct node_config *c = &m->ctx->config;
    Qsm__Hello msg = QSM__HELLO__INIT;
    msg.cluster = (char *)(uintptr_t)c->cluster;
    msg.name = (char *)(uintptr_t)c->name;
    msg.address = c->address;
    msg.datagram_bytes = c->datagram_bytes;
    msg.rcvbuf_bytes = c->rcvbuf_bytes;
    msg.wire_min = msg.wire_max = WIRE_VERSION;
    msg.node_id = m->ctx->id;
    msg.incarnation = m->incarnation;
    msg.epoch = m->ctx->epoch;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_HELLO;
    out.hello = &msg;
    member_say(m, &out);
}

static void ping_due(void *ctx, uint64_t now_us)
{
    struct member *m = ctx;
    Qsm__Ping msg = QSM__PING__INIT;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_PING;
    out.ping = &msg;
    member_say(m, &out);
    if (now_us >= m->heard_us + LINK_SILENT_US) {
        m->reset = true;
    }
    timer_arm(&m->ctx->timers, &m->ping, now_us + LINK_PING_US);
}

/* ---- the link */

void member_link_up(struct member *m)
{
    m->up = true;
    m->welcome = m->reset = false;
    m->in_used = m->out_used = m->out_sent = 0;
    parts_reset(&m->parts);
    m->heard_us = m->ctx->now_us;
    say_hello(m);
    timer_arm(&m->ctx->timers, &m->ping, m->ctx->now_us + LINK_PING_US);
}

void member_link_down(struct member *m)
{
    if (m->up) {
        m->down_us = m->ctx->now_us;
        timer_arm_sooner(&m->ctx->timers, &m->watch, m->down_us + LINK_LEAVE_US);
    }
    m->up = m->welcome = m->reset = false;
    m->out_used = m->out_sent = 0;
    parts_reset(&m->parts);
    timer_cancel(&m->ctx->timers, &m->ping);
}

/* "Before voting, a node without the CMS for 1 s leaves the attempt." */
static void watch_due(void *ctx, uint64_t now_us)
{
    struct member *m = ctx;
    uint64_t since = m->up ? m->heard_us : m->down_us;
    if (m->vote->active && now_us >= since + LINK_LEAVE_US) {
        vote_leave(m->vote);
    } else if (m->vote->active) {
        timer_arm(&m->ctx->timers, &m->watch, since + LINK_LEAVE_US);
    }
}

static void welcome(struct member *m, const Qsm__Welcome *w)
{
    struct context *c = m->ctx;
    m->refusal[0] = '\0';
    if (c->id != 0 && c->id != w->node_id) {
        member_expelled(m);
    }
    if (c->id == 0) {
        c->id = w->node_id;
        context_trace(c, "node id=%u", c->id);
        if (m->expelled) {
            context_mark(c, MARK_rejoined);
        }
        m->expelled = false;
        peers_add(m->peers, c->id, c->config.name, c->config.address);
    }
    m->welcome = true;
    m->term = w->term;
#ifndef MUTANT_old_term_kept
    if (m->vote->active && m->vote->tag.term < w->term) {
        if (w->epoch == c->epoch) {
            context_mark(c, MARK_attempt_void);
            vote_void(m->vote);
        } else if (w->epoch == m->vote->tag.epoch) {
            context_mark(c, MARK_install_untold);
        }
    }
#endif
    vote_say_left(m->vote);
    struct group *g, *next;
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        unsigned known = g->asked | g->installed; /* what the CMS may have heard */
        if (g->want != 0 || known != 0) {         /* all are told again */
            g->asked = ~g->want & (NODE_RECV | NODE_SEND);
            member_note(m, g);
        }
    }
}

static void answer(struct member *m, const Qsm__Answer *a)
{
    for (size_t i = 0; i < a->n_refused; i++) {
        struct group *g = groups_by_name(m->groups, a->refused[i]->name);
        if (g == NULL || g->handle == GROUP_NO_HANDLE) {
            continue;
        }
        g->refused = true;
        g->asked = g->installed;
        struct group_event e = {.kind = GROUP_REFUSED,
                                .group = g->handle,
                                .epoch = g->epoch,
                                .reason = a->refused[i]->reason};
        m->ctx->up.group(m->ctx->up.ctx, &e);
    }
}

/* ---- probes */

static void begin_probe(struct member *m, const Qsm__Probe *p)
{
    for (int i = 0; i < PROBES_MAX; i++) {
        if (m->probes[i].id == 0) {
            m->probes[i] = (struct probe){
                .id = p->probe, .node = p->node, .address = p->address, .at_us = m->ctx->now_us};
            timer_arm_sooner(&m->ctx->timers, &m->probe_timer, m->ctx->now_us);
            return;
        }
    }
}

static void end_probe(struct member *m, struct probe *p, bool alive)
{
    Qsm__ProbeResult msg = QSM__PROBE_RESULT__INIT;
    msg.probe = p->id;
    msg.alive = alive;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_PROBE_RESULT;
    out.probe_result = &msg;
    p->id = 0;
    member_say(m, &out);
}

static void probe_due(void *ctx, uint64_t now_us)
{
    struct member *m = ctx;
    uint64_t next = TIMER_NEVER;
    for (int i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &m->probes[i];
        if (p->id == 0) {
            continue;
        }
        if (p->at_us <= now_us && p->tries == PROBE_TRIES) {
            end_probe(m, p, false);
            continue;
        }
        if (p->at_us <= now_us) {
            source_ready(m->ctx, &m->probe_source);
        }
        uint64_t at = p->at_us <= now_us ? now_us + PROBE_EVERY_US : p->at_us;
        next = at < next ? at : next;
    }
    if (next != TIMER_NEVER) {
        timer_arm(&m->ctx->timers, &m->probe_timer, next);
    }
}

static bool build_probe(void *ctx, struct datagram *ret)
{
    struct member *m = ctx;
    for (int i = 0; i < PROBES_MAX; i++) {
        struct probe *p = &m->probes[i];
        if (p->id == 0 || p->at_us > m->ctx->now_us || p->tries == PROBE_TRIES) {
            continue;
        }
        p->tries++;
        p->at_us = m->ctx->now_us + PROBE_EVERY_US;
        struct writer w;
        datagram_begin(m->ctx, ret, &w, WIRE_PROBE, p->address, false);
        write_u64(&w, p->node);
        datagram_end(ret, &w);
        return true;
    }
    source_dry(m->ctx, &m->probe_source);
    return false;
}

void member_answer_probe(struct member *m, uint32_t from)
{
    if (m->probe_ack_count < PROBES_MAX) {
        m->probe_acks[m->probe_ack_count++] = from;
        source_ready(m->ctx, &m->probe_ack_source);
    }
}

static bool build_probe_ack(void *ctx, struct datagram *ret)
{
    struct member *m = ctx;
    while (m->probe_ack_count > 0) {
        uint32_t address = peers_address(m->peers, m->probe_acks[--m->probe_ack_count]);
        if (address == 0) {
            continue;
        }
        struct writer w;
        datagram_begin(m->ctx, ret, &w, WIRE_PROBE_ACK, address, false);
        write_u64(&w, m->ctx->id);
        datagram_end(ret, &w);
        return true;
    }
    source_dry(m->ctx, &m->probe_ack_source);
    return false;
}

void member_probe_ack(struct member *m, uint32_t from)
{
    for (int i = 0; i < PROBES_MAX; i++) {
        if (m->probes[i].id != 0 && m->probes[i].node == from) {
            end_probe(m, &m->probes[i], true);
        }
    }
}

void member_suspect(void *member, uint32_t node_id)
{
    struct member *m = member;
    if (m->suspect_us != 0 && m->ctx->now_us < m->suspect_us + LINK_PING_US) {
        return;
    }
    m->suspect_us = m->ctx->now_us;
    Qsm__Suspect msg = QSM__SUSPECT__INIT;
    msg.node = node_id;
    msg.reason = (char *)(uintptr_t) "silent on the ring";
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_SUSPECT;
    out.suspect = &msg;
    member_say(m, &out);
}

/* ---- in */

/* The link starts anew. */
static void refused(struct member *m, const char *reason)
{
    snprintf(m->refusal, sizeof(m->refusal), "%s", reason);
    m->reset = true;
}

static int dispatch(struct member *m, const Qsm__CmsToNode *msg)
{
    switch (msg->what_case) {
    case QSM__CMS_TO_NODE__WHAT_WELCOME:
        welcome(m, msg->welcome);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_ANSWER:
        answer(m, msg->answer);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_PREP:
        vote_prep(m->vote, msg->prep);
        timer_arm_sooner(&m->ctx->timers, &m->watch, m->ctx->now_us + LINK_LEAVE_US);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_CUT:
        vote_cut(m->vote, msg->cut);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_INSTALL:
        return member_install(m, msg->install) ? 0 : -EPROTO;
    case QSM__CMS_TO_NODE__WHAT_PROBE:
        begin_probe(m, msg->probe);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_EXPELLED:
        member_expelled(m);
        refused(m, msg->expelled->reason);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_REFUSED:
        refused(m, msg->refused->reason);
        return 0;
    case QSM__CMS_TO_NODE__WHAT_PING:
        return 0;
    default:
        return -EPROTO;
    }
}

static int take_frame(struct member *m, const struct frame *f)
{
    if (f->kind != FRAME_CMS_TO_NODE && f->kind != PARTS_KIND) {
        return -EPROTO;
    }
    const uint8_t *bytes;
    size_t count;
    int whole = parts_take(&m->parts, f, &bytes, &count);
    if (whole <= 0) {
        return whole;
    }
    Qsm__CmsToNode *msg = qsm__cms_to_node__unpack(NULL, count, bytes);
    parts_reset(&m->parts);
    if (msg == NULL) {
        return -EPROTO;
    }
    int error = dispatch(m, msg);
    qsm__cms_to_node__free_unpacked(msg, NULL);
    return error;
}

int member_link_receive(struct member *m, const uint8_t *bytes, size_t count)
{
    m->heard_us = m->ctx->now_us;
    if (m->in_used + count > m->in_room) {
        m->in_room = (m->in_used + count) * 2;
        m->in = context_grow(m->in, m->in_room, 1);
    }
    memcpy(m->in + m->in_used, bytes, count);
    m->in_used += count;
    size_t at = 0;
    while (at < m->in_used && !m->reset) {
        struct frame f;
        long size = frame_parse(m->in + at, m->in_used - at, &f);
        if (size < 0) {
            return -EPROTO;
        }
        if (size == 0) {
            break;
        }
        int error = take_frame(m, &f);
        if (error < 0) {
            return error;
        }
        at += (size_t)size;
    }
    memmove(m->in, m->in + at, m->in_used - at);
    m->in_used -= at;
    return 0;
}

/* ---- the end */

static void say_bye(struct member *m)
{
    Qsm__Bye msg = QSM__BYE__INIT;
    Qsm__NodeToCms out = QSM__NODE_TO_CMS__INIT;
    out.what_case = QSM__NODE_TO_CMS__WHAT_BYE;
    out.bye = &msg;
    member_say(m, &out);
    m->said_bye = true;
}

/* Own messages get a while to become stable, then the CMS is told. */
static void stop_due(void *ctx, uint64_t now_us)
{
    struct member *m = ctx;
    if (m->said_bye) {
        return;
    }
    if (send_idle(m->send) || now_us >= m->stop_us + STOP_PATIENCE_US || !m->welcome) {
        say_bye(m);
        return;
    }
    timer_arm(&m->ctx->timers, &m->stop, now_us + 10000);
}

void member_stop(struct member *m)
{
    if (!m->stopping) {
        m->stopping = true;
        m->stop_us = m->ctx->now_us;
        timer_arm(&m->ctx->timers, &m->stop, m->stop_us);
    }
}

bool member_stopped(const struct member *m)
{
    return m->stopping && ((m->said_bye && m->out_sent == m->out_used) ||
                           m->ctx->now_us >= m->stop_us + STOP_MAX_US);
}
