/* recv_channels: one channel for each sender into the own region; and what becomes of them when the
 * region's view changes. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "recv.h"

void recv_init(struct recv *r, struct context *ctx, struct groups *groups)
{
    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->groups = groups;
    TAILQ_INIT(&r->held);
}

struct channel_in *recv_find(struct recv *r, uint32_t sender)
{
    if (r->last == NULL || r->last->sender != sender) {
        HASH_FIND(hh, r->channels, &sender, sizeof sender, r->last);
    }
    return r->last;
}

/* Above the configured caps there is room for one packet in order and one message of each sender,
 * so that all go on. */
static void count_channels(struct recv *r, int more)
{
    struct node_stats *s = &r->ctx->stats;
    s->channels_in += (uint64_t)more;
    s->store_bytes_max = r->ctx->config.pool_bytes + s->channels_in * WIRE_DATAGRAM_MAX;
    s->reassembly_bytes_max =
        r->ctx->config.reassembly_bytes + s->channels_in * (MESSAGE_MAX + WIRE_DATAGRAM_MAX);
}

struct channel_in *recv_channel(struct recv *r, uint32_t sender)
{
    struct channel_in *ch = recv_find(r, sender);
    if (ch != NULL) {
        return ch;
    }
    assert(r->view != NULL);
    ch = context_alloc(1, sizeof *ch);
    ch->recv = r;
    ch->sender = sender;
    ch->rank = view_rank(r->view, sender);
    ch->streams = context_alloc(r->view->group_count, sizeof ch->streams[0]);
    store_init(&ch->store);
    ranges_init(&ch->have);
    HASH_ADD(hh, r->channels, sender, sizeof ch->sender, ch);
    count_channels(r, 1);
    return ch;
}

void recv_drop_partial(struct channel_in *ch)
{
    if (ch->partial.body != NULL) {
        ch->recv->ctx->stats.reassembly_bytes -= ch->partial.body->size;
        ch->recv->room_freed = true;
        buf_unref(ch->partial.body);
        ch->partial = (struct partial){0};
    }
}

static void channel_free(struct recv *r, struct channel_in *ch)
{
    HASH_DEL(r->channels, ch);
    r->last = NULL;
    recv_drop_partial(ch);
    r->ctx->stats.store_bytes -= ch->store.body_bytes;
    count_channels(r, -1);
    store_done(&ch->store);
    ranges_done(&ch->have);
    free(ch->streams);
    free(ch);
}

static void leave_view(struct recv *r)
{
    struct channel_in *ch, *next;
    HASH_ITER (hh, r->channels, ch, next) {
        channel_free(r, ch);
    }
    free(r->by_slot);
    r->by_slot = NULL;
    view_unref(r->view);
    r->view = NULL;
}

void recv_done(struct recv *r)
{
    leave_view(r);
    struct held_packet *h;
    while ((h = recv_unhold(r, UINT64_MAX)) != NULL) {
        free(h);
    }
}

static uint32_t slot_of(const struct group *g, const struct view *v)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].view == v) {
            return g->places[i].slot;
        }
    }
    return UINT32_MAX;
}

/* Numbers go on: a stream of the old view is known in the new one when its group is in both. */
static void carry_numbers(struct recv *fresh, const struct recv *old)
{
    struct channel_in *ch, *next;
    HASH_ITER (hh, old->channels, ch, next) {
        struct channel_in *to = NULL;
        for (uint32_t slot = 0; slot < old->view->group_count; slot++) {
            const struct group *g = groups_by_gid(fresh->groups, old->view->groups[slot]);
            uint32_t now = g != NULL ? slot_of(g, fresh->view) : UINT32_MAX;
            if (ch->streams[slot].delivered == 0 || now == UINT32_MAX) {
                continue;
            }
            to = to != NULL ? to : recv_channel(fresh, ch->sender);
            to->streams[now].delivered = ch->streams[slot].delivered;
            to->streams[now].seen = ch->streams[slot].delivered;
        }
    }
}

void recv_move(struct recv *r, struct view *v)
{
    struct recv fresh = *r;
    fresh.view = NULL;
    fresh.channels = fresh.last = NULL;
    fresh.by_slot = NULL;
    if (v != NULL) {
        fresh.view = view_ref(v);
        fresh.rank = view_rank(v, r->ctx->id);
        fresh.by_slot = context_alloc(v->group_count, sizeof fresh.by_slot[0]);
        for (uint32_t i = 0; i < v->group_count; i++) {
            fresh.by_slot[i] = groups_by_gid(r->groups, v->groups[i]);
            assert(fresh.by_slot[i] != NULL);
        }
        if (r->view != NULL) {
            carry_numbers(&fresh, r);
        }
    }
    leave_view(r);
    r->view = fresh.view;
    r->rank = fresh.rank;
    r->by_slot = fresh.by_slot;
    r->channels = fresh.channels;
    r->last = NULL;
    struct channel_in *ch, *next;
    HASH_ITER (hh, r->channels, ch, next) {
        ch->recv = r;
    }
}
