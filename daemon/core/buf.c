/* buf: see buf.h. */
#include "buf.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct buf *buf_new(size_t size)
{
    struct buf *b;

    assert(size <= UINT32_MAX);
    b = malloc(sizeof *b + size);
    assert(b != NULL);
    *b = (struct buf){.refs = 1, .size = (uint32_t)size, .data = (uint8_t *)(b + 1)};
    return b;
}

struct buf *buf_copy(const void *bytes, size_t size)
{
    struct buf *b = buf_new(size);

    if (size > 0)
        memcpy(b->data, bytes, size);
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    assert(b->refs > 0);
    assert(b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

void buf_unref(struct buf *b)
{
    if (b == NULL)
        return;
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    if (b->free_data != NULL)
        b->free_data(b);
    free(b);
}
