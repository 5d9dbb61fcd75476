/* sim_app: the applications of a host, in the place of session: connections that accept messages
 * into a queue for each group, subscriptions, completions. Says the session's lines of the trace.
 */
#include "sim.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX 200u /* messages that a group's queue takes */

void app_init(struct host *h)
{
    h->groups = calloc(h->sim->config.groups, sizeof(*h->groups));
    assert(h->groups);
    for (uint32_t g = 0; g < h->sim->config.groups; g++) {
        TAILQ_INIT(&h->groups[g].queue);
        TAILQ_INIT(&h->groups[g].sent);
    }
    h->first_conn = 1;
}

static void free_messages(struct sim_messages *list)
{
    struct sim_message *m;
    while ((m = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, m, entry);
        buf_unref(m->body);
        free(m);
    }
}

void app_done(struct host *h)
{
    free(h->groups);
}

void app_reset(struct host *h)
{
    for (uint32_t g = 0; g < h->sim->config.groups; g++) {
        struct app_group *a = &h->groups[g];
        free_messages(&a->queue);
        free_messages(&a->sent);
        memset(a, 0, sizeof(*a));
        TAILQ_INIT(&a->queue);
        TAILQ_INIT(&a->sent);
    }
    h->app_ready = 0;
}

void app_boot(struct host *h)
{
    h->first_conn = h->boots * 10;
}

static struct app_group *by_handle(struct host *h, uint32_t handle, uint32_t *ret_group)
{
    for (uint32_t g = 0; g < h->sim->config.groups; g++) {
        if (h->groups[g].open && h->groups[g].handle == handle) {
            *ret_group = g;
            return &h->groups[g];
        }
    }
    sim_fail(h->sim, "HANDLE: %s: upcall for handle %u, which is not open", h->name, handle);
    return NULL;
}

/* ---- upcalls */

/* The next message of the queue is on its way as number. */
static struct sim_message *leave_queue(struct host *h, struct app_group *a, uint32_t g,
                                       uint64_t number)
{
    struct sim_message *m = TAILQ_FIRST(&a->queue);
    TAILQ_REMOVE(&a->queue, m, entry);
    TAILQ_INSERT_TAIL(&a->sent, m, entry);
    a->queued--;
    m->number = number;
    sim_trace(h->sim, h->name, "pull c=%u k=%llu g=%s n=%llu", m->conn, (unsigned long long)m->k,
              h->sim->groups[g], (unsigned long long)number);
    return m;
}

/* How many of the first messages are of one size and take at most room bytes: at least 1. */
static uint32_t run_length(const struct app_group *a, uint32_t room)
{
    const struct sim_message *first = TAILQ_FIRST(&a->queue), *m = first;
    uint32_t count = 0;
    while (m && m->bytes == first->bytes && (count == 0 || (count + 1) * m->bytes <= room)) {
        count++;
        m = m->bytes > 0 ? TAILQ_NEXT(m, entry) : NULL;
    }
    return count;
}

static bool on_pull(void *ctx, uint32_t handle, uint64_t number, uint32_t room, struct message *ret)
{
    struct host *h = ctx;
    uint32_t g;
    struct app_group *a = by_handle(h, handle, &g);
    if (!a)
        return false;
    if (a->dry)
        sim_fail(h->sim, "DRY: %s: %s was asked for a message again, unprompted", h->name,
                 h->sim->groups[g]);
    a->dry = TAILQ_EMPTY(&a->queue);
    if (a->dry)
        return false;
    uint32_t bytes = TAILQ_FIRST(&a->queue)->bytes, count = run_length(a, room);
    bool said = TAILQ_FIRST(&a->queue)->k % 2 == 0; /* a shell may leave it unsaid */
    struct buf *body = buf_new((size_t)bytes * count);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_message *m = leave_queue(h, a, g, number + i);
        if (bytes > 0)
            memcpy(body->data + (size_t)i * bytes, m->body->data, bytes);
        buf_unref(m->body);
        m->body = NULL;
    }
    *ret = (struct message){.body = body, .data = body->data, .bytes = bytes, .more = count - 1};
    ret->last = a->dry = a->queued == 0 && said;
    return true;
}

static void deliver_one(struct host *h, const struct delivery *d)
{
    uint32_t g;
    struct app_group *a = by_handle(h, d->group, &g);
    if (!a)
        return;
    if (h->sim->on_deliver)
        h->sim->on_deliver(h->sim->look_ctx, h, d);
    if (h->sim->config.unwatched)
        return;
    uint64_t hash = sim_hash(d->data, d->bytes);
    for (uint32_t c = 0; c < SIM_CONNS_MAX; c++) {
        if (a->subscribed[c])
            sim_trace(h->sim, h->name, "recv c=%u g=%s s=%u n=%llu h=%llx", h->first_conn + c,
                      h->sim->groups[g], d->sender, (unsigned long long)d->number,
                      (unsigned long long)hash);
    }
}

static void on_deliver(void *ctx, const struct delivery *d)
{
    struct delivery one = *d;
    for (one.more = 0; one.number <= d->number + d->more; one.number++, one.data += d->bytes)
        deliver_one(ctx, &one);
}

/* The subscriptions are over and begin again with the next view. */
static void begin_again(struct host *h, uint32_t g, const char *why)
{
    struct app_group *a = &h->groups[g];
    a->member = false;
    for (uint32_t c = 0; c < SIM_CONNS_MAX; c++) {
        if (!a->subscribed[c])
            continue;
        sim_trace(h->sim, h->name, "end c=%u g=%s why=%s", h->first_conn + c, h->sim->groups[g],
                  why);
        sim_trace(h->sim, h->name, "sub c=%u g=%s", h->first_conn + c, h->sim->groups[g]);
    }
}

static void expelled(struct host *h, uint32_t g)
{
    struct app_group *a = &h->groups[g];
    h->sim->counts.expelled++;
    a->sendable = a->leaving = false;
    if (!a->mode)
        a->open = false;
    begin_again(h, g, "expelled");
}

static void on_group(void *ctx, const struct group_event *e)
{
    struct host *h = ctx;
    uint32_t g;
    struct app_group *a = by_handle(h, e->group, &g);
    if (!a)
        return;
    switch (e->kind) {
    case GROUP_VIEW:
        a->member = true;
        break;
    case GROUP_SENDABLE:
        a->sendable = true;
        h->app_ready |= UINT64_C(1) << g;
        break;
    case GROUP_LEFT:
        a->member = a->leaving = false;
        if (!a->mode)
            a->open = false;
        break;
    case GROUP_EXPELLED:
        expelled(h, g);
        break;
    case GROUP_GAP:
        begin_again(h, g, "gap");
        break;
    case GROUP_REFUSED:
        sim_fail(h->sim, "REFUSED: %s %s: %s", h->name, h->sim->groups[g], e->reason);
        break;
    }
}

static void on_stable(void *ctx, uint32_t handle, uint64_t number, bool lost)
{
    struct host *h = ctx;
    uint32_t g;
    struct app_group *a = by_handle(h, handle, &g);
    struct sim_message *m;
    if (h->sim->on_stable && !lost)
        h->sim->on_stable(h->sim->look_ctx, h, number);
    while (a && (m = TAILQ_FIRST(&a->sent)) != NULL && m->number <= number) {
        if (m->ask)
            sim_trace(h->sim, h->name, "complete c=%u k=%llu g=%s st=%s", m->conn,
                      (unsigned long long)m->k, h->sim->groups[g], lost ? "unknown" : "stable");
        h->sim->counts.stables += !lost;
        TAILQ_REMOVE(&a->sent, m, entry);
        free(m);
    }
}

static void on_trace(void *ctx, const char *line)
{
    struct host *h = ctx;
    sim_trace_line(h->sim, h->name, line);
    if (h->sim->ambush_count)
        faults_see(h, line);
}

static void on_detail(void *ctx, const char *line)
{
    struct host *h = ctx;
    sim_show_line(h->sim, h->name, line);
}

struct upcalls app_upcalls(struct host *h)
{
    bool quiet = h->sim->config.unwatched;
    return (struct upcalls){h,
                            on_pull,
                            on_deliver,
                            on_group,
                            on_stable,
                            quiet ? NULL : on_trace,
                            sim_shows(h->sim) ? on_detail : NULL};
}

/* ---- what applications do */

static bool open_group(struct host *h, uint32_t g, unsigned mode)
{
    struct app_group *a = &h->groups[g];
    if (a->leaving)
        return false;
    if (a->open && (a->mode & mode) == mode)
        return true;
    uint32_t handle;
    int bad = node_open(h->node, h->sim->groups[g], mode, h->sim->now_us, &handle);
    if (bad < 0) {
        sim_fail(h->sim, "OPEN: %s %s: %d", h->name, h->sim->groups[g], bad);
        return false;
    }
    if (a->open && a->handle != handle)
        sim_fail(h->sim, "HANDLE: %s: %s has two", h->name, h->sim->groups[g]);
    a->open = true;
    a->handle = handle;
    a->mode |= mode;
    host_wake(h, h->sim->now_us);
    return true;
}

bool app_subscribe(struct host *h, uint32_t conn, uint32_t g)
{
    struct app_group *a = &h->groups[g];
    if (a->subscribed[conn])
        return true;
    if (!open_group(h, g, NODE_RECV))
        return false;
    a->subscribed[conn] = true;
    h->sim->counts.joins++;
    sim_trace(h->sim, h->name, "sub c=%u g=%s", h->first_conn + conn, h->sim->groups[g]);
    return true;
}

void app_unsubscribe(struct host *h, uint32_t conn, uint32_t g)
{
    struct app_group *a = &h->groups[g];
    if (!a->subscribed[conn])
        return;
    a->subscribed[conn] = false;
    h->sim->counts.leaves++;
    sim_trace(h->sim, h->name, "end c=%u g=%s why=left", h->first_conn + conn, h->sim->groups[g]);
    for (uint32_t c = 0; c < SIM_CONNS_MAX; c++) {
        if (a->subscribed[c])
            return;
    }
    a->mode &= ~(unsigned)NODE_RECV;
    a->leaving = true;
    node_close(h->node, a->handle, NODE_RECV, h->sim->now_us);
    host_wake(h, h->sim->now_us);
}

bool app_open_send(struct host *h, uint32_t g)
{
    h->groups[g].close_send = false;
    return open_group(h, g, NODE_SEND);
}

void app_close_send(struct host *h, uint32_t g)
{
    h->groups[g].close_send = true;
    h->app_ready |= UINT64_C(1) << g;
    host_wake(h, h->sim->now_us);
}

static void fill(struct sim *s, struct buf *b)
{
    struct rng r = {s->config.seed << 32 ^ ++s->payloads};
    for (uint32_t i = 0; i < b->size; i += 8) {
        uint64_t word = rng_next(&r);
        memcpy(b->data + i, &word, b->size - i < 8 ? b->size - i : 8);
    }
}

bool app_publish(struct host *h, uint32_t conn, uint32_t g, uint32_t bytes, bool ask)
{
    struct app_group *a = &h->groups[g];
    if (!(a->mode & NODE_SEND) || a->close_send || a->queued >= QUEUE_MAX)
        return false;
    struct sim_message *m = calloc(1, sizeof(*m));
    assert(m);
    m->conn = h->first_conn + conn;
    m->k = ++a->accepted[conn];
    m->ask = ask;
    m->bytes = bytes;
    m->body = buf_new(bytes);
    fill(h->sim, m->body);
    TAILQ_INSERT_TAIL(&a->queue, m, entry);
    a->queued++;
    h->app_ready |= UINT64_C(1) << g;
    sim_trace(h->sim, h->name, "accept c=%u k=%llu g=%s h=%llx l=%u ask=%d", m->conn,
              (unsigned long long)m->k, h->sim->groups[g],
              (unsigned long long)sim_hash(m->body->data, bytes), bytes, ask);
    host_wake(h, h->sim->now_us);
    return true;
}

void app_turn(struct host *h)
{
    uint64_t ready = h->app_ready;
    h->app_ready = 0;
    for (uint32_t g = 0; ready; g++, ready >>= 1) {
        struct app_group *a = &h->groups[g];
        if (!(ready & 1) || !a->open)
            continue;
        if (!TAILQ_EMPTY(&a->queue)) {
            a->dry = false;
            node_ready(h->node, a->handle, h->sim->now_us);
        }
        if (!a->close_send || !(a->mode & NODE_SEND))
            continue;
        if (!TAILQ_EMPTY(&a->queue) || !TAILQ_EMPTY(&a->sent)) {
            h->app_ready |= UINT64_C(1) << g; /* looked at again when the node has its next turn */
            continue;
        }
        a->mode &= ~(unsigned)NODE_SEND;
        a->sendable = false;
        node_close(h->node, a->handle, NODE_SEND, h->sim->now_us);
        if (!a->mode && !a->leaving)
            a->open = false;
    }
}

bool app_settled(const struct host *h, char *ret_why, size_t room)
{
    for (uint32_t g = 0; g < h->sim->config.groups; g++) {
        const struct app_group *a = &h->groups[g];
        const char *why = NULL;
        if (!TAILQ_EMPTY(&a->queue))
            why = "has messages that were not pulled";
        else if (!TAILQ_EMPTY(&a->sent))
            why = "has messages that are not stable";
        else if ((a->mode & NODE_RECV) && !a->member)
            why = "waits for its first view";
        else if ((a->mode & NODE_SEND) && !a->sendable)
            why = "may not send yet";
        else if (a->leaving)
            why = "has not left yet";
        if (!why)
            continue;
        snprintf(ret_why, room, "%s: %s %s", h->name, h->sim->groups[g], why);
        return false;
    }
    return true;
}
