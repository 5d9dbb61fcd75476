/* session_rig: see session_rig.h. */
#include "session_rig.h"

#include <assert.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"

#define TOLD_MAX 20000

struct node rig_node;
struct upcalls rig_up;
uint64_t rig_now;

int node_open(struct node *n, const char *name, unsigned mode, uint64_t now_us, uint32_t *ret_group)
{
    (void)now_us;
    n->opens++;
    if (n->open_error)
        return n->open_error;
    uint32_t h = 0;
    while (h < n->count && strcmp(n->groups[h].name, name) != 0)
        h++;
    if (h == n->count) {
        assert(n->count < RIG_GROUPS_MAX);
        snprintf(n->groups[n->count++].name, sizeof(n->groups[h].name), "%s", name);
    }
    n->groups[h].mode |= mode;
    *ret_group = h;
    return 0;
}

void node_close(struct node *n, uint32_t group, unsigned mode, uint64_t now_us)
{
    (void)now_us;
    assert(group < n->count);
    assert((n->groups[group].mode & mode) == mode);
    n->closes++;
    n->groups[group].mode &= ~mode;
}

void node_ready(struct node *n, uint32_t group, uint64_t now_us)
{
    (void)now_us;
    assert(group < n->count);
    n->readies++;
}

unsigned node_installed(const struct node *n, uint32_t group)
{
    assert(group < n->count);
    return n->installed;
}

uint32_t node_id(const struct node *n)
{
    return n->id;
}

uint64_t node_epoch(const struct node *n)
{
    (void)n;
    return 77;
}

uint64_t node_now(const struct node *n)
{
    (void)n;
    return rig_now;
}

bool node_linked(const struct node *n)
{
    (void)n;
    return true;
}

const struct node_peer *node_find_peer(const struct node *n, uint32_t id)
{
    static char names[4][16];
    static struct node_peer peers[4];
    static unsigned next;
    (void)n;
    if (id == 0 || id > 9)
        return NULL;
    next = (next + 1) % 4;
    snprintf(names[next], sizeof(names[next]), "host%u", id);
    peers[next] = (struct node_peer){.id = id, .name = names[next]};
    return &peers[next];
}

const struct node_stats *node_stats(struct node *n)
{
    static struct node_stats stats;
    stats.messages_sent = 4711;
    stats.store_bytes = n->store_bytes;
    stats.store_bytes_max = 1000;
    stats.token_hop_us = (struct histogram){0};
    histogram_note(&stats.token_hop_us, 100);
    histogram_note(&stats.token_hop_us, 5000);
    return &stats;
}

uint64_t node_group_count(const struct node *n)
{
    return n->count;
}

uint64_t node_group_bytes(const struct node *n)
{
    return n->count * UINT64_C(1000);
}

void node_each_group(struct node *n, void (*f)(void *ctx, const struct node_group_info *),
                     void *ctx)
{
    static const uint32_t members[] = {1, 2};
    for (uint32_t i = 0; i < n->count; i++) {
        struct node_group_info info = {.name = n->groups[i].name,
                                       .gid = i + 1,
                                       .epoch = 5,
                                       .mode = n->groups[i].mode,
                                       .members = members,
                                       .member_count = 2,
                                       .region_count = 1,
                                       .sent = 9,
                                       .stable = 8};
        f(ctx, &info);
    }
}

void node_each_region(struct node *n, void (*f)(void *ctx, const struct node_region_info *),
                      void *ctx)
{
    static const uint32_t members[] = {1, 2, 3};
    struct node_region_info info = {.rid = 1,
                                    .epoch = 5,
                                    .address = 0xefc04d01,
                                    .members = members,
                                    .member_count = 3,
                                    .group_count = 4,
                                    .ours = true,
                                    .slowest = 2};
    (void)n;
    f(ctx, &info);
}

/* ---- what clients hear */

struct session *rig_session;
static struct told told[TOLD_MAX];
static size_t told_count;
bool rig_closes;
char rig_trace[8192];

static void trace_line(void *ctx, const char *line)
{
    (void)ctx;
    size_t used = strlen(rig_trace);
    snprintf(rig_trace + used, sizeof(rig_trace) - used, "%s\n", line);
}

void rig_forget(void)
{
    for (size_t i = 0; i < told_count; i++) {
        if (told[i].control)
            qsm__to_client__free_unpacked(told[i].control, NULL);
        if (told[i].deliver)
            qsm__deliver__free_unpacked(told[i].deliver, NULL);
        free(told[i].payload);
    }
    told_count = 0;
}

/* All that a client may rely on. */
static void check_deliver(const Qsm__Deliver *d, size_t payload_bytes)
{
    size_t sum = 0;
    ck_assert_uint_ge(d->count, 1);
    ck_assert_uint_le(d->count, FRAME_MESSAGES_MAX);
    ck_assert(frame_list_fits(d->n_group, d->count));
    ck_assert(frame_list_fits(d->n_bytes, d->count));
    ck_assert(frame_list_fits(d->n_sender, d->count));
    ck_assert(frame_list_fits(d->n_number, d->count));
    ck_assert(frame_list_fits(d->n_epoch, d->count));
    for (uint32_t i = 0; i < d->count; i++)
        sum += told_message(d, i).bytes;
    ck_assert_uint_eq(sum + (d->count - 1) * (size_t)d->gap, payload_bytes);
}

/* The payloads, behind one another without gaps. */
static uint8_t *copy_payloads(const Qsm__Deliver *d, const uint8_t *from, size_t payload_bytes)
{
    uint8_t *payload = malloc(payload_bytes + 1), *to = payload;
    ck_assert_ptr_nonnull(payload);
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t bytes = told_message(d, i).bytes;
        memcpy(to, from, bytes);
        to += bytes;
        from += bytes + (size_t)d->gap;
    }
    return payload;
}

struct told_message told_message(const Qsm__Deliver *d, size_t i)
{
    ck_assert_uint_lt(i, d->count);
    return (struct told_message){.group = d->group[frame_list_at(d->n_group, i)],
                                 .bytes = d->bytes[frame_list_at(d->n_bytes, i)],
                                 .sender = d->sender[frame_list_at(d->n_sender, i)],
                                 .number = d->n_number == 1 ? d->number[0] + i : d->number[i],
                                 .epoch = d->epoch[frame_list_at(d->n_epoch, i)]};
}

void rig_parse(struct client *c, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        struct frame f;
        long n = frame_parse(bytes, count, &f);
        ck_assert_int_gt(n, 0);
        ck_assert_uint_lt(told_count, TOLD_MAX);
        struct told *t = &told[told_count++];
        *t = (struct told){.client = c};
        if (f.kind == 2) {
            t->control = qsm__to_client__unpack(NULL, f.payload_bytes, f.payload);
            ck_assert_ptr_nonnull(t->control);
        } else {
            ck_assert_uint_eq(f.kind, 4);
            t->deliver = qsm__deliver__unpack(NULL, f.header_bytes, f.header);
            ck_assert_ptr_nonnull(t->deliver);
            check_deliver(t->deliver, f.payload_bytes);
            t->payload = copy_payloads(t->deliver, f.payload, f.payload_bytes);
        }
        bytes += n;
        count -= (size_t)n;
    }
}

/* Takes all the output of a client. */
void rig_take(struct client *c)
{
    static uint8_t bytes[48u << 20];
    struct iovec iov[64];
    size_t total = 0;
    int n;
    while ((n = session_output(c, iov, 64)) > 0) {
        size_t sum = 0;
        for (int i = 0; i < n; i++) {
            ck_assert_uint_le(total + sum + iov[i].iov_len, sizeof(bytes));
            memcpy(bytes + total + sum, iov[i].iov_base, iov[i].iov_len);
            sum += iov[i].iov_len;
        }
        total += sum;
        session_wrote(c, sum, rig_now);
    }
    rig_parse(c, bytes, total);
}

/* The end of a turn: reads for all clients but one that does not read. */
void rig_turn(const struct client *sleeper)
{
    struct client *c;
    bool close;
    if (session_deadline(rig_session) <= rig_now)
        session_expire(rig_session, rig_now);
    rig_forget();
    rig_closes = false;
    while ((c = session_next(rig_session, &close))) {
        rig_closes = rig_closes || close;
        if (c != sleeper)
            rig_take(c);
    }
}

/* The i-th control message of a kind that c was told, or NULL. */
Qsm__ToClient *heard(const struct client *c, Qsm__ToClient__WhatCase what, unsigned i)
{
    for (size_t k = 0; k < told_count; k++) {
        if (told[k].client == c && told[k].control &&
            (what == WHAT(_NOT_SET) || told[k].control->what_case == what) && i-- == 0)
            return told[k].control;
    }
    return NULL;
}

const struct told *heard_any(const struct client *c, unsigned i)
{
    for (size_t k = 0; k < told_count; k++) {
        if (told[k].client == c && i-- == 0)
            return &told[k];
    }
    return NULL;
}

const struct told *delivered(const struct client *c, unsigned i)
{
    for (size_t k = 0; k < told_count; k++) {
        if (told[k].client == c && told[k].deliver && i-- == 0)
            return &told[k];
    }
    return NULL;
}

/* ---- what clients say */

long rig_say(struct client *c, const uint8_t *bytes, size_t count)
{
    size_t done = 0;
    while (done < count) {
        long n = session_receive(c, bytes + done, count - done, rig_now);
        if (n <= 0)
            return n;
        done += (size_t)n;
    }
    return (long)done;
}

size_t rig_control(uint8_t *out, const Qsm__ToDaemon *m)
{
    size_t body = qsm__to_daemon__pack(m, out + FRAME_HEAD_BYTES);
    frame_write_head(out, 1, 0, body);
    return FRAME_HEAD_BYTES + body;
}

uint8_t rig_frame[RIG_FRAME_BYTES];

long say_control(struct client *c, Qsm__ToDaemon__WhatCase what, void *message)
{
    Qsm__ToDaemon m = QSM__TO_DAEMON__INIT;
    m.what_case = what;
    m.hello = message;
    return rig_say(c, rig_frame, rig_control(rig_frame, &m));
}

long say_hello(struct client *c)
{
    Qsm__ClientHello h = QSM__CLIENT_HELLO__INIT;
    h.version = 1;
    h.program = (char *)"test";
    return say_control(c, QSM__TO_DAEMON__WHAT_HELLO, &h);
}

long say_open(struct client *c, uint64_t request, uint32_t id, const char *name, int mode)
{
    Qsm__OpenGroup g = QSM__OPEN_GROUP__INIT, *list[1] = {&g};
    Qsm__OpenGroups m = QSM__OPEN_GROUPS__INIT;
    g.id = id;
    g.name = (char *)(uintptr_t)name;
    g.recv = (mode & RECV) != 0;
    g.send = (mode & SEND) != 0;
    g.no_echo = (mode & NO_ECHO) != 0;
    g.latest = (mode & LATEST) != 0;
    m.request = request;
    m.n_group = 1;
    m.group = list;
    return say_control(c, QSM__TO_DAEMON__WHAT_OPEN, &m);
}

long say_close(struct client *c, uint64_t request, uint32_t id, int mode)
{
    Qsm__CloseGroup g = QSM__CLOSE_GROUP__INIT, *list[1] = {&g};
    Qsm__CloseGroups m = QSM__CLOSE_GROUPS__INIT;
    g.id = id;
    g.recv = (mode & RECV) != 0;
    g.send = (mode & SEND) != 0;
    m.request = request;
    m.n_group = 1;
    m.group = list;
    return say_control(c, QSM__TO_DAEMON__WHAT_CLOSE, &m);
}

long say_hold(struct client *c, uint64_t request, const char *join, const char *leave)
{
    char *joins[1] = {(char *)(uintptr_t)join}, *leaves[1] = {(char *)(uintptr_t)leave};
    Qsm__Hold m = QSM__HOLD__INIT;
    m.request = request;
    m.n_join = join != NULL;
    m.join = joins;
    m.n_leave = leave != NULL;
    m.leave = leaves;
    return say_control(c, QSM__TO_DAEMON__WHAT_HOLD, &m);
}

long say_ask(struct client *c, uint64_t request, Qsm__Question question, const char *name)
{
    Qsm__Ask m = QSM__ASK__INIT;
    m.request = request;
    m.question = question;
    m.name = (char *)(uintptr_t)name;
    return say_control(c, QSM__TO_DAEMON__WHAT_ASK, &m);
}

long say_messages(struct client *c, const Qsm__Submit *m, size_t payload, int byte)
{
    size_t header = qsm__submit__pack(m, rig_frame + FRAME_HEAD_BYTES);
    frame_write_head(rig_frame, 3, header, payload);
    memset(rig_frame + FRAME_HEAD_BYTES + header, byte, payload);
    return rig_say(c, rig_frame, FRAME_HEAD_BYTES + header + payload);
}

/* count messages of the same size and byte. */
long say_submit(struct client *c, uint32_t id, unsigned count, uint32_t bytes, int byte)
{
    Qsm__Submit m = QSM__SUBMIT__INIT;
    m.count = count;
    m.n_group = m.n_bytes = 1;
    m.group = &id;
    m.bytes = &bytes;
    return say_messages(c, &m, (size_t)count * bytes, byte);
}

long say_need(struct client *c, uint32_t id, uint64_t bytes)
{
    Qsm__NeedGrant n = QSM__NEED_GRANT__INIT, *list[1] = {&n};
    Qsm__Submit m = QSM__SUBMIT__INIT;
    n.id = id;
    n.bytes = bytes;
    m.n_need = 1;
    m.need = list;
    return say_messages(c, &m, 0, 0);
}

/* ---- what the core says */

uint32_t rig_handle(const char *name)
{
    for (uint32_t h = 0; h < rig_node.count; h++) {
        if (strcmp(rig_node.groups[h].name, name) == 0)
            return h;
    }
    return UINT32_MAX;
}

void core_event(const char *name, enum group_event_kind kind, uint64_t epoch)
{
    static const uint32_t members[] = {1, 2};
    struct group_event e = {.kind = kind,
                            .group = rig_handle(name),
                            .epoch = epoch,
                            .members = members,
                            .member_count = 2,
                            .reason = "regions_max"};
    rig_up.group(rig_up.ctx, &e);
}

void core_delivers(const char *name, uint32_t sender, uint64_t number, const void *data,
                   uint32_t bytes)
{
    struct buf *body = buf_copy(data, bytes);
    struct delivery d = {.group = rig_handle(name),
                         .sender = sender,
                         .number = number,
                         .epoch = 5,
                         .body = body,
                         .data = body->data,
                         .bytes = bytes};
    rig_up.deliver(rig_up.ctx, &d);
    buf_unref(body);
}

/* Pulls one message; returns its first byte, 0 when it is empty, -1 when the feed is dry. */
int core_pulls(const char *name, uint64_t number)
{
    struct message m;
    if (!rig_up.pull(rig_up.ctx, rig_handle(name), number, 0, &m))
        return -1;
    int byte = m.bytes > 0 ? m.data[0] : 0;
    buf_unref(m.body);
    return byte;
}

void core_stable(const char *name, uint64_t number, bool lost)
{
    rig_up.stable(rig_up.ctx, rig_handle(name), number, lost);
}

/* ---- setting up */

struct session_config config_default(void)
{
    return (struct session_config){.queue_bytes = 1u << 20,
                                   .queue_messages = 10000,
                                   .queue_age_us = 2 * SECOND,
                                   .clients_max = 8,
                                   .connections_per_uid = 6,
                                   .groups_per_client = 8192,
                                   .grant_bytes = 256u << 20,
                                   .grant_bytes_all = 1u << 30,
                                   .version = "1.0",
                                   .host = "here",
                                   .trace_line = trace_line};
}

void rig_begin_with(const struct session_config *config)
{
    memset(&rig_node, 0, sizeof(rig_node));
    rig_node.id = 1;
    rig_now = SECOND;
    rig_trace[0] = '\0';
    rig_session = session_new(config);
    rig_up = session_upcalls(rig_session);
    session_attach(rig_session, &rig_node);
}

void rig_begin(void)
{
    struct session_config config = config_default();
    rig_begin_with(&config);
}

void rig_end(struct client *a, struct client *b)
{
    if (a)
        session_disconnect(rig_session, a, rig_now);
    if (b)
        session_disconnect(rig_session, b, rig_now);
    rig_forget();
    session_free(rig_session);
    rig_session = NULL;
}

struct client *connect_client(void)
{
    int error;
    struct client *c = session_connect(rig_session, 1000, 1, rig_now, &error);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_gt(say_hello(c), 0);
    rig_turn(NULL);
    ck_assert_ptr_nonnull(heard(c, WHAT(HELLO), 0));
    return c;
}

/* A client with a group open whose node is in the view and may send. */
struct client *client_in(const char *name, int mode)
{
    struct client *c = connect_client();
    ck_assert_int_gt(say_open(c, 1, 1, name, mode), 0);
    if (mode & RECV)
        core_event(name, GROUP_VIEW, 5);
    if (mode & SEND)
        core_event(name, GROUP_SENDABLE, 5);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    return c;
}

const char *error_of(const struct client *c)
{
    static char text[512];
    Qsm__ToClient *m = heard(c, WHAT(ERROR), 0);
    if (!m)
        return "";
    snprintf(text, sizeof(text), "%s: %s", m->error->where, m->error->what);
    return text;
}
