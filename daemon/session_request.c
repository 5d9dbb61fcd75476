/* session_request: what clients ask for: groups opened and closed, memberships held; and who waits
 * for an answer until the core has said how it went. */
#include "session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/group.h"
#include "core/name.h"

/* ---- requests that wait */

static struct request *request_new(struct client *c, uint64_t number)
{
    struct request *r = session_alloc(1, sizeof(*r));
    r->client = c;
    r->number = number;
    r->left = 1; /* the caller's, until request_begun */
    LIST_INSERT_HEAD(&c->requests, r, entry);
    return r;
}

static void request_answer(struct request *r, int error, const char *text)
{
    if (r->answered)
        return;
    r->answered = true;
    if (r->client)
        out_result(r->client, r->number, error, text);
}

static void request_unref(struct request *r)
{
    assert(r->left > 0);
    if (--r->left > 0)
        return;
    request_answer(r, 0, "");
    if (r->client)
        LIST_REMOVE(r, entry);
    free(r);
}

static void waiter_add(struct request *r, struct local *l, enum wait_kind kind, struct use *u)
{
    struct waiter *w = session_alloc(1, sizeof(*w));
    w->request = r;
    w->kind = kind;
    w->use = u;
    r->left++;
    LIST_INSERT_HEAD(&l->waiters, w, entry);
}

static void waiter_end(struct waiter *w, int error, const char *text)
{
    LIST_REMOVE(w, entry);
    if (error)
        request_answer(w->request, error, text);
    request_unref(w->request);
    free(w);
}

/* Ends the waiters of l of one kind. */
void waiters_end(struct local *l, enum wait_kind kind, int error, const char *text)
{
    struct waiter *w, *next;
    LIST_FOREACH_SAFE (w, &l->waiters, entry, next) {
        if (w->kind == kind)
            waiter_end(w, error, text);
    }
}

static void waiters_cancel(struct use *u, enum wait_kind kind)
{
    struct waiter *w, *next;
    LIST_FOREACH_SAFE (w, &u->local->waiters, entry, next) {
        if (w->use == u && w->kind == kind)
            waiter_end(w, -ECANCELED, "closed before it was open");
    }
}

/* ---- uses */

static bool use_closed(const struct use *u)
{
    return !u->recv && !u->send && !u->refused;
}

struct use *use_from(const struct client *c, uint32_t *id)
{
    while (*id / PAGE_IDS < c->page_count) {
        if (!c->pages[*id / PAGE_IDS]) {
            *id = (*id / PAGE_IDS + 1) * PAGE_IDS;
            continue;
        }
        struct use *u = use_find(c, (*id)++);
        if (u)
            return u;
    }
    return NULL;
}

/* The client's id is not u's any more. */
static void use_unlist(struct use *u)
{
    struct client *c = u->client;
    struct use_page **p = &c->pages[u->id / PAGE_IDS];
    (*p)->use[u->id % PAGE_IDS] = NULL;
    if (--(*p)->used == 0) {
        free(*p);
        *p = NULL;
    }
    u->listed = false;
    c->use_count--;
    c->s->use_count--;
}

static struct use_page *page_get(struct client *c, uint32_t page)
{
    if (page >= c->page_count) {
        uint32_t count = c->page_count > 0 ? c->page_count : 1;
        while (count <= page)
            count *= 2;
        c->pages = session_grow(c->pages, count, sizeof(struct use_page *));
        memset(c->pages + c->page_count, 0, (count - c->page_count) * sizeof(struct use_page *));
        c->page_count = count;
    }
    if (!c->pages[page])
        c->pages[page] = session_alloc(1, sizeof(*c->pages[page]));
    return c->pages[page];
}

static void use_list(struct client *c, struct use *u, uint32_t id)
{
    struct use_page *p = page_get(c, id / PAGE_IDS);
    p->use[id % PAGE_IDS] = u;
    p->used++;
    u->id = id;
    u->listed = true;
    c->use_count++;
    c->s->use_count++;
}

/* Whether nothing that it sent is to be settled or told. */
static bool outbox_empty(const struct outbox *o)
{
    return !o || (STAILQ_EMPTY(&o->queue) && o->pulled == o->settled && !o->is_dirty);
}

void use_release(struct session *s, struct use *u)
{
    struct local *l = u->local;

    if (!use_closed(u) || !outbox_empty(u->outbox))
        return;
    if (u->listed)
        use_unlist(u);
    feed_done(s, u);
    TAILQ_REMOVE(&l->uses, u, of_local);
    free(u);
}

/* u's client is gone, or calls another group by its id: nothing can be told any more. */
static void use_orphan(struct session *s, struct use *u)
{
    if (u->listed)
        use_unlist(u);
    if (u->outbox && u->outbox->is_dirty) {
        TAILQ_REMOVE(&u->client->dirty, u, outbox->dirty);
        u->outbox->is_dirty = false;
    }
    if (u->outbox)
        grant_orphan(u);
    u->client = NULL;
    use_release(s, u);
}

static struct use *use_of_client(struct local *l, const struct client *c)
{
    struct use *u;
    TAILQ_FOREACH (u, &l->uses, of_local) {
        if (u->client == c)
            return u;
    }
    return NULL;
}

/* The use for an entry of OpenGroups; NULL: the client was told what is wrong with it. One closed
 * use of the same group is taken up again, so that what it still has queued goes out first (S4). */
static struct use *use_get(struct client *c, const Qsm__OpenGroup *g, size_t i)
{
    struct use *u = use_find(c, g->id);
    if (u && strcmp(u->local->name, g->name) != 0) {
        if (!use_closed(u)) {
            client_fail(c, -EEXIST, "is the id of another group that is open",
                        "OpenGroups.group[%zu].id", i);
            return NULL;
        }
        struct local *old = u->local;
        use_orphan(c->s, u);
        local_touch(c->s, old);
        u = NULL;
    }
    struct local *l = local_get(c->s, g->name);
    local_touch(c->s, l);
    if (!u)
        u = use_of_client(l, c);
    if (!u) {
        u = session_alloc(1, sizeof(*u));
        u->client = c;
        u->local = l;
        u->conn = c->number;
        TAILQ_INSERT_TAIL(&l->uses, u, of_local);
        use_list(c, u, g->id);
        return u;
    }
    if (u->id != g->id && !use_closed(u)) {
        client_fail(c, -EEXIST, "is open under another id", "OpenGroups.group[%zu].name", i);
        return NULL;
    }
    if (u->id != g->id) {
        use_unlist(u);
        use_list(c, u, g->id);
    }
    return u;
}

static void use_open(struct use *u, const Qsm__OpenGroup *g, struct request *r)
{
    struct local *l = u->local;
    if (g->recv && !u->recv) {
        u->recv = true;
        u->no_echo = g->no_echo;
        u->latest = g->latest;
        TAILQ_INSERT_TAIL(&l->subs, u, sub);
        l->receivers++;
        if (l->viewed)
            subscription_begin(u);
    }
    if (g->recv && u->recv && !u->viewed)
        waiter_add(r, l, WAIT_RECV, u);
    if (g->send && !u->send) {
        u->send = true;
        u->refused = false;
        l->senders++;
        feed_begin(u);
    }
    if (g->send && !l->sendable)
        waiter_add(r, l, WAIT_SEND, u);
}

/* ---- requests */

static int open_check(struct client *c, const Qsm__OpenGroups *m, size_t *ret_new)
{
    *ret_new = 0;
    for (size_t i = 0; i < m->n_group; i++) {
        const Qsm__OpenGroup *g = m->group[i];
        if (g->id >= IDS_MAX)
            return client_fail(c, -EINVAL, "is not below 1,048,576", "OpenGroups.group[%zu].id", i);
        if (!g->recv && !g->send)
            return client_fail(c, -EINVAL, "is neither to receive nor to send",
                               "OpenGroups.group[%zu]", i);
        *ret_new += use_find(c, g->id) == NULL;
    }
    return 0;
}

int request_open(struct client *c, const Qsm__OpenGroups *m)
{
    size_t new;
    int error = open_check(c, m, &new);
    if (error)
        return error;
    for (size_t i = 0; i < m->n_group; i++) {
        if (name_valid(m->group[i]->name))
            continue;
        out_result(c, m->request, -EINVAL,
                   "a group's name is 1 to 255 bytes of printable UTF-8 without spaces");
        return 0;
    }
    if (c->use_count + new > c->s->config.groups_per_client) {
        out_result(c, m->request, -EDQUOT, "more groups than groups_per_client allows");
        return 0;
    }
    if (c->s->stopped) {
        out_result(c, m->request, -ESHUTDOWN, "the daemon stops");
        return 0;
    }
    struct request *r = request_new(c, m->request);
    for (size_t i = 0; !error && i < m->n_group; i++) {
        struct use *u = use_get(c, m->group[i], i);
        if (u)
            use_open(u, m->group[i], r);
        else
            error = c->error;
    }
    request_unref(r);
    return error;
}

static void use_close(struct use *u, bool recv, bool send)
{
    struct local *l = u->local;
    struct session *s = u->client->s;
    if (recv) {
        waiters_cancel(u, WAIT_RECV);
        if (u->recv)
            subscription_end(u, END_LEFT, false);
    }
    if (send) {
        waiters_cancel(u, WAIT_SEND);
        u->refused = false;
        if (u->send)
            feed_end(u);
    }
    use_release(s, u);
    local_touch(s, l);
}

int request_close(struct client *c, const Qsm__CloseGroups *m)
{
    bool unknown = false;
    for (size_t i = 0; i < m->n_group; i++) {
        const Qsm__CloseGroup *g = m->group[i];
        struct use *u = use_find(c, g->id);
        if (u)
            use_close(u, g->recv, g->send);
        else
            unknown = true;
    }
    if (unknown)
        out_result(c, m->request, -EBADF, "not all of the groups were open");
    else
        out_result(c, m->request, 0, "");
    return 0;
}

static void hold_join(struct session *s, struct request *r, const char *name)
{
    struct local *l = local_get(s, name);
    l->held = true;
    if (!l->viewed)
        waiter_add(r, l, WAIT_RECV, NULL);
    local_touch(s, l);
}

static void hold_leave(struct session *s, struct request *r, const char *name)
{
    struct local *l = local_find(s, name);
    if (!l || !l->held) {
        request_answer(r, -ENOENT, "the node does not hold that membership");
        return;
    }
    l->held = false;
    if (l->receivers == 0)
        waiter_add(r, l, WAIT_GONE, NULL);
    local_touch(s, l);
}

static size_t held_count(struct session *s)
{
    struct local *l;
    size_t count = 0;
    RB_FOREACH (l, local_tree, &s->by_name)
        count += l->held;
    return count;
}

int request_hold(struct client *c, const Qsm__Hold *m)
{
    for (size_t i = 0; i < m->n_join; i++) {
        if (name_valid(m->join[i]))
            continue;
        out_result(c, m->request, -EINVAL,
                   "a group's name is 1 to 255 bytes of printable UTF-8 without spaces");
        return 0;
    }
    if (c->s->stopped) {
        out_result(c, m->request, -ESHUTDOWN, "the daemon stops");
        return 0;
    }
    if (held_count(c->s) + m->n_join > c->s->config.groups_per_client) {
        out_result(c, m->request, -EDQUOT,
                   "the node would hold more memberships than groups_per_client allows");
        return 0;
    }
    struct request *r = request_new(c, m->request);
    for (size_t i = 0; i < m->n_join; i++)
        hold_join(c->s, r, m->join[i]);
    for (size_t i = 0; i < m->n_leave; i++)
        hold_leave(c->s, r, m->leave[i]);
    request_unref(r);
    return 0;
}

/* ---- the connection is gone */

void client_leave(struct client *c)
{
    struct use *u;
    struct request *r;

    while ((r = LIST_FIRST(&c->requests))) {
        r->client = NULL;
        LIST_REMOVE(r, entry);
    }
    uint32_t id = 0;
    while ((u = use_from(c, &id))) {
        struct local *l = u->local;
        waiters_cancel(u, WAIT_RECV);
        waiters_cancel(u, WAIT_SEND);
        if (u->recv)
            subscription_drop(u);
        u->refused = false;
        if (u->send)
            feed_end(u);
        local_touch(c->s, l);
        use_orphan(c->s, u);
    }
}
