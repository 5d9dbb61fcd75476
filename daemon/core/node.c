/* node: the data node's API. It dispatches; the protocol is in the modules that it owns. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"
#include "group.h"
#include "member.h"
#include "name.h"
#include "node.h"
#include "peer.h"
#include "recovery.h"
#include "recv.h"
#include "relay.h"
#include "rings.h"
#include "send.h"
#include "vote.h"

#define TIMERS_PER_CALL 64u

struct node {
    struct context ctx;
    struct groups groups;
    struct peers peers;
    struct send send;
    struct recv recv;
    struct recovery recovery;
    struct relay relay;
    struct rings rings;
    struct vote vote;
    struct member member;
};

/* A sender asks for tokens of a region: true when only this node has to know. */
static bool ask_self(void *ctx, const struct view *v)
{
    struct node *n = ctx;
    return rings_want(&n->rings, v);
}

struct node *node_new(const struct node_config *config, const struct upcalls *upcalls,
                      uint64_t now_us)
{
    struct node *n = context_alloc(1, sizeof *n);
    context_init(&n->ctx, config, upcalls, now_us);
    n->ctx.stats.store_bytes_max = config->pool_bytes;
    n->ctx.stats.reassembly_bytes_max = config->reassembly_bytes;
    n->ctx.stats.held_packets_max = HELD_MAX;
    n->ctx.stats.repair_queue_max = REPAIR_QUEUE_MAX;
    groups_init(&n->groups, &n->ctx);
    peers_init(&n->peers);
    send_init(&n->send, &n->ctx, &n->groups, &n->peers);
    n->send.ask_self = ask_self;
    n->send.ask_ctx = n;
    recv_init(&n->recv, &n->ctx, &n->groups);
    recovery_init(&n->recovery, &n->ctx, &n->send, &n->recv, &n->peers);
    relay_init(&n->relay, &n->ctx, &n->peers);
    rings_init(&n->rings, &n->ctx, &n->send, &n->recv, &n->peers, &n->recovery, &n->relay);
    n->rings.suspect = member_suspect;
    n->rings.suspect_ctx = &n->member;
    vote_init(&n->vote, &n->ctx, &n->groups, &n->send, &n->recv, &n->peers, &n->recovery);
    n->vote.say = member_say;
    n->vote.say_ctx = &n->member;
    member_init(&n->member, &n->ctx);
    n->member.groups = &n->groups;
    n->member.peers = &n->peers;
    n->member.send = &n->send;
    n->member.recv = &n->recv;
    n->member.rings = &n->rings;
    n->member.vote = &n->vote;
    n->member.recovery = &n->recovery;
    return n;
}

void node_free(struct node *n)
{
    if (n == NULL) {
        return;
    }
    member_done(&n->member);
    vote_done(&n->vote);
    rings_done(&n->rings);
    relay_done(&n->relay);
    recovery_done(&n->recovery);
    recv_done(&n->recv);
    send_done(&n->send);
    groups_done(&n->groups);
    peers_done(&n->peers);
    context_done(&n->ctx);
    free(n);
}

/* ---- datagrams in: a table by kind */

struct arrival {
    struct wire_outer outer;
    enum net_class net;
    const uint8_t *data; /* the whole datagram */
    size_t bytes;
    struct buf *landing; /* that holds it, NULL: none; not owned */
    struct reader body;
};

/* A packet or a word on one of our region's channels; in a view to come it is held. */
static bool ours(struct node *n, const struct arrival *a, const struct channel_id *id)
{
    const struct view *v = n->recv.view;
    if (id->epoch > n->ctx.epoch) {
        recv_hold(&n->recv, id->epoch, a->net, a->data, a->bytes);
        return false;
    }
    struct channel_in *ch = recv_find(&n->recv, id->sender);
    bool known =
        (ch != NULL && ch->known_in == n->ctx.epoch) || peers_find(&n->peers, id->sender) != NULL;
#ifdef MUTANT_stranger_taken
    known = true;
#endif
    if (v == NULL || v->rid != id->rid || v->epoch != id->epoch || id->sender == n->ctx.id ||
        !known) { /* of one whose epoch comes: it is repaired */
        n->ctx.stats.packets_dropped_unknown++;
        return false;
    }
    if (ch != NULL) {
        ch->known_in = n->ctx.epoch;
    }
    return true;
}

static bool on_packet(struct node *n, struct arrival *a)
{
    struct wire_packet p;
    if (!wire_read_packet(&a->body, &p) || (p.pad > 0 && a->outer.kind != WIRE_DATA)) {
        return false;
    }
    if (ours(n, a, &p.channel)) {
        if (recv_packet(&n->recv, &p, a->body.at, reader_left(&a->body), a->landing,
                        a->outer.node_id, a->outer.kind == WIRE_REPAIR)) {
            recovery_arrived(&n->recovery, p.channel.sender, p.seq);
        }
        struct channel_in *ch = recv_find(&n->recv, p.channel.sender);
        if (ch != NULL) {
            rings_notice(&n->rings, ch);
        }
    }
    return true;
}

static bool on_proxy(struct node *n, struct arrival *a)
{
    struct wire_proxy p;
    if (!wire_read_proxy(&a->body, &p)) {
        return false;
    }
    vote_proxy(&n->vote, &p);
    return true;
}

static bool on_token(struct node *n, struct arrival *a)
{
    struct wire_slice s;
    if (!wire_read_slice(&a->body, &s)) {
        return false;
    }
    rings_receive(&n->rings, &s, a->outer.node_id);
    return true;
}

static bool on_token_ack(struct node *n, struct arrival *a)
{
    struct wire_token_ack t;
    if (!wire_read_token_ack(&a->body, &t)) {
        return false;
    }
    rings_receive_ack(&n->rings, &t, a->outer.node_id);
    return true;
}

static bool on_ask(struct node *n, struct arrival *a)
{
    struct wire_ask ask;
    if (!wire_read_ask(&a->body, &ask)) {
        return false;
    }
    rings_receive_ask(&n->rings, &ask, a->outer.node_id);
    return true;
}

static bool on_ack(struct node *n, struct arrival *a)
{
    struct wire_acks acks;
    if (!wire_read_acks(&a->body, &acks)) {
        return false;
    }
    if (acks.count == 1 && acks.list[0].channel.sender != n->ctx.id) { /* as leaders send them */
        relay_take(&n->relay, &acks.list[0]);
        return true;
    }
    n->ctx.stats.ack_datagrams++;
    for (uint16_t i = 0; i < acks.count; i++) {
        send_ack(&n->send, &acks.list[i]);
        recovery_resend(&n->recovery, &acks.list[i]);
    }
    return true;
}

static bool on_beacon(struct node *n, struct arrival *a)
{
    struct wire_beacon b;
    if (!wire_read_beacon(&a->body, &b) || b.rel > b.last) {
        return false;
    }
    if (ours(n, a, &b.channel)) {
        struct channel_in *ch = recv_channel(&n->recv, b.channel.sender);
        recv_learn(ch, b.last, b.rel);
        rings_notice(&n->rings, ch);
        rings_beacon(&n->rings, b.channel.sender, b.via);
    }
    return true;
}

static bool on_fetch(struct node *n, struct arrival *a)
{
    struct wire_fetch f;
    if (!wire_read_fetch(&a->body, &f)) {
        return false;
    }
    recovery_fetch(&n->recovery, &f, a->outer.node_id);
    return true;
}

static bool on_fetch_num(struct node *n, struct arrival *a)
{
    struct wire_fetch_num f;
    if (!wire_read_fetch_num(&a->body, &f)) {
        return false;
    }
    vote_fetch_num(&n->vote, &f, a->outer.node_id);
    return true;
}

static bool on_probe(struct node *n, struct arrival *a)
{
    uint64_t id = read_u64(&a->body);
    if (a->body.bad || reader_left(&a->body) > 0) {
        return false;
    }
    if (id == n->ctx.id) {
        member_answer_probe(&n->member, a->outer.node_id);
    }
    return true;
}

static bool on_probe_ack(struct node *n, struct arrival *a)
{
    uint64_t id = read_u64(&a->body);
    if (a->body.bad || reader_left(&a->body) > 0 || id != a->outer.node_id) {
        return false;
    }
    member_probe_ack(&n->member, a->outer.node_id);
    return true;
}

static const struct {
    enum net_class net;
    bool (*receive)(struct node *n, struct arrival *a); /* false: malformed */
} KINDS[WIRE_KINDS] = {
    [WIRE_DATA] = {NET_DATA, on_packet},
    [WIRE_REPAIR] = {NET_REPAIR, on_packet},
    [WIRE_PROXY] = {NET_REPAIR, on_proxy},
    [WIRE_TOKEN] = {NET_CONTROL, on_token},
    [WIRE_TOKEN_ACK] = {NET_CONTROL, on_token_ack},
    [WIRE_ASK] = {NET_CONTROL, on_ask},
    [WIRE_ACK] = {NET_CONTROL, on_ack},
    [WIRE_BEACON] = {NET_CONTROL, on_beacon},
    [WIRE_FETCH] = {NET_CONTROL, on_fetch},
    [WIRE_FETCH_NUM] = {NET_CONTROL, on_fetch_num},
    [WIRE_PROBE] = {NET_CONTROL, on_probe},
    [WIRE_PROBE_ACK] = {NET_CONTROL, on_probe_ack},
};

static uint64_t *counter_of(struct node_stats *s, enum wire_bad bad)
{
    switch (bad) {
    case WIRE_BAD_LENGTH:
        return &s->datagrams_bad_length;
    case WIRE_BAD_MAGIC:
        return &s->datagrams_bad_magic;
    case WIRE_BAD_VERSION:
        return &s->datagrams_bad_version;
    case WIRE_BAD_CLUSTER:
        return &s->datagrams_bad_cluster;
    default:
        return &s->datagrams_bad_kind;
    }
}

static void receive(struct node *n, enum net_class net, const uint8_t *data, size_t bytes,
                    struct buf *landing)
{
    struct node_stats *s = &n->ctx.stats;
    struct arrival a;
    a.net = net;
    a.data = data;
    a.bytes = bytes;
    a.landing = landing;
    a.body = (struct reader){.at = data, .end = data + bytes};
    enum wire_bad bad = bytes > WIRE_DATAGRAM_MAX
                            ? WIRE_BAD_LENGTH
                            : wire_read_outer(&a.body, n->ctx.cluster, &a.outer);
    if (bad != WIRE_OK) {
        ++*counter_of(s, bad);
        return;
    }
    if (KINDS[a.outer.kind].receive == NULL || KINDS[a.outer.kind].net != net) {
        s->datagrams_bad_kind++;
        return;
    }
    if (n->ctx.id == 0 || a.outer.node_id == n->ctx.id) {
        s->datagrams_own += n->ctx.id != 0;
        return;
    }
    if (!KINDS[a.outer.kind].receive(n, &a)) {
        s->datagrams_malformed++;
    }
}

void node_receive(struct node *n, enum net_class net, const uint8_t *data, size_t bytes,
                  struct buf *landing, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    receive(n, net, data, bytes, landing);
    vote_check(&n->vote);
}

/* ---- datagrams out */

bool node_pull(struct node *n, enum net_class lowest, struct datagram *ret, uint64_t now_us)
{
    static const enum net_class NET_OF[OUT_CLASSES] = {
        [OUT_TOKEN] = NET_CONTROL, [OUT_FLUSH] = NET_CONTROL, [OUT_BEACON] = NET_CONTROL,
        [OUT_REPAIR] = NET_REPAIR, [OUT_DATA] = NET_DATA,
    };
    context_now(&n->ctx, now_us);
    if (n->ctx.id == 0) {
        return false;
    }
    for (int i = 0; i < OUT_CLASSES && NET_OF[i] <= lowest; i++) {
        struct feed *f;
        if (n->ctx.sinks[i].ready == 0) {
            continue;
        }
        while ((f = sink_turn(&n->ctx.sinks[i])) != NULL) {
            struct source *s = (struct source *)(void *)f; /* its first member */
            if (s->build(s->ctx, ret)) {
                return true;
            }
        }
    }
    return false;
}

uint32_t node_listen_address(const struct node *n)
{
    return n->recv.view != NULL ? n->recv.view->address : 0;
}

void node_load(struct node *n, uint64_t drops, uint32_t backlog_permille)
{
    load_socket(&n->recv.load, drops, backlog_permille);
}

/* ---- time */

void node_trim(struct node *n)
{
    buf_pool_trim(n->ctx.bodies);
    buf_pool_trim(n->ctx.slabs);
}

uint64_t node_deadline(struct node *n)
{
    return timers_next(&n->ctx.timers);
}

bool node_expire(struct node *n, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    timers_expire(&n->ctx.timers, now_us, TIMERS_PER_CALL);
    vote_check(&n->vote);
    return timers_next(&n->ctx.timers) <= now_us;
}

/* ---- the link */

void node_link_up(struct node *n, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    member_link_up(&n->member);
}

void node_link_down(struct node *n, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    member_link_down(&n->member);
}

/* What was held for views that are installed now. */
static void replay(struct node *n)
{
    struct held_packet *h;
    while ((h = recv_unhold(&n->recv, n->ctx.epoch)) != NULL) {
        receive(n, h->net, h->bytes, h->size, NULL);
        free(h);
    }
}

int node_link_receive(struct node *n, const uint8_t *bytes, size_t count, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    int error = member_link_receive(&n->member, bytes, count);
    replay(n);
    vote_check(&n->vote);
    return error;
}

size_t node_link_pull(struct node *n, uint8_t *out, size_t room, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    return member_link_pull(&n->member, out, room);
}

bool node_link_reset(struct node *n)
{
    bool reset = n->member.reset;
    n->member.reset = false;
    return reset;
}

const char *node_refusal(const struct node *n)
{
    return n->member.refusal;
}

/* ---- groups */

int node_open(struct node *n, const char *name, unsigned mode, uint64_t now_us, uint32_t *ret_group)
{
    context_now(&n->ctx, now_us);
    if (!name_valid(name) || mode == 0 || (mode & ~(unsigned)(NODE_RECV | NODE_SEND))) {
        return -EINVAL;
    }
    struct group *g = groups_add(&n->groups, name);
    int error = groups_take_handle(&n->groups, g);
    if (error < 0) {
        groups_drop_handle(&n->groups, g);
        return error;
    }
    *ret_group = g->handle;
    member_open(&n->member, g, mode);
    return 0;
}

void node_close(struct node *n, uint32_t group, unsigned mode, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    struct group *g = groups_by_handle(&n->groups, group);
    if (g != NULL) {
        member_close(&n->member, g, mode);
    }
}

void node_ready(struct node *n, uint32_t group, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    struct group *g = groups_by_handle(&n->groups, group);
    if (g != NULL) {
        send_ready(&n->send, g);
    }
}

unsigned node_installed(const struct node *n, uint32_t group)
{
    const struct group *g = group < n->groups.handle_room ? n->groups.handles[group] : NULL;
    return g != NULL ? g->installed : 0;
}

void node_stop(struct node *n, uint64_t now_us)
{
    context_now(&n->ctx, now_us);
    member_stop(&n->member);
}

bool node_stopped(const struct node *n)
{
    return member_stopped(&n->member);
}

/* ---- looking in */

uint32_t node_id(const struct node *n)
{
    return n->ctx.id;
}

uint64_t node_epoch(const struct node *n)
{
    return n->ctx.epoch;
}

bool node_linked(const struct node *n)
{
    return n->member.up && n->member.welcome;
}

uint64_t node_now(const struct node *n)
{
    return n->ctx.now_us;
}

const struct node_peer *node_find_peer(const struct node *n, uint32_t id)
{
    return peers_find(&n->peers, id);
}

uint64_t node_group_count(const struct node *n)
{
    return HASH_CNT(by_name, n->groups.by_name);
}

uint64_t node_group_bytes(const struct node *n)
{
    uint64_t bytes = groups_bytes(&n->groups);
    const struct channel_in *in, *next_in;
    const struct channel_out *out, *next_out;
    const struct region *r, *next;

    HASH_ITER (hh, n->member.regions, r, next) {
        bytes += r->view->group_count * sizeof r->view->groups[0];
    }
    HASH_ITER (hh, n->recv.channels, in, next_in) {
        bytes += n->recv.view->group_count * sizeof in->streams[0];
    }
    HASH_ITER (hh, n->send.channels, out, next_out) {
        bytes += out->view->group_count * sizeof out->groups[0] + out->view->group_count / 8;
    }
    if (n->recv.view != NULL) {
        bytes += n->recv.view->group_count * sizeof n->recv.by_slot[0];
    }
    return bytes;
}

const struct node_stats *node_stats(struct node *n)
{
    n->ctx.stats.bodies_allocated = buf_pool_made(n->ctx.bodies) + buf_pool_made(n->ctx.slabs);
    return &n->ctx.stats;
}

void node_each_region(struct node *n, void (*f)(void *ctx, const struct node_region_info *),
                      void *ctx)
{
    struct region *r, *next;
    HASH_ITER (hh, n->member.regions, r, next) {
        const struct view *v = r->view;
        struct node_region_info info = {.rid = r->rid,
                                        .epoch = v->epoch,
                                        .address = v->address,
                                        .members = v->members,
                                        .member_count = v->member_count,
                                        .group_count = v->group_count,
                                        .ours = v == n->recv.view};
        const struct channel_out *ch = send_find(&n->send, r->rid);
        if (ch != NULL) {
            info.sent = ch->last;
            info.stable = ch->stable;
            info.rel = ch->rel;
            info.inflight_bytes = ch->inflight_bytes;
            info.window_bytes = send_window(ch);
            info.rate = ch->rate;
            info.slowest = ch->rate != 0 ? ch->slowest : ch->behind;
        }
        f(ctx, &info);
    }
}

void node_each_group(struct node *n, void (*f)(void *ctx, const struct node_group_info *),
                     void *ctx)
{
    struct group *g, *next;
    HASH_ITER (by_name, n->groups.by_name, g, next) {
        struct node_group_info info = {.name = g->name,
                                       .gid = g->gid,
                                       .epoch = g->epoch,
                                       .mode = g->installed,
                                       .members = g->members,
                                       .member_count = g->member_count,
                                       .region_count = g->place_count,
                                       .sent = g->sent,
                                       .stable = g->stable};
        f(ctx, &info);
    }
}

bool node_idle(const struct node *n)
{
    return send_idle(&n->send) && recv_idle(&n->recv) && !n->vote.active && n->recovery.queued == 0;
}
