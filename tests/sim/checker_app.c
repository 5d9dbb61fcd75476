/* checker_app: what clients were promised: S1 and S4 (what goes out was accepted, in order), S2, S3
 * and S9 as a subscription sees them, S14 (completions). */
#include "checker_model.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void interest_reset(struct interest *i)
{
    struct position *p, *next;
    HASH_ITER (hh, i->positions, p, next) {
        HASH_DEL(i->positions, p);
        free(p);
    }
}

void process_reset(struct process *p)
{
    struct interest *i, *next;
    HASH_ITER (hh, p->interests, i, next) {
        interest_reset(i);
        HASH_DEL(p->interests, i);
        free(i->accepted);
        free(i->group);
        free(i->key);
        free(i);
    }
    struct named *n, *next_name;
    HASH_ITER (hh, p->names, n, next_name) {
        HASH_DEL(p->names, n);
        free(n->name);
        free(n);
    }
}

/* What connection c of the line has to do with group g of the line; made when it is not there. */
static struct interest *interest_find(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    uint64_t conn = line_number(l, "c");
    const char *group = line_text(l, "g");
    char key[400];
    struct interest *i;
    snprintf(key, sizeof(key), "%llu %s", (unsigned long long)conn, group);
    HASH_FIND_STR(p->interests, key, i);
    if (i)
        return i;
    i = calloc(1, sizeof(*i));
    assert(i);
    i->key = strdup(key);
    i->group = strdup(group);
    i->conn = conn;
    HASH_ADD_KEYPTR(hh, p->interests, i->key, strlen(i->key), i);
    return i;
}

void on_accept(struct checker *c, struct line *l)
{
    struct interest *i = interest_find(c, l);
    uint64_t k = line_number(l, "k");
    if (k != i->accepted_count + 1) {
        violated(c, "S4", l, "message %llu of the connection accepted after %zu",
                 (unsigned long long)k, i->accepted_count);
        return;
    }
    i->accepted =
        checker_grow(i->accepted, i->accepted_count, &i->accepted_room, sizeof(*i->accepted));
    struct accepted *a = &i->accepted[i->accepted_count++];
    *a = (struct accepted){.h = line_hex(l, "h"),
                           .l = line_id(l, "l"),
                           .ask = line_number(l, "ask") != 0,
                           .at = l->at};
}

void on_close(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    uint64_t conn = line_number(l, "c");
    for (struct interest *i = p->interests; i; i = i->hh.next) {
        if (i->conn != conn)
            continue;
        i->closed = true;
        i->subscribed = false;
    }
}

static struct position *position_find(struct interest *i, uint32_t sender, bool make)
{
    struct position *p;
    HASH_FIND(hh, i->positions, &sender, sizeof(sender), p);
    if (p || !make)
        return p;
    p = calloc(1, sizeof(*p));
    assert(p);
    p->sender = sender;
    HASH_ADD(hh, i->positions, sender, sizeof(sender), p);
    return p;
}

/* The node's membership in the group of a subscription, or NULL. */
static struct membership *membership_of(struct checker *c, struct process *p, const char *group)
{
    struct cgroup *g = cgroup_by_name(c, p, group);
    return g && p->node ? membership_find(cnode_find(c, p->node), g->gid, false) : NULL;
}

void on_sub(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    struct interest *i = interest_find(c, l);
    i->subscribed = true;
    i->at = l->at;
    interest_reset(i);
    struct membership *m = membership_of(c, p, i->group);
    for (struct stream *s = m ? m->streams : NULL; s; s = s->hh.next)
        position_find(i, s->sender, true)->start = s->last;
}

void process_left(struct process *p, const char *group)
{
    for (struct interest *i = p->interests; i; i = i->hh.next) {
        if (strcmp(i->group, group) == 0)
            interest_reset(i);
    }
}

void process_renewed(struct process *p)
{
    for (struct interest *i = p->interests; i; i = i->hh.next)
        interest_reset(i);
}

void on_end(struct checker *c, struct line *l)
{
    struct interest *i = interest_find(c, l);
    if (!i->subscribed)
        violated(c, "S3", l, "the subscription ended, but had not begun or had ended already");
    i->subscribed = false;
    interest_reset(i);
}

/* Numbers of a sender go on when the group was gone meanwhile and came back under another id. */
static void carry_numbers(struct checker *c, const struct cgroup *g, struct origin *o, uint64_t n)
{
    for (struct cgroup *old = c->groups; old && !o->count && !o->skip; old = old->hh.next) {
        if (old == g || !old->name || strcmp(old->name, g->name) != 0)
            continue;
        struct origin *before = origin_find(old, o->sender, false);
        if (before && before->skip + before->count + 1 == n)
            o->skip = o->stable = n - 1;
    }
}

/* A message that was pulled and not sent when the group went away is sent to the one that came back
 * under another id. */
void process_carries(struct checker *c, struct process *p, uint32_t from, uint32_t to)
{
    struct origin *old = origin_find(cgroup_find(c, from), p->node, false);
    struct origin *o = origin_find(cgroup_find(c, to), p->node, true);
    if (!old || !old->count || old->sent[old->count - 1].epoch || o->count || o->skip)
        return;
    uint64_t number = old->skip + old->count;
    o->skip = o->stable = number - 1;
    o->sent = checker_grow(o->sent, o->count, &o->room, sizeof(*o->sent));
    o->sent[o->count++] = old->sent[--old->count];
    for (struct interest *i = p->interests; i; i = i->hh.next) {
        struct accepted *a = i->pulled ? &i->accepted[i->pulled - 1] : NULL;
        if (a && a->node == p->node && a->gid == from && a->number == number)
            a->gid = to;
    }
}

void on_pull(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    struct interest *i = interest_find(c, l);
    struct cgroup *g = cgroup_by_name(c, p, i->group);
    uint64_t k = line_number(l, "k"), n = line_number(l, "n");
    if (l->bad || !line_node(c, l))
        return;
    if (!g) {
        violated(c, "TRACE", l, "no `name` line told the id of group %s", i->group);
        return;
    }
    if (k == 0 || k > i->accepted_count) {
        violated(c, "S1", l, "message %llu was never accepted", (unsigned long long)k);
        return;
    }
    if (k != i->pulled + 1)
        violated(c, "S4", l, "message %llu of the connection goes out after its message %llu",
                 (unsigned long long)k, (unsigned long long)i->pulled);
    i->pulled = k;
    struct accepted *a = &i->accepted[k - 1];
    struct origin *o = origin_find(g, p->node, true);
    carry_numbers(c, g, o, n);
    if (n != o->skip + o->count + 1) {
        violated(c, "S3", l, "number %llu after %llu", (unsigned long long)n,
                 (unsigned long long)(o->skip + o->count));
        return;
    }
    a->node = p->node;
    a->gid = g->gid;
    a->number = n;
    o->sent = checker_grow(o->sent, o->count, &o->room, sizeof(*o->sent));
    o->sent[o->count++] = (struct sent){.h = a->h, .l = a->l, .at = l->at};
}

/* The first message of a sender on a subscription: the first since the node joined, or the one
 * after the last that was delivered when the subscription began (S9). */
static void check_first(struct checker *c, struct line *l, const struct stream *s,
                        const struct position *at, uint64_t n)
{
    uint64_t want = at->start ? at->start + 1 : s->first;
    if (n != want)
        violated(c, "S9", l, "the subscription starts at %llu of sender %u, not at %llu",
                 (unsigned long long)n, s->sender, (unsigned long long)want);
}

void on_recv(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    struct interest *i = interest_find(c, l);
    uint32_t sender = line_id(l, "s");
    uint64_t n = line_number(l, "n"), h = line_hex(l, "h");
    struct membership *m = membership_of(c, p, i->group);
    struct stream *s = NULL;
    if (m)
        HASH_FIND(hh, m->streams, &sender, sizeof(sender), s);
    if (!i->subscribed) {
        violated(c, "S3", l, "a message for a subscription that has not begun or has ended");
        return;
    }
    if (!s || n > s->last || n < s->first) {
        violated(c, "S1", l, "%llu of sender %u was not delivered on this host",
                 (unsigned long long)n, sender);
        return;
    }
    struct sent *sent = sent_find(c, m->gid, sender, n);
    if (sent && sent->h != h)
        violated(c, "S1", l, "%llu of sender %u: not the bytes accepted at %s",
                 (unsigned long long)n, sender, at_text(sent->at));
    struct position *at = position_find(i, sender, true);
    if (!at->any)
        check_first(c, l, s, at, n);
    else if (n <= at->last)
        violated(c, "S2", l, "%llu of sender %u again, after %llu", (unsigned long long)n, sender,
                 (unsigned long long)at->last);
    else if (n != at->last + 1)
        violated(c, "S3", l, "%llu of sender %u after %llu", (unsigned long long)n, sender,
                 (unsigned long long)at->last);
    at->any = true;
    at->last = n;
}

void on_complete(struct checker *c, struct line *l)
{
    struct interest *i = interest_find(c, l);
    uint64_t k = line_number(l, "k");
    const char *state = line_text(l, "st");
    if (l->bad)
        return;
    if (k == 0 || k > i->accepted_count) {
        violated(c, "S14", l, "a completion for message %llu, which was never accepted",
                 (unsigned long long)k);
        return;
    }
    struct accepted *a = &i->accepted[k - 1];
    if (!a->ask)
        violated(c, "S14", l, "a completion for message %llu, which did not ask for one",
                 (unsigned long long)k);
    if (a->completed)
        violated(c, "S14", l, "a second completion for message %llu", (unsigned long long)k);
    a->completed = true;
    c->counts.completions++;
    if (strcmp(state, "stable") != 0)
        return;
    struct origin *o = a->node ? origin_find(cgroup_find(c, a->gid), a->node, false) : NULL;
    if (!o || a->number > o->stable)
        violated(c, "S14", l, "message %llu completes as stable before it is",
                 (unsigned long long)k);
}

/* ---- the end */

static void finish_subscription(struct checker *c, struct line *l, struct process *p,
                                struct interest *i)
{
    struct membership *m = membership_of(c, p, i->group);
    if (!m || !m->epoch) {
        violated(c, "LIVE", l, "%s: the subscription to %s, begun at %s, has no view", p->who,
                 i->group, at_text(i->at));
        return;
    }
    for (struct stream *s = m->streams; s; s = s->hh.next) {
        struct position *at = position_find(i, s->sender, false);
        uint64_t got = !at ? 0 : at->any ? at->last : at->start;
        if (s->last > got)
            violated(c, "S3", l, "%s: connection %llu got %s of sender %u only up to %llu of %llu",
                     p->who, (unsigned long long)i->conn, i->group, s->sender,
                     (unsigned long long)got, (unsigned long long)s->last);
    }
}

void finish_clients(struct checker *c, struct line *l)
{
    for (struct process *p = c->processes; p; p = p->hh.next) {
        for (struct interest *i = p->interests; p->alive && i; i = i->hh.next) {
            if (i->subscribed)
                finish_subscription(c, l, p, i);
            if (i->pulled < i->accepted_count)
                violated(c, "LIVE", l, "%s: message %llu of connection %llu to %s was never sent",
                         p->who, (unsigned long long)i->pulled + 1, (unsigned long long)i->conn,
                         i->group);
            for (size_t k = 0; !i->closed && k < i->accepted_count; k++) {
                const struct accepted *a = &i->accepted[k];
                if (a->ask && !a->completed)
                    violated(c, "S14", l,
                             "%s: no completion for message %zu of connection %llu to %s", p->who,
                             k + 1, (unsigned long long)i->conn, i->group);
            }
        }
    }
}
