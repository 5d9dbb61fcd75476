/* session_sub: subscriptions. One begins with a view, gets every message that is delivered on this
 * host from then on, and ends with one typed event that carries the last position per sender (S3).
 */
#include "session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- beginning and end */

uint64_t view_bytes(const struct members *m)
{
    return 64 + 8 * (uint64_t)m->count;
}

void view_tell(struct use *u, const struct members *m, uint64_t epoch)
{
    struct client *c = u->client;
    struct arena *a = &c->s->scratch;
    session_arena_reset(a, SCRATCH_ARENA_MAX);
    Qsm__Member *members = session_arena_need(a, m->count * sizeof(*members));
    Qsm__Member **list = session_arena_need(a, m->count * sizeof(Qsm__Member *));
    for (uint32_t i = 0; i < m->count; i++) {
        qsm__member__init(&members[i]);
        members[i].node = m->ids[i];
        members[i].host = name_to_tell(c, m->ids[i]);
        list[i] = &members[i];
    }
    Qsm__ViewEvent e = QSM__VIEW_EVENT__INIT;
    e.id = u->id;
    e.epoch = epoch;
    e.n_member = m->count;
    e.member = list;
    Qsm__ToClient out = QSM__TO_CLIENT__INIT;
    out.what_case = QSM__TO_CLIENT__WHAT_VIEW;
    out.view = &e;
    out_control(c, &out);
    u->last_out = c->out.queued_total;
}

void subscription_view(struct use *u)
{
    struct client *c = u->client;
    const struct local *l = u->local;

    if (u->latest) {
        late_view(u);
    } else if (out_room(c, view_bytes(l->members), 0)) {
        view_tell(u, l->members, l->epoch);
    } else {
        c->s->stats.subscriptions_slow++;
        subscription_end(u, END_SLOW, false);
    }
}
/* It starts after the last message delivered on this host (S9). */
void subscription_begin(struct use *u)
{
    struct session *s = u->client->s;
    u->viewed = true;
    u->rejoining = false;
    u->start_serial = u->local->serial;
    s->stats.subscriptions_begun++;
    if (!u->latest) /* the checker takes no gaps */
        session_trace(s, "sub c=%llu g=%s", (unsigned long long)u->conn, u->local->name);
    subscription_view(u);
}

static void end_tell(struct use *u, enum end_why why, bool rejoined)
{
    struct client *c = u->client;
    const struct local *l = u->local;
    struct arena *a = &c->s->scratch;

    session_arena_reset(a, SCRATCH_ARENA_MAX);
    Qsm__Position *positions = session_arena_need(a, l->position_count * sizeof(*positions));
    Qsm__Position **list = session_arena_need(a, l->position_count * sizeof(Qsm__Position *));
    size_t count = 0;
    for (uint32_t i = 0; u->viewed && i < l->position_count; i++) {
        if (l->positions[i].serial <= u->start_serial)
            continue;
        Qsm__Position *p = &positions[count];
        qsm__position__init(p);
        p->node = l->positions[i].sender;
        p->host = name_to_tell(c, p->node);
        p->number = l->positions[i].number;
        list[count++] = p;
    }
    Qsm__EndEvent e = QSM__END_EVENT__INIT;
    e.id = u->id;
    e.why = why;
    e.n_position = count;
    e.position = list;
    e.rejoined = rejoined;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_END;
    m.end = &e;
    out_control(c, &m);
}

static const char *const end_names[] = {
    [END_LEFT] = "left", [END_SLOW] = "slow",         [END_EXPELLED] = "expelled",
    [END_GAP] = "gap",   [END_SHUTDOWN] = "shutdown",
};

/* u is not subscribed any more, which it knows or nobody is there to know. */
void subscription_drop(struct use *u)
{
    struct local *l = u->local;
    late_end(u);
    u->recv = u->viewed = u->rejoining = false;
    TAILQ_REMOVE(&l->subs, u, sub);
    assert(l->receivers > 0);
    l->receivers--;
}

void subscription_end(struct use *u, enum end_why why, bool rejoined)
{
    struct session *s = u->client->s;
    late_end(u);
    if (u->viewed && !u->latest) {
        session_trace(s, "end c=%llu g=%s why=%s", (unsigned long long)u->conn, u->local->name,
                      end_names[why]);
    }
    if (u->viewed || (u->rejoining && why == END_EXPELLED))
        end_tell(u, why, rejoined);
    if (rejoined) {
        u->viewed = false;
        u->rejoining = true;
        return;
    }
    subscription_drop(u);
    local_touch(s, u->local);
}

/* ---- deliveries */

static void position_insert(struct local *l, uint32_t at, uint32_t sender)
{
    if (l->position_count == POSITIONS_MAX) { /* forgets who has been silent for longest */
        uint32_t oldest = 0;
        for (uint32_t i = 1; i < l->position_count; i++) {
            if (l->positions[i].serial < l->positions[oldest].serial)
                oldest = i;
        }
        l->position_count--;
        memmove(l->positions + oldest, l->positions + oldest + 1,
                (l->position_count - oldest) * sizeof(*l->positions));
        at -= oldest < at;
    }
    if (l->position_count == l->position_room) {
        l->position_room = l->position_room > 0 ? l->position_room * 2 : 1;
        l->positions = session_grow(l->positions, l->position_room, sizeof(*l->positions));
    }
    memmove(l->positions + at + 1, l->positions + at,
            (l->position_count - at) * sizeof(*l->positions));
    l->position_count++;
    l->positions[at] = (struct position){.sender = sender};
    l->position_hit = at;
}

static void position_note(struct local *l, uint32_t sender, uint64_t number)
{
    if (l->position_hit >= l->position_count || l->positions[l->position_hit].sender != sender) {
        uint32_t low = 0, high = l->position_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (l->positions[middle].sender < sender)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < l->position_count && l->positions[low].sender == sender)
            l->position_hit = low;
        else
            position_insert(l, low, sender);
    }
    l->positions[l->position_hit].number = number;
    l->positions[l->position_hit].serial = ++l->serial;
}

/* The use that submitted a message of this node; NULL: it is stable already. */
static const struct use *owner_of(const struct local *l, uint64_t number)
{
    size_t low = 0, high = l->run_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct run *r = &l->runs[(l->run_first + middle) & (l->run_room - 1)];
        if (number < r->first)
            high = middle;
        else if (number >= r->first + r->count)
            low = middle + 1;
        else
            return r->use;
    }
    return NULL;
}

static bool is_echo(const struct session *s, const struct use *u, const struct delivery *d)
{
    return d->sender == node_id(s->node) && owner_of(u->local, d->number) == u;
}

/* The k-th message of a run by itself. */
static struct delivery one_of(const struct delivery *d, uint32_t k)
{
    struct delivery one = *d;

    one.number += k;
    one.data += (size_t)k * d->bytes;
    one.more = 0;
    one.lead = k == 0 ? d->lead : 0;
    return one;
}

static void deliver_trace(struct session *s, const struct use *u, const struct delivery *d)
{
    for (uint32_t k = 0; k <= d->more; k++) {
        const struct delivery one = one_of(d, k);
        session_trace(s, "recv c=%llu g=%s s=%u n=%llu h=%llx", (unsigned long long)u->conn,
                      u->local->name, one.sender, (unsigned long long)one.number,
                      (unsigned long long)session_hash(one.data, one.bytes));
    }
}

static bool queue_run(struct use *u, const struct delivery *d)
{
    if (!out_message(u->client, u, d))
        return false;
    if (session_traced(u->client->s))
        deliver_trace(u->client->s, u, d);
    return true;
}

/* Who cannot take a run as a whole gets it message by message up to its caps, and ends there: each
 * is told the last one that it got. */
static void deliver_singly(struct session *s, struct local *l, const struct delivery *d)
{
    struct use *u, *next;

    for (uint32_t k = 0; k <= d->more; k++) {
        const struct delivery one = one_of(d, k);
        TAILQ_FOREACH_SAFE (u, &l->subs, sub, next) {
            if (!u->behind || queue_run(u, &one))
                continue;
            u->behind = false;
            s->stats.subscriptions_slow++;
            subscription_end(u, END_SLOW, false);
        }
        position_note(l, d->sender, one.number);
    }
}

static void late_run(struct use *u, const struct delivery *d)
{
    for (uint32_t k = 0; k <= d->more; k++) {
        const struct delivery one = one_of(d, k);
        late_message(u, &one);
    }
}

void subscription_deliver(void *ctx, const struct delivery *d)
{
    struct session *s = ctx;
    struct local *l = local_of(s, d->group);
    struct use *u;
    bool behind = false;

    if (!l)
        return;
    TAILQ_FOREACH (u, &l->subs, sub) {
        u->behind = false;
        if (!u->viewed || (u->no_echo && is_echo(s, u, d)))
            continue;
        if (u->latest)
            late_run(u, d);
        else
            behind |= u->behind = !queue_run(u, d);
    }
    if (behind)
        deliver_singly(s, l, d);
    else
        position_note(l, d->sender, d->number + d->more);
}
