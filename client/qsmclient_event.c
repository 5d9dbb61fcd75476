/* qsmclient_event: what the daemon says, frame by frame, and the callbacks that it leads to. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int malformed(struct qsm *q, const char *what)
{
    set_error(q, "the daemon sent a frame that is malformed: %s", what);
    return -EPROTO;
}

/* ---- names of hosts */

static void host_learn(struct qsm *q, uint32_t node, const char *name)
{
    struct host *h;

    HASH_FIND(hh, q->hosts, &node, sizeof(node), h);
    if (h || !name || !*name)
        return;
    if (HASH_COUNT(q->hosts) >= HOSTS_MAX) {
        /* The head is the oldest; node ids only grow. */
        struct host *oldest = q->hosts;
        HASH_DEL(q->hosts, oldest);
        free(oldest);
    }
    size_t bytes = strlen(name) + 1;
    h = malloc(sizeof(*h) + bytes);
    if (!h)
        return;
    h->node = node;
    memcpy(h->name, name, bytes);
    HASH_ADD(hh, q->hosts, node, sizeof(h->node), h);
    if (!h->hh.tbl)
        free(h);
    q->last_node = 0;
}

const char *host_name(struct qsm *q, uint32_t node)
{
    struct host *h;

    if (q->last_node == node && node)
        return q->last_host;
    HASH_FIND(hh, q->hosts, &node, sizeof(node), h);
    if (!h)
        return "";
    q->last_node = node;
    q->last_host = h->name;
    return h->name;
}

void learn_members(struct qsm *q, Qsm__Member **members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        host_learn(q, members[i]->node, members[i]->host);
}

/* ---- positions */

static void position_set(struct qsm_group *g, uint32_t sender, uint64_t number)
{
    struct position *p = g->last_position;

    if (p && p->sender == sender) {
        p->number = number;
        return;
    }
    HASH_FIND(hh, g->positions, &sender, sizeof(sender), p);
    if (!p) {
        if (HASH_COUNT(g->positions) >= POSITIONS_MAX) {
            struct position *oldest = g->positions;
            HASH_DEL(g->positions, oldest);
            free(oldest);
        }
        p = malloc(sizeof(*p));
        if (!p)
            return;
        p->sender = sender;
        HASH_ADD(hh, g->positions, sender, sizeof(p->sender), p);
        if (!p->hh.tbl) {
            free(p);
            return;
        }
    }
    p->number = number;
    g->last_position = p;
}

void positions_free(struct qsm_group *g)
{
    struct position *p, *next;

    HASH_ITER (hh, g->positions, p, next) {
        HASH_DEL(g->positions, p);
        free(p);
    }
    g->last_position = NULL;
}

/* ---- callbacks */

static void call_end(struct qsm *q, struct qsm_group *g, const struct qsm_end_event *e)
{
    if (q->callbacks.end) {
        q->depth++;
        q->callbacks.end(q->callbacks.ctx, g, e);
        q->depth--;
    }
    q->calls++;
}

void event_end_local(struct qsm *q, struct qsm_group *g, enum qsm_end why)
{
    size_t count = HASH_COUNT(g->positions), i = 0;
    struct qsm_position *list = calloc(count ? count : 1, sizeof(*list));
    struct qsm_end_event e = {.why = why, .positions = list};
    struct position *p, *next;

    g->live = false;
    HASH_ITER (hh, g->positions, p, next) {
        if (!list)
            break;
        list[i].sender = p->sender;
        list[i].host = host_name(q, p->sender);
        list[i].number = p->number;
        i++;
    }
    e.count = i;
    call_end(q, g, &e);
    free(list);
    positions_free(g);
}

void event_complete(struct qsm *q, struct qsm_group *g, uint64_t k, int status, const char *reason)
{
    while (g->token_count > 0) {
        struct token t = g->tokens[g->token_first];
        if (t.k > k)
            return;
        g->token_first = (g->token_first + 1) % g->token_size;
        g->token_count--;
        q->calls++;
        if (!q->callbacks.complete)
            continue;
        q->depth++;
        q->callbacks.complete(q->callbacks.ctx, g, t.token, status, reason);
        q->depth--;
    }
}

void event_writable(struct qsm *q)
{
    struct qsm_group *g, *next;

    q->look_at_starved = false;
    TAILQ_FOREACH_SAFE (g, &q->starved, starved_next, next) {
        if (output_full(q))
            return;
        if (!g->granted)
            continue;
        if (g->grant < g->starved_cost) {
            (void)need_grant(q, g, g->starved_cost);
            continue;
        }
        g->starved = false;
        TAILQ_REMOVE(&q->starved, g, starved_next);
        q->calls++;
        if (!q->callbacks.writable)
            continue;
        q->depth++;
        q->callbacks.writable(q->callbacks.ctx, g);
        q->depth--;
        /* The callback may have changed the list: look again from its head next time. */
        if (next && !next->starved) {
            q->look_at_starved = true;
            return;
        }
    }
}

/* ---- messages */

static int check_deliver(struct qsm *q, const Qsm__Deliver *d, size_t payload_bytes)
{
    uint32_t count = d->count;
    uint64_t sum = 0;

    if (count > FRAME_MESSAGES_MAX)
        return malformed(q, "Deliver: more than 64 messages");
    if (!frame_list_fits(d->n_group, count) || !frame_list_fits(d->n_bytes, count) ||
        !frame_list_fits(d->n_sender, count) || !frame_list_fits(d->n_number, count) ||
        !frame_list_fits(d->n_epoch, count))
        return malformed(q, "Deliver: lists with neither one entry nor one for each message");
    for (size_t i = 0; i < d->n_bytes; i++)
        sum += d->bytes[i];
    if (d->n_bytes == 1)
        sum *= count;
    if (count > 1)
        sum += (uint64_t)d->gap * (count - 1);
    if (sum != payload_bytes)
        return malformed(q, "Deliver: lengths that are not the payload's");
    if (d->n_number == 1 && d->number[0] > UINT64_MAX - (count - 1))
        return malformed(q, "Deliver: numbers that are too large");
    return 0;
}

static int event_deliver(struct qsm *q, const struct frame *f)
{
    arena_reset(&q->arena, DATA_ARENA_MAX);
    ProtobufCAllocator allocator = arena_allocator(&q->arena);
    const Qsm__Deliver *d = qsm__deliver__unpack(&allocator, f->header_bytes, f->header);
    if (!d)
        return malformed(q, "the header of a Deliver");
    int error = check_deliver(q, d, f->payload_bytes);
    if (error < 0)
        return error;
    learn_members(q, d->host, d->n_host);

    const uint8_t *data = f->payload;
    struct qsm_message m = {0};
    q->depth++;
    for (size_t i = 0; i < d->count; i++) {
        struct qsm_group *g = group_find(q, d->group[frame_list_at(d->n_group, i)]);
        m.data = data;
        m.bytes = d->bytes[frame_list_at(d->n_bytes, i)];
        data += m.bytes + d->gap;
        if (!g)
            continue;
        m.group = g;
        m.sender = d->sender[frame_list_at(d->n_sender, i)];
        m.host = host_name(q, m.sender);
        m.number = d->n_number == 1 ? d->number[0] + i : d->number[i];
        m.epoch = d->epoch[frame_list_at(d->n_epoch, i)];
        g->live = true;
        position_set(g, m.sender, m.number);
        q->calls++;
        if (q->callbacks.message)
            q->callbacks.message(q->callbacks.ctx, &m);
    }
    q->depth--;
    return 0;
}

/* ---- control */

static int on_hello(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__DaemonHello *h = m->hello;

    if (h->version != IPC_VERSION) {
        set_error(q, "the daemon speaks version %u, this library version %u", h->version,
                  IPC_VERSION);
        return -EPROTONOSUPPORT;
    }
    strncpy(q->host, h->host, sizeof(q->host) - 1);
    q->admitted = h->admitted;
    if (h->node_id)
        host_learn(q, h->node_id, h->host);
    q->greeted = true;
    return 0;
}

static void open_failed(struct qsm *q, struct qsm_group *g, const struct request *r,
                        const char *text)
{
    g->mode &= ~r->mode;
    (void)group_close(q, g, r->mode);
    if (r->mode & QSM_SEND)
        group_give_up(q, g, r->error, text);
}

static void open_result(struct qsm *q, const struct request *r, const char *text)
{
    for (size_t i = 0; i < r->count; i++) {
        struct qsm_group *g = group_find(q, r->groups[i]);
        if (!g)
            continue;
        if (r->error < 0)
            open_failed(q, g, r, text);
        q->calls++;
        if (!q->callbacks.opened)
            continue;
        q->depth++;
        q->callbacks.opened(q->callbacks.ctx, g, r->error, text);
        q->depth--;
    }
}

static void close_result(struct qsm *q, const struct request *r)
{
    for (size_t i = 0; i < r->count; i++) {
        struct qsm_group *g = group_find(q, r->groups[i]);
        if (!g)
            continue;
        assert(g->closes > 0);
        g->closes--;
        g->send_closes -= (r->mode & QSM_SEND) != 0;
        if (g->closes == 0 && g->leaving && !g->live)
            group_bury(q, g);
    }
}

static int on_result(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__Result *result = m->result;
    int error = result->error > 0 ? -result->error : result->error;
    struct request *r;

    if (q->ask.request && q->ask.request == result->request) {
        set_error(q, "%s", result->text);
        q->ask.error = error < 0 ? error : -EPROTO;
        q->ask.done = true;
        return 0;
    }
    HASH_FIND(hh, q->requests, &result->request, sizeof(result->request), r);
    if (!r)
        return 0; /* given up */
    r->error = error;
    r->done = true;
    /* A close that is refused is one of something that was never open. */
    if (error < 0 && r->kind != REQUEST_CLOSE)
        set_error(q, "%s", *result->text ? result->text : strerror(-error));
    if (r->kind == REQUEST_CLOSE)
        close_result(q, r);
    if (r->kind == REQUEST_OPEN && !r->waited)
        open_result(q, r, result->text);
    if (!r->waited)
        request_free(q, r);
    return 0;
}

static int on_view(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__ViewEvent *e = m->view;
    struct qsm_group *g = group_find(q, e->id);
    struct qsm_view v = {.epoch = e->epoch, .count = e->n_member};

    learn_members(q, e->member, e->n_member);
    if (!g)
        return 0;
    struct qsm_member *members = arena_alloc(&q->arena, (e->n_member + 1) * sizeof(*members));
    if (!members)
        return malformed(q, "a view with too many members");
    for (size_t i = 0; i < e->n_member; i++) {
        members[i].node = e->member[i]->node;
        members[i].host = host_name(q, e->member[i]->node);
    }
    v.members = members;
    g->live = true;
    q->admitted = true;
    q->calls++;
    if (q->callbacks.view) {
        q->depth++;
        q->callbacks.view(q->callbacks.ctx, g, &v);
        q->depth--;
    }
    return 0;
}

static int on_end(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__EndEvent *e = m->end;
    struct qsm_group *g = group_find(q, e->id);

    if (e->why < QSM_END_LEFT || e->why > QSM_END_SHUTDOWN)
        return malformed(q, "an EndEvent of an unknown type");
    if (!g)
        return 0;
    for (size_t i = 0; i < e->n_position; i++)
        host_learn(q, e->position[i]->node, e->position[i]->host);
    struct qsm_position *list = arena_alloc(&q->arena, (e->n_position + 1) * sizeof(*list));
    if (!list)
        return malformed(q, "an EndEvent with too many positions");
    for (size_t i = 0; i < e->n_position; i++) {
        const Qsm__Position *p = e->position[i];
        list[i].sender = p->node;
        list[i].host = host_name(q, p->node);
        list[i].number = p->number;
    }
    struct qsm_end_event end = {.why = (enum qsm_end)e->why,
                                .positions = list,
                                .count = e->n_position,
                                .rejoined = e->rejoined};
    g->live = false;
    /* Only a connection that is over is opened again by qsm_reconnect. */
    if (!end.rejoined && end.why != QSM_END_SHUTDOWN)
        g->mode &= ~(unsigned)QSM_RECV;
    positions_free(g);
    call_end(q, g, &end);
    if (g->leaving && g->closes == 0)
        group_bury(q, g);
    return 0;
}

static int take_grant(struct qsm *q, uint32_t id, uint64_t bytes)
{
    struct qsm_group *g = group_find(q, id);

    if (!g || g->send_closes > 0)
        return 0;
    g->granted = true;
    g->grant += bytes;
    if (g->grant >= g->needed)
        g->needed = 0;
    q->look_at_starved = true;
    feed_look(q, g);
    return 0;
}

static int on_grant(struct qsm *q, const Qsm__ToClient *m)
{
    return take_grant(q, m->grant->id, m->grant->bytes);
}

/* Whatever was sent before the answer used the grant that is taken back. */
static int on_revoke(struct qsm *q, const Qsm__ToClient *m)
{
    struct qsm_group *g = group_find(q, m->revoke->id);
    Qsm__Returned returned = QSM__RETURNED__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;

    if (g) {
        g->grant = g->needed = 0;
        feed_look(q, g);
    }
    q->look_at_starved = true;
    returned.id = m->revoke->id;
    returned.serial = m->revoke->serial;
    message.what_case = QSM__TO_DAEMON__WHAT_RETURNED;
    message.returned = &returned;
    return output_control(q, &message);
}

/* lost: why the end is unknown, NULL: it is stable. */
static int take_completion(struct qsm *q, uint32_t id, uint64_t k, const char *lost)
{
    struct qsm_group *g = group_find(q, id);

    if (!g || g->send_closes > 0 || k <= g->done)
        return 0;
    if (k > g->sent)
        return malformed(q, "a Completion of a message that was never submitted");
    outstanding_take(q, k - g->done);
    g->done = k;
    if (lost)
        q->unknown = true;
    event_complete(q, g, k, lost ? -EIO : 0, lost ? lost : "");
    return 0;
}

static int on_completion(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__Completion *c = m->completion;
    return take_completion(q, c->id, c->k, c->lost ? c->reason : NULL);
}

static int on_status(struct qsm *q, const Qsm__ToClient *m)
{
    q->admitted = m->status->node_id != 0;
    ask_status(q, m->status);
    return 0;
}

static int on_groups(struct qsm *q, const Qsm__ToClient *m)
{
    ask_groups(q, m->groups);
    return 0;
}

static int on_regions(struct qsm *q, const Qsm__ToClient *m)
{
    ask_regions(q, m->regions);
    return 0;
}

static int on_stats(struct qsm *q, const Qsm__ToClient *m)
{
    ask_stats(q, m->stats);
    return 0;
}

static int on_error(struct qsm *q, const Qsm__ToClient *m)
{
    const Qsm__IpcError *e = m->error;

    set_error(q, "%s%s%s", e->where, *e->where ? ": " : "", e->what);
    q->refused = e->error < 0 ? e->error : e->error > 0 ? -e->error : -EPROTO;
    return q->refused;
}

static int on_dropped(struct qsm *q, const Qsm__ToClient *m)
{
    struct qsm_group *g = group_find(q, m->dropped->id);

    if (!g)
        return 0;
    q->calls++;
    if (q->callbacks.dropped) {
        q->depth++;
        q->callbacks.dropped(q->callbacks.ctx, g, m->dropped->messages);
        q->depth--;
    }
    return 0;
}

static int (*const handlers[])(struct qsm *q, const Qsm__ToClient *m) = {
    [QSM__TO_CLIENT__WHAT_HELLO] = on_hello,     [QSM__TO_CLIENT__WHAT_RESULT] = on_result,
    [QSM__TO_CLIENT__WHAT_VIEW] = on_view,       [QSM__TO_CLIENT__WHAT_END] = on_end,
    [QSM__TO_CLIENT__WHAT_GRANT] = on_grant,     [QSM__TO_CLIENT__WHAT_COMPLETION] = on_completion,
    [QSM__TO_CLIENT__WHAT_STATUS] = on_status,   [QSM__TO_CLIENT__WHAT_GROUPS] = on_groups,
    [QSM__TO_CLIENT__WHAT_REGIONS] = on_regions, [QSM__TO_CLIENT__WHAT_STATS] = on_stats,
    [QSM__TO_CLIENT__WHAT_ERROR] = on_error,     [QSM__TO_CLIENT__WHAT_DROPPED] = on_dropped,
    [QSM__TO_CLIENT__WHAT_REVOKE] = on_revoke,
};

static int event_control(struct qsm *q, const struct frame *f)
{
    struct frame_pair pair;
    if (frame_read_pair(f->payload, f->payload_bytes, &pair)) {
        if (pair.field == QSM__TO_CLIENT__WHAT_COMPLETION)
            return take_completion(q, pair.id, pair.value, NULL);
        if (pair.field == QSM__TO_CLIENT__WHAT_GRANT)
            return take_grant(q, pair.id, pair.value);
    }
    arena_reset(&q->arena, CONTROL_ARENA_MAX);
    ProtobufCAllocator allocator = arena_allocator(&q->arena);
    const Qsm__ToClient *m = qsm__to_client__unpack(&allocator, f->payload_bytes, f->payload);

    if (!m)
        return malformed(q, "a control message that does not parse");
    /* A newer daemon may say what this library does not know. */
    if ((size_t)m->what_case >= sizeof(handlers) / sizeof(handlers[0]) || !handlers[m->what_case])
        return 0;
    return handlers[m->what_case](q, m);
}

int event_frame(struct qsm *q, const struct frame *f)
{
    if (f->kind == KIND_DELIVER)
        return event_deliver(q, f);
    if (f->kind == KIND_TO_CLIENT && f->header_bytes == 0)
        return event_control(q, f);
    return malformed(q, "an unknown kind");
}
