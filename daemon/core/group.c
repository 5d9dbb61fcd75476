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
    if (g->places != &g->one) {
        free(g->places);
    }
    g->places = &g->one;
    g->place_count = 0;
}

static void clear_members(struct group *g)
{
    if (g->members_of == NULL) {
        free((uint32_t *)(uintptr_t)g->members);
    }
    view_unref(g->members_of);
    g->members_of = NULL;
    g->members = NULL;
    g->member_count = 0;
}

static void group_free(struct group *g)
{
    clear_places(g);
    clear_members(g);
    buf_unref(g->pending.body);
    free(g->wide);
    free(g);
}

uint64_t groups_bytes(const struct groups *gs)
{
    const struct group *g, *next;
    uint64_t bytes = gs->handle_room * sizeof gs->handles[0] + gs->gid_room * sizeof gs->by_gid[0] +
                     HASH_OVERHEAD(by_name, gs->by_name);
    HASH_ITER (by_name, gs->by_name, g, next) {
        bytes += sizeof *g + strlen(g->name) + 1 + g->wide_room * sizeof g->wide[0];
        bytes += g->members_of == NULL ? g->member_count * sizeof g->members[0] : 0;
        bytes += g->places != &g->one ? g->place_count * sizeof g->places[0] : 0;
    }
    return bytes - HASH_CNT(by_name, gs->by_name) * sizeof(UT_hash_handle); /* in the groups */
}

void groups_done(struct groups *gs)
{
    struct group *g, *next;
    HASH_ITER (by_name, gs->by_name, g, next) {
        HASH_DELETE(by_name, gs->by_name, g);
        group_free(g);
    }
    free(gs->by_gid);
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
    struct group *g = gs->gid_room > 0 ? gs->by_gid[gid & (gs->gid_room - 1)] : NULL;
    while (g != NULL && g->gid != gid) {
        g = g->next_gid;
    }
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
    size_t name_bytes = strlen(name) + 1;
    g = context_alloc(1, sizeof *g + name_bytes);
    memcpy(g->name, name, name_bytes);
    g->places = &g->one;
    g->handle = GROUP_NO_HANDLE;
    g->dry = true;
    HASH_ADD_KEYPTR(by_name, gs->by_name, g->name, (unsigned)strlen(g->name), g);
    return g;
}

static struct group **gid_list(const struct groups *gs, uint32_t gid)
{
    return &gs->by_gid[gid & (gs->gid_room - 1)];
}

static void gid_insert(struct groups *gs, struct group *g)
{
    struct group **list = gid_list(gs, g->gid);
    g->next_gid = *list;
    *list = g;
}

/* Ids of the CMS are numbers in a row, more or less: they are their own hash. */
static void gid_grow(struct groups *gs)
{
    free(gs->by_gid);
    gs->gid_room = gs->gid_room > 0 ? gs->gid_room * 2 : 64;
    gs->by_gid = context_alloc(gs->gid_room, sizeof gs->by_gid[0]);
    struct group *g, *next;
    HASH_ITER (by_name, gs->by_name, g, next) {
        if (g->gid != 0) {
            gid_insert(gs, g);
        }
    }
}

static void gid_remove(struct groups *gs, struct group *g)
{
    struct group **at = gid_list(gs, g->gid);
    while (*at != g) {
        at = &(*at)->next_gid;
    }
    *at = g->next_gid;
    g->gid = 0;
    gs->gid_count--;
}

void groups_set_gid(struct groups *gs, struct group *g, uint32_t gid)
{
    if (g->gid == gid) {
        return;
    }
    if (g->gid != 0) {
        gid_remove(gs, g);
    }
    if (gid == 0) {
        return;
    }
    if (gs->gid_count == gs->gid_room) {
        gid_grow(gs);
    }
    g->gid = gid;
    gid_insert(gs, g);
    gs->gid_count++;
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
    free(gs->by_gid);
    gs->by_gid = NULL;
    gs->gid_room = gs->gid_count = 0;
    struct group *g, *next;
    HASH_ITER (by_name, gs->by_name, g, next) {
        clear_places(g);
        clear_members(g);
        g->gid = 0;
        g->epoch = 0;
        g->asked = g->installed = 0;
        g->sent = g->stable = g->unit_sent = g->unit_stable = 0;
        g->sent_to = g->stable_to = 0;
        g->wide_count = 0;
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
    if (g->place_count == 1) {
        g->places = context_alloc(2, sizeof g->places[0]);
        g->places[0] = g->one;
    } else if (g->place_count > 1) {
        g->places = context_grow(g->places, g->place_count + 1, sizeof g->places[0]);
    }
    g->places[g->place_count++] = (struct place){.view = view_ref(v), .slot = slot};
}

void group_remove_place(struct group *g, uint32_t rid)
{
    for (uint32_t i = 0; i < g->place_count; i++) {
        if (g->places[i].view->rid == rid) {
            view_unref(g->places[i].view);
            g->places[i] = g->places[--g->place_count];
            if (g->place_count == 1) {
                g->one = g->places[0];
                free(g->places);
                g->places = &g->one;
            }
            return;
        }
    }
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The members of all regions that the group maps to; the caller frees. */
static uint32_t *merge_members(const struct group *g, uint32_t *ret_count)
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
    *ret_count = count;
    return members;
}

void group_refresh_members(struct group *g)
{
    clear_members(g);
    if (g->place_count == 1) { /* most groups of a region share its list */
        g->members_of = view_ref(g->one.view);
        g->members = g->one.view->members;
        g->member_count = g->one.view->member_count;
    } else if (g->place_count > 1) {
        g->members = merge_members(g, &g->member_count);
    }
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

static struct wide *wide_at(const struct group *g, uint32_t i)
{
    return &g->wide[(g->wide_first + i) & (g->wide_room - 1)];
}

static void wide_add(struct group *g, uint64_t last_unit)
{
    if (g->wide_count == g->wide_room) {
        uint32_t room = g->wide_room > 0 ? g->wide_room * 2 : 4;
        struct wide *ring = context_alloc(room, sizeof ring[0]);
        for (uint32_t i = 0; i < g->wide_count; i++) {
            ring[i] = *wide_at(g, i);
        }
        free(g->wide);
        g->wide = ring;
        g->wide_first = 0;
        g->wide_room = room;
    }
    *wide_at(g, g->wide_count++) = (struct wide){.number = g->sent, .last_unit = last_unit};
}

void group_sent(struct group *g, uint32_t more)
{
    g->sent++;
    if (g->unit_sent - more != g->sent_to + 1) {
        wide_add(g, g->unit_sent - more);
    }
    g->sent += more;
    g->sent_to = g->unit_sent;
}

/* Counts the messages behind `stable` that end by that unit, up to the next wide one, or that one.
 * False: there is none. */
static bool next_stable(struct group *g, uint64_t unit)
{
    bool wide = g->wide_count > 0;
    uint64_t narrow = (wide ? wide_at(g, 0)->number - 1 : g->sent) - g->stable;
    if (narrow > 0) { /* each ends one unit behind the one before */
        uint64_t more = unit > g->stable_to ? unit - g->stable_to : 0;
        more = more < narrow ? more : narrow;
        g->stable += more;
        g->stable_to += more;
        return more > 0;
    }
    if (!wide || wide_at(g, 0)->last_unit > unit) {
        return false;
    }
    g->stable++;
    g->stable_to = wide_at(g, 0)->last_unit;
    g->wide_first = (g->wide_first + 1) & (g->wide_room - 1);
    g->wide_count--;
    return true;
}

bool group_units_stable(struct group *g, uint64_t unit)
{
    if (unit <= g->unit_stable) {
        return false;
    }
    g->unit_stable = unit;
    uint64_t before = g->stable;
    while (next_stable(g, unit)) {
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
