/* buf: a reference-counted block of bytes. Payloads and packet bodies live in bufs, so that a
 * message can be queued for several clients and kept for repair without a copy. */
#ifndef QSM_BUF_H
#define QSM_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    uint32_t refs;
    uint32_t size;                     /* bytes at data */
    uint8_t *data;                     /* owned by the buf, unless free_data is set */
    void (*free_data)(struct buf *);   /* not the struct; NULL: data lies behind it */
    void *owner;                       /* for free_data */
};

/* A buf of size bytes with one reference, contents undefined. Aborts when memory is out. */
struct buf *buf_new(size_t size);

/* A buf with one reference that holds a copy of the bytes. */
struct buf *buf_copy(const void *bytes, size_t size);

/* One more reference; returns b. */
struct buf *buf_ref(struct buf *b);

/* One reference less; the last frees it. NULL is fine. */
void buf_unref(struct buf *b);

#endif
