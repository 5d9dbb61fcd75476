/* group: a group's places, members, feed and numbers. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "group.h"

void groups_init(struct groups *gs, struct context *ctx)
{
    memset(gs, 0, sizeof *gs);
    gs->ctx = ctx;
    TAILQ_INIT(&gs->noted);
}

static void clear_places(struct group *g)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        view_unref(g->places[i].view);
    }
    free(g->places);
    g->places = NULL;
    g->place_count = 0;
}

static void group_free(struct group *g)
{
    clear_places(g);
    buf_unref(g->pending.body);
    free(g->members);
    free(g->last_units);
    free(g->name);
    free(g);
}

uint64_t groups_bytes(const struct groups *gs)
{
    const struct group *g, *next;
    uint64_t bytes = gs->handle_room * sizeof gs->handles[0] + HASH_OVERHEAD(by_name, gs->by_name) +
                     HASH_OVERHEAD(by_gid, gs->by_gid);
    HASH_ITER (by_name, gs->by_name, g, next) {
        bytes += sizeof *g + strlen(g->name) + 1 + g->place_count * sizeof g->places[0] +
                 g->member_count * sizeof g->members[0] +
                 g->last_units_room * sizeof g->last_units[0];
    }
    /* Their handles are in the groups. */
    return bytes -
           (HASH_CNT(by_name, gs->by_name) + HASH_CNT(by_gid, gs->by_gid)) * sizeof(UT_hash_handle);
}

void groups_done(struct groups *gs)
{
    struct group *g, *next;
    HASH_CLEAR(by_gid, gs->by_gid);
    HASH_ITER (by_name, gs->by_name, g, next) {
        HASH_DELETE(by_name, gs->by_name, g);
        group_free(g);
    }
    free(gs->handles);
}

struct group *groups_by_name(struct groups *gs, const char *name)
{
    struct group *g;
    HASH_FIND(by_name, gs->by_name, name, (unsigned)strlen(name), g);
    return g;
}

struct group *groups_by_gid(struct groups *gs, uint32_t gid)
{
    struct group *g;
    HASH_FIND(by_gid, gs->by_gid, &gid, sizeof gid, g);
    return g;
}

struct group *groups_by_handle(struct groups *gs, uint32_t handle)
{
    return handle < gs->handle_room ? gs->handles[handle] : NULL;
}

struct group *groups_add(struct groups *gs, const char *name)
{
    struct group *g = groups_by_name(gs, name);
    if (g != NULL) {
        return g;
    }
    g = context_alloc(1, sizeof *g);
    g->name = strdup(name);
    assert(g->name != NULL);
    g->handle = GROUP_NO_HANDLE;
    g->dry = true;
    HASH_ADD_KEYPTR(by_name, gs->by_name, g->name, (unsigned)strlen(g->name), g);
    return g;
}

void groups_set_gid(struct groups *gs, struct group *g, uint32_t gid)
{
    if (g->gid == gid) {
        return;
    }
    if (g->gid != 0) {
        HASH_DELETE(by_gid, gs->by_gid, g);
    }
    g->gid = gid;
    if (gid != 0) {
        HASH_ADD(by_gid, gs->by_gid, gid, sizeof g->gid, g);
    }
}

int groups_take_handle(struct groups *gs, struct group *g)
{
    if (g->handle != GROUP_NO_HANDLE) {
        return 0;
    }
    if (gs->open >= NODE_GROUPS_MAX) {
        return -ENOSPC;
    }
    if (gs->open == gs->handle_room) {
        uint32_t room = gs->handle_room ? gs->handle_room * 2 : 64;
        gs->handles = context_grow(gs->handles, room, sizeof gs->handles[0]);
        memset(gs->handles + gs->handle_room, 0, (room - gs->handle_room) * sizeof gs->handles[0]);
        gs->handle_count = gs->handle_room;
        gs->handle_room = room;
    }
    uint32_t h = gs->handle_count; /* where the search begins */
    while (gs->handles[h % gs->handle_room] != NULL) {
        h++;
    }
    h %= gs->handle_room;
    gs->handle_count = h + 1;
    gs->handles[h] = g;
    g->handle = h;
    gs->open++;
    return 0;
}

void groups_note(struct groups *gs, struct group *g)
{
    if (!g->noted) {
        TAILQ_INSERT_TAIL(&gs->noted, g, note);
        g->noted = true;
    }
}

void groups_unnote(struct groups *gs, struct group *g)
{
    if (g->noted) {
        TAILQ_REMOVE(&gs->noted, g, note);
        g->noted = false;
    }
}

static void free_unused(struct groups *gs, struct group *g)
{
    if (g->gid == 0 && g->sent == 0 && g->asked == 0 && g->handle == GROUP_NO_HANDLE) {
        groups_unnote(gs, g);
        HASH_DELETE(by_name, gs->by_name, g);
        group_free(g);
    }
}

void groups_drop_handle(struct groups *gs, struct group *g)
{
    if (g->handle != GROUP_NO_HANDLE) {
        gs->handles[g->handle] = NULL;
        g->handle = GROUP_NO_HANDLE;
        gs->open--;
    }
    free_unused(gs, g);
}

void groups_forget(struct groups *gs, struct group *g)
{
    groups_set_gid(gs, g, 0);
    free_unused(gs, g);
}

void groups_reset(struct groups *gs)
{
    HASH_CLEAR(by_gid, gs->by_gid);
    struct group *g, *next;
    HASH_ITER (by_name, gs->by_name, g, next) {
        clear_places(g);
        free(g->members);
        g->members = NULL;
        g->member_count = 0;
        g->gid = 0;
        g->epoch = 0;
        g->asked = g->installed = 0;
        g->sent = g->stable = g->unit_sent = g->unit_stable = 0;
        buf_unref(g->pending.body);
        g->pending.body = NULL;
        g->index = 0;
        g->voided = false;
        if (g->handle == GROUP_NO_HANDLE) {
            groups_unnote(gs, g);
            HASH_DELETE(by_name, gs->by_name, g);
            group_free(g);
        }
    }
}

void group_add_place(struct group *g, struct view *v, uint32_t slot)
{
    g->places = context_grow(g->places, g->place_count + 1, sizeof g->places[0]);
    g->places[g->place_count++] = (struct place){.view = view_ref(v), .slot = slot};
}

void group_remove_place(struct group *g, uint32_t rid)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].view->rid == rid) {
            view_unref(g->places[i].view);
            g->places[i] = g->places[--g->place_count];
            return;
        }
    }
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

bool group_refresh_members(struct group *g)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->place_count; i++) {
        count += g->places[i].view->member_count;
    }
    uint32_t *members = context_alloc(count, sizeof members[0]);
    uint32_t at = 0;
    for (uint32_t i = 0; i < g->place_count; i++) {
        const struct view *v = g->places[i].view;
        memcpy(members + at, v->members, v->member_count * sizeof members[0]);
        at += v->member_count;
    }
    qsort(members, count, sizeof members[0], compare_ids);
    bool differ = count != g->member_count ||
                  (count > 0 && memcmp(members, g->members, count * sizeof members[0]) != 0);
    free(g->members);
    g->members = members;
    g->member_count = count;
    return differ;
}

bool group_has_member(const struct group *g, uint32_t node_id)
{
    return g->member_count > 0 && bsearch(&node_id, g->members, g->member_count,
                                          sizeof g->members[0], compare_ids) != NULL;
}

bool group_listens(const struct group *g)
{
    return g->handle != GROUP_NO_HANDLE && (g->installed & NODE_RECV) &&
           ((g->want & NODE_RECV) || g->leaving);
}

void group_sent(struct group *g)
{
    size_t waiting = (size_t)(g->sent - g->stable);
    if (waiting == g->last_units_room) {
        size_t room = waiting ? waiting * 2 : 16;
        uint64_t *units = context_alloc(room, sizeof units[0]);
        for (uint64_t n = g->stable + 1; n <= g->sent; n++) {
            units[n & (room - 1)] = g->last_units[n & (g->last_units_room - 1)];
        }
        free(g->last_units);
        g->last_units = units;
        g->last_units_room = room;
    }
    g->sent++;
    g->last_units[g->sent & (g->last_units_room - 1)] = g->unit_sent;
}

bool group_units_stable(struct group *g, uint64_t unit)
{
    if (unit <= g->unit_stable) {
        return false;
    }
    g->unit_stable = unit;
    uint64_t before = g->stable;
    while (g->stable < g->sent &&
           g->last_units[(g->stable + 1) & (g->last_units_room - 1)] <= unit) {
        g->stable++;
    }
    return g->stable != before;
}

uint64_t group_least_stable(const struct group *g)
{
    uint64_t least = g->unit_sent;
    for (uint32_t i = 0; i < g->place_count; i++) {
        const struct place *p = &g->places[i];
        if (p->channel != NULL && p->unit_stable < least) {
            least = p->unit_stable;
        }
#ifdef MUTANT_stable_in_one_region
        if (p->channel != NULL) {
            return p->unit_stable;
        }
#endif
    }
    return least;
}
