/* qsmclient_io: bytes of a connection. Out: messages are copied once, into the open data frame,
 * whose header is written in front of them when it is cut; frames wait in blocks until the socket
 * takes them, several in one write. In: one large buffer, frames are looked at where they lie. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define BLOCK_BYTES (FRAME_RESERVE_BYTES + FRAME_PAYLOAD_BYTES)
#define WRITE_BLOCKS_MAX 64
#define ARENA_CHUNK_BYTES (64u << 10)

/* ---- blocks */

static struct block *block_new(struct output *o, size_t size)
{
    struct block *b;

    if (size <= BLOCK_BYTES && !STAILQ_EMPTY(&o->spare)) {
        b = STAILQ_FIRST(&o->spare);
        STAILQ_REMOVE_HEAD(&o->spare, next);
        o->spare_blocks--;
    } else {
        size_t room = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        b = malloc(sizeof(*b) + room);
        if (!b)
            return NULL;
        b->size = room;
    }
    b->start = b->end = 0;
    b->data = false;
    return b;
}

static void block_free(struct output *o, struct block *b)
{
    if (b->size != BLOCK_BYTES || o->spare_blocks >= OUTPUT_BLOCKS_MAX) {
        free(b);
        return;
    }
    STAILQ_INSERT_HEAD(&o->spare, b, next);
    o->spare_blocks++;
}

static void block_queue(struct output *o, struct block *b)
{
    STAILQ_INSERT_TAIL(&o->queue, b, next);
    o->queued_bytes += b->end - b->start;
    if (b->data)
        o->data_blocks++;
}

void output_reset(struct qsm *q)
{
    struct output *o = &q->out;
    struct block *b;

    while ((b = STAILQ_FIRST(&o->queue))) {
        STAILQ_REMOVE_HEAD(&o->queue, next);
        free(b);
    }
    while ((b = STAILQ_FIRST(&o->spare))) {
        STAILQ_REMOVE_HEAD(&o->spare, next);
        free(b);
    }
    free(o->open);
    memset(o, 0, sizeof(*o));
    STAILQ_INIT(&o->queue);
    STAILQ_INIT(&o->spare);
}

bool output_pending(const struct qsm *q)
{
    return q->out.open || !STAILQ_EMPTY(&q->out.queue);
}

/* ---- the open data frame */

static struct block *frame_open(struct output *o, size_t payload)
{
    struct block *b = block_new(o, FRAME_RESERVE_BYTES + payload);

    if (!b)
        return NULL;
    b->data = true;
    b->start = b->end = FRAME_RESERVE_BYTES;
    o->open = b;
    o->count = o->need_count = 0;
    o->groups_differ = o->bytes_differ = 0;
    return b;
}

uint8_t *output_room(struct qsm *q, size_t bytes, size_t *ret_room)
{
    struct output *o = &q->out;

    if (o->open && (o->count == FRAME_MESSAGES_MAX || o->open->size - o->open->end < bytes)) {
        output_cut(q);
        /* Written early, so that the daemon works while we fill the next one. */
        if (o->queued_bytes >= OUTPUT_EAGER_BYTES)
            (void)output_write(q);
    }
    if (!o->open && !frame_open(o, bytes))
        return NULL;
    *ret_room = o->open->size - o->open->end;
    return o->open->bytes + o->open->end;
}

void output_add(struct qsm *q, uint32_t group, size_t bytes)
{
    struct output *o = &q->out;
    uint32_t n = o->count++;

    assert(n < FRAME_MESSAGES_MAX);
    assert(o->open->size - o->open->end >= bytes);
    o->open->end += bytes;
    o->group[n] = group;
    o->bytes[n] = (uint32_t)bytes;
    o->groups_differ |= group ^ o->group[0];
    o->bytes_differ |= (uint32_t)bytes ^ o->bytes[0];
}

int output_need(struct qsm *q, uint32_t group, uint64_t bytes)
{
    struct output *o = &q->out;

    if (o->open && o->need_count == FRAME_NEEDS_MAX)
        output_cut(q);
    if (!o->open && !frame_open(o, 0))
        return -ENOMEM;
    o->need[o->need_count].id = group;
    o->need[o->need_count].bytes = bytes;
    o->need_count++;
    return 0;
}

void output_cut(struct qsm *q)
{
    struct output *o = &q->out;
    struct block *b = o->open;
    Qsm__Submit header = QSM__SUBMIT__INIT;
    Qsm__NeedGrant needs[FRAME_NEEDS_MAX];
    Qsm__NeedGrant *need_list[FRAME_NEEDS_MAX];

    if (!b)
        return;
    o->open = NULL;
    for (uint32_t i = 0; i < o->need_count; i++) {
        qsm__need_grant__init(&needs[i]);
        needs[i].id = o->need[i].id;
        needs[i].bytes = o->need[i].bytes;
        need_list[i] = &needs[i];
    }
    header.count = o->count;
    header.n_group = o->groups_differ ? o->count : o->count > 0;
    header.n_bytes = o->bytes_differ ? o->count : o->count > 0;
    header.group = o->group;
    header.bytes = o->bytes;
    header.n_need = o->need_count;
    header.need = need_list;

    size_t payload = b->end - FRAME_RESERVE_BYTES;
    size_t header_bytes = qsm__submit__get_packed_size(&header);
    assert(header_bytes + FRAME_HEAD_BYTES <= FRAME_RESERVE_BYTES);
    b->start = FRAME_RESERVE_BYTES - header_bytes - FRAME_HEAD_BYTES;
    frame_write_head(b->bytes + b->start, KIND_SUBMIT, header_bytes, payload);
    qsm__submit__pack(&header, b->bytes + b->start + FRAME_HEAD_BYTES);
    block_queue(o, b);
}

/* ---- out */

int output_control(struct qsm *q, const Qsm__ToDaemon *message)
{
    size_t bytes = qsm__to_daemon__get_packed_size(message);
    struct block *b;

    if (q->lost)
        return -ENOTCONN;
    if (bytes > FRAME_CONTROL_MAX)
        return -EMSGSIZE;
    output_cut(q);
    b = block_new(&q->out, FRAME_HEAD_BYTES + bytes);
    if (!b)
        return -ENOMEM;
    frame_write_head(b->bytes, KIND_TO_DAEMON, 0, bytes);
    qsm__to_daemon__pack(message, b->bytes + FRAME_HEAD_BYTES);
    b->end = FRAME_HEAD_BYTES + bytes;
    block_queue(&q->out, b);
    return 0;
}

static void output_wrote(struct output *o, size_t bytes)
{
    o->queued_bytes -= bytes;
    while (bytes > 0) {
        struct block *b = STAILQ_FIRST(&o->queue);
        size_t left = b->end - b->start;
        if (bytes < left) {
            b->start += bytes;
            return;
        }
        bytes -= left;
        STAILQ_REMOVE_HEAD(&o->queue, next);
        if (b->data)
            o->data_blocks--;
        block_free(o, b);
    }
}

int output_write(struct qsm *q)
{
    struct output *o = &q->out;

    while (!STAILQ_EMPTY(&o->queue) && !q->lost) {
        struct iovec iov[WRITE_BLOCKS_MAX];
        struct msghdr message = {.msg_iov = iov};
        size_t count = 0;
        struct block *b;
        STAILQ_FOREACH (b, &o->queue, next) {
            if (count == WRITE_BLOCKS_MAX)
                break;
            iov[count].iov_base = b->bytes + b->start;
            iov[count].iov_len = b->end - b->start;
            count++;
        }
        message.msg_iovlen = count;
        bool was_full = output_full(q);
        ssize_t n = sendmsg(q->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        /* What the daemon said before it went is still to be read, an error in words perhaps:
         * only the reading side ends the connection. */
        if (n < 0)
            return -ENOTCONN;
        output_wrote(o, (size_t)n);
        if (was_full && !output_full(q))
            q->look_at_starved = true;
    }
    return 0;
}

/* ---- in */

void input_reset(struct qsm *q)
{
    free(q->in.bytes);
    memset(&q->in, 0, sizeof(q->in));
}

/* Room for wants bytes in all from the start of what is not looked at yet. */
static int input_room(struct input *in, size_t wants)
{
    size_t have = in->end - in->start;

    if (have > 0 && in->start > 0)
        memmove(in->bytes, in->bytes + in->start, have);
    in->start = 0;
    in->end = have;
    size_t size = wants > INPUT_BYTES ? wants : INPUT_BYTES;
    /* A large frame has passed: give its memory back. */
    bool shrink = in->size > 4 * (size_t)INPUT_BYTES && size == INPUT_BYTES && have < INPUT_BYTES;
    if (in->size >= size && !shrink)
        return 0;
    uint8_t *bytes = realloc(in->bytes, size);
    if (!bytes)
        return -ENOMEM;
    in->bytes = bytes;
    in->size = size;
    return 0;
}

static int input_parse(struct qsm *q)
{
    struct input *in = &q->in;

    while (in->end > in->start) {
        struct frame f;
        long n = frame_parse(in->bytes + in->start, in->end - in->start, &f);
        if (n < 0) {
            set_error(q, "the daemon sent a frame that is malformed: %s", strerror((int)-n));
            return (int)n;
        }
        if (n == 0)
            return 0;
        int error = event_frame(q, &f);
        if (error < 0)
            return error;
        in->start += (size_t)n;
    }
    return 0;
}

int input_read(struct qsm *q)
{
    struct input *in = &q->in;
    size_t have = in->end - in->start;
    size_t wants = have ? frame_wants(in->bytes + in->start, have) : 0;
    int error = input_room(in, wants);

    if (error < 0)
        return error;
    ssize_t n = recv(q->fd, in->bytes + in->end, in->size - in->end, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0)
        return -ENOTCONN;
    in->end += (size_t)n;
    return input_parse(q);
}

/* ---- memory of unpacked messages */

void *arena_alloc(struct arena *a, size_t bytes)
{
    struct arena_chunk *c = a->first;

    if (bytes > a->cap)
        return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!c || c->size - c->used < bytes) {
        size_t size = bytes > ARENA_CHUNK_BYTES ? bytes : ARENA_CHUNK_BYTES;
        if (a->total + size > a->cap)
            return NULL;
        c = malloc(sizeof(*c) + size);
        if (!c)
            return NULL;
        c->used = 0;
        c->size = size;
        c->next = a->first;
        a->first = c;
        a->total += size;
    }
    void *p = c->bytes + c->used;
    c->used += bytes;
    return p;
}

void arena_reset(struct arena *a, size_t cap)
{
    struct arena_chunk *keep = NULL, *next;

    for (struct arena_chunk *c = a->first; c; c = next) {
        next = c->next;
        if (!keep && c->size == ARENA_CHUNK_BYTES) {
            keep = c;
            continue;
        }
        free(c);
    }
    if (keep) {
        keep->next = NULL;
        keep->used = 0;
    }
    a->first = keep;
    a->total = keep ? keep->size : 0;
    a->cap = cap;
}

void arena_free(struct arena *a)
{
    arena_reset(a, 0);
    free(a->first);
    a->first = NULL;
    a->total = 0;
}

static void *allocator_alloc(void *data, size_t bytes)
{
    return arena_alloc(data, bytes);
}

static void allocator_free(void *data, void *p)
{
    (void)data;
    (void)p; /* the arena is given back as a whole */
}

ProtobufCAllocator arena_allocator(struct arena *a)
{
    ProtobufCAllocator allocator = {
        .alloc = allocator_alloc, .free = allocator_free, .allocator_data = a};
    return allocator;
}
