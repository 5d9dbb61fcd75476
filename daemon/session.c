/* session: the connections of the clients: greeting, frames in, the turn, deadlines, memory. See
 * session_internal.h for the other files. A client is never trusted: what it sends is checked here
 * and in the handlers before anything changes, and whatever is wrong is named and ends it. */
#include "session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_CHUNK_BYTES (64u << 10)

/* ---- memory */

void *session_alloc(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size);
    assert(p);
    return p;
}

void *session_grow(void *list, size_t count, size_t size)
{
    void *p = reallocarray(list, count, size);
    assert(p);
    return p;
}

void session_arena_reset(struct arena *a, size_t cap)
{
    struct arena_chunk *keep = NULL, *next;
    for (struct arena_chunk *c = a->chunks; c; c = next) {
        next = c->next;
        if (!keep && c->size == ARENA_CHUNK_BYTES)
            keep = c;
        else
            free(c);
    }
    if (keep) {
        keep->next = NULL;
        keep->used = 0;
    }
    a->chunks = keep;
    a->total = keep ? keep->size : 0;
    a->cap = cap;
    a->full = false;
}

void session_arena_done(struct arena *a)
{
    session_arena_reset(a, 0);
    free(a->chunks);
    memset(a, 0, sizeof(*a));
}

void *session_arena_alloc(struct arena *a, size_t bytes)
{
    struct arena_chunk *c = a->chunks;
    size_t need = (bytes + 15) & ~(size_t)15;
    if (need < bytes || need > a->cap) {
        a->full = true;
        return NULL;
    }
    if (!c || c->size - c->used < need) {
        size_t size = need > ARENA_CHUNK_BYTES ? need : ARENA_CHUNK_BYTES;
        if (size > a->cap - (a->total < a->cap ? a->total : a->cap)) {
            a->full = true;
            return NULL;
        }
        c = malloc(sizeof(*c) + size);
        assert(c);
        c->next = a->chunks;
        c->used = 0;
        c->size = size;
        a->chunks = c;
        a->total += size;
    }
    void *p = c->bytes + c->used;
    c->used += need;
    return p;
}

void *session_arena_need(struct arena *a, size_t bytes)
{
    void *p = session_arena_alloc(a, bytes);
    assert(p);
    return memset(p, 0, bytes);
}

static void *allocator_alloc(void *data, size_t bytes)
{
    return session_arena_alloc(data, bytes);
}

static void allocator_free(void *data, void *p)
{
    (void)data;
    (void)p; /* the arena is given back as a whole */
}

ProtobufCAllocator session_arena_allocator(struct arena *a)
{
    return (ProtobufCAllocator){
        .alloc = allocator_alloc, .free = allocator_free, .allocator_data = a};
}

/* ---- the trace */

void session_trace(struct session *s, const char *format, ...)
{
    char line[512];
    va_list args;

    if (!session_traced(s))
        return;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    s->config.trace_line(s->config.ctx, line);
}

static void trace_of_core(void *ctx, const char *line)
{
    struct session *s = ctx;
    s->config.trace_line(s->config.ctx, line);
}

uint64_t session_hash(const uint8_t *data, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ data[i]) * 0x100000001b3u;
    return h;
}

/* ---- a session's life */

struct session *session_new(const struct session_config *config)
{
    struct session *s = session_alloc(1, sizeof(*s));
    s->config = *config;
    TAILQ_INIT(&s->clients);
    TAILQ_INIT(&s->fresh);
    TAILQ_INIT(&s->waiting);
    TAILQ_INIT(&s->pending);
    TAILQ_INIT(&s->lingering);
    TAILQ_INIT(&s->wanting);
    TAILQ_INIT(&s->large);
    TAILQ_INIT(&s->leaving);
    purse_init(&s->purse, config->grant_bytes_all);
    s->serve_round = 1;
    s->blocks = buf_pool_new(BLOCK_BYTES);
    s->runs = buf_pool_new(RUN_BYTES);
    for (uint32_t i = 0; i < COPY_POOLS; i++)
        s->copies[i] = buf_pool_new(COPY_POOLED_BYTES + (i + 1) * COPY_STEP_BYTES);
    STAILQ_INIT(&s->spare);
    RB_INIT(&s->by_name);
    return s;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    assert(TAILQ_EMPTY(&s->clients));
    locals_done(s);
    feeds_done(s);
    session_arena_done(&s->arena);
    session_arena_done(&s->scratch);
    buf_pool_free(s->blocks);
    buf_pool_free(s->runs);
    for (uint32_t i = 0; i < COPY_POOLS; i++)
        buf_pool_free(s->copies[i]);
    free(s);
}

void session_trim(struct session *s)
{
    buf_pool_trim(s->blocks);
    buf_pool_trim(s->runs);
    for (uint32_t i = 0; i < COPY_POOLS; i++)
        buf_pool_trim(s->copies[i]);
}

struct upcalls session_upcalls(struct session *s)
{
    return (struct upcalls){
        .ctx = s,
        .pull = feed_pull,
        .deliver = subscription_deliver,
        .group = local_event,
        .stable = feed_stable,
        .trace = session_traced(s) ? trace_of_core : NULL,
        .detail = session_traced(s) ? trace_of_core : NULL,
    };
}

void session_attach(struct session *s, struct node *node)
{
    assert(!s->node);
    s->node = node;
}

void session_stop(struct session *s, uint64_t now_us)
{
    s->now_us = now_us;
    if (s->stopped)
        return;
    s->stopped = true;
    locals_stop(s);
}

/* ---- connections */

struct client *session_connect(struct session *s, uid_t uid, pid_t pid, uint64_t now_us,
                               int *ret_error)
{
    uint32_t same = 0;
    struct client *c;

    s->now_us = now_us;
    TAILQ_FOREACH (c, &s->clients, all)
        same += c->uid == uid;
    bool many = s->client_count >= s->config.clients_max;
    if (many || same >= s->config.connections_per_uid) {
        s->stats.clients_refused++;
        *ret_error = many ? -EUSERS : -EDQUOT;
        return NULL;
    }
    c = session_alloc(1, sizeof(*c));
    c->s = s;
    c->number = ++s->connections;
    c->uid = uid;
    c->pid = pid;
    TAILQ_INIT(&c->dirty);
    TAILQ_INIT(&c->sending);
    TAILQ_INIT(&c->late);
    purse_init(&c->purse, s->config.grant_bytes);
    LIST_INIT(&c->requests);
    TAILQ_INSERT_TAIL(&s->clients, c, all);
    s->client_count++;
    s->stats.clients_accepted++;
    return c;
}

size_t session_refusal(const struct session *s, int error, uint8_t *out, size_t room)
{
    char what[80];
    Qsm__IpcError e = QSM__IPC_ERROR__INIT;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;

    if (error == -EDQUOT)
        snprintf(what, sizeof(what), "connections_per_uid is %u", s->config.connections_per_uid);
    else
        snprintf(what, sizeof(what), "clients_max is %u", s->config.clients_max);
    e.error = error;
    e.what = what;
    m.what_case = QSM__TO_CLIENT__WHAT_ERROR;
    m.error = &e;
    size_t body = qsm__to_client__get_packed_size(&m);
    assert(FRAME_HEAD_BYTES + body <= room);
    frame_write_head(out, KIND_TO_CLIENT, 0, body);
    return FRAME_HEAD_BYTES + qsm__to_client__pack(&m, out + FRAME_HEAD_BYTES);
}

void session_disconnect(struct session *s, struct client *c, uint64_t now_us)
{
    s->now_us = now_us;
    session_trace(s, "close c=%llu", (unsigned long long)c->number);
    client_leave(c);
    if (c->is_fresh)
        TAILQ_REMOVE(&s->fresh, c, fresh);
    if (c->is_waiting)
        TAILQ_REMOVE(&s->waiting, c, waiting);
    TAILQ_REMOVE(&s->clients, c, all);
    s->client_count--;
    out_done(c);
    free(c->names_told);
    free(c->pages);
    free(c);
    session_work(s);
}

void client_set_data(struct client *c, void *data)
{
    c->data = data;
}

void *client_data(const struct client *c)
{
    return c->data;
}

void client_fresh(struct client *c)
{
    if (c->is_fresh)
        return;
    c->is_fresh = true;
    TAILQ_INSERT_TAIL(&c->s->fresh, c, fresh);
}

int client_fail(struct client *c, int error, const char *what, const char *where, ...)
{
    char place[128], full[192];
    va_list args;

    va_start(args, where);
    vsnprintf(place, sizeof(place), where, args);
    va_end(args);
    snprintf(full, sizeof(full), "frame %llu: %s", (unsigned long long)c->frames, place);

    Qsm__IpcError e = QSM__IPC_ERROR__INIT;
    e.error = error;
    e.where = full;
    e.what = (char *)(uintptr_t)what;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_ERROR;
    m.error = &e;
    out_control(c, &m);
    c->error = error;
    c->s->stats.client_errors++;
    client_fresh(c);
    return error;
}

/* ---- frames in */

static int on_hello(struct client *c, const Qsm__ToDaemon *m)
{
    if (c->greeted)
        return client_fail(c, -EPROTO, "said a second time", "ClientHello");
    if (m->hello->version != IPC_VERSION)
        return client_fail(c, -EPROTONOSUPPORT, "this daemon speaks version 1",
                           "ClientHello.version");
    c->greeted = true;
    info_hello(c);
    return 0;
}

static int on_open(struct client *c, const Qsm__ToDaemon *m)
{
    return request_open(c, m->open);
}

static int on_close(struct client *c, const Qsm__ToDaemon *m)
{
    return request_close(c, m->close);
}

static int on_hold(struct client *c, const Qsm__ToDaemon *m)
{
    return request_hold(c, m->hold);
}

static int on_ask(struct client *c, const Qsm__ToDaemon *m)
{
    return info_answer(c, m->ask);
}

static int on_returned(struct client *c, const Qsm__ToDaemon *m)
{
    return grant_returned(c, m->returned);
}

static int (*const handlers[])(struct client *c, const Qsm__ToDaemon *m) = {
    [QSM__TO_DAEMON__WHAT_HELLO] = on_hello, [QSM__TO_DAEMON__WHAT_OPEN] = on_open,
    [QSM__TO_DAEMON__WHAT_CLOSE] = on_close, [QSM__TO_DAEMON__WHAT_HOLD] = on_hold,
    [QSM__TO_DAEMON__WHAT_ASK] = on_ask,     [QSM__TO_DAEMON__WHAT_RETURNED] = on_returned,
};

static int receive_control(struct client *c, const struct frame *f)
{
    struct arena *a = &c->s->arena;

    session_arena_reset(a, CONTROL_ARENA_MAX);
    ProtobufCAllocator allocator = session_arena_allocator(a);
    const Qsm__ToDaemon *m = qsm__to_daemon__unpack(&allocator, f->payload_bytes, f->payload);
    if (!m && a->full)
        return client_fail(c, -EMSGSIZE, "takes more than 16 MiB unpacked: ask in parts",
                           "ToDaemon");
    if (!m)
        return client_fail(c, -EPROTO, "is no well-formed message", "ToDaemon");
    if ((size_t)m->what_case >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[m->what_case])
        return client_fail(c, -EPROTO, "holds nothing that this daemon knows", "ToDaemon.what");
    if (!c->greeted && m->what_case != QSM__TO_DAEMON__WHAT_HELLO)
        return client_fail(c, -EPROTO, "came before a ClientHello", "ToDaemon.what");
    return handlers[m->what_case](c, m);
}

static int receive_frame(struct client *c, const struct frame *f)
{
    c->frames++;
    c->s->stats.client_frames++;
    if (f->kind == KIND_TO_DAEMON && f->header_bytes == 0)
        return receive_control(c, f);
    if (f->kind == KIND_TO_DAEMON)
        return client_fail(c, -EPROTO, "not 0 in a control frame", "header length");
    if (f->kind != KIND_SUBMIT)
        return client_fail(c, -EPROTO, "neither 1 (control) nor 3 (messages)", "kind %u", f->kind);
    if (!c->greeted)
        return client_fail(c, -EPROTO, "came before a ClientHello", "Submit");
    return feed_submit(c, f);
}

long session_receive(struct client *c, const uint8_t *bytes, size_t count, uint64_t now_us)
{
    size_t done = 0;
    int error = c->error;

    c->s->now_us = now_us;
    while (!error && done < RECEIVE_QUANTUM_BYTES) {
        struct frame f;
        long size = frame_parse(bytes + done, count - done, &f);
        if (size == 0 && grant_too_long(c, bytes + done, count - done)) {
            c->frames++;
            error = client_fail(c, -EDQUOT, "is longer than all that was granted", "Submit");
        }
        /* Answers do not pile up for a client that asks and does not read: it is taken up again
         * when it has read. */
        if (size == 0 || c->out.bytes > c->s->config.queue_bytes)
            break;
        if (size < 0) {
            c->frames++;
            error = client_fail(c, (int)size,
                                "another version, or lengths that are too long or do not fit",
                                "head of the frame");
            break;
        }
        if (f.kind == KIND_SUBMIT && grant_stalls(c, &f))
            break;
        error = receive_frame(c, &f);
        done += (size_t)size;
        if (f.kind == KIND_TO_DAEMON) /* an answer may take long: others have their turn */
            break;
    }
    session_work(c->s);
    return error ? error : (long)done;
}

size_t session_wants(const struct client *c, const uint8_t *bytes, size_t count)
{
    struct frame f;
    (void)c;
    return frame_parse(bytes, count, &f) != 0 ? count : frame_wants(bytes, count);
}

/* ---- the turn */

/* Clients were told the id of the node when they connected: tells them anew when it is another. */
static void tell_admission(struct session *s)
{
    uint32_t id = node_id(s->node);
    struct client *c;

    if (id == s->told_node_id)
        return;
    s->told_node_id = id;
    TAILQ_FOREACH (c, &s->clients, all) {
        if (c->greeted && !c->error)
            info_hello(c);
    }
}

struct client *session_next(struct session *s, bool *ret_close)
{
    struct client *c;

    s->more = false;
    tell_admission(s);
    grants_serve(s);
    while ((c = TAILQ_FIRST(&s->fresh))) {
        feed_tell(c);
        late_tell(c);
        out_cut(c);
        TAILQ_REMOVE(&s->fresh, c, fresh);
        c->is_fresh = false;
        *ret_close = c->error != 0;
        if (c->out.count > 0 || c->error)
            return c;
    }
    return NULL;
}

uint64_t session_deadline(const struct session *s)
{
    uint64_t at = locals_deadline(s), grants_at = grants_deadline(s);

    if (s->more)
        return 0;
    const struct client *c;

    TAILQ_FOREACH (c, &s->waiting, waiting) {
        uint64_t oldest = out_oldest_us(c);
        uint64_t due = oldest == 0 ? 0 : oldest + s->config.queue_age_us;
        if ((oldest == 0 || !c->aged) && due < at)
            at = due;
    }
    return grants_at < at ? grants_at : at;
}

/* The client did not read for too long: subscriptions with something in its output end. */
static void client_age(struct client *c)
{
    struct use *u;
    uint32_t id = 0;

    c->aged = true;
    while ((u = use_from(c, &id))) {
        if (u->recv && u->viewed && !u->latest && u->last_out > c->out.written_total)
            subscription_end(u, END_SLOW, false);
    }
}

void session_expire(struct session *s, uint64_t now_us)
{
    struct client *c;

    s->now_us = now_us;
    TAILQ_FOREACH (c, &s->waiting, waiting) {
        out_stamp(c, now_us);
        if (!c->aged && out_oldest_us(c) + s->config.queue_age_us <= now_us)
            client_age(c);
    }
    locals_expire(s);
    grants_expire(s);
    info_watch(s);
    session_work(s);
}
