/* sim_link: the links between nodes and the CMS, as TCP has them: ordered bytes with latency,
 * silent while nothing gets through, closed by either side, or cut in mid-frame. */
#include "sim.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct chunk {
    STAILQ_ENTRY(chunk) entry;
    struct link *link;
    int to;
    uint64_t at_us;
    bool fin;
    size_t count;
    uint8_t bytes[];
};

static void wake(struct sim *s, struct link *l, int to)
{
    if (to == TO_CMS)
        cmshost_wake(s, s->now_us);
    else
        host_wake(l->host, s->now_us);
}

/* A stream whose acknowledgements do not come back stops as well. */
static bool cms_reachable(const struct sim *s, const struct host *h)
{
    return net_reachable(s, h->side, s->cms.side) && net_reachable(s, s->cms.side, h->side);
}

static bool passes(const struct sim *s, const struct link *l)
{
    return s->now_us >= l->silent_until_us && cms_reachable(s, l->host);
}

/* ---- bytes */

static void take_chunk(struct link *l, struct pipe *p, const struct chunk *ch)
{
    bool alive = ch->to == TO_CMS ? l->cms_up : l->node_up;
    p->in_flight -= ch->count;
    if (!alive || p->fin)
        return;
    if (p->arrived_count + ch->count > p->arrived_room) {
        p->arrived_room = (p->arrived_count + ch->count) * 2;
        p->arrived = realloc(p->arrived, p->arrived_room);
        assert(p->arrived);
    }
    if (ch->count)
        memcpy(p->arrived + p->arrived_count, ch->bytes, ch->count);
    p->arrived_count += ch->count;
    p->fin = ch->fin;
}

/* What has had its time and gets through arrives, in order. */
static void move(struct sim *s, struct link *l, int to)
{
    struct pipe *p = &l->pipes[to];
    bool moved = false;
    while (!STAILQ_EMPTY(&p->chunks) && passes(s, l)) {
        struct chunk *ch = STAILQ_FIRST(&p->chunks);
        if (ch->at_us > s->now_us)
            break;
        STAILQ_REMOVE_HEAD(&p->chunks, entry);
        take_chunk(l, p, ch);
        free(ch);
        moved = true;
    }
    if (moved)
        wake(s, l, to);
}

struct link *simlink_find(struct sim *s, uint64_t id)
{
    struct link *l;
    HASH_FIND(hh, s->links_by_id, &id, sizeof(id), l);
    return l;
}

static void chunk_due(struct sim *s, void *ctx, uint64_t id)
{
    (void)ctx;
    struct link *l = simlink_find(s, id);
    if (!l)
        return;
    move(s, l, TO_CMS);
    move(s, l, TO_NODE);
}

static void put_chunk(struct sim *s, struct link *l, int to, const uint8_t *bytes, size_t count,
                      bool fin)
{
    struct pipe *p = &l->pipes[to];
    struct chunk *ch = malloc(sizeof(*ch) + count);
    assert(ch);
    uint64_t at = s->now_us + s->link_delay_us + rng_below(&s->random, s->link_jitter_us + 1);
    if (at < p->last_us)
        at = p->last_us;
    p->last_us = at;
    ch->link = l;
    ch->to = to;
    ch->at_us = at;
    ch->fin = fin;
    ch->count = count;
    if (count)
        memcpy(ch->bytes, bytes, count);
    p->in_flight += count;
    STAILQ_INSERT_TAIL(&p->chunks, ch, entry);
    sim_at(s, at, chunk_due, NULL, l->id);
}

void simlink_send(struct sim *s, struct link *l, int to, const uint8_t *bytes, size_t count)
{
    put_chunk(s, l, to, bytes, count, false);
}

void simlink_wake(struct sim *s)
{
    struct link *l;
    TAILQ_FOREACH (l, &s->links, entry) {
        move(s, l, TO_CMS);
        move(s, l, TO_NODE);
    }
}

static void silence_over(struct sim *s, void *ctx, uint64_t id)
{
    chunk_due(s, ctx, id);
}

void simlink_silence(struct sim *s, struct link *l, uint64_t for_us)
{
    l->silent_until_us = s->now_us + for_us;
    sim_at(s, l->silent_until_us, silence_over, NULL, l->id);
}

/* ---- the end of a link */

static void free_chunks(struct pipe *p)
{
    struct chunk *ch;
    while ((ch = STAILQ_FIRST(&p->chunks)) != NULL) {
        STAILQ_REMOVE_HEAD(&p->chunks, entry);
        free(ch);
    }
}

static void link_free(struct sim *s, struct link *l)
{
    TAILQ_REMOVE(&s->links, l, entry);
    HASH_DEL(s->links_by_id, l);
    for (int to = 0; to < 2; to++) {
        free_chunks(&l->pipes[to]);
        free(l->pipes[to].arrived);
    }
    free(l);
}

void simlink_close(struct sim *s, struct link *l, bool by_node)
{
    int to = by_node ? TO_CMS : TO_NODE;
    bool *up = by_node ? &l->node_up : &l->cms_up;
    if (!*up)
        return;
    *up = false;
    if (by_node && l->host->link == l)
        l->host->link = NULL;
    if (l->node_up || l->cms_up)
        put_chunk(s, l, to, NULL, 0, true);
    else
        link_free(s, l);
}

/* What is in flight stops somewhere; each end sees the end of the stream after that. */
void simlink_cut(struct sim *s, struct link *l)
{
    for (int to = 0; to < 2; to++) {
        struct pipe *p = &l->pipes[to];
        struct chunk *ch = STAILQ_FIRST(&p->chunks);
        if (ch) {
            struct chunk *rest;
            while ((rest = STAILQ_NEXT(ch, entry)) != NULL) {
                STAILQ_REMOVE_AFTER(&p->chunks, ch, entry);
                p->in_flight -= rest->count;
                free(rest);
            }
            size_t count = rng_below(&s->random, ch->count + 1);
            p->in_flight -= ch->count - count;
            ch->count = count;
            ch->fin = true;
        } else {
            put_chunk(s, l, to, NULL, 0, true);
        }
    }
}

void simlink_free_all(struct sim *s)
{
    struct link *l;
    while ((l = TAILQ_FIRST(&s->links)) != NULL)
        link_free(s, l);
}

/* ---- the beginning of a link */

static void connected(struct sim *s, void *ctx, uint64_t boots)
{
    struct host *h = ctx;
    if (s->ending || !h->node || h->boots != boots || h->link)
        return;
    bool there = s->cms.cms && s->now_us >= h->exiled_until_us && cms_reachable(s, h);
    if (!there) {
        simlink_try(s, h, rng_range(&s->random, 20 * SIM_MS, 100 * SIM_MS));
        return;
    }
    struct link *l = calloc(1, sizeof(*l));
    assert(l);
    l->id = ++s->link_count;
    l->host = h;
    l->node_up = l->cms_up = true;
    STAILQ_INIT(&l->pipes[0].chunks);
    STAILQ_INIT(&l->pipes[1].chunks);
    TAILQ_INSERT_TAIL(&s->links, l, entry);
    HASH_ADD(hh, s->links_by_id, id, sizeof(l->id), l);
    h->link = l;
    host_wake(h, s->now_us);
    cmshost_wake(s, s->now_us);
}

void simlink_try(struct sim *s, struct host *h, uint64_t wait_us)
{
    sim_at(s,
           s->now_us + wait_us + 2 * s->link_delay_us +
               rng_below(&s->random, s->link_jitter_us + 1),
           connected, h, h->boots);
}
