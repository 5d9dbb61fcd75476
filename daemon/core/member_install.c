/* member_install: what an INSTALL changes on a node. The order matters: first what the old epoch
 * proved is told, then the new views are put in place, then clients hear of them, then senders go
 * on. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "member.h"
#include "name.h"

struct installing {
    struct member *m;
    const Qsm__Install *in;
    struct group **touched; /* groups with a place in a region whose view ends or begins */
    size_t touched_count, touched_room;
};

static struct region *region_find(const struct member *m, uint32_t rid)
{
    struct region *r;
    HASH_FIND(hh, m->regions, &rid, sizeof rid, r);
    return r;
}

static void region_delete(struct member *m, struct region *r)
{
    HASH_DEL(m->regions, r);
    view_unref(r->view);
    free(r);
}

void member_forget_regions(struct member *m)
{
    struct region *r, *next;
    HASH_ITER (hh, m->regions, r, next) {
        region_delete(m, r);
    }
}

/* ---- the old views end */

static void touch(struct installing *it, struct group *g)
{
    if (it->touched_count == it->touched_room) {
        it->touched_room = it->touched_room ? it->touched_room * 2 : 64;
        it->touched = context_grow(it->touched, it->touched_room, sizeof it->touched[0]);
    }
    it->touched[it->touched_count++] = g;
}

/* "Cut off by a boundary its fragments are void, and it is sent again in the next view." */
static void void_pending(struct context *c, struct group *g)
{
    if (g->pending.body == NULL || g->count <= 1) {
        return;
    }
    if (g->index > 0) {
        g->voided = true;
        context_mark(c, MARK_fragments_void);
    }
#ifndef MUTANT_boundary_inside
    g->index = 0;
#endif
    for (uint32_t i = 0; i < g->place_count; i++) {
        struct channel_out *ch = g->places[i].channel;
        if (ch != NULL && ch->busy == g) {
            ch->busy = NULL;
        }
    }
}

static void end_view(struct installing *it, struct region *r)
{
    struct member *m = it->m;
    for (uint32_t slot = 0; slot < r->view->group_count; slot++) {
        struct group *g = groups_by_gid(m->groups, r->view->groups[slot]);
        assert(g != NULL);
        if (g->unit_sent > g->unit_stable) {
            send_settle(m->send, g); /* the votes proved it */
        }
        void_pending(m->ctx, g);
        touch(it, g);
    }
    send_close(m->send, r->rid);
    for (uint32_t slot = 0; slot < r->view->group_count; slot++) {
        group_remove_place(groups_by_gid(m->groups, r->view->groups[slot]), r->rid);
    }
}

static bool same_view(const struct region *r, const Qsm__Region *in)
{
    return r->view->epoch == in->epoch && r->view->member_count == in->n_member;
}

static const Qsm__Region *find_in(const Qsm__Install *in, uint32_t rid)
{
    for (size_t i = 0; i < in->n_region; i++) {
        if (in->region[i]->rid == rid) {
            return in->region[i];
        }
    }
    return NULL;
}

static void end_views(struct installing *it)
{
    struct member *m = it->m;
    struct region *r, *next;
    HASH_ITER (hh, m->regions, r, next) {
        const Qsm__Region *now = find_in(it->in, r->rid);
        bool gone = it->in->full && now == NULL;
        for (size_t i = 0; i < it->in->n_region_gone; i++) {
            gone |= it->in->region_gone[i] == r->rid;
        }
        if (gone || (now != NULL && !same_view(r, now))) {
            end_view(it, r);
            region_delete(m, r);
        }
    }
}

/* ---- the new ones begin */

static bool ascending(const uint32_t *list, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (list[i - 1] >= list[i]) {
            return false;
        }
    }
    return true;
}

static bool begin_view(struct installing *it, const Qsm__Region *in)
{
    struct member *m = it->m;
    if (region_find(m, in->rid) != NULL) {
        return true; /* full: it was installed before */
    }
    if (in->n_member == 0 || in->n_member > VIEW_MEMBERS_MAX ||
        !ascending(in->member, in->n_member) || in->datagram_bytes < WIRE_DATAGRAM_MIN ||
        in->datagram_bytes > WIRE_DATAGRAM_MAX || in->ring_size < 2 ||
        in->ack_ranges > WIRE_ACK_RANGES_MAX) {
        return false;
    }
    struct region *r = context_alloc(1, sizeof *r);
    r->rid = in->rid;
    r->view = view_new(in->rid, in->epoch, in->member, (uint32_t)in->n_member, in->group,
                       (uint32_t)in->n_group);
    r->view->address = in->address;
    r->view->datagram_bytes = in->datagram_bytes;
    r->view->rcvbuf_bytes = in->rcvbuf_bytes;
    r->view->ring_size = in->ring_size;
    r->view->replicas = in->cache_replicas;
    r->view->ack_ranges = in->ack_ranges;
    HASH_ADD(hh, m->regions, rid, sizeof r->rid, r);
    for (uint32_t slot = 0; slot < in->n_group; slot++) {
        struct group *g = groups_by_gid(m->groups, in->group[slot]);
        if (g == NULL) {
            return false;
        }
        group_add_place(g, r->view, slot);
        touch(it, g);
    }
    return true;
}

static void install_peers(struct member *m, const Qsm__Install *in)
{
    if (in->full) {
        peers_done(m->peers);
    }
    for (size_t i = 0; i < in->n_gone; i++) {
        peers_remove(m->peers, in->gone[i]);
    }
    for (size_t i = 0; i < in->n_peer; i++) {
        peers_add(m->peers, in->peer[i]->id, in->peer[i]->name, in->peer[i]->address);
    }
}

static bool install_names(struct member *m, const Qsm__Install *in)
{
    for (size_t i = 0; i < in->n_group; i++) {
        if (!name_valid(in->group[i]->name) || in->group[i]->gid == 0) {
            return false;
        }
        struct group *g = groups_add(m->groups, in->group[i]->name);
        if (g->gid != in->group[i]->gid) {
            groups_set_gid(m->groups, g, in->group[i]->gid);
            context_trace(m->ctx, "name g=%u name=%s", g->gid, g->name);
        }
    }
    return true;
}

/* ---- clients hear of it */

static void trace_view(struct context *c, const struct group *g)
{
    if (!context_traced(c)) {
        return;
    }
    char line[TRACE_LINE_MAX - 64];
    size_t at = 0;
    for (uint32_t i = 0; i < g->member_count && at + 16 < sizeof line; i++) {
        at += (size_t)snprintf(line + at, sizeof line - at, i ? ",%u" : "%u", g->members[i]);
    }
    line[at] = '\0';
    context_trace(c, "view g=%u ep=%llu m=%s", g->gid, (unsigned long long)g->epoch, line);
}

static void tell_view(struct member *m, struct group *g, uint64_t epoch)
{
    bool was = (g->installed & NODE_RECV) != 0, is = group_has_member(g, m->ctx->id);
    if (g->epoch == epoch && was == is) {
        return;
    }
    g->epoch = epoch;
    g->installed = (g->installed & NODE_SEND) | (is ? NODE_RECV : 0);
    if (is) {
        trace_view(m->ctx, g);
        member_tell(m, g, GROUP_VIEW);
    } else if (was) {
        context_trace(m->ctx, "left g=%u ep=%llu", g->gid, (unsigned long long)epoch);
        if (g->leaving) {
            g->leaving = false;
            member_tell(m, g, GROUP_LEFT);
        } else if (g->want & NODE_RECV) { /* and it was told a view of what the CMS now ends */
            member_tell(m, g, GROUP_GAP);
        }
    }
}

static void install_groups(struct installing *it)
{
    struct member *m = it->m;
    for (size_t i = 0; i < it->touched_count; i++) {
        group_refresh_members(it->touched[i]);
    }
    for (size_t i = 0; i < it->in->n_group; i++) {
        struct group *g = groups_by_gid(m->groups, it->in->group[i]->gid);
        tell_view(m, g, it->in->group[i]->epoch);
    }
}

static void stop_sending(struct member *m, struct group *g)
{
    if (g->installed & NODE_SEND) {
        g->installed &= (uint8_t)~NODE_SEND;
        send_forget(m->send, g);
    }
}

/* A full state tells nothing of what is over: whatever it does not name is. */
static void clear_unnamed(struct member *m, const Qsm__Install *in)
{
    struct group *g, *next;
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        g->named = 0;
    }
    for (size_t i = 0; i < in->n_group; i++) {
        groups_by_gid(m->groups, in->group[i]->gid)->named = NODE_RECV;
    }
    for (size_t i = 0; i < in->n_sender; i++) {
        g = groups_by_gid(m->groups, in->sender[i]->gid);
        if (g != NULL && in->sender[i]->node == m->ctx->id) {
            g->named |= NODE_SEND;
        }
    }
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        if (!(g->named & NODE_SEND)) {
            stop_sending(m, g);
        }
        if (!(g->named & NODE_RECV) && g->gid != 0 && g->place_count == 0) {
            tell_view(m, g, m->ctx->epoch);
            groups_forget(m->groups, g);
        }
    }
}

static void install_senders(struct member *m, const Qsm__Install *in)
{
    for (size_t i = 0; i < in->n_sender; i++) {
        struct group *g = groups_by_gid(m->groups, in->sender[i]->gid);
        if (in->sender[i]->node != m->ctx->id || g == NULL) {
            continue;
        }
        bool was = (g->installed & NODE_SEND) != 0;
        if (in->sender[i]->on && !was) {
            g->installed |= NODE_SEND;
            if (g->want &
                NODE_SEND) { /* else it was closed meanwhile, and may be gone for the shell */
                member_tell(m, g, GROUP_SENDABLE);
            }
        } else if (!in->sender[i]->on) {
            stop_sending(m, g);
        }
    }
}

/* ---- the own region, the senders */

static void move_region(struct member *m)
{
    struct view *own = NULL;
    struct region *r, *next;
    HASH_ITER (hh, m->regions, r, next) {
        if (view_rank(r->view, m->ctx->id) != VIEW_NO_RANK) {
            own = r->view;
        }
    }
    if (own != m->recv->view) {
        recv_move(m->recv, own);
        rings_move(m->rings, own);
    } else {
#ifndef MUTANT_freeze_outlives_attempt
        recv_thaw(m->recv); /* an attempt with a larger scope may have frozen what goes on here */
#endif
    }
}

static void relink_senders(struct member *m)
{
    struct group *g, *next;
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        if (g->installed & NODE_SEND) {
            send_link(m->send, g);
        }
    }
    send_resume(m->send);
}

/* After what the install said of a group: it may be gone afterwards. */
static void look_again(struct member *m, struct group *g)
{
    if (g->installed & ~g->want & ~g->asked) {
        g->asked |= g->installed; /* the CMS took in what is no longer wanted: told again */
    }
    if (g->asked != g->want) {
        member_note(m, g);
    }
    member_drop_unused(m, g);
}

static void forget_gone(struct member *m, const Qsm__Install *in)
{
    for (size_t i = 0; i < in->n_group_gone; i++) {
        struct group *g = groups_by_gid(m->groups, in->group_gone[i]);
        if (g != NULL && g->place_count == 0) {
            tell_view(m, g, m->ctx->epoch);
            look_again(m, g); /* it has its id still */
            groups_forget(m->groups, g);
        }
    }
}

/* A difference concerns what it names, and there may be a hundred thousand others. */
static void look_at_named(struct member *m, const Qsm__Install *in)
{
    struct group *g, *next;
    if (in->full) {
        HASH_ITER (by_name, m->groups->by_name, g, next) {
            look_again(m, g);
        }
        return;
    }
    for (size_t i = 0; i < in->n_group; i++) {
        g = groups_by_gid(m->groups, in->group[i]->gid);
        if (g != NULL) {
            look_again(m, g);
        }
    }
    for (size_t i = 0; i < in->n_sender; i++) {
        g = groups_by_gid(m->groups, in->sender[i]->gid);
        if (g != NULL && in->sender[i]->node == m->ctx->id) {
            look_again(m, g);
        }
    }
}

bool member_install(struct member *m, const Qsm__Install *in)
{
    struct context *c = m->ctx;
    if (in->tag == NULL || (!in->full && in->previous != c->epoch)) {
        return false;
    }
    struct installing it = {.m = m, .in = in};
    vote_install(m->vote);
    end_views(&it); /* while groups still go by the ids of the old views */
    bool ok = install_names(m, in);
    if (ok) {
        install_peers(m, in);
        for (size_t i = 0; i < in->n_region && ok; i++) {
            ok = begin_view(&it, in->region[i]);
        }
    }
    if (ok) {
        c->epoch = in->tag->epoch;
        c->stats.views_installed++;
        /* The move keeps numbers by group id, so it comes while old groups are still known. */
        install_groups(&it);
        move_region(m);
        if (in->full) {
            clear_unnamed(m, in);
        }
        install_senders(m, in);
        forget_gone(m, in);
        relink_senders(m);
        look_at_named(m, in);
    }
    free(it.touched);
    return ok;
}

void member_expelled(struct member *m)
{
    struct context *c = m->ctx;
    vote_install(m->vote);
    struct group *g, *next;
    HASH_ITER (by_name, m->groups->by_name, g, next) {
        if (g->handle == GROUP_NO_HANDLE) {
            continue;
        }
        uint64_t last = g->sent + (g->pending.body != NULL); /* pulled, not wholly sent */
#ifdef MUTANT_unknown_not_said
        last = g->stable;
#endif
        if (last > g->stable) {
            context_trace(c, "unknown g=%u n=%llu", g->gid, (unsigned long long)last);
            c->up.stable(c->up.ctx, g->handle, last, true);
        }
        member_tell(m, g, GROUP_EXPELLED);
        g->leaving = false; /* that was its end */
        g->tell = 0;
        member_drop_unused(m, g);
    }
    send_done(m->send);
    recv_move(m->recv, NULL);
    rings_move(m->rings, NULL);
    member_forget_regions(m);
    groups_reset(m->groups);
    peers_done(m->peers);
    c->id = 0;
    c->epoch = 0;
    m->expelled = true;
    m->incarnation = context_random(c) | 1;
    m->dirty = true;
    struct held_packet *h;
    while ((h = recv_unhold(m->recv, UINT64_MAX)) != NULL) {
        free(h);
    }
}
