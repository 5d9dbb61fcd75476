/* cms_link: frames in and out (cms_link.h). */
#include "cms_link.h"

#include <assert.h>
#include <errno.h>

#include "cms_core.h"
#include "cms_mem.h"
#include "frame.h"
#include "parts.h"

enum { KIND_NODE_TO_CMS = 1, KIND_CMS_TO_NODE = 2 };

/* protobuf-c may expand what it unpacks many times over. */
#define UNPACK_BYTES_MAX (64u << 20)

struct link_chunk {
    STAILQ_ENTRY(link_chunk) entry;
    struct buf *frames;
    size_t sent;
};

void links_init(struct cms_links *ls)
{
    ls->all = NULL;
    TAILQ_INIT(&ls->ready);
}

void links_done(struct cms_links *ls)
{
    struct cms_link *l, *next;
    HASH_ITER (hh, ls->all, l, next)
        link_drop(ls, l);
}

struct cms_link *link_add(struct cms_links *ls, uint64_t id)
{
    assert(link_find(ls, id) == NULL);
    struct cms_link *l = mem_new(1, sizeof *l);
    l->id = id;
    STAILQ_INIT(&l->out);
    HASH_ADD(hh, ls->all, id, sizeof l->id, l);
    return l;
}

struct cms_link *link_find(const struct cms_links *ls, uint64_t id)
{
    struct cms_link *l;
    HASH_FIND(hh, ls->all, &id, sizeof id, l);
    return l;
}

static void set_ready(struct cms_links *ls, struct cms_link *l, bool ready)
{
    if (ready && !l->ready)
        TAILQ_INSERT_TAIL(&ls->ready, l, ready_entry);
    if (!ready && l->ready)
        TAILQ_REMOVE(&ls->ready, l, ready_entry);
    l->ready = ready;
}

static void drop_chunk(struct cms_link *l)
{
    struct link_chunk *chunk = STAILQ_FIRST(&l->out);
    STAILQ_REMOVE_HEAD(&l->out, entry);
    buf_unref(chunk->frames);
    free(chunk);
}

void link_drop(struct cms_links *ls, struct cms_link *l)
{
    set_ready(ls, l, false);
    while (!STAILQ_EMPTY(&l->out))
        drop_chunk(l);
    if (l->hello != NULL)
        qsm__hello__free_unpacked(l->hello, NULL);
    HASH_DELETE(hh, ls->all, l);
    free(l->in);
    free(l);
}

/* ---- in */

static void *capped_alloc(void *data, size_t size)
{
    size_t *left = data;
    if (size > *left)
        return NULL;
    *left -= size;
    return malloc(size);
}

static void capped_free(void *data, void *p)
{
    (void)data;
    free(p);
}

static int receive_frame(struct cms *c, struct cms_link *l, const struct frame *f, uint64_t now_us)
{
    if (f->kind != KIND_NODE_TO_CMS || f->header_bytes != 0 || f->payload_bytes > FRAME_CONTROL_MAX)
        return -EPROTO;
    size_t left = UNPACK_BYTES_MAX;
    ProtobufCAllocator allocator = {
        .alloc = capped_alloc, .free = capped_free, .allocator_data = &left};
    Qsm__NodeToCms *m = qsm__node_to_cms__unpack(&allocator, f->payload_bytes, f->payload);
    if (m == NULL)
        return -EPROTO;
    int result = cms_handle(c, l, m, now_us);
    qsm__node_to_cms__free_unpacked(m, &allocator);
    return result;
}

static void keep(struct cms_link *l, const uint8_t *bytes, size_t count)
{
    if (l->in_room - l->in_count < count) {
        while (l->in_room - l->in_count < count)
            l->in_room = l->in_room > 0 ? 2 * l->in_room : 4096;
        l->in = realloc(l->in, l->in_room);
        if (l->in == NULL)
            abort();
    }
    memcpy(l->in + l->in_count, bytes, count);
    l->in_count += count;
}

int link_receive(struct cms *c, struct cms_link *l, const uint8_t *bytes, size_t count,
                 uint64_t now_us)
{
    if (l->closing != NULL || count == 0)
        return 0;
    keep(l, bytes, count);
    size_t done = 0;
    int result = 0;
    while (result == 0 && l->closing == NULL) {
        struct frame f;
        long size = frame_parse(l->in + done, l->in_count - done, &f);
        if (size < 0)
            result = -EPROTO;
        if (size <= 0)
            break;
        result = receive_frame(c, l, &f, now_us);
        done += (size_t)size;
    }
    l->in_count -= done;
    memmove(l->in, l->in + done, l->in_count);
    if (l->in_count == 0) {
        free(l->in);
        l->in = NULL;
        l->in_room = 0;
    }
    return result;
}

/* ---- out */

struct buf *link_encode(const Qsm__CmsToNode *m)
{
    size_t size = qsm__cms_to_node__get_packed_size(m);
    if (size > PARTS_MESSAGE_MAX)
        return NULL;
    struct buf *frames = buf_new(parts_bytes(size));
    qsm__cms_to_node__pack(m, frames->data + frames->size - size);
    parts_cut(frames->data, KIND_CMS_TO_NODE, size);
    return frames;
}

/* What waits is of no use any more. */
static void give_up(struct cms_links *ls, struct cms_link *l, const char *why)
{
    while (!STAILQ_EMPTY(&l->out))
        drop_chunk(l);
    l->out_bytes = 0;
    link_close(ls, l, why);
}

void link_put(struct cms_links *ls, struct cms_link *l, struct buf *frames)
{
    if (l->closing != NULL)
        return;
    if (frames == NULL) {
        give_up(ls, l, "what it has to be told is larger than a message may be: 64 MiB");
        return;
    }
    struct link_chunk *chunk = mem_new(1, sizeof *chunk);
    chunk->frames = buf_ref(frames);
    STAILQ_INSERT_TAIL(&l->out, chunk, entry);
    l->out_bytes += frames->size;
    set_ready(ls, l, true);
    if (l->out_bytes > LINK_OUT_BYTES_MAX)
        give_up(ls, l, "the node does not read: 128 MiB wait for it");
}

void link_send(struct cms_links *ls, struct cms_link *l, const Qsm__CmsToNode *m)
{
    struct buf *frames = link_encode(m);
    link_put(ls, l, frames);
    buf_unref(frames);
}

void link_close(struct cms_links *ls, struct cms_link *l, const char *why)
{
    if (l->closing == NULL)
        l->closing = why;
    set_ready(ls, l, true);
}

size_t link_pull(struct cms_links *ls, struct cms_link *l, uint8_t *out, size_t room)
{
    size_t filled = 0;
    struct link_chunk *chunk;
    while (filled < room && (chunk = STAILQ_FIRST(&l->out)) != NULL) {
        size_t left = chunk->frames->size - chunk->sent;
        size_t part = left < room - filled ? left : room - filled;
        memcpy(out + filled, chunk->frames->data + chunk->sent, part);
        filled += part;
        chunk->sent += part;
        if (part == left)
            drop_chunk(l);
    }
    l->out_bytes -= filled;
    /* The shell hears of it again while there is more, and once more when it is to be closed. */
    if (filled > 0)
        set_ready(ls, l, !STAILQ_EMPTY(&l->out) || l->closing != NULL);
    return filled;
}
