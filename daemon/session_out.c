/* session_out: what waits for a client to read. Messages gather in an open data frame that is cut
 * at 64 messages, 64 KB or the end of the turn, never by a timer. Small pieces (heads, control
 * frames, payloads below COPY_BYTES) are written behind one another into blocks, larger payloads
 * are referenced, and so are small ones that came in one train with nothing but heads of the
 * protocol between them; a list of segments says what goes out in which order. */
#include "session_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- blocks */

/* Room for bytes in the client's block; *ret_buf gets a reference for the caller. */
static uint8_t *block_room(struct client *c, size_t bytes, struct buf **ret_buf)
{
    struct output *o = &c->out;
    if (bytes > BLOCK_BYTES / 2) {
        *ret_buf = buf_new(bytes);
        return (*ret_buf)->data;
    }
    if (o->block && o->block->refs == 1)
        o->block_used = 0; /* all that was in it is written */
    if (!o->block || BLOCK_BYTES - o->block_used < bytes) {
        buf_unref(o->block);
        o->block = buf_pool_get(c->s->blocks, BLOCK_BYTES);
        o->block_used = 0;
    }
    uint8_t *at = o->block->data + o->block_used;
    o->block_used += (uint32_t)bytes;
    *ret_buf = buf_ref(o->block);
    return at;
}

/* ---- segments */

static struct segment *segment_at(const struct output *o, size_t i)
{
    return &o->ring[(o->first + i) & (o->room - 1)];
}

static void segments_grow(struct output *o)
{
    size_t room = o->room > 0 ? o->room * 2 : 16;
    struct segment *ring = session_alloc(room, sizeof(*ring));
    for (size_t i = 0; i < o->count; i++)
        ring[i] = *segment_at(o, i);
    free(o->ring);
    o->ring = ring;
    o->first = 0;
    o->room = room;
}

/* Queues bytes inside buf, whose reference is taken over. */
static void segment_add(struct client *c, struct buf *buf, const uint8_t *data, size_t bytes,
                        uint32_t messages)
{
    struct output *o = &c->out;
    struct segment *last = o->count > o->stamped ? segment_at(o, o->count - 1) : NULL;

    o->bytes += bytes;
    o->queued_total += bytes;
    if (o->bytes > c->s->stats.client_output_bytes_max)
        c->s->stats.client_output_bytes_max = o->bytes;
    if (last && last->buf == buf && last->data + last->bytes == data) {
        last->bytes += bytes;
        last->messages += messages;
        buf_unref(buf);
        return;
    }
    if (o->count == o->room)
        segments_grow(o);
    o->count++;
    *segment_at(o, o->count - 1) =
        (struct segment){.buf = buf, .data = data, .bytes = bytes, .messages = messages};
    if (!c->is_waiting) {
        c->is_waiting = true;
        TAILQ_INSERT_TAIL(&c->s->waiting, c, waiting);
    }
    client_fresh(c);
}

void out_stamp(struct client *c, uint64_t now_us)
{
    struct output *o = &c->out;
    for (; o->stamped < o->count; o->stamped++)
        segment_at(o, o->stamped)->at_us = now_us > 0 ? now_us : 1;
}

uint64_t out_oldest_us(const struct client *c)
{
    const struct output *o = &c->out;
    if (o->count == 0)
        return UINT64_MAX;
    return o->stamped > 0 ? segment_at(o, 0)->at_us : 0;
}

int session_output(struct client *c, struct iovec *iov, int max)
{
    struct output *o = &c->out;
    int n = 0;
    for (; n < max && (size_t)n < o->count; n++) {
        struct segment *g = segment_at(o, (size_t)n);
        iov[n] = (struct iovec){.iov_base = (void *)(uintptr_t)g->data, .iov_len = g->bytes};
    }
    return n;
}

/* Nothing waits any more: the client needs no memory until there is something. */
static void out_empty(struct client *c)
{
    struct output *o = &c->out;
    c->aged = false;
    if (c->is_waiting) {
        c->is_waiting = false;
        TAILQ_REMOVE(&c->s->waiting, c, waiting);
    }
    if (o->block && o->block->refs == 1) {
        buf_unref(o->block);
        o->block = NULL;
    }
}

void session_wrote(struct client *c, size_t bytes, uint64_t now_us)
{
    struct output *o = &c->out;

    c->s->now_us = now_us;
    assert(bytes <= o->bytes);
    o->bytes -= bytes;
    o->written_total += bytes;
    while (o->count > 0) {
        struct segment *g = segment_at(o, 0);
        if (bytes < g->bytes) {
            g->data += bytes;
            g->bytes -= bytes;
            break;
        }
        bytes -= g->bytes;
        o->messages -= g->messages;
        struct buf *buf = g->buf;
        o->first = (o->first + 1) & (o->room - 1);
        o->count--;
        if (o->stamped > 0)
            o->stamped--;
        buf_unref(buf);
    }
    out_stamp(c, now_us);
    if (o->count == 0)
        out_empty(c);
    else if (out_oldest_us(c) + c->s->config.queue_age_us > now_us)
        c->aged = false;
    if ((!TAILQ_EMPTY(&c->dirty) && o->bytes <= c->s->config.queue_bytes) ||
        (!TAILQ_EMPTY(&c->late) && o->bytes <= c->s->config.queue_bytes / 8)) {
        client_fresh(c);
        c->s->more = true;
    }
}

void out_done(struct client *c)
{
    struct output *o = &c->out;
    struct batch *b = &c->batch;

    for (size_t i = 0; i < o->count; i++)
        buf_unref(segment_at(o, i)->buf);
    for (uint32_t i = 0; i < b->pieces_count; i++)
        buf_unref(b->pieces[i].buf);
    for (uint32_t i = 0; i < b->host_count; i++)
        free(b->hosts[i].name);
    buf_unref(o->block);
    free(o->ring);
}

/* ---- names of hosts */

/* Whether the client was not told the name of node before; notes that it is now. */
static bool name_is_new(struct client *c, uint32_t node)
{
    uint32_t low = 0, high = c->names_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->names_told[middle] < node)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < c->names_count && c->names_told[low] == node)
        return false;
    if (c->names_count == NAMES_TOLD_MAX) /* names are told again, which harms nobody */
        c->names_count = low = 0;
    if (c->names_count == c->names_room) {
        c->names_room = c->names_room > 0 ? c->names_room * 2 : 16;
        c->names_told = session_grow(c->names_told, c->names_room, sizeof(*c->names_told));
    }
    memmove(c->names_told + low + 1, c->names_told + low,
            (c->names_count - low) * sizeof(*c->names_told));
    c->names_told[low] = node;
    c->names_count++;
    return true;
}

/* To look a peer up is the one thing that is asked of the core in mid-upcall: it changes nothing,
 * and later the peer may be gone. */
char *name_to_tell(struct client *c, uint32_t node)
{
    const struct node_peer *peer = node_find_peer(c->s->node, node);
    if (!peer || !peer->name || !name_is_new(c, node))
        return (char *)(uintptr_t) "";
    size_t size = strlen(peer->name) + 1;
    return memcpy(session_arena_need(&c->s->scratch, size), peer->name, size);
}

/* ---- frames */

void out_control(struct client *c, const Qsm__ToClient *m)
{
    if (c->error)
        return;
    out_cut(c);
    size_t body = qsm__to_client__get_packed_size(m);
    assert(body <= FRAME_CONTROL_MAX);
    struct buf *buf;
    uint8_t *at = block_room(c, FRAME_HEAD_BYTES + body, &buf);
    frame_write_head(at, KIND_TO_CLIENT, 0, body);
    qsm__to_client__pack(m, at + FRAME_HEAD_BYTES);
    segment_add(c, buf, at, FRAME_HEAD_BYTES + body, 0);
}

void out_pair(struct client *c, Qsm__ToClient__WhatCase what, uint32_t id, uint64_t value)
{
    const struct frame_pair pair = {.field = (uint8_t)what, .id = id, .value = value};
    uint8_t body[FRAME_PAIR_BYTES];
    struct buf *buf;

    if (c->error)
        return;
    out_cut(c);
    size_t bytes = frame_write_pair(body, &pair);
    uint8_t *at = block_room(c, FRAME_HEAD_BYTES + bytes, &buf);
    frame_write_head(at, KIND_TO_CLIENT, 0, bytes);
    memcpy(at + FRAME_HEAD_BYTES, body, bytes);
    segment_add(c, buf, at, FRAME_HEAD_BYTES + bytes, 0);
}

void out_result(struct client *c, uint64_t request, int error, const char *text)
{
    Qsm__Result r = QSM__RESULT__INIT;
    r.request = request;
    r.error = error;
    r.text = (char *)(uintptr_t)text;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_RESULT;
    m.result = &r;
    out_control(c, &m);
}

/* Writes the header of the open frame behind its payloads in memory, before them in the list. */
static void head_add(struct client *c)
{
    struct batch *b = &c->batch;
    Qsm__Deliver d = QSM__DELIVER__INIT;
    Qsm__Member members[FRAME_MESSAGES_MAX], *list[FRAME_MESSAGES_MAX];

    for (uint32_t i = 0; i < b->host_count; i++) {
        qsm__member__init(&members[i]);
        members[i].node = b->hosts[i].node;
        members[i].host = b->hosts[i].name;
        list[i] = &members[i];
    }
    d.count = b->count;
    d.n_group = b->differ.group ? b->count : 1;
    d.n_bytes = b->differ.size ? b->count : 1;
    d.n_sender = b->differ.sender ? b->count : 1;
    d.n_number = b->differ.number ? b->count : 1;
    d.n_epoch = b->differ.epoch ? b->count : 1;
    d.group = b->group;
    d.bytes = b->size;
    d.sender = b->sender;
    d.number = b->number;
    d.epoch = b->epoch;
    d.gap = b->gap;
    d.n_host = b->host_count;
    d.host = list;
    size_t header = qsm__deliver__get_packed_size(&d);
    struct buf *buf;
    uint8_t *at = block_room(c, FRAME_HEAD_BYTES + header, &buf);
    frame_write_head(at, KIND_DELIVER, header, b->bytes + (b->count - 1) * (size_t)b->gap);
    qsm__deliver__pack(&d, at + FRAME_HEAD_BYTES);
    bool all = b->pieces_count == 0;
    segment_add(c, buf, at, FRAME_HEAD_BYTES + header, all ? b->count : 0);
}

/* The payloads that are referenced in place are copied to the block after all. */
static void leave_place(struct client *c)
{
    struct batch *b = &c->batch;
    struct piece *p = &b->pieces[0], old = *p;
    const uint8_t *from = old.data;
    uint8_t *to = block_room(c, b->bytes, &p->buf);

    p->data = to;
    p->bytes = b->bytes;
    for (uint32_t i = 0; i < b->count; i++) {
        memcpy(to, from, b->size[i]);
        to += b->size[i];
        from += b->size[i] + b->gap;
    }
    b->in_place = false;
    b->gap = 0;
    buf_unref(old.buf);
}

/* Whether what is referenced in place is worth that, and what it keeps from other use: as much of
 * it as of a large message. */
static bool stays_in_place(const struct batch *b)
{
    return b->bytes >= b->pieces[0].buf->size / 4 &&
           (b->count >= IN_PLACE_MESSAGES || b->bytes >= BLOCK_BYTES / 2);
}

void out_cut(struct client *c)
{
    struct batch *b = &c->batch;
    if (b->count == 0)
        return;
    if (b->in_place && !stays_in_place(b))
        leave_place(c);
    head_add(c);
    for (uint32_t i = 0; i < b->pieces_count; i++) {
        bool last = i + 1 == b->pieces_count;
        segment_add(c, b->pieces[i].buf, b->pieces[i].data, b->pieces[i].bytes,
                    last ? b->count : 0);
    }
    for (uint32_t i = 0; i < b->host_count; i++)
        free(b->hosts[i].name);
    c->s->stats.client_frames_out++;
    c->s->stats.client_messages_out += b->count;
    b->count = b->pieces_count = b->host_count = 0;
    b->bytes = 0;
    b->gap = 0;
    b->in_place = false;
    memset(&b->differ, 0, sizeof(b->differ));
}

bool out_room(const struct client *c, uint64_t bytes, uint32_t messages)
{
    const struct session_config *config = &c->s->config;
    uint64_t waiting = c->out.bytes + c->batch.bytes;
    if (c->aged)
        return false;
    if (waiting == 0 && messages <= 1)
        return true; /* a queue that is empty takes any one message */
    return waiting + bytes <= config->queue_bytes &&
           c->out.messages + messages <= config->queue_messages;
}

/* Whether a message lies behind those that are referenced in place, as far as they lie apart. */
static bool is_next_in_place(const struct batch *b, const struct delivery *d)
{
    const struct piece *p = &b->pieces[0];
    return d->more == 0 && d->lead > 0 && d->body == p->buf &&
           d->data == p->data + p->bytes + d->lead && (b->count == 1 || d->lead == b->gap);
}

/* A message that begins a frame, or lies behind those that are referenced in place, is, too; false:
 * it is not. */
static bool batch_in_place(struct client *c, const struct delivery *d)
{
    struct batch *b = &c->batch;
    struct piece *p = &b->pieces[0];

    if (b->count == 0 && d->more == 0 && d->lead > 0 && d->bytes >= IN_PLACE_BYTES &&
        out_copies(d)) {
        b->in_place = true;
        b->pieces_count = 1;
        *p = (struct piece){.buf = buf_ref(d->body), .data = d->data, .bytes = d->bytes};
        return true;
    }
    if (!b->in_place)
        return false;
    b->gap = d->lead;
    p->bytes += d->lead + d->bytes;
    return true;
}

/* Payloads that are copied go behind one another as long as the block lasts: nothing else is
 * written there while the frame is open. */
static void batch_payload(struct client *c, const struct delivery *d)
{
    struct batch *b = &c->batch;
    struct output *o = &c->out;
    struct piece *p = &b->pieces[b->pieces_count];
    uint32_t bytes = d->bytes * (d->more + 1);

    if (batch_in_place(c, d) || bytes == 0)
        return;
    bool copied = out_copies(d);
    if (copied && b->pieces_count > 0 && p[-1].buf == o->block &&
        BLOCK_BYTES - o->block_used >= bytes) {
        memcpy(o->block->data + o->block_used, d->data, bytes);
        o->block_used += bytes;
        p[-1].bytes += bytes;
        return;
    }
    p->data = d->data;
    p->bytes = bytes;
    if (copied)
        p->data = memcpy(block_room(c, bytes, &p->buf), d->data, bytes);
    else
        p->buf = buf_ref(d->body);
    b->pieces_count++;
}

static void batch_host(struct client *c, uint32_t node)
{
    struct batch *b = &c->batch;
    if (b->count > 0 && b->sender[b->count - 1] == node)
        return;
    session_arena_reset(&c->s->scratch, SCRATCH_ARENA_MAX);
    const char *name = name_to_tell(c, node);
    if (*name == '\0')
        return;
    b->hosts[b->host_count].node = node;
    b->hosts[b->host_count].name = strdup(name);
    assert(b->hosts[b->host_count].name);
    b->host_count++;
}

static void batch_names(struct batch *b, const struct use *u, const struct delivery *d)
{
    for (uint32_t k = 0, n = b->count; k <= d->more; k++, n++) {
        b->group[n] = u->id;
        b->size[n] = d->bytes;
        b->sender[n] = d->sender;
        b->number[n] = d->number + k;
        b->epoch[n] = d->epoch;
    }
    b->differ.group |= u->id ^ b->group[0];
    b->differ.size |= d->bytes ^ b->size[0];
    b->differ.sender |= d->sender ^ b->sender[0];
    b->differ.number |= d->number ^ (b->number[0] + b->count);
    b->differ.epoch |= d->epoch ^ b->epoch[0];
}

/* Ends the open frame when the next message does not fit or does not lie where it would have to. */
static void batch_begin(struct client *c, const struct delivery *d)
{
    struct batch *b = &c->batch;

    if (b->bytes + d->bytes > BATCH_BYTES)
        out_cut(c);
    if (!b->in_place || is_next_in_place(b, d))
        return;
    if (stays_in_place(b))
        out_cut(c);
    else
        leave_place(c);
}

/* Messages of a run that the open frame still takes, at least one. */
static uint32_t batch_takes(const struct batch *b, const struct delivery *d)
{
    uint32_t most = FRAME_MESSAGES_MAX - b->count;

    if (d->bytes > 0 && (BATCH_BYTES - b->bytes) / d->bytes < most)
        most = (uint32_t)((BATCH_BYTES - b->bytes) / d->bytes);
    if (most > d->more + 1)
        most = d->more + 1;
    return most > 0 ? most : 1;
}

static void batch_add(struct client *c, struct use *u, const struct delivery *d)
{
    struct batch *b = &c->batch;

    batch_begin(c, d);
    batch_host(c, d->sender);
    batch_names(b, u, d);
    batch_payload(c, d);
    b->bytes += (size_t)d->bytes * (d->more + 1);
    b->count += d->more + 1;
    u->last_out = c->out.queued_total + b->bytes + 1;
    if (b->count == FRAME_MESSAGES_MAX || b->bytes >= BATCH_BYTES)
        out_cut(c);
}

bool out_message(struct client *c, struct use *u, const struct delivery *d)
{
    struct delivery part = *d;

    if (c->error)
        return true; /* it is about to be closed */
    if (!out_room(c, d->bytes * (uint64_t)(d->more + 1), d->more + 1))
        return false;
    for (uint32_t left = d->more + 1; left > 0; left -= part.more + 1) {
        part.number = d->number + (d->more + 1 - left);
        part.data = d->data + (size_t)(d->more + 1 - left) * d->bytes;
        part.more = left - 1;
        part.more = batch_takes(&c->batch, &part) - 1;
        batch_add(c, u, &part);
    }
    c->out.messages += d->more + 1;
    if (!c->is_fresh)
        client_fresh(c);
    return true;
}
