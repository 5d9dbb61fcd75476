/* checker_view: views and what is delivered in them: S1, S2, S3, S5 to S9 as the nodes see them. */
#include "checker_model.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull; /* for printf */

/* ---- finding */

struct membership *membership_find(struct cnode *n, uint32_t gid, bool make)
{
    struct membership *m;
    HASH_FIND(hh, n->memberships, &gid, sizeof(gid), m);
    if (m || !make)
        return m;
    m = calloc(1, sizeof(*m));
    assert(m);
    m->gid = gid;
    HASH_ADD(hh, n->memberships, gid, sizeof(gid), m);
    return m;
}

struct origin *origin_find(struct cgroup *g, uint32_t sender, bool make)
{
    struct origin *o;
    HASH_FIND(hh, g->origins, &sender, sizeof(sender), o);
    if (o || !make)
        return o;
    o = calloc(1, sizeof(*o));
    assert(o);
    o->sender = sender;
    HASH_ADD(hh, g->origins, sender, sizeof(sender), o);
    return o;
}

static struct stream *stream_find(struct membership *m, uint32_t sender, bool make)
{
    struct stream *s;
    HASH_FIND(hh, m->streams, &sender, sizeof(sender), s);
    if (s || !make)
        return s;
    s = calloc(1, sizeof(*s));
    assert(s);
    s->sender = sender;
    HASH_ADD(hh, m->streams, sender, sizeof(sender), s);
    return s;
}

struct sent *sent_find(struct checker *c, uint32_t gid, uint32_t sender, uint64_t number)
{
    struct origin *o = origin_find(cgroup_find(c, gid), sender, false);
    if (!o || number <= o->skip || number > o->skip + o->count)
        return NULL;
    return &o->sent[number - 1 - o->skip];
}

bool cnode_delivered(const struct cnode *n, uint32_t gid, uint32_t sender, uint64_t number)
{
    struct membership *m;
    struct stream *s = NULL;
    HASH_FIND(hh, n->memberships, &gid, sizeof(gid), m);
    if (m)
        HASH_FIND(hh, m->streams, &sender, sizeof(sender), s);
    return s && s->first && s->first <= number && number <= s->last;
}

static struct gview *gview_find(struct cgroup *g, uint64_t epoch)
{
    for (size_t i = g->view_count; i-- > 0;) {
        if (g->views[i]->epoch == epoch)
            return g->views[i];
    }
    return NULL;
}

/* The view after that of epoch, or NULL. */
static struct gview *gview_next(struct cgroup *g, uint64_t epoch)
{
    for (size_t i = 0; i < g->view_count; i++) {
        if (g->views[i]->epoch > epoch)
            return g->views[i];
    }
    return NULL;
}

/* A new view in its place in the list; takes the members over. */
static struct gview *gview_add(struct cgroup *g, uint64_t epoch, struct ids members)
{
    struct gview *v = calloc(1, sizeof(*v));
    g->views = realloc(g->views, (g->view_count + 1) * sizeof(struct gview *));
    assert(v && g->views);
    v->epoch = epoch;
    v->members = members;
    size_t i = g->view_count++;
    for (; i > 0 && g->views[i - 1]->epoch > epoch; i--)
        g->views[i] = g->views[i - 1];
    g->views[i] = v;
    return v;
}

/* Whether the CMS expelled node s before it installed epoch. */
static bool expelled_before(struct checker *c, uint32_t id, uint64_t epoch)
{
    struct cnode *n = cnode_find(c, id);
    return n->expelled && n->expelled_after < epoch;
}

static bool dead(struct checker *c, uint32_t id)
{
    return !cnode_lives(cnode_find(c, id));
}

/* ---- the CMS's word */

/* The members that lacked a message when it was called stable must not go on to the next view. */
static void check_owed(struct checker *c, struct line *l, struct cgroup *g, struct gview *next)
{
    size_t kept = 0;
    for (size_t i = 0; i < g->owed_count; i++) {
        struct owed *o = &g->owed[i];
        if (o->epoch >= next->epoch) {
            g->owed[kept++] = *o;
        } else if (ids_have(&next->members, o->member)) {
            violated(c, "S8", l, "node %u goes on to epoch %llu; at %s it lacked %llu of sender %u",
                     o->member, (ull)next->epoch, at_text(o->at), (ull)o->number, o->sender);
        }
    }
    g->owed_count = kept;
}

void on_gview(struct checker *c, struct line *l)
{
    uint64_t epoch = line_number(l, "ep");
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    struct ids members = line_ids(l, "m");
    struct gview *v = gview_find(g, epoch);
    if (l->bad) {
        free(members.list);
        return;
    }
    if (v && !ids_equal(&v->members, &members))
        violated(c, "S6", l, "a node installed other members of group %u in epoch %llu", g->gid,
                 (ull)epoch);
    if (v)
        free(members.list);
    else
        v = gview_add(g, epoch, members);
    v->by_cms = true;
    for (size_t i = 0; i < v->members.count; i++) {
        struct cnode *n = cnode_find(c, v->members.list[i]);
        if (!n->admitted)
            violated(c, "S6", l, "member %u was never admitted", n->id);
    }
    check_owed(c, l, g, v);
}

/* ---- sending */

void on_send(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    uint32_t gid = line_id(l, "g"), bytes = line_id(l, "l");
    uint64_t number = line_number(l, "n"), epoch = line_number(l, "ep"), h = line_hex(l, "h");
    if (l->bad || !n)
        return;
    struct sent *m = sent_find(c, gid, n->id, number);
    c->counts.sends++;
    if (!m) {
        violated(c, "S1", l, "%llu was not pulled from a client", (ull)number);
        return;
    }
    if (m->h != h || m->l != bytes)
        violated(c, "S1", l, "%llu: not the bytes accepted, pulled at %s", (ull)number,
                 at_text(m->at));
    if (m->epoch && (m->packed_count || epoch <= m->epoch))
        violated(c, "S5", l,
                 "%llu sent again, in epoch %llu; it went out whole or in the same view",
                 (ull)number, (ull)m->epoch);
    struct sent *before = sent_find(c, gid, n->id, number - 1);
    if (before && before->epoch > epoch)
        violated(c, "S5", l, "%llu sent in epoch %llu, the one before it in %llu", (ull)number,
                 (ull)epoch, (ull)before->epoch);
    struct membership *ms = membership_find(n, gid, false);
    if (ms && ms->epoch && ms->epoch != epoch)
        violated(c, "S5", l, "sent in epoch %llu while its view is that of %llu", (ull)epoch,
                 (ull)ms->epoch);
    m->epoch = epoch;
}

static void owe(struct cgroup *g, const struct sent *m, uint32_t sender, uint32_t member,
                uint64_t number, struct at at)
{
    g->owed = checker_grow(g->owed, g->owed_count, &g->owed_room, sizeof(*g->owed));
    g->owed[g->owed_count++] = (struct owed){m->epoch, number, sender, member, at};
}

/* S8 for one message: who of its view lacks it, and may still do so? */
static void check_stable(struct checker *c, struct line *l, struct cgroup *g, uint32_t sender,
                         uint64_t number)
{
    struct sent *m = sent_find(c, g->gid, sender, number);
    if (!m || !m->epoch) {
        violated(c, "S8", l, "%llu is stable, but was not sent", (ull)number);
        return;
    }
    struct gview *v = gview_find(g, m->epoch), *next = gview_next(g, m->epoch);
    for (size_t i = 0; v && i < v->members.count; i++) {
        struct cnode *n = cnode_find(c, v->members.list[i]);
        struct membership *ms = membership_find(n, g->gid, false);
        bool moved = ms && ms->epoch > m->epoch; /* what it took but did not deliver is void */
        if (cnode_delivered(n, g->gid, sender, number) || (!moved && cnode_took(c, n, sender, m)))
            continue;
        if (!next && cnode_lives(n))
            owe(g, m, sender, n->id, number, l->at);
        else if (next && ids_have(&next->members, n->id))
            violated(c, "S8", l, "%llu is stable, but node %u of its view and the next lacks it",
                     (ull)number, n->id);
    }
}

void on_stable(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    uint64_t number = line_number(l, "n");
    if (l->bad || !n)
        return;
    struct origin *o = origin_find(g, n->id, true);
    c->counts.stables++;
    if (number <= o->stable)
        violated(c, "S8", l, "stable up to %llu after %llu", (ull)number, (ull)o->stable);
    for (uint64_t i = o->stable + 1; i <= number; i++)
        check_stable(c, l, g, n->id, i);
    if (number > o->stable)
        o->stable = number;
}

void on_unknown(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    if (n)
        origin_find(g, n->id, true)->unknown = line_number(l, "n");
}

/* ---- delivering */

/* All members deliver the same first message of a sender in a view: old members go on from what
 * they had, joiners start at their join point. */
static void check_view_first(struct checker *c, struct line *l, struct cnode *n,
                             struct membership *ms, struct gview *v, uint32_t sender,
                             uint64_t number)
{
    for (size_t i = 0; i < v->firsts_count; i++) {
        struct span *f = &v->firsts[i];
        if (f->sender != sender)
            continue;
        if (f->first != number)
            violated(c, "S9", l,
                     "node %u%s starts with %llu of sender %u in epoch %llu, node %llu with %llu",
                     n->id, ms->joined == v->epoch ? " (joining)" : "", (ull)number, sender,
                     (ull)v->epoch, (ull)f->last, (ull)f->first);
        return;
    }
    v->firsts = realloc(v->firsts, (v->firsts_count + 1) * sizeof(*v->firsts));
    assert(v->firsts);
    v->firsts[v->firsts_count++] = (struct span){sender, number, n->id};
}

static void check_order(struct checker *c, struct line *l, struct stream *s, uint64_t number)
{
    if (s->last && number <= s->last)
        violated(c, "S2", l, "%llu of sender %u again, after %llu", (ull)number, s->sender,
                 (ull)s->last);
    else if (s->last && number != s->last + 1)
        violated(c, "S3", l, "%llu of sender %u after %llu", (ull)number, s->sender, (ull)s->last);
    else if (!s->last && s->based && number != s->base + 1)
        violated(c, "S9", l, "first %llu of sender %u, its base is %llu", (ull)number, s->sender,
                 (ull)s->base);
}

void on_deliver(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    uint32_t sender = line_id(l, "s"), bytes = line_id(l, "l");
    uint64_t number = line_number(l, "n"), epoch = line_number(l, "ep"), h = line_hex(l, "h");
    if (l->bad || !n)
        return;
    c->counts.delivers++;
    struct membership *ms = membership_find(n, g->gid, true);
    struct sent *m = sent_find(c, g->gid, sender, number);
    if (!m || !m->epoch)
        violated(c, "S1", l, "%llu of sender %u was never sent", (ull)number, sender);
    else if (m->h != h || m->l != bytes)
        violated(c, "S1", l, "%llu of sender %u: not the bytes sent", (ull)number, sender);
    else if (m->epoch != epoch)
        violated(c, "S5", l, "%llu of sender %u delivered in epoch %llu, sent in %llu", (ull)number,
                 sender, (ull)epoch, (ull)m->epoch);
    if (ms->epoch != epoch)
        violated(c, "S5", l, "delivered in epoch %llu while the view is that of %llu", (ull)epoch,
                 (ull)ms->epoch);
    struct stream *s = stream_find(ms, sender, true);
    check_order(c, l, s, number);
    struct gview *v = gview_find(g, epoch);
    if (v && !s->view_first)
        check_view_first(c, l, n, ms, v, sender, number);
    if (!s->first)
        s->first = number;
    if (!s->view_first)
        s->view_first = number;
    s->last = s->view_last = number;
    s->h = h;
}

void on_base(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    uint32_t sender = line_id(l, "s");
    uint64_t base = line_number(l, "n");
    if (l->bad || !n)
        return;
    struct membership *ms = membership_find(n, g->gid, true);
    struct stream *s = stream_find(ms, sender, true);
    if (s->last) { /* said again in a later view: it goes on where it was */
        if (base != s->last)
            violated(c, "S9", l, "a second join point %llu for sender %u, delivered is %llu",
                     (ull)base, sender, (ull)s->last);
        return;
    }
    s->based = true;
    s->base = base;
    struct join_point *j, key = {.key = {ms->joined, sender}, .base = base, .at = l->at};
    HASH_FIND(hh, g->join_points, &key.key, sizeof(key.key), j);
    if (j && j->base != base)
        violated(c, "S9", l,
                 "join point %llu of sender %u; another joiner of epoch %llu said %llu, %s",
                 (ull)base, sender, (ull)ms->joined, (ull)j->base, at_text(j->at));
    if (j)
        return;
    j = malloc(sizeof(*j));
    assert(j);
    *j = key;
    HASH_ADD(hh, g->join_points, key, sizeof(j->key), j);
}

/* ---- views */

static int compare_spans(const void *a, const void *b)
{
    uint32_t x = ((const struct span *)a)->sender, y = ((const struct span *)b)->sender;
    return x < y ? -1 : x > y;
}

/* What a member delivered in its view, by sender. */
static struct span *spans_of(const struct membership *m, size_t *ret_count)
{
    struct span *spans = calloc(HASH_COUNT(m->streams) + 1, sizeof(*spans));
    assert(spans);
    size_t count = 0;
    for (struct stream *s = m->streams; s; s = s->hh.next) {
        if (s->view_first)
            spans[count++] = (struct span){s->sender, s->view_first, s->view_last};
    }
    qsort(spans, count, sizeof(*spans), compare_spans);
    *ret_count = count;
    return spans;
}

/* What one member delivered in a view, for the others to be compared with. */
struct reference {
    uint32_t node; /* 0: none yet */
    struct at at;
    struct span *spans; /* owned */
    size_t count;
};

/* S7: the first member sets what all others must have delivered. */
static void compare_with_others(struct checker *c, struct line *l, const struct cnode *n,
                                const struct membership *ms, struct reference *r)
{
    size_t count;
    struct span *spans = spans_of(ms, &count);
    if (!r->node) {
        *r = (struct reference){n->id, l->at, spans, count};
        return;
    }
    size_t i = 0, j = 0;
    while (i < count || j < r->count) {
        struct span *a = i < count ? &spans[i] : NULL;
        struct span *b = j < r->count ? &r->spans[j] : NULL;
        uint32_t sender = a && (!b || a->sender <= b->sender) ? a->sender : b->sender;
        struct span none = {sender, 0, 0};
        a = a && a->sender == sender ? (i++, a) : &none;
        b = b && b->sender == sender ? (j++, b) : &none;
        if (a->first != b->first || a->last != b->last)
            violated(
                c, "S7", l,
                "in epoch %llu node %u delivered %llu..%llu of sender %u, node %u (%s) %llu..%llu",
                (ull)ms->epoch, n->id, (ull)a->first, (ull)a->last, sender, r->node, at_text(r->at),
                (ull)b->first, (ull)b->last);
    }
    free(spans);
}

/* S7: nothing of a sender that survived into the epoch `to` is lost. */
static void check_survivors(struct checker *c, struct line *l, struct cgroup *g, struct cnode *n,
                            struct membership *ms, uint64_t to)
{
    for (struct origin *o = g->origins; o; o = o->hh.next) {
        if (expelled_before(c, o->sender, to) || (to == UINT64_MAX && dead(c, o->sender)))
            continue;
        for (size_t i = o->count; i-- > 0;) {
            struct sent *m = &o->sent[i];
            if (m->epoch && m->epoch < ms->epoch)
                break;
            if (m->epoch != ms->epoch || !m->packed_count)
                continue;
            uint64_t number = i + 1 + o->skip;
            if (!cnode_delivered(n, g->gid, o->sender, number))
                violated(c, "S7", l,
                         "%llu of sender %u, sent in epoch %llu at %s, was not delivered",
                         (ull)number, o->sender, (ull)m->epoch, at_text(m->at));
            break;
        }
    }
}

/* S8: what was called stable before this member moved on, it delivered; having it is not enough. */
static void check_stable_delivered(struct checker *c, struct line *l, struct cgroup *g,
                                   const struct cnode *n, const struct membership *ms)
{
    for (struct origin *o = g->origins; o; o = o->hh.next) {
        for (size_t i = o->count; i-- > 0;) {
            const struct sent *m = &o->sent[i];
            uint64_t number = i + 1 + o->skip;
            if (m->epoch && m->epoch < ms->epoch)
                break;
            if (m->epoch != ms->epoch || number > o->stable)
                continue;
            if (!cnode_delivered(n, g->gid, o->sender, number))
                violated(c, "S8", l, "node %u moves on without %llu of sender %u, which is stable",
                         n->id, (ull)number, o->sender);
            break;
        }
    }
}

static void leave_view(struct checker *c, struct line *l, struct cgroup *g, struct cnode *n,
                       struct membership *ms, uint64_t to)
{
    struct gview *v = gview_find(g, ms->epoch), *next = gview_next(g, ms->epoch);
    if (!v)
        return;
    if (next && next->by_cms && next->epoch != to)
        violated(c, "S6", l, "from epoch %llu to %llu; the view of %llu is between", (ull)ms->epoch,
                 (ull)to, (ull)next->epoch);
    if (!v->reference)
        v->reference = calloc(1, sizeof(*v->reference));
    assert(v->reference);
    compare_with_others(c, l, n, ms, v->reference);
    check_survivors(c, l, g, n, ms, to);
    check_stable_delivered(c, l, g, n, ms);
    for (struct stream *s = ms->streams; s; s = s->hh.next)
        s->view_first = s->view_last = 0;
}

void on_view(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    uint64_t epoch = line_number(l, "ep");
    struct ids members = line_ids(l, "m");
    if (l->bad || !n) {
        free(members.list);
        return;
    }
    c->counts.views++;
    struct membership *ms = membership_find(n, g->gid, true);
    struct gview *v = gview_find(g, epoch);
    if (epoch <= ms->epoch)
        violated(c, "S6", l, "epoch %llu after %llu", (ull)epoch, (ull)ms->epoch);
    if (!ids_have(&members, n->id))
        violated(c, "S6", l, "node %u installs a view that it is no member of", n->id);
    if (v && !ids_equal(&v->members, &members))
        violated(c, "S6", l, "other members than the CMS or another node have for epoch %llu",
                 (ull)epoch);
    if (!v && c->cms_seen)
        violated(c, "S6", l, "the CMS installed no view of group %u in epoch %llu", g->gid,
                 (ull)epoch);
    if (!v)
        gview_add(g, epoch, members);
    else
        free(members.list);
    if (ms->epoch)
        leave_view(c, l, g, n, ms, epoch);
    else
        ms->joined = epoch;
    ms->epoch = epoch;
}

static void streams_free(struct membership *m)
{
    struct stream *s, *next;
    HASH_ITER (hh, m->streams, s, next) {
        HASH_DEL(m->streams, s);
        free(s);
    }
}

void on_left(struct checker *c, struct line *l)
{
    struct cnode *n = line_node(c, l);
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    if (l->bad || !n)
        return;
    struct membership *ms = membership_find(n, g->gid, true);
    if (!ms->epoch)
        violated(c, "S6", l, "node %u leaves group %u, but is no member", n->id, g->gid);
    streams_free(ms);
    ms->epoch = ms->joined = 0;
    if (g->name)
        process_left(n->process, g->name);
}

/* ---- the end */

/* Members of the last view have all that living senders sent, and no stable message is owed. */
static void finish_group(struct checker *c, struct line *l, struct cgroup *g)
{
    struct gview *v = g->view_count ? g->views[g->view_count - 1] : NULL;
    struct reference all = {0};
    for (size_t i = 0; v && i < v->members.count; i++) {
        struct cnode *n = cnode_find(c, v->members.list[i]);
        struct membership *ms = membership_find(n, g->gid, false);
        if (!cnode_lives(n))
            continue;
        if (!ms || ms->epoch != v->epoch) {
            violated(c, "S6", l, "node %u ended in epoch %llu of group %u, not in %llu", n->id,
                     ms ? (ull)ms->epoch : 0, g->gid, (ull)v->epoch);
            continue;
        }
        compare_with_others(c, l, n, ms, &all);
        check_survivors(c, l, g, n, ms, UINT64_MAX);
    }
    free(all.spans);
    for (struct origin *o = g->origins; o; o = o->hh.next) {
        if (!cnode_lives(cnode_find(c, o->sender)))
            continue;
        for (size_t i = 0; v && i < o->count; i++) {
            uint64_t number = i + 1 + o->skip;
            if (v->members.count && !o->sent[i].packed_count && number > o->stable)
                violated(c, "LIVE", l, "%llu of sender %u to group %u never went out", (ull)number,
                         o->sender, g->gid);
        }
        if (o->stable < o->count + o->skip)
            violated(c, "LIVE", l, "of sender %u to group %u only %llu of %llu messages are stable",
                     o->sender, g->gid, (ull)o->stable, (ull)(o->count + o->skip));
    }
    for (size_t i = 0; i < g->owed_count; i++) {
        struct owed *o = &g->owed[i];
        if (cnode_lives(cnode_find(c, o->member)))
            violated(c, "S8", l, "node %u lacked %llu of sender %u when it was called stable at %s",
                     o->member, (ull)o->number, o->sender, at_text(o->at));
    }
}

void finish_views(struct checker *c, struct line *l)
{
    for (struct cgroup *g = c->groups; g; g = g->hh.next)
        finish_group(c, l, g);
}

static void group_free(struct cgroup *g)
{
    struct origin *o, *next;
    HASH_ITER (hh, g->origins, o, next) {
        HASH_DEL(g->origins, o);
        for (size_t i = 0; i < o->count; i++)
            free(o->sent[i].packed);
        free(o->sent);
        free(o);
    }
    struct join_point *j, *next_join;
    HASH_ITER (hh, g->join_points, j, next_join) {
        HASH_DEL(g->join_points, j);
        free(j);
    }
    for (size_t i = 0; i < g->view_count; i++) {
        free(g->views[i]->members.list);
        if (g->views[i]->reference)
            free(g->views[i]->reference->spans);
        free(g->views[i]->reference);
        free(g->views[i]->firsts);
        free(g->views[i]);
    }
    free(g->views);
    free(g->owed);
    free(g->name);
    free(g);
}

void free_views(struct checker *c)
{
    struct cnode *n, *next;
    HASH_ITER (hh, c->nodes, n, next) {
        struct membership *m, *next_m;
        HASH_ITER (hh, n->memberships, m, next_m) {
            streams_free(m);
            HASH_DEL(n->memberships, m);
            free(m);
        }
        HASH_DEL(c->nodes, n);
        free(n);
    }
    struct cgroup *g, *next_g;
    HASH_ITER (hh, c->groups, g, next_g) {
        HASH_DEL(c->groups, g);
        group_free(g);
    }
}
