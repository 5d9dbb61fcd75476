/* buf: see buf.h. */
#include "buf.h"
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct buf_pool {
    uint32_t bytes;
    uint32_t out;  /* somebody refers to */
    uint32_t most; /* of them at once since it was trimmed */
    bool closed;
    uint64_t made;
    struct buf **spare; /* the last given back last; owned */
    uint32_t spare_count, spare_room;
};

#ifdef __SANITIZE_ADDRESS__
#define KEEPS false
#else
#define KEEPS true
#endif

static struct buf *make(size_t size, struct buf_pool *pool)
{
    struct buf *b = malloc(sizeof *b + size);

    assert(b != NULL);
    *b = (struct buf){.data = (uint8_t *)(b + 1), .pool = pool};
    return b;
}

struct buf *buf_new(size_t size)
{
    struct buf *b;

    assert(size <= UINT32_MAX);
    b = make(size, NULL);
    b->refs = 1;
    b->size = (uint32_t)size;
    return b;
}

struct buf *buf_copy(const void *bytes, size_t size)
{
    struct buf *b = buf_new(size);

    if (size > 0)
        memcpy(b->data, bytes, size);
    return b;
}

static void pool_done(struct buf_pool *p)
{
    free(p->spare);
    free(p);
}

static void keep(struct buf_pool *p, struct buf *b)
{
    if (p->spare_count == p->spare_room) {
        p->spare_room = p->spare_room > 0 ? p->spare_room * 2 : 16;
        p->spare = reallocarray(p->spare, p->spare_room, sizeof p->spare[0]);
        assert(p->spare != NULL);
    }
    p->spare[p->spare_count++] = b;
}

void buf_give_back(struct buf *b)
{
    struct buf_pool *p = b->pool;

    if (p == NULL) {
        free(b);
        return;
    }
    p->out--;
    if (KEEPS && !p->closed)
        keep(p, b);
    else
        free(b);
    if (p->closed && p->out == 0)
        pool_done(p);
}

struct buf_pool *buf_pool_new(uint32_t bytes)
{
    struct buf_pool *p = calloc(1, sizeof *p);

    assert(p != NULL);
    p->bytes = bytes;
    return p;
}

void buf_pool_trim(struct buf_pool *p)
{
    while (p->spare_count > p->most - p->out)
        free(p->spare[--p->spare_count]);
    p->most = p->out;
}

void buf_pool_free(struct buf_pool *p)
{
    if (p == NULL)
        return;
    while (p->spare_count > 0)
        free(p->spare[--p->spare_count]);
    p->closed = true;
    if (p->out == 0)
        pool_done(p);
}

struct buf *buf_pool_get(struct buf_pool *p, size_t size)
{
    struct buf *b;

    if (size > p->bytes)
        return buf_new(size);
    if (p->spare_count > 0) {
        b = p->spare[--p->spare_count];
    } else {
        b = make(p->bytes, p);
        p->made++;
    }
    if (++p->out > p->most)
        p->most = p->out;
    b->refs = 1;
    b->size = (uint32_t)size;
    return b;
}

uint64_t buf_pool_made(const struct buf_pool *p)
{
    return p->made;
}
