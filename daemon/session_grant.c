/* session_grant: how much clients may have here (S12). What is granted is counted as if it were
 * used: "the daemon can always take what it granted". Two sums, of a client and of all, each with
 * two halves: in one every feed has an equal share, 64 KiB when that is possible, and extra when it
 * is emptied too fast; the other is for messages that are larger, first come first served. So small
 * ones never wait for large ones, nor the other way round.
 *
 * "Idle grants are taken back when the sum is short": at once, and whatever the client says. What
 * it sends before it has heard of it is taken all the same, but waits in its socket until there is
 * room (grant_stalls). So who never answers a Revoke holds nothing that others wait for. */
#include "session_internal.h"

#include <assert.h>

static uint32_t least(uint32_t a, uint64_t b)
{
    return a < b ? a : (uint32_t)b;
}

/* ---- counting */

void purse_init(struct purse *p, uint64_t bytes)
{
    p->max[GRANT_SMALL] = p->max[GRANT_LARGE] = bytes / 2;
}

static uint64_t used_of(const struct purse *p)
{
    return p->used[GRANT_SMALL] + p->used[GRANT_LARGE];
}

static uint64_t max_of(const struct purse *p)
{
    return p->max[GRANT_SMALL] + p->max[GRANT_LARGE];
}

void grant_count(struct session *s, struct use *u)
{
    uint32_t have = u->outbox->credit + u->outbox->queue_cost + u->outbox->leaving;
    uint32_t now[GRANT_KINDS];

    now[GRANT_SMALL] = least(have, u->outbox->limit);
    now[GRANT_LARGE] = have - now[GRANT_SMALL];
    for (int kind = 0; kind < GRANT_KINDS; kind++) {
        uint64_t more = (uint64_t)now[kind] - u->outbox->counted[kind]; /* or less, modulo 2^64 */
        s->freed = s->freed || now[kind] < u->outbox->counted[kind];
        s->purse.used[kind] += more;
        if (u->client)
            u->client->purse.used[kind] += more;
        u->outbox->counted[kind] = now[kind];
    }
    bool is_large = now[GRANT_LARGE] > 0;
    if (is_large == u->outbox->is_large)
        return;
    u->outbox->is_large = is_large;
    if (is_large)
        TAILQ_INSERT_TAIL(&s->large, u, outbox->large_entry);
    else
        TAILQ_REMOVE(&s->large, u, outbox->large_entry);
}

void grant_orphan(struct use *u)
{
    for (int kind = 0; kind < GRANT_KINDS; kind++)
        u->client->purse.used[kind] -= u->outbox->counted[kind];
}

/* What a feed may have of the sum, whatever the others do; a quarter is left for extra. */
static uint32_t share(const struct purse *p)
{
    if (p->senders == 0)
        return GRANT_BYTES;
    return least(GRANT_BYTES, p->max[GRANT_SMALL] / 4 * 3 / p->senders);
}

static uint32_t share_of(const struct session *s, const struct use *u)
{
    uint32_t bytes = least(share(&s->purse), share(&u->client->purse));
    return bytes < GRANT_LEAST ? 0 : bytes;
}

static void set_extra(struct session *s, struct use *u, uint32_t extra)
{
    uint64_t more = (uint64_t)extra - u->outbox->extra; /* or less, modulo 2^64 */
    s->purse.extra += more;
    u->client->purse.extra += more;
    u->outbox->extra = extra;
}

void grants_open(struct session *s, struct use *u)
{
    struct client *c = u->client;
    s->purse.senders++;
    c->purse.senders++;
    TAILQ_INSERT_TAIL(&c->sending, u, outbox->sending);
    u->outbox->limit = share_of(s, u);
    grant_count(s, u);
}

static void stop_waiting(struct session *s, struct use *u)
{
    if (u->outbox->wants)
        TAILQ_REMOVE(&s->wanting, u, outbox->wanting);
    u->outbox->wants = false;
}

void grants_close(struct session *s, struct use *u)
{
    struct client *c = u->client;
    s->purse.senders--;
    c->purse.senders--;
    TAILQ_REMOVE(&c->sending, u, outbox->sending);
    stop_waiting(s, u);
    set_extra(s, u, 0);
    c->allowed -= u->outbox->credit + u->outbox->old;
    c->revoked -= u->outbox->old;
    u->outbox->credit = u->outbox->untold = u->outbox->need = 0;
    u->outbox->old = u->outbox->revoke = 0;
    u->outbox->revoke_now = false;
    grant_count(s, u);
}

/* ---- taking back */

/* What u would keep of its credit. */
static uint32_t kept(const struct session *s, const struct use *u)
{
    uint32_t bytes = share_of(s, u);
    return least(u->outbox->credit,
                 bytes > u->outbox->queue_cost ? bytes - u->outbox->queue_cost : 0);
}

/* A grant for a large message is given time to be used. */
static bool may_revoke(const struct session *s, const struct use *u)
{
    return kept(s, u) < u->outbox->credit &&
           (!u->outbox->is_large || u->outbox->large_us + GRANT_KEPT_US <= s->now_us);
}

/* Takes back all that goes beyond the share. */
static void revoke(struct session *s, struct use *u)
{
    struct client *c = u->client;
    uint32_t keep = kept(s, u);
    uint32_t known = u->outbox->credit - u->outbox->untold;

    set_extra(s, u, 0);
    u->outbox->limit = share_of(s, u);
    c->allowed -= u->outbox->credit - keep;
    u->outbox->credit = keep;
    u->outbox->untold = keep - least(keep, known);
    s->stats.grants_revoked++;
    if (known > keep) {
        u->outbox->old += known;
        u->outbox->untold = keep;
        c->allowed += known;
        c->revoked += known;
        u->outbox->revoke = s->stats.grants_revoked;
        u->outbox->revoke_now = true;
    } /* or the client does not know what it had */
    grant_count(s, u);
    feed_dirty(u);
}

void grant_revoke_tell(struct use *u)
{
    if (!u->outbox->revoke_now)
        return;
    u->outbox->revoke_now = false;
    Qsm__Revoke r = QSM__REVOKE__INIT;
    r.id = u->id;
    r.serial = u->outbox->revoke;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_REVOKE;
    m.revoke = &r;
    out_control(u->client, &m);
}

/* The halves' sum is looked at too: when shares shrink, what was small becomes large. Of
 * GRANT_KINDS, that is all. */
static bool fits(const struct purse *p, enum grant_kind kind, uint64_t bytes)
{
    bool in_half = kind == GRANT_KINDS || p->used[kind] + bytes <= p->max[kind];
    return in_half && used_of(p) + bytes <= max_of(p);
}
/* Shares fit in the sum by themselves: it is short when there were fewer feeds before. */
static void take_back_small(struct session *s, struct client *c, const struct purse *p,
                            enum grant_kind kind, uint64_t bytes)
{
    struct use *u;
    for (uint32_t n = c->purse.senders; n > 0 && !fits(p, kind, bytes); n--) {
        u = TAILQ_FIRST(&c->sending);
        TAILQ_REMOVE(&c->sending, u, outbox->sending);
        TAILQ_INSERT_TAIL(&c->sending, u, outbox->sending);
        if (may_revoke(s, u))
            revoke(s, u);
    }
}

/* The oldest first. */
static void take_back_large(struct session *s, const struct client *only, const struct purse *p,
                            enum grant_kind kind, uint64_t bytes)
{
    struct use *u, *next;
    TAILQ_FOREACH_SAFE (u, &s->large, outbox->large_entry, next) {
        if (fits(p, kind, bytes))
            return;
        if ((!only || u->client == only) && u->send && may_revoke(s, u))
            revoke(s, u);
    }
}

/* Whether there is room in one sum, if need be by taking back. */
static bool find_room(struct session *s, struct client *c, const struct purse *p,
                      enum grant_kind kind, uint64_t bytes)
{
    struct client *other;

    if (fits(p, kind, bytes))
        return true;
    if (kind != GRANT_SMALL)
        take_back_large(s, p == &c->purse ? c : NULL, p, kind, bytes);
    if (kind != GRANT_LARGE)
        take_back_small(s, c, p, kind, bytes);
    TAILQ_FOREACH (other, &s->clients, all) {
        if (p == &s->purse && kind != GRANT_LARGE)
            take_back_small(s, other, p, kind, bytes);
    }
    return fits(p, kind, bytes);
}

/* Whether there is room in both. */
static bool make_room(struct session *s, struct use *u, enum grant_kind kind, uint64_t bytes)
{
    struct client *c = u->client;
    struct purse *purses[] = {&c->purse, &s->purse};

    for (int i = 0; i < 2; i++) {
        struct purse *p = purses[i];
        if (p->short_in[kind] == s->serve_round)
            return false; /* others were there first */
        if (!find_room(s, c, p, kind, bytes)) {
            p->short_in[kind] = s->serve_round;
            return false;
        }
    }
    return true;
}

/* ---- giving */

/* Bytes up to the limit, in steps of a quarter. */
static uint32_t due_small(const struct use *u)
{
    uint32_t have = u->outbox->credit + u->outbox->queue_cost;
    if (!u->send || have >= u->outbox->limit)
        return 0;
    uint32_t room = u->outbox->limit - have;
    return room >= u->outbox->limit / 4 || u->outbox->grant_now ? room : 0;
}

/* A large message, alone. */
static uint32_t due_large(const struct use *u)
{
    return u->send && u->outbox->need > u->outbox->credit && STAILQ_EMPTY(&u->outbox->queue)
               ? u->outbox->need - u->outbox->credit
               : 0;
}

bool grant_due(const struct use *u)
{
    return !u->outbox->wants && (due_small(u) > 0 || due_large(u) > 0);
}

/* False: it has to wait. */
static bool give(struct session *s, struct use *u, enum grant_kind kind, uint32_t bytes)
{
    if (bytes == 0)
        return true;
    if (!make_room(s, u, kind, bytes))
        return false;
    u->outbox->credit += bytes;
    u->outbox->untold += bytes;
    u->client->allowed += bytes;
    if (kind == GRANT_LARGE)
        u->outbox->large_us = s->now_us;
    grant_count(s, u);
    return true;
}

static bool give_all(struct session *s, struct use *u)
{
    u->outbox->limit = share_of(s, u) + u->outbox->extra;
    grant_count(s, u);
    bool small = give(s, u, GRANT_SMALL, due_small(u));
    bool large = give(s, u, GRANT_LARGE, due_large(u));
    return small && large;
}

void grant_decide(struct session *s, struct use *u)
{
    if (!u->send || u->outbox->wants || give_all(s, u))
        return;
    u->outbox->wants = true;
    if (TAILQ_EMPTY(&s->wanting))
        s->freed = false; /* what was freed before did not help */
    TAILQ_INSERT_TAIL(&s->wanting, u, outbox->wanting);
    s->stats.grants_waited++;
    if (s->retry_us < s->now_us)
        s->retry_us = s->now_us + GRANT_RETRY_US;
}

void grant_raise(struct session *s, struct use *u)
{
    if (!u->send || u->outbox->credit >= u->outbox->limit / 4 ||
        u->outbox->limit >= GRANT_BYTES_MAX || s->purse.extra + u->outbox->limit > GRANT_EXTRA_MAX)
        return;
    const struct purse *purses[] = {&s->purse, &u->client->purse};
    for (int i = 0; i < 2; i++) {
        const struct purse *p = purses[i];
        if (p->senders * share(p) + p->extra + u->outbox->limit > p->max[GRANT_SMALL])
            return;
    }
    set_extra(s, u, u->outbox->extra + u->outbox->limit);
    u->outbox->limit *= 2;
    grant_count(s, u);
}

/* ---- the core has it in hand */

void grant_leaving(struct session *s, struct local *l, struct use *u, const struct message *m,
                   uint32_t cost, uint64_t number)
{
    assert(!l->hand.use);
    l->hand.use = u;
    l->hand.body = buf_ref(m->body);
    l->hand.number = number;
    u->outbox->leaving = cost;
    grant_count(s, u);
    s->leaving_look = true;
    TAILQ_INSERT_TAIL(&s->leaving, l, leaving_entry);
}

void grant_left(struct session *s, struct local *l)
{
    struct use *u = l->hand.use;
    if (!u)
        return;
    TAILQ_REMOVE(&s->leaving, l, leaving_entry);
    buf_unref(l->hand.body);
    l->hand.use = NULL;
    u->outbox->leaving = 0;
    grant_count(s, u);
}

/* ---- once in a turn */

static void look_at_leaving(struct session *s)
{
    struct local *l, *next;
    if (!s->leaving_look)
        return;
    s->leaving_look = false;
    TAILQ_FOREACH_SAFE (l, &s->leaving, leaving_entry, next) {
        if (l->hand.body->refs == 1)
            grant_left(s, l);
    }
}

void grants_serve(struct session *s)
{
    struct use *u, *next;

    look_at_leaving(s);
    if (TAILQ_EMPTY(&s->wanting) || (!s->freed && s->now_us < s->retry_us))
        return;
    s->freed = false;
    s->retry_us = s->now_us + GRANT_RETRY_US;
    s->serve_round++;
    TAILQ_FOREACH_SAFE (u, &s->wanting, outbox->wanting, next) {
        const uint64_t *in = s->purse.short_in;
        if (in[GRANT_SMALL] == s->serve_round && in[GRANT_LARGE] == s->serve_round)
            break;
        if (give_all(s, u))
            stop_waiting(s, u);
        if (u->outbox->untold > 0)
            feed_dirty(u);
    }
}

uint64_t grants_deadline(const struct session *s)
{
    bool waiting = !TAILQ_EMPTY(&s->wanting);
    if (s->freed && (waiting || s->stalled))
        return 0;
    return waiting || s->stalled ? s->retry_us : UINT64_MAX;
}

/* Who was stalled is tried again in this turn. */
void grants_expire(struct session *s)
{
    s->stalled = false;
    s->leaving_look = true;
    if (TAILQ_EMPTY(&s->wanting))
        s->freed = false;
}

/* ---- what the client says */

int grant_returned(struct client *c, const Qsm__Returned *m)
{
    struct use *u = use_find(c, m->id);
    if (!u || !u->outbox || !u->outbox->revoke || u->outbox->revoke != m->serial)
        return 0; /* closed, and perhaps opened again, since */
    c->allowed -= u->outbox->old;
    c->revoked -= u->outbox->old;
    u->outbox->old = u->outbox->revoke = 0;
    return 0;
}

bool grant_stalls(struct client *c, const struct frame *f)
{
    struct session *s = c->s;
    const struct purse *purses[] = {&s->purse, &c->purse};
    uint64_t cost = f->payload_bytes + FRAME_MESSAGES_MAX * MESSAGE_COST;

    if (c->revoked == 0)
        return false;
    for (int i = 0; i < 2; i++) {
        const struct purse *p = purses[i];
        if (used_of(p) == 0 || find_room(s, c, p, GRANT_KINDS, cost))
            continue;
        s->stats.submits_stalled += !s->stalled;
        s->stalled = true;
        if (TAILQ_EMPTY(&s->wanting))
            s->freed = false; /* what was freed before is seen */
        s->retry_us = s->now_us + GRANT_RETRY_US;
        return true;
    }
    return false;
}

bool grant_too_long(const struct client *c, const uint8_t *bytes, size_t count)
{
    struct frame f;
    if (count < FRAME_HEAD_BYTES || frame_parse(bytes, count, &f) != 0 || bytes[5] != KIND_SUBMIT)
        return false;
    return frame_wants(bytes, count) > FRAME_HEAD_BYTES + UINT16_MAX + c->allowed + c->lapsed;
}
