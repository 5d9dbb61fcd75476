/* store: see store.h. */
#include "store.h"
#include <assert.h>
#include <stdlib.h>

#define ROOM_MIN 16
#define ROOM_KEPT 8192 /* an empty store gives a larger ring back, and one that is hardly used */

static struct packet *entry_of(const struct store *s, uint64_t seq)
{
    return &s->ring[seq & (s->room - 1)];
}

void store_init(struct store *s)
{
    *s = (struct store){0};
}

void store_done(struct store *s)
{
    store_release(s, s->top);
    free(s->ring);
    store_init(s);
}

/* Doubles the ring until span entries fit. */
static void grow(struct store *s, uint64_t span)
{
    size_t room = s->room > 0 ? s->room : ROOM_MIN;
    struct packet *ring;

    while (room < span)
        room *= 2;
    ring = calloc(room, sizeof ring[0]);
    assert(ring != NULL);
    for (uint64_t seq = s->base + 1; seq <= s->top; seq++)
        ring[seq & (room - 1)] = *entry_of(s, seq);
    free(s->ring);
    s->ring = ring;
    s->room = room;
}

struct packet *store_put(struct store *s, uint64_t seq, struct buf *body, const uint8_t *data,
                         uint16_t bytes, uint16_t records)
{
    struct packet *p;

    assert(seq > s->base);
    assert(seq - s->base <= STORE_SPAN_MAX);
    if (seq - s->base > s->room)
        grow(s, seq - s->base);
    p = entry_of(s, seq);
    assert(p->seq == 0);
    p->seq = seq;
    p->body = body;
    p->data = data;
    p->bytes = bytes;
    p->records = records;
    p->pad = 0;
    if (seq > s->top)
        s->top = seq;
    if (seq - s->base > s->peak)
        s->peak = seq - s->base;
    s->body_bytes += bytes;
    s->body_count++;
    return p;
}

/* The mark of slot, or NULL. Records of a slot tend to follow each other: the last mark first. */
static struct mark *find_mark(struct packet *p, uint32_t slot)
{
    if (p->mark_count <= 1)
        return p->mark_count == 1 && p->mark.slot == slot ? &p->mark : NULL;
    for (size_t i = p->mark_count; i > 0; i--) {
        if (p->more[i - 1].slot == slot)
            return &p->more[i - 1];
    }
    return NULL;
}

/* Most packets are about one group; the list for others has room for the power of two at or above
 * its count. */
static struct mark *add_mark(struct packet *p)
{
    assert(p->mark_count < UINT16_MAX);
    if (p->mark_count == 0) {
        p->mark_count = 1;
        return &p->mark;
    }
    if ((p->mark_count & (p->mark_count - 1)) == 0) {
        struct mark *old = p->mark_count > 1 ? p->more : NULL;
        struct mark *more = reallocarray(old, (size_t)p->mark_count * 2, sizeof more[0]);

        assert(more != NULL);
        if (p->mark_count == 1)
            more[0] = p->mark;
        p->more = more;
    }
    return &p->more[p->mark_count++];
}

bool store_mark(struct packet *p, uint32_t slot, uint64_t first, uint64_t last, uint64_t unit)
{
    struct mark *mark = find_mark(p, slot);

    if (mark != NULL) {
        if (first < mark->last)
            return false;
        mark->last = last;
        mark->unit = unit;
        return true;
    }
    *add_mark(p) = (struct mark){.slot = slot, .first = first, .last = last, .unit = unit};
    return true;
}

void store_free_body(struct store *s, struct packet *p)
{
    if (p->body == NULL)
        return;
    assert(s->body_bytes >= p->bytes);
    assert(s->body_count > 0);
    s->body_bytes -= p->bytes;
    s->body_count--;
    buf_unref(p->body);
    p->body = NULL;
}

static void clear(struct store *s, struct packet *p)
{
    store_free_body(s, p);
    if (p->mark_count > 1)
        free(p->more);
    p->mark_count = 0;
    p->seq = 0;
}

void store_forget(struct store *s, uint64_t seq)
{
    struct packet *p = store_find(s, seq);

    if (p == NULL)
        return;
    clear(s, p);
    while (s->top > s->base && entry_of(s, s->top)->seq == 0)
        s->top--;
}

void store_release(struct store *s, uint64_t seq)
{
    uint64_t last = seq < s->top ? seq : s->top;

    if (seq <= s->base)
        return;
    for (uint64_t i = s->base + 1; i <= last; i++) {
        if (entry_of(s, i)->seq != 0)
            clear(s, entry_of(s, i));
    }
    s->base = seq;
    if (s->top > s->base)
        return;
    s->top = s->base;
    if (s->room > ROOM_KEPT || (s->room > ROOM_MIN && s->peak < s->room / 4)) {
        free(s->ring);
        s->ring = NULL;
        s->room = 0;
    }
    s->peak -= s->peak / 8;
}
