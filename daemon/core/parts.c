/* parts: see parts.h. */
#include "parts.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* How many frames; an empty message is one, too. */
static size_t frames(size_t message_bytes)
{
    return message_bytes == 0 ? 1 : (message_bytes - 1) / PARTS_PIECE_BYTES + 1;
}

size_t parts_bytes(size_t message_bytes)
{
    return message_bytes + frames(message_bytes) * FRAME_HEAD_BYTES;
}

void parts_cut(uint8_t *out, uint8_t kind, size_t message_bytes)
{
    const uint8_t *from = out + parts_bytes(message_bytes) - message_bytes;
    size_t left = message_bytes;
    assert(message_bytes <= PARTS_MESSAGE_MAX);
    for (; left > PARTS_PIECE_BYTES; left -= PARTS_PIECE_BYTES) {
        frame_write_head(out, PARTS_KIND, 0, PARTS_PIECE_BYTES);
        memmove(out + FRAME_HEAD_BYTES, from, PARTS_PIECE_BYTES);
        out += FRAME_HEAD_BYTES + PARTS_PIECE_BYTES;
        from += PARTS_PIECE_BYTES;
    }
    frame_write_head(out, kind, 0, left);
    assert(out + FRAME_HEAD_BYTES == from);
}

static void keep(struct parts *p, const uint8_t *bytes, size_t count)
{
    if (p->room - p->count < count) {
        while (p->room - p->count < count)
            p->room = p->room > 0 ? 2 * p->room : 4 * PARTS_PIECE_BYTES;
        p->bytes = realloc(p->bytes, p->room);
        if (p->bytes == NULL)
            abort();
    }
    memcpy(p->bytes + p->count, bytes, count);
    p->count += count;
}

int parts_take(struct parts *p, const struct frame *f, const uint8_t **ret, size_t *ret_bytes)
{
    bool last = f->kind != PARTS_KIND;
    if (f->header_bytes != 0 || (!last && f->payload_bytes == 0))
        return -EPROTO;
    if (f->payload_bytes > PARTS_MESSAGE_MAX - p->count)
        return -EMSGSIZE;
    if (last && p->count == 0) {
        *ret = f->payload;
        *ret_bytes = f->payload_bytes;
        return 1;
    }
    if (f->payload_bytes > 0)
        keep(p, f->payload, f->payload_bytes);
    if (!last)
        return 0;
    *ret = p->bytes;
    *ret_bytes = p->count;
    return 1;
}

void parts_reset(struct parts *p)
{
    free(p->bytes);
    *p = (struct parts){0};
}
