/* session_feed: messages on their way to the core. Each client has a queue per group, as long as
 * was granted to it (session_grant), so that no group blocks another on one connection; the core
 * pulls from the queues of a group in turn, as late as it can. Each accepted message gets exactly
 * one completion (S14), told cumulatively per client and group. */
#include "session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_ROOM_KEPT 64u /* an empty queue gives more back */

/* ---- what there is to tell */

void feed_dirty(struct use *u)
{
    if (!u->client || u->is_dirty || (!u->send && !u->refused))
        return;
    u->is_dirty = true;
    TAILQ_INSERT_TAIL(&u->client->dirty, u, dirty);
    client_fresh(u->client);
}

static void completion_tell(struct use *u, uint64_t up_to, const char *lost)
{
    if (up_to <= u->told || (!u->send && !u->refused))
        return;
    u->told = up_to;
    Qsm__Completion done = QSM__COMPLETION__INIT;
    done.id = u->id;
    done.k = up_to - u->base;
    done.lost = lost != NULL;
    done.reason = (char *)(uintptr_t)(lost ? lost : "");
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_COMPLETION;
    m.completion = &done;
    out_control(u->client, &m);
}

static void grant_tell(struct use *u)
{
    grant_decide(u->client->s, u);
    grant_revoke_tell(u);
    if (u->untold == 0 && !u->grant_now)
        return;
    Qsm__Grant g = QSM__GRANT__INIT;
    g.id = u->id;
    g.bytes = u->untold;
    u->untold = 0;
    u->grant_now = false;
    if (u->credit >= u->need) /* not before it is told: until then it may be taken back */
        u->need = 0;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_GRANT;
    m.grant = &g;
    out_control(u->client, &m);
}

void feed_tell(struct client *c)
{
    struct use *u;
    while ((u = TAILQ_FIRST(&c->dirty)) && c->out.bytes <= c->s->config.queue_bytes) {
        TAILQ_REMOVE(&c->dirty, u, dirty);
        u->is_dirty = false;
        completion_tell(u, u->settled, NULL);
        grant_tell(u);
        use_release(c->s, u);
    }
}

/* ---- queues */

static void queue_push(struct use *u, const struct queued *q)
{
    struct local *l = u->local;
    if (u->queue_count == u->queue_room) {
        uint32_t room = u->queue_room > 0 ? u->queue_room * 2 : 16;
        struct queued *ring = session_alloc(room, sizeof(*ring));
        for (uint32_t i = 0; i < u->queue_count; i++)
            ring[i] = u->queue[(u->queue_first + i) & (u->queue_room - 1)];
        free(u->queue);
        u->queue = ring;
        u->queue_first = 0;
        u->queue_room = room;
    }
    u->queue[(u->queue_first + u->queue_count++) & (u->queue_room - 1)] = *q;
    u->queue_cost += q->cost;
    l->queued++;
    if (!u->is_ready) {
        u->is_ready = true;
        TAILQ_INSERT_TAIL(&l->ready, u, ready);
        local_touch(u->client->s, l);
    }
}

static struct queued queue_pop(struct use *u)
{
    assert(u->queue_count > 0);
    struct queued q = u->queue[u->queue_first];
    u->queue_first = (u->queue_first + 1) & (u->queue_room - 1);
    u->queue_count--;
    u->queue_cost -= q.cost;
    u->local->queued--;
    if (u->queue_count > 0)
        return q;
    TAILQ_REMOVE(&u->local->ready, u, ready);
    u->is_ready = false;
    if (u->queue_room > QUEUE_ROOM_KEPT) {
        free(u->queue);
        u->queue = NULL;
        u->queue_room = u->queue_first = 0;
    }
    return q;
}

void feed_begin(struct use *u)
{
    grants_open(u->client->s, u);
    u->grant_now = true;
    feed_dirty(u);
}

void feed_end(struct use *u)
{
    struct session *s = u->client->s;
    assert(u->send);
    u->send = false;
    u->local->senders--;
    grants_close(s, u);
    local_touch(s, u->local);
}

void feed_done(struct session *s, struct use *u)
{
    while (u->queue_count > 0) {
        struct queued q = queue_pop(u);
        buf_unref(q.body);
    }
    sample_forget(&s->sample, u);
    grant_count(s, u);
    free(u->queue);
}

/* ---- completions */

/* The next count messages that were pulled are stable, or (lost) have an unknown end. */
static void settle(struct session *s, struct use *u, uint64_t count, const char *lost)
{
    uint64_t before = u->settled;

    u->settled += count;
    assert(u->settled <= u->pulled);
    if (lost)
        s->stats.completions_lost += count;
    else
        s->stats.completions_stable += count;
    for (uint64_t k = before + 1; u->client && session_traced(s) && k <= u->settled; k++) {
        session_trace(s, "complete c=%llu k=%llu g=%s st=%s", (unsigned long long)u->conn,
                      (unsigned long long)k, u->local->name, lost ? "unknown" : "stable");
    }
    if (u->client && lost) {
        completion_tell(u, before, NULL);
        completion_tell(u, u->settled, lost);
    } else {
        feed_dirty(u);
    }
    use_release(s, u);
}

static void run_add(struct local *l, struct use *u, uint64_t number)
{
    if (l->run_count > 0) {
        struct run *last = &l->runs[(l->run_first + l->run_count - 1) & (l->run_room - 1)];
        assert(number == last->first + last->count);
        if (last->use == u) {
            last->count++;
            return;
        }
    }
    if (l->run_count == l->run_room) {
        size_t room = l->run_room > 0 ? l->run_room * 2 : 4;
        struct run *ring = session_alloc(room, sizeof(*ring));
        for (size_t i = 0; i < l->run_count; i++)
            ring[i] = l->runs[(l->run_first + i) & (l->run_room - 1)];
        free(l->runs);
        l->runs = ring;
        l->run_first = 0;
        l->run_room = room;
    }
    l->runs[(l->run_first + l->run_count++) & (l->run_room - 1)] =
        (struct run){.use = u, .first = number, .count = 1};
}

/* Settles the messages of l up to number. */
static void settle_up_to(struct session *s, struct local *l, uint64_t number, const char *lost)
{
    if (l->hand.use && number >= l->hand.number)
        grant_left(s, l);
    while (l->run_count > 0) {
        struct run *r = &l->runs[l->run_first];
        if (number < r->first)
            return;
        uint64_t count = number - r->first + 1 < r->count ? number - r->first + 1 : r->count;
        struct use *u = r->use;
        r->first += count;
        r->count -= count;
        if (r->count == 0) {
            l->run_first = (l->run_first + 1) & (l->run_room - 1);
            l->run_count--;
        }
        settle(s, u, count, lost);
    }
    if (l->senders == 0)
        local_touch(s, l);
}

void feed_stable(void *ctx, uint32_t group, uint64_t number, bool lost)
{
    struct session *s = ctx;
    struct local *l = local_of(s, group);
    if (l)
        settle_up_to(s, l, number,
                     lost ? "the host was expelled before it was known to be stable" : NULL);
}

static void lose_queue(struct session *s, struct use *u, const char *reason)
{
    uint64_t count = u->queue_count;
    if (count == 0)
        return;
    assert(u->pulled == u->settled);
    while (u->queue_count > 0) {
        struct queued q = queue_pop(u);
        buf_unref(q.body);
    }
    sample_forget(&s->sample, u);
    grant_count(s, u);
    u->pulled += count;
    settle(s, u, count, reason);
}

void feed_lose(struct session *s, struct local *l, const char *reason, bool queues)
{
    struct use *u, *next;
    settle_up_to(s, l, UINT64_MAX - 1, reason);
    if (!queues)
        return;
    TAILQ_FOREACH_SAFE (u, &l->uses, of_local, next)
        lose_queue(s, u, reason);
}

/* ---- the core pulls */

bool feed_pull(void *ctx, uint32_t group, uint64_t number, struct message *ret)
{
    struct session *s = ctx;
    struct local *l = local_of(s, group);
    struct use *u = l ? TAILQ_FIRST(&l->ready) : NULL;

    if (l)
        grant_left(s, l); /* the core asks for the next when it is done with one */
    if (!u)
        return false;
    struct queued q = queue_pop(u);
    if (u->queue_count > 0) { /* to the end of the round */
        TAILQ_REMOVE(&l->ready, u, ready);
        TAILQ_INSERT_TAIL(&l->ready, u, ready);
    } else {
        grant_raise(s, u);
    }
    u->pulled++;
    sample_end(&s->sample, u, u->pulled, node_now(s->node), &s->stats.send_to_deliver_us);
    run_add(l, u, number);
    if (q.cost > 0 && q.bytes > LEAVING_BYTES)
        grant_leaving(s, l, u, &q, number);
    else if (q.cost > 0)
        grant_count(s, u);
    if (u->client && grant_due(u))
        feed_dirty(u);
    if (session_traced(s)) {
        session_trace(s, "pull c=%llu k=%llu g=%s n=%llu", (unsigned long long)u->conn,
                      (unsigned long long)u->pulled, l->name, (unsigned long long)number);
    }
    *ret = (struct message){.body = q.body, .data = q.data, .bytes = q.bytes};
    return true;
}

/* ---- clients submit */

static int submit_check(struct client *c, const Qsm__Submit *m, size_t payload_bytes)
{
    uint64_t sum = 0;
    if (m->n_group != m->n_bytes)
        return client_fail(c, -EPROTO, "are lists of different lengths",
                           "Submit.group and Submit.bytes");
    for (size_t i = 0; i < m->n_bytes; i++) {
        if (m->bytes[i] > MESSAGE_MAX)
            return client_fail(c, -EMSGSIZE, "is above 16 MiB", "Submit.bytes[%zu]", i);
        sum += m->bytes[i];
    }
    if (sum != payload_bytes)
        return client_fail(c, -EPROTO, "do not add up to the length of the payloads",
                           "Submit.bytes");
    return 0;
}

/* cost: what is freed when the message leaves. */
static void accept_message(struct client *c, struct use *u, struct buf *body, const uint8_t *data,
                           uint32_t bytes, uint32_t cost)
{
    struct session *s = c->s;
    u->accepted++;
    s->stats.client_messages_in++;
    if (session_traced(s)) {
        session_trace(s, "accept c=%llu k=%llu g=%s h=%llx l=%u ask=1", (unsigned long long)u->conn,
                      (unsigned long long)u->accepted, u->local->name,
                      (unsigned long long)session_hash(data, bytes), bytes);
    }
    if (u->refused || s->stopped) {
        u->pulled++;
        settle(s, u, 1, s->stopped ? "the daemon stops" : "the CMS refused to open the group");
        return;
    }
    struct queued q = {.body = buf_ref(body), .data = data, .bytes = bytes, .cost = cost};
    queue_push(u, &q);
    sample_begin(&s->sample, u, u->accepted, s->now_us);
}

/* What the client may still send to u's group, as far as it knows. */
static uint64_t allowed(const struct use *u)
{
    return u->revoke ? u->old : u->credit - u->untold;
}

static void spend(struct use *u, uint64_t cost)
{
    uint64_t *from = u->revoke ? &u->old : &u->credit;
    *from -= cost;
    u->client->allowed -= cost;
    if (u->revoke)
        u->client->revoked -= cost;
}

/* How many messages from the i-th on share one copy, and what they count: those to the same group
 * as long as they are few bytes, so that what has left pins little of what has not. */
static size_t submit_run(const struct use *u, const Qsm__Submit *m, size_t i, uint64_t *ret_bytes)
{
    uint64_t bytes = 0, may = allowed(u);
    size_t n = 0;
    for (; i + n < m->n_group && m->group[i + n] == m->group[i]; n++) {
        uint64_t more = bytes + m->bytes[i + n];
        if (!u->refused && more + (n + 1) * MESSAGE_COST > may)
            break;
        if (n > 0 && more > RUN_BYTES)
            break;
        bytes = more;
    }
    *ret_bytes = bytes;
    return n;
}

static int submit_messages(struct client *c, const Qsm__Submit *m, const uint8_t *data)
{
    for (size_t i = 0, n; i < m->n_group; i += n) {
        struct use *u = use_find(c, m->group[i]);
        uint64_t bytes;
        if (!u || (!u->send && !u->refused))
            return client_fail(c, -EBADF, "is not open to send", "Submit.group[%zu] = %u", i,
                               m->group[i]);
        n = submit_run(u, m, i, &bytes);
        if (n == 0)
            return client_fail(c, -EDQUOT, "is more than was granted for the group",
                               "Submit.bytes[%zu] = %u", i, m->bytes[i]);
        /* The one copy. */
        struct buf *body = buf_copy(data, bytes);
        const uint8_t *at = body->data;
        uint64_t cost = bytes + n * MESSAGE_COST;
        if (!u->refused)
            spend(u, cost);
        for (size_t k = i; k < i + n; at += m->bytes[k++])
            accept_message(c, u, body, at, m->bytes[k], k + 1 == i + n ? (uint32_t)cost : 0);
        buf_unref(body);
        grant_count(c->s, u);
        data += bytes;
    }
    return 0;
}

static int submit_needs(struct client *c, const Qsm__Submit *m)
{
    for (size_t i = 0; i < m->n_need; i++) {
        const Qsm__NeedGrant *n = m->need[i];
        struct use *u = use_find(c, n->id);
        if (!u || (!u->send && !u->refused))
            return client_fail(c, -EBADF, "is not open to send", "Submit.need[%zu].id", i);
        if (n->bytes > MESSAGE_MAX + MESSAGE_COST)
            return client_fail(c, -EMSGSIZE, "is above 16 MiB + 16", "Submit.need[%zu].bytes", i);
        u->need = u->refused || n->bytes <= u->credit - u->untold ? 0 : n->bytes;
        if (grant_due(u))
            feed_dirty(u);
    }
    return 0;
}

int feed_submit(struct client *c, const struct frame *f)
{
    struct arena *a = &c->s->arena;

    session_arena_reset(a, SUBMIT_ARENA_MAX);
    ProtobufCAllocator allocator = session_arena_allocator(a);
    const Qsm__Submit *m = qsm__submit__unpack(&allocator, f->header_bytes, f->header);
    if (!m && a->full)
        return client_fail(c, -EMSGSIZE, "takes more than 256 KiB unpacked", "Submit");
    if (!m)
        return client_fail(c, -EPROTO, "is no well-formed message", "Submit");
    int error = submit_check(c, m, f->payload_bytes);
    if (error)
        return error;
    error = submit_messages(c, m, f->payload);
    return error ? error : submit_needs(c, m);
}
