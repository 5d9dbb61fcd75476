/* session_group: what the clients of this host together want of each of the node's groups: opened
 * for the first, closed after the last, with memberships that the node holds for nobody counted in.
 */
#include "session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups of this host */

void local_touch(struct session *s, struct local *l)
{
    if (l->is_pending)
        return;
    l->is_pending = true;
    TAILQ_INSERT_TAIL(&s->pending, l, pending);
}

int local_compare(const struct local *a, const struct local *b)
{
    return strcmp(a->name, b->name);
}

RB_GENERATE(local_tree, local, of_name, local_compare)

struct local *local_find(const struct session *s, const char *name)
{
    struct local *l = RB_ROOT(&s->by_name);
    int order;

    while (l && (order = strcmp(name, l->name)) != 0)
        l = order < 0 ? RB_LEFT(l, of_name) : RB_RIGHT(l, of_name);
    return l;
}

struct local *local_get(struct session *s, const char *name)
{
    struct local *l = local_find(s, name);
    if (l)
        return l;
    size_t name_bytes = strlen(name) + 1;
    l = session_alloc(1, sizeof(*l) + name_bytes);
    memcpy(l->name, name, name_bytes);
    l->handle = NO_HANDLE;
    TAILQ_INIT(&l->uses);
    TAILQ_INIT(&l->subs);
    TAILQ_INIT(&l->ready);
    LIST_INIT(&l->waiters);
    RB_INSERT(local_tree, &s->by_name, l);
    return l;
}

uint64_t locals_bytes(struct session *s)
{
    struct local *l;
    const struct use *u;
    const struct client *c;
    uint64_t bytes = s->handle_room * sizeof(s->by_handle[0]);

    RB_FOREACH (l, local_tree, &s->by_name) {
        bytes += sizeof(*l) + strlen(l->name) + 1 + l->position_room * sizeof(l->positions[0]) +
                 l->run_room * sizeof(l->runs[0]);
        TAILQ_FOREACH (u, &l->uses, of_local) {
            bytes += sizeof(*u) + (u->outbox ? sizeof(*u->outbox) : 0);
        }
    }
    TAILQ_FOREACH (c, &s->clients, all) {
        bytes += c->page_count * sizeof(c->pages[0]);
        for (uint32_t i = 0; i < c->page_count; i++)
            bytes += c->pages[i] ? sizeof(*c->pages[i]) : 0;
    }
    return bytes;
}

struct members *members_ref(struct members *m)
{
    m->refs++;
    return m;
}

void members_unref(struct members *m)
{
    if (m && --m->refs == 0)
        free(m);
}

/* Groups of one region have the same members: one list serves them all. */
static struct members *members_get(struct session *s, const uint32_t *ids, uint32_t count)
{
    struct members *m = s->last_members;
    if (!m || m->count != count || memcmp(m->ids, ids, count * sizeof(*ids)) != 0) {
        members_unref(m);
        m = session_alloc(1, sizeof(*m) + count * sizeof(*ids));
        m->refs = 1;
        m->count = count;
        memcpy(m->ids, ids, count * sizeof(*ids));
        s->last_members = m;
    }
    return members_ref(m);
}

static void handle_set(struct session *s, struct local *l, uint32_t handle)
{
    if (l->handle != NO_HANDLE)
        s->by_handle[l->handle] = NULL;
    l->handle = handle;
    if (handle == NO_HANDLE)
        return;
    if (handle >= s->handle_room) {
        uint32_t room = s->handle_room > 0 ? s->handle_room : 64;
        while (room <= handle)
            room *= 2;
        s->by_handle = session_grow(s->by_handle, room, sizeof(struct local *));
        memset(s->by_handle + s->handle_room, 0, (room - s->handle_room) * sizeof(struct local *));
        s->handle_room = room;
    }
    s->by_handle[handle] = l;
}

static void local_free(struct session *s, struct local *l)
{
    if (l->linger == LINGER_ON)
        TAILQ_REMOVE(&s->lingering, l, lingering);
    if (l->is_pending)
        TAILQ_REMOVE(&s->pending, l, pending);
    handle_set(s, l, NO_HANDLE);
    RB_REMOVE(local_tree, &s->by_name, l);
    members_unref(l->members);
    free(l->positions);
    free(l->runs);
    free(l);
}

static void refuse(struct session *s, struct local *l, unsigned modes, int error,
                   const char *reason);

/* A group stays open for a while after its last sender, so that a script of short senders does not
 * cause a view change each. Returns whether it still has to be open to send. */
static bool wants_send(struct session *s, struct local *l)
{
    if (l->senders > 0 || !TAILQ_EMPTY(&l->ready) || l->run_count > 0) {
        if (l->linger == LINGER_ON)
            TAILQ_REMOVE(&s->lingering, l, lingering);
        l->linger = LINGER_NONE;
        return true;
    }
    if (l->linger == LINGER_NONE && (l->open & NODE_SEND)) {
        l->linger = LINGER_ON;
        l->linger_until_us = s->now_us + LINGER_US;
        TAILQ_INSERT_TAIL(&s->lingering, l, lingering);
    }
    return l->linger == LINGER_ON;
}

/* Opens and closes at the node until it has what the clients want. While a membership is being left
 * it is not asked for again: whether the leave happened at all would be anybody's guess. */
static void local_settle(struct session *s, struct local *l)
{
    unsigned want = 0;
    if ((l->receivers > 0 || l->held) && !l->leaving)
        want |= NODE_RECV;
    if (wants_send(s, l))
        want |= NODE_SEND;
    unsigned more = want & ~l->open, less = l->open & ~want;
    if (more) {
        uint32_t handle;
        int error = node_open(s->node, l->name, more, s->now_us, &handle);
        if (error) {
            refuse(s, l, more, error, strerror(-error));
        } else {
            handle_set(s, l, handle);
            l->open |= (uint8_t)more;
            if (node_installed(s->node, handle) & l->open & NODE_SEND) { /* or still */
                l->sendable = true;
                waiters_end(l, WAIT_SEND, 0, "");
            }
        }
    }
    if (less) {
        l->open &= (uint8_t)~less;
        if (less & NODE_RECV) { /* who never got a view is not told that it left either */
            l->leaving = l->viewed;
            l->viewed = false;
        }
        if (less & NODE_SEND)
            l->sendable = false;
        node_close(s->node, l->handle, less, s->now_us);
    }
    if (!l->open && !l->leaving && l->handle != NO_HANDLE)
        handle_set(s, l, NO_HANDLE);
    if (!TAILQ_EMPTY(&l->ready) && (l->open & NODE_SEND))
        node_ready(s->node, l->handle, s->now_us);
    if (!(l->open & NODE_RECV) && !l->leaving)
        waiters_end(l, WAIT_GONE, 0, "");
}

void session_work(struct session *s)
{
    struct local *l;
    while (!s->stopped && (l = TAILQ_FIRST(&s->pending))) {
        TAILQ_REMOVE(&s->pending, l, pending);
        l->is_pending = false;
        local_settle(s, l);
        if (TAILQ_EMPTY(&l->uses) && !l->held && !l->open && !l->leaving &&
            LIST_EMPTY(&l->waiters) && l->run_count == 0 && !l->is_pending)
            local_free(s, l);
    }
}

uint64_t locals_deadline(const struct session *s)
{
    const struct local *l = TAILQ_FIRST(&s->lingering);
    if (s->stopped)
        return UINT64_MAX;
    if (!TAILQ_EMPTY(&s->pending))
        return 0;
    return l ? l->linger_until_us : UINT64_MAX;
}

void locals_expire(struct session *s)
{
    struct local *l;
    while ((l = TAILQ_FIRST(&s->lingering)) && l->linger_until_us <= s->now_us) {
        TAILQ_REMOVE(&s->lingering, l, lingering);
        l->linger = LINGER_OVER;
        local_touch(s, l);
    }
}

/* ---- what the core says of a group */

static void on_view(struct session *s, struct local *l, const struct group_event *e)
{
    struct use *u, *next;

    if (!(l->open & NODE_RECV))
        return; /* being left */
    members_unref(l->members);
    l->members = members_get(s, e->members, e->member_count);
    l->epoch = e->epoch;
    l->viewed = true;
    TAILQ_FOREACH_SAFE (u, &l->subs, sub, next) {
        if (u->viewed)
            subscription_view(u);
        else
            subscription_begin(u);
    }
    waiters_end(l, WAIT_RECV, 0, "");
}

/* The subscriptions are over and begin again with the next view. */
static void begin_again(struct local *l, enum end_why why)
{
    struct use *u, *next;

    l->viewed = false;
    TAILQ_FOREACH_SAFE (u, &l->subs, sub, next) {
        if (u->viewed)
            subscription_end(u, why, true);
    }
}

static void on_expelled(struct session *s, struct local *l)
{
    begin_again(l, END_EXPELLED);
    l->sendable = l->leaving = false;
    /* Nothing of the old node's numbers is left: those of the new one start again at 1. */
    feed_lose(s, l, "the host was expelled before it was known to be stable", false);
    local_touch(s, l);
}

static void refuse(struct session *s, struct local *l, unsigned modes, int error,
                   const char *reason)
{
    struct use *u, *next;

    if (modes & NODE_RECV) {
        TAILQ_FOREACH_SAFE (u, &l->subs, sub, next)
            subscription_end(u, END_EXPELLED, false);
        l->held = false;
        waiters_end(l, WAIT_RECV, error, reason);
    }
    if (modes & NODE_SEND) {
        TAILQ_FOREACH (u, &l->uses, of_local) {
            if (u->send) {
                u->client->lapsed += u->outbox->credit + u->outbox->old; /* may be on its way */
                feed_end(u);
                u->refused = true;
            }
        }
        feed_lose(s, l, reason, true);
        if (l->linger == LINGER_NONE)
            l->linger = LINGER_OVER;
        waiters_end(l, WAIT_SEND, error, reason);
    }
    TAILQ_FOREACH_SAFE (u, &l->uses, of_local, next)
        use_release(s, u);
    local_touch(s, l);
}

void local_event(void *ctx, const struct group_event *e)
{
    struct session *s = ctx;
    struct local *l = local_of(s, e->group);
    unsigned up;

    if (!l || s->stopped)
        return;
    switch (e->kind) {
    case GROUP_VIEW:
        on_view(s, l, e);
        return;
    case GROUP_SENDABLE:
        l->sendable = (l->open & NODE_SEND) != 0;
        waiters_end(l, WAIT_SEND, 0, "");
        local_touch(s, l);
        return;
    case GROUP_LEFT:
        if (l->leaving)
            l->leaving = l->viewed = false;
        local_touch(s, l);
        return;
    case GROUP_EXPELLED:
        on_expelled(s, l);
        return;
    case GROUP_GAP:
        begin_again(l, END_GAP);
        return;
    case GROUP_REFUSED:
        up = (l->viewed ? NODE_RECV : 0) | (l->sendable ? NODE_SEND : 0);
        refuse(s, l, l->open & ~up, -EACCES, e->reason ? e->reason : "the CMS refused it");
        return;
    }
}

/* ---- ends */

void locals_stop(struct session *s)
{
    struct local *l, *next_local;
    struct use *u, *next;

    RB_FOREACH_SAFE (l, local_tree, &s->by_name, next_local) {
        TAILQ_FOREACH_SAFE (u, &l->subs, sub, next)
            subscription_end(u, END_SHUTDOWN, false);
        feed_lose(s, l, "the daemon stopped before it was known to be stable", true);
        for (int kind = WAIT_RECV; kind <= WAIT_GONE; kind++)
            waiters_end(l, (enum wait_kind)kind, -ESHUTDOWN, "the daemon stops");
    }
}

void locals_done(struct session *s)
{
    struct local *l, *next_local;
    struct use *u, *next;

    RB_FOREACH_SAFE (l, local_tree, &s->by_name, next_local) {
        for (int kind = WAIT_RECV; kind <= WAIT_GONE; kind++)
            waiters_end(l, (enum wait_kind)kind, -ESHUTDOWN, "the daemon stops");
        TAILQ_FOREACH_SAFE (u, &l->uses, of_local, next) {
            grant_left(s, l);
            feed_done(s, u);
            free(u);
        }
        local_free(s, l);
    }
    members_unref(s->last_members);
    free(s->by_handle);
}
