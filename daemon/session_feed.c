/* session_feed: messages on their way to the core. Each client has a queue per group, as long as
 * was granted to it (session_grant), so that no group blocks another on one connection; the core
 * pulls from the queues of a group in turn, as late as it can. Each accepted message gets exactly
 * one completion (S14), told cumulatively per client and group. */
#include "session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what there is to tell */

void feed_dirty(struct use *u)
{
    if (!u->client || (!u->send && !u->refused) || u->outbox->is_dirty)
        return;
    u->outbox->is_dirty = true;
    TAILQ_INSERT_TAIL(&u->client->dirty, u, outbox->dirty);
    client_fresh(u->client);
}

static void completion_tell(struct use *u, uint64_t up_to, const char *lost)
{
    if (up_to <= u->outbox->told || (!u->send && !u->refused))
        return;
    u->outbox->told = up_to;
    if (!lost) {
        out_pair(u->client, QSM__TO_CLIENT__WHAT_COMPLETION, u->id, up_to - u->outbox->base);
        return;
    }
    Qsm__Completion done = QSM__COMPLETION__INIT;
    done.id = u->id;
    done.k = up_to - u->outbox->base;
    done.lost = true;
    done.reason = (char *)(uintptr_t)lost;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_COMPLETION;
    m.completion = &done;
    out_control(u->client, &m);
}

static void grant_tell(struct use *u)
{
    grant_decide(u->client->s, u);
    grant_revoke_tell(u);
    if (u->outbox->untold == 0 && !u->outbox->grant_now)
        return;
    uint64_t bytes = u->outbox->untold;
    u->outbox->untold = 0;
    u->outbox->grant_now = false;
    if (u->outbox->credit >=
        u->outbox->need) /* not before it is told: until then it may be taken back */
        u->outbox->need = 0;
    out_pair(u->client, QSM__TO_CLIENT__WHAT_GRANT, u->id, bytes);
}

void feed_tell(struct client *c)
{
    struct use *u;
    while ((u = TAILQ_FIRST(&c->dirty)) && c->out.bytes <= c->s->config.queue_bytes) {
        TAILQ_REMOVE(&c->dirty, u, outbox->dirty);
        u->outbox->is_dirty = false;
        completion_tell(u, u->outbox->settled, NULL);
        grant_tell(u);
        use_release(c->s, u);
    }
}

/* ---- queues */

/* An entry, from those that were given back last: they are in the processor's cache. */
static struct queued *entry_new(struct session *s)
{
    struct queued *q = STAILQ_FIRST(&s->spare);
    if (!q)
        return session_alloc(1, sizeof(*q));
    STAILQ_REMOVE_HEAD(&s->spare, next);
    s->spare_count--;
    return q;
}

static void entry_free(struct session *s, struct queued *q)
{
#ifdef __SANITIZE_ADDRESS__
    const uint32_t most = 0; /* what is used after that has to be seen */
#else
    const uint32_t most = QUEUED_SPARE_MAX;
#endif
    if (s->spare_count == most) {
        free(q);
        return;
    }
    STAILQ_INSERT_HEAD(&s->spare, q, next);
    s->spare_count++;
}

void feeds_done(struct session *s)
{
    struct queued *q;
    while ((q = STAILQ_FIRST(&s->spare))) {
        STAILQ_REMOVE_HEAD(&s->spare, next);
        free(q);
    }
}

/* Takes the entry over. */
static void queue_push(struct use *u, struct queued *q)
{
    struct local *l = u->local;
    STAILQ_INSERT_TAIL(&u->outbox->queue, q, next);
    u->outbox->queue_cost += q->cost;
    if (!u->outbox->is_ready) {
        u->outbox->is_ready = true;
        TAILQ_INSERT_TAIL(&l->ready, u, outbox->ready);
        local_touch(u->client->s, l);
    }
}

/* Nothing is left of the first entry. */
static void queue_shift(struct session *s, struct use *u)
{
    struct queued *q = STAILQ_FIRST(&u->outbox->queue);
    u->outbox->queue_cost -= q->cost;
    STAILQ_REMOVE_HEAD(&u->outbox->queue, next);
    entry_free(s, q);
    if (!STAILQ_EMPTY(&u->outbox->queue))
        return;
    TAILQ_REMOVE(&u->local->ready, u, outbox->ready);
    u->outbox->is_ready = false;
}

/* The next message. Returns what is freed with it. */
static uint32_t queue_pop(struct session *s, struct use *u, uint32_t room, struct message *ret)
{
    struct queued *q = STAILQ_FIRST(&u->outbox->queue);
    *ret = (struct message){.body = q->body, .data = q->body->data + q->at, .bytes = q->bytes};
    if (q->bytes > 0 && q->count > 1 && room / q->bytes > 1)
        ret->more = (room / q->bytes < q->count ? room / q->bytes : q->count) - 1;
    q->count -= ret->more + 1;
    if (q->count > 0) {
        buf_ref(q->body);
        q->at += q->bytes * (ret->more + 1);
        return 0;
    }
    uint32_t cost = q->cost;
    queue_shift(s, u);
    return cost;
}

static void queue_clear(struct session *s, struct use *u)
{
    struct queued *q;
    while ((q = STAILQ_FIRST(&u->outbox->queue))) {
        buf_unref(q->body);
        queue_shift(s, u);
    }
    sample_forget(&s->sample, u);
    grant_count(s, u);
}

void feed_begin(struct use *u)
{
    if (!u->outbox) {
        u->outbox = session_alloc(1, sizeof(*u->outbox));
        STAILQ_INIT(&u->outbox->queue);
    }
    u->outbox->base = u->outbox->told = u->outbox->accepted;
    grants_open(u->client->s, u);
    u->outbox->grant_now = true;
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
    if (!u->outbox)
        return;
    queue_clear(s, u);
    free(u->outbox);
}

/* ---- completions */

/* The next count messages that were pulled are stable, or (lost) have an unknown end. */
static void settle(struct session *s, struct use *u, uint64_t count, const char *lost)
{
    uint64_t before = u->outbox->settled;

    u->outbox->settled += count;
    assert(u->outbox->settled <= u->outbox->pulled);
    if (lost)
        s->stats.completions_lost += count;
    else
        s->stats.completions_stable += count;
    for (uint64_t k = before + 1; u->client && session_traced(s) && k <= u->outbox->settled; k++) {
        session_trace(s, "complete c=%llu k=%llu g=%s st=%s", (unsigned long long)u->conn,
                      (unsigned long long)k, u->local->name, lost ? "unknown" : "stable");
    }
    if (u->client && lost) {
        completion_tell(u, before, NULL);
        completion_tell(u, u->outbox->settled, lost);
    } else if (!u->outbox->is_dirty) {
        feed_dirty(u);
    }
    if (!u->send)
        use_release(s, u);
}

static void run_add(struct local *l, struct use *u, uint64_t number, uint64_t count)
{
    if (l->run_count > 0) {
        struct run *last = &l->runs[(l->run_first + l->run_count - 1) & (l->run_room - 1)];
        assert(number == last->first + last->count);
        if (last->use == u) {
            last->count += count;
            return;
        }
    }
    if (l->run_count == l->run_room) {
        uint32_t room = l->run_room > 0 ? l->run_room * 2 : 1;
        struct run *ring = session_alloc(room, sizeof(*ring));
        for (uint32_t i = 0; i < l->run_count; i++)
            ring[i] = l->runs[(l->run_first + i) & (l->run_room - 1)];
        free(l->runs);
        l->runs = ring;
        l->run_first = 0;
        l->run_room = room;
    }
    l->runs[(l->run_first + l->run_count++) & (l->run_room - 1)] =
        (struct run){.use = u, .first = number, .count = count};
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
        struct use *u = r->use;
        uint64_t count = number - r->first + 1;
        if (count < r->count) {
            r->first += count;
            r->count -= count;
            settle(s, u, count, lost);
            return;
        }
        count = r->count;
        l->run_first = (l->run_first + 1) & (l->run_room - 1);
        l->run_count--;
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
    uint64_t count = u->outbox->accepted - u->outbox->pulled;
    if (count == 0)
        return;
    assert(u->outbox->pulled == u->outbox->settled);
    queue_clear(s, u);
    u->outbox->pulled = u->outbox->accepted;
    settle(s, u, count, reason);
}

void feed_lose(struct session *s, struct local *l, const char *reason, bool queues)
{
    struct use *u, *next;
    settle_up_to(s, l, UINT64_MAX - 1, reason);
    if (!queues)
        return;
    TAILQ_FOREACH_SAFE (u, &l->uses, of_local, next) {
        if (u->outbox)
            lose_queue(s, u, reason);
    }
}

/* ---- the core pulls */

/* The last message of a copy is on its way. */
static void copy_leaves(struct session *s, struct use *u, const struct message *m, uint32_t cost,
                        uint64_t number)
{
    if (STAILQ_EMPTY(&u->outbox->queue))
        grant_raise(s, u);
    if (m->bytes > LEAVING_BYTES)
        grant_leaving(s, u->local, u, m, cost, number);
    else
        grant_count(s, u);
    if (u->client && grant_due(u))
        feed_dirty(u);
}

bool feed_pull(void *ctx, uint32_t group, uint64_t number, uint32_t room, struct message *ret)
{
    struct session *s = ctx;
    struct local *l = local_of(s, group);
    struct use *u = l ? TAILQ_FIRST(&l->ready) : NULL;

    if (l && l->hand.use)
        grant_left(s, l); /* the core is done with one when it asks for the next */
    if (!u)
        return false;
    uint32_t cost = queue_pop(s, u, room, ret);
    ret->last = TAILQ_EMPTY(&l->ready);
    if (u->outbox->is_ready && TAILQ_NEXT(u, outbox->ready)) { /* to the end of the round */
        TAILQ_REMOVE(&l->ready, u, outbox->ready);
        TAILQ_INSERT_TAIL(&l->ready, u, outbox->ready);
    }
    u->outbox->pulled += ret->more + 1;
    sample_end(&s->sample, u, u->outbox->pulled, node_now(s->node), &s->stats.send_to_deliver_us);
    run_add(l, u, number, ret->more + 1);
    if (cost > 0)
        copy_leaves(s, u, ret, cost, number);
    for (uint32_t i = 0; session_traced(s) && i <= ret->more; i++) {
        session_trace(s, "pull c=%llu k=%llu g=%s n=%llu", (unsigned long long)u->conn,
                      (unsigned long long)(u->outbox->pulled - ret->more + i), l->name,
                      (unsigned long long)(number + i));
    }
    return true;
}

/* ---- clients submit */

static uint32_t group_of(const Qsm__Submit *m, uint32_t i)
{
    return m->group[frame_list_at(m->n_group, i)];
}

static uint32_t bytes_of(const Qsm__Submit *m, uint32_t i)
{
    return m->bytes[frame_list_at(m->n_bytes, i)];
}

static int submit_check(struct client *c, const Qsm__Submit *m, size_t payload_bytes)
{
    uint64_t sum = 0;
    if (m->count > FRAME_MESSAGES_MAX)
        return client_fail(c, -EPROTO, "is above 64", "Submit.count = %u", m->count);
    if (!frame_list_fits(m->n_group, m->count) || !frame_list_fits(m->n_bytes, m->count))
        return client_fail(c, -EPROTO, "have neither one entry nor one for each message",
                           "Submit.group and Submit.bytes");
    for (size_t i = 0; i < m->n_bytes; i++) {
        if (m->bytes[i] > MESSAGE_MAX)
            return client_fail(c, -EMSGSIZE, "is above 16 MiB", "Submit.bytes[%zu]", i);
        sum += m->bytes[i];
    }
    if (m->n_bytes == 1)
        sum *= m->count;
    if (sum != payload_bytes)
        return client_fail(c, -EPROTO, "do not add up to the length of the payloads",
                           "Submit.bytes");
    return 0;
}

/* What the client may still send to u's group, as far as it knows. */
static uint64_t allowed(const struct use *u)
{
    return u->outbox->revoke ? u->outbox->old : u->outbox->credit - u->outbox->untold;
}

static void spend(struct use *u, uint32_t cost)
{
    u->client->allowed -= cost;
    if (u->outbox->revoke) {
        u->outbox->old -= cost;
        u->client->revoked -= cost;
    } else {
        u->outbox->credit -= cost;
    }
}

/* Messages of a frame that go to one group and share one copy: n from the i-th on. */
struct part {
    const Qsm__Submit *m;
    uint32_t i, n;
    const uint8_t *data;
    uint32_t bytes; /* all of them */
};

/* As many as there are, but few bytes, so that what has left pins little of what has not. */
static struct part part_at(const struct use *u, const Qsm__Submit *m, uint32_t i,
                           const uint8_t *data)
{
    struct part p = {.m = m, .i = i, .data = data};
    uint64_t may = u->refused ? UINT64_MAX : allowed(u);
    uint32_t group = group_of(m, i);

    for (; i < m->count && group_of(m, i) == group; i++) {
        uint32_t more = p.bytes + bytes_of(m, i);
        if (more + (p.n + 1) * MESSAGE_COST > may || (p.n > 0 && more > RUN_BYTES))
            break;
        p.bytes = more;
        p.n++;
    }
    return p;
}

static void part_trace(struct session *s, const struct use *u, const struct part *p)
{
    const uint8_t *at = p->data;
    for (uint32_t k = 0; k < p->n; k++) {
        uint32_t bytes = bytes_of(p->m, p->i + k);
        session_trace(s, "accept c=%llu k=%llu g=%s h=%llx l=%u ask=1", (unsigned long long)u->conn,
                      (unsigned long long)(u->outbox->accepted + k + 1), u->local->name,
                      (unsigned long long)session_hash(at, bytes), bytes);
        at += bytes;
    }
}

/* The one copy. */
static struct buf *part_copy(struct session *s, const struct part *p)
{
    struct buf_pool *pool = s->runs;
    if (p->bytes <= COPY_POOLED_BYTES)
        return buf_copy(p->data, p->bytes);
    if (p->bytes < RUN_BYTES / 4) /* what is short must not pin what that one gives */
        pool = s->copies[(p->bytes - COPY_POOLED_BYTES - 1) / COPY_STEP_BYTES];
    struct buf *body = buf_pool_get(pool, p->bytes);
    memcpy(body->data, p->data, p->bytes);
    return body;
}

/* One entry for all that are of one size. cost: what is freed when the last has left. */
static void part_queue(struct session *s, struct use *u, const struct part *p, uint32_t cost)
{
    struct buf *body = part_copy(s, p);
    uint32_t at = 0;

    for (uint32_t k = 0; k < p->n;) {
        struct queued *q = entry_new(s);
        q->body = buf_ref(body);
        q->at = at;
        q->bytes = bytes_of(p->m, p->i + k);
        q->count = 1;
        while (k + q->count < p->n && bytes_of(p->m, p->i + k + q->count) == q->bytes)
            q->count++;
        k += q->count;
        at += q->count * q->bytes;
        q->cost = k == p->n ? cost : 0;
        queue_push(u, q);
    }
    buf_unref(body);
}

static void part_accept(struct client *c, struct use *u, const struct part *p)
{
    struct session *s = c->s;
    uint32_t cost = p->bytes + p->n * MESSAGE_COST;

    if (session_traced(s))
        part_trace(s, u, p);
    u->outbox->accepted += p->n;
    s->stats.client_messages_in += p->n;
    if (!u->refused)
        spend(u, cost);
    if (u->refused || s->stopped) {
        u->outbox->pulled += p->n;
        settle(s, u, p->n, s->stopped ? "the daemon stops" : "the CMS refused to open the group");
    } else {
        part_queue(s, u, p, cost);
        sample_begin(&s->sample, u, u->outbox->accepted - p->n + 1, s->now_us);
    }
    grant_count(s, u);
}

static int submit_messages(struct client *c, const Qsm__Submit *m, const uint8_t *data)
{
    for (uint32_t i = 0; i < m->count;) {
        struct use *u = use_find(c, group_of(m, i));
        if (!u || (!u->send && !u->refused))
            return client_fail(c, -EBADF, "is not open to send", "Submit.group[%u] = %u", i,
                               group_of(m, i));
        struct part p = part_at(u, m, i, data);
        if (p.n == 0)
            return client_fail(c, -EDQUOT, "is more than was granted for the group",
                               "Submit.bytes[%u] = %u", i, bytes_of(m, i));
        part_accept(c, u, &p);
        i += p.n;
        data += p.bytes;
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
        u->outbox->need = u->refused || n->bytes <= u->outbox->credit - u->outbox->untold
                              ? 0
                              : (uint32_t)n->bytes;
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
