/* buf: a reference-counted block of bytes. Payloads and packet bodies live in bufs, so that a
 * message can be queued for several clients and kept for repair without a copy. */
#ifndef QSM_BUF_H
#define QSM_BUF_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

struct buf_pool;

struct buf {
    uint32_t refs;
    uint32_t size;         /* bytes at data */
    uint8_t *data;         /* behind the struct */
    struct buf_pool *pool; /* where it goes when nobody refers to it; NULL: freed */
};

/* A buf of size bytes with one reference, contents undefined. Aborts when memory is out. */
struct buf *buf_new(size_t size);

/* A buf with one reference that holds a copy of the bytes. */
struct buf *buf_copy(const void *bytes, size_t size);

/* One more reference; returns b. */
static inline struct buf *buf_ref(struct buf *b)
{
    assert(b->refs > 0);
    assert(b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

/* Nobody refers to it any more. */
void buf_give_back(struct buf *b);

/* One reference less; the last frees it. NULL is fine. */
static inline void buf_unref(struct buf *b)
{
    if (b == NULL)
        return;
    assert(b->refs > 0);
    if (--b->refs == 0)
        buf_give_back(b);
}

/* A pool keeps bufs of one size that nobody refers to, so that a busy path allocates nothing. Like
 * the bufs it is for one thread. With address sanitizer it keeps none: what is used after the last
 * reference has to be seen. */
struct buf_pool *buf_pool_new(uint32_t bytes);

/* No more bufs from it. Those that are out stay good; the last one frees it. NULL is fine. */
void buf_pool_free(struct buf_pool *p);

/* A buf of size bytes with one reference, from the pool unless it is larger than the pool's. */
struct buf *buf_pool_get(struct buf_pool *p, size_t size);

/* Frees what is more than were out at once since the last call. To be called now and then. */
void buf_pool_trim(struct buf_pool *p);

/* How many bufs had to be allocated. */
uint64_t buf_pool_made(const struct buf_pool *p);

#endif
