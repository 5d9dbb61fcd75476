/* Tests of daemon/session: real session, a node that is a few arrays. The tests say what the core
 * would say, write frames as a client does, and read what comes out. */
#include <assert.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/node.h"
#include "frame.h"
#include "ipc.pb-c.h"
#include "session.h"
#include "suites.h"

#define GROUPS_MAX 9000
#define TOLD_MAX 20000
#define SECOND 1000000u

/* ---- the node */

struct fake_group {
    char name[300];
    unsigned mode;
};
struct node {
    struct fake_group groups[GROUPS_MAX];
    uint32_t count, id;
    unsigned opens, closes, readies;
    int open_error;
};
static struct node fake;
static struct upcalls up;
static uint64_t now;

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
        assert(n->count < GROUPS_MAX);
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

uint32_t node_id(const struct node *n)
{
    return n->id;
}

uint64_t node_epoch(const struct node *n)
{
    (void)n;
    return 77;
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
    (void)n;
    stats.messages_sent = 4711;
    return &stats;
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

struct told {
    struct client *client;
    Qsm__ToClient *control; /* or */
    Qsm__Deliver *deliver;
    uint8_t *payload;
};

static struct session *s;
static struct told told[TOLD_MAX];
static size_t told_count;
static bool told_close;
static char trace_text[8192];

static void trace_line(void *ctx, const char *line)
{
    (void)ctx;
    size_t used = strlen(trace_text);
    snprintf(trace_text + used, sizeof(trace_text) - used, "%s\n", line);
}

static void forget(void)
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

static void parse_output(struct client *c, const uint8_t *bytes, size_t count)
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
            t->payload = malloc(f.payload_bytes + 1);
            memcpy(t->payload, f.payload, f.payload_bytes);
        }
        bytes += n;
        count -= (size_t)n;
    }
}

/* Takes all the output of a client. */
static void take(struct client *c)
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
        session_wrote(c, sum, now);
    }
    parse_output(c, bytes, total);
}

/* The end of a turn: reads for all clients but one that does not read. */
static void turn(const struct client *sleeper)
{
    struct client *c;
    bool close;
    if (session_deadline(s) <= now)
        session_expire(s, now);
    forget();
    told_close = false;
    while ((c = session_next(s, &close))) {
        told_close = told_close || close;
        if (c != sleeper)
            take(c);
    }
}

/* The i-th control message of a kind that c was told, or NULL. */
static Qsm__ToClient *heard(const struct client *c, Qsm__ToClient__WhatCase what, unsigned i)
{
    for (size_t k = 0; k < told_count; k++) {
        if (told[k].client == c && told[k].control && told[k].control->what_case == what &&
            i-- == 0)
            return told[k].control;
    }
    return NULL;
}

static const struct told *delivered(const struct client *c, unsigned i)
{
    for (size_t k = 0; k < told_count; k++) {
        if (told[k].client == c && told[k].deliver && i-- == 0)
            return &told[k];
    }
    return NULL;
}

#define WHAT(name) QSM__TO_CLIENT__WHAT_##name

/* ---- what clients say */

static long say(struct client *c, const uint8_t *bytes, size_t count)
{
    size_t done = 0;
    while (done < count) {
        long n = session_receive(c, bytes + done, count - done, now);
        if (n <= 0)
            return n;
        done += (size_t)n;
    }
    return (long)done;
}

static size_t control_frame(uint8_t *out, const Qsm__ToDaemon *m)
{
    size_t body = qsm__to_daemon__pack(m, out + FRAME_HEAD_BYTES);
    frame_write_head(out, 1, 0, body);
    return FRAME_HEAD_BYTES + body;
}

static uint8_t frame_bytes[40u << 20];

static long say_control(struct client *c, Qsm__ToDaemon__WhatCase what, void *message)
{
    Qsm__ToDaemon m = QSM__TO_DAEMON__INIT;
    m.what_case = what;
    m.hello = message;
    return say(c, frame_bytes, control_frame(frame_bytes, &m));
}

static long say_hello(struct client *c)
{
    Qsm__ClientHello h = QSM__CLIENT_HELLO__INIT;
    h.version = 1;
    h.program = (char *)"test";
    return say_control(c, QSM__TO_DAEMON__WHAT_HELLO, &h);
}

enum { RECV = 1, SEND = 2, NO_ECHO = 4 };

static long say_open(struct client *c, uint64_t request, uint32_t id, const char *name, int mode)
{
    Qsm__OpenGroup g = QSM__OPEN_GROUP__INIT, *list[1] = {&g};
    Qsm__OpenGroups m = QSM__OPEN_GROUPS__INIT;
    g.id = id;
    g.name = (char *)(uintptr_t)name;
    g.recv = (mode & RECV) != 0;
    g.send = (mode & SEND) != 0;
    g.no_echo = (mode & NO_ECHO) != 0;
    m.request = request;
    m.n_group = 1;
    m.group = list;
    return say_control(c, QSM__TO_DAEMON__WHAT_OPEN, &m);
}

static long say_close(struct client *c, uint64_t request, uint32_t id, int mode)
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

static long say_hold(struct client *c, uint64_t request, const char *join, const char *leave)
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

static long say_ask(struct client *c, uint64_t request, Qsm__Question question, const char *name)
{
    Qsm__Ask m = QSM__ASK__INIT;
    m.request = request;
    m.question = question;
    m.name = (char *)(uintptr_t)name;
    return say_control(c, QSM__TO_DAEMON__WHAT_ASK, &m);
}

/* count messages of the same size and byte. */
static long say_submit(struct client *c, uint32_t id, unsigned count, uint32_t bytes, int byte)
{
    static uint32_t groups[70000], sizes[70000];
    Qsm__Submit m = QSM__SUBMIT__INIT;
    for (unsigned i = 0; i < count; i++) {
        groups[i] = id;
        sizes[i] = bytes;
    }
    m.n_group = m.n_bytes = count;
    m.group = groups;
    m.bytes = sizes;
    size_t header = qsm__submit__pack(&m, frame_bytes + FRAME_HEAD_BYTES);
    size_t payload = (size_t)count * bytes;
    frame_write_head(frame_bytes, 3, header, payload);
    memset(frame_bytes + FRAME_HEAD_BYTES + header, byte, payload);
    return say(c, frame_bytes, FRAME_HEAD_BYTES + header + payload);
}

static long say_need(struct client *c, uint32_t id, uint64_t bytes)
{
    Qsm__NeedGrant n = QSM__NEED_GRANT__INIT, *list[1] = {&n};
    Qsm__Submit m = QSM__SUBMIT__INIT;
    n.id = id;
    n.bytes = bytes;
    m.n_need = 1;
    m.need = list;
    size_t header = qsm__submit__pack(&m, frame_bytes + FRAME_HEAD_BYTES);
    frame_write_head(frame_bytes, 3, header, 0);
    return say(c, frame_bytes, FRAME_HEAD_BYTES + header);
}

/* ---- what the core says */

static uint32_t handle_of(const char *name)
{
    for (uint32_t h = 0; h < fake.count; h++) {
        if (strcmp(fake.groups[h].name, name) == 0)
            return h;
    }
    return UINT32_MAX;
}

static void core_event(const char *name, enum group_event_kind kind, uint64_t epoch)
{
    static const uint32_t members[] = {1, 2};
    struct group_event e = {.kind = kind,
                            .group = handle_of(name),
                            .epoch = epoch,
                            .members = members,
                            .member_count = 2,
                            .reason = "regions_max"};
    up.group(up.ctx, &e);
}

static void core_delivers(const char *name, uint32_t sender, uint64_t number, const void *data,
                          uint32_t bytes)
{
    struct buf *body = buf_copy(data, bytes);
    struct delivery d = {.group = handle_of(name),
                         .sender = sender,
                         .number = number,
                         .epoch = 5,
                         .body = body,
                         .data = body->data,
                         .bytes = bytes};
    up.deliver(up.ctx, &d);
    buf_unref(body);
}

/* Pulls one message; returns its first byte, 0 when it is empty, -1 when the feed is dry. */
static int core_pulls(const char *name, uint64_t number)
{
    struct message m;
    if (!up.pull(up.ctx, handle_of(name), number, &m))
        return -1;
    int byte = m.bytes > 0 ? m.data[0] : 0;
    buf_unref(m.body);
    return byte;
}

static void core_stable(const char *name, uint64_t number, bool lost)
{
    up.stable(up.ctx, handle_of(name), number, lost);
}

/* ---- setting up */

static struct session_config config_default(void)
{
    return (struct session_config){.queue_bytes = 1u << 20,
                                   .queue_messages = 10000,
                                   .queue_age_us = 2 * SECOND,
                                   .clients_max = 8,
                                   .connections_per_uid = 6,
                                   .groups_per_client = 8192,
                                   .version = "1.0",
                                   .host = "here",
                                   .trace_line = trace_line};
}

static void begin_with(const struct session_config *config)
{
    memset(&fake, 0, sizeof(fake));
    fake.id = 1;
    now = SECOND;
    trace_text[0] = '\0';
    s = session_new(config);
    up = session_upcalls(s);
    session_attach(s, &fake);
}

static void begin(void)
{
    struct session_config config = config_default();
    begin_with(&config);
}

static void end(struct client *a, struct client *b)
{
    if (a)
        session_disconnect(s, a, now);
    if (b)
        session_disconnect(s, b, now);
    forget();
    session_free(s);
    s = NULL;
}

static struct client *connect_client(void)
{
    int error;
    struct client *c = session_connect(s, 1000, 1, now, &error);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_gt(say_hello(c), 0);
    turn(NULL);
    ck_assert_ptr_nonnull(heard(c, WHAT(HELLO), 0));
    return c;
}

/* A client with a group open whose node is in the view and may send. */
static struct client *client_in(const char *name, int mode)
{
    struct client *c = connect_client();
    ck_assert_int_gt(say_open(c, 1, 1, name, mode), 0);
    if (mode & RECV)
        core_event(name, GROUP_VIEW, 5);
    if (mode & SEND)
        core_event(name, GROUP_SENDABLE, 5);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    return c;
}

static const char *error_of(const struct client *c)
{
    static char text[512];
    Qsm__ToClient *m = heard(c, WHAT(ERROR), 0);
    if (!m)
        return "";
    snprintf(text, sizeof(text), "%s: %s", m->error->where, m->error->what);
    return text;
}

/* ---- connections */

START_TEST(a_hello_is_answered_with_who_the_daemon_is)
{
    begin();
    int error;
    struct client *c = session_connect(s, 1000, 1, now, &error);
    ck_assert_int_gt(say_hello(c), 0);
    turn(NULL);
    Qsm__DaemonHello *h = heard(c, WHAT(HELLO), 0)->hello;
    ck_assert_str_eq(h->host, "here");
    ck_assert_str_eq(h->daemon_version, "1.0");
    ck_assert(h->admitted);
    ck_assert_uint_eq(h->node_id, 1);
    ck_assert_int_eq(say_hello(c), -EPROTO);
    turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 2: ClientHello: said a second time");
    ck_assert(told_close);
    end(c, NULL);
}
END_TEST

START_TEST(nothing_is_done_before_a_hello)
{
    begin();
    int error;
    struct client *c = session_connect(s, 1000, 1, now, &error);
    ck_assert_int_eq(say_open(c, 1, 1, "a", RECV), -EPROTO);
    turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 1: ToDaemon.what: came before a ClientHello");
    end(c, NULL);
}
END_TEST

START_TEST(clients_hear_when_the_node_is_admitted_under_another_id)
{
    begin();
    struct client *c = connect_client();
    fake.id = 4;
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(HELLO), 0)->hello->node_id, 4);
    end(c, NULL);
}
END_TEST

START_TEST(quotas_of_connections_hold)
{
    begin();
    struct client *c[8];
    int error;
    for (int i = 0; i < 6; i++)
        c[i] = session_connect(s, 1000, 1, now, &error);
    ck_assert_ptr_null(session_connect(s, 1000, 1, now, &error));
    ck_assert_int_eq(error, -EDQUOT);
    c[6] = session_connect(s, 1001, 1, now, &error);
    c[7] = session_connect(s, 1001, 1, now, &error);
    ck_assert_ptr_null(session_connect(s, 1002, 1, now, &error));
    ck_assert_int_eq(error, -EMFILE);
    for (int i = 0; i < 8; i++)
        session_disconnect(s, c[i], now);
    end(NULL, NULL);
}
END_TEST

/* ---- groups */

START_TEST(one_request_opens_8192_groups_and_gets_one_result)
{
    begin();
    struct client *c = connect_client();
    static Qsm__OpenGroup groups[8192];
    static Qsm__OpenGroup *list[8192];
    static char names[8192][8];
    Qsm__OpenGroups m = QSM__OPEN_GROUPS__INIT;
    for (uint32_t i = 0; i < 8192; i++) {
        qsm__open_group__init(&groups[i]);
        snprintf(names[i], sizeof(names[i]), "g%u", i);
        groups[i].id = i;
        groups[i].name = names[i];
        groups[i].recv = true;
        list[i] = &groups[i];
    }
    m.request = 9;
    m.n_group = 8192;
    m.group = list;
    ck_assert_int_gt(say_control(c, QSM__TO_DAEMON__WHAT_OPEN, &m), 0);
    ck_assert_uint_eq(fake.opens, 8192);
    for (uint32_t i = 0; i < 8191; i++)
        core_event(names[i], GROUP_VIEW, 5);
    turn(NULL);
    ck_assert_ptr_nonnull(heard(c, WHAT(VIEW), 8190));
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event(names[8191], GROUP_VIEW, 5);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(RESULT), 0)->result->request, 9);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    /* One more is over the quota, and nothing else happens. */
    ck_assert_int_gt(say_open(c, 10, 8192, "more", RECV), 0);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EDQUOT);
    ck_assert_uint_eq(fake.opens, 8192);
    end(c, NULL);
}
END_TEST

START_TEST(a_group_is_opened_for_the_first_receiver_and_closed_after_the_last)
{
    begin();
    struct client *a = client_in("g", RECV), *b = connect_client();
    ck_assert_int_gt(say_open(b, 2, 7, "g", RECV), 0);
    turn(NULL);
    ck_assert_uint_eq(fake.opens, 1);
    ck_assert_uint_eq(heard(b, WHAT(VIEW), 0)->view->epoch, 5);
    ck_assert_int_eq(heard(b, WHAT(RESULT), 0)->result->error, 0);
    say_close(a, 3, 1, RECV);
    turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->why, 1);
    ck_assert_uint_eq(fake.closes, 0);
    say_close(b, 3, 7, RECV);
    ck_assert_uint_eq(fake.closes, 1);
    end(a, b);
}
END_TEST

START_TEST(a_view_names_its_members_once_per_connection)
{
    begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", RECV);
    core_event("g", GROUP_VIEW, 5);
    core_event("g", GROUP_VIEW, 6);
    turn(NULL);
    Qsm__ViewEvent *first = heard(c, WHAT(VIEW), 0)->view, *second = heard(c, WHAT(VIEW), 1)->view;
    ck_assert_uint_eq(first->n_member, 2);
    ck_assert_str_eq(first->member[1]->host, "host2");
    ck_assert_uint_eq(second->epoch, 6);
    ck_assert_uint_eq(second->member[1]->node, 2);
    ck_assert_str_eq(second->member[1]->host, "");
    end(c, NULL);
}
END_TEST

START_TEST(who_joins_while_the_node_leaves_waits_until_it_has_left)
{
    begin();
    struct client *c = client_in("g", RECV);
    say_close(c, 2, 1, RECV);
    ck_assert_uint_eq(fake.groups[0].mode, 0);
    say_open(c, 3, 2, "g", RECV);
    turn(NULL);
    ck_assert_uint_eq(fake.opens, 1);
    ck_assert_ptr_null(heard(c, WHAT(VIEW), 0));
    core_event("g", GROUP_LEFT, 6);
    turn(NULL);
    ck_assert_uint_eq(fake.opens, 2);
    core_event("g", GROUP_VIEW, 7);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(VIEW), 0)->view->id, 2);
    ck_assert_uint_eq(heard(c, WHAT(RESULT), 0)->result->request, 3);
    end(c, NULL);
}
END_TEST

START_TEST(a_refusal_is_the_result_of_the_request)
{
    begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", RECV | SEND);
    core_event("g", GROUP_REFUSED, 0);
    turn(NULL);
    ck_assert_int_lt(heard(c, WHAT(RESULT), 0)->result->error, 0);
    ck_assert_str_eq(heard(c, WHAT(RESULT), 0)->result->text, "regions_max");
    ck_assert_uint_eq(fake.groups[0].mode, 0);
    /* What was on its way to it has an unknown end. */
    say_submit(c, 1, 2, 10, 'x');
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 1)->completion->k, 2);
    ck_assert(heard(c, WHAT(COMPLETION), 0)->completion->lost);
    end(c, NULL);
}
END_TEST

START_TEST(a_node_that_cannot_open_more_says_so)
{
    begin();
    struct client *c = connect_client();
    fake.open_error = -ENOSPC;
    say_open(c, 1, 1, "g", RECV);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ENOSPC);
    end(c, NULL);
}
END_TEST

START_TEST(bad_names_and_ids_are_named)
{
    begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "two words", RECV);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EINVAL);
    say_open(c, 2, 1, "a", RECV);
    ck_assert_int_eq(say_open(c, 3, 1, "b", RECV), -EEXIST);
    turn(NULL);
    ck_assert_str_eq(error_of(c),
                     "frame 4: OpenGroups.group[0].id: is the id of another group that is open");
    end(c, NULL);
}
END_TEST

START_TEST(the_node_holds_a_membership_beyond_the_connection)
{
    begin();
    struct client *c = connect_client();
    say_hold(c, 1, "g", NULL);
    turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event("g", GROUP_VIEW, 5);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    ck_assert_ptr_null(heard(c, WHAT(VIEW), 0));
    core_delivers("g", 2, 1, "x", 1); /* nobody wants it */
    session_disconnect(s, c, now);
    ck_assert_uint_eq(fake.groups[0].mode, NODE_RECV);
    c = connect_client();
    say_hold(c, 2, NULL, "g");
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, 0);
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event("g", GROUP_LEFT, 6);
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    say_hold(c, 3, NULL, "g");
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ENOENT);
    end(c, NULL);
}
END_TEST

START_TEST(a_group_stays_open_to_send_for_60_s_after_its_last_sender)
{
    begin();
    struct client *c = client_in("g", SEND);
    say_close(c, 2, 1, SEND);
    turn(NULL);
    ck_assert_uint_eq(session_deadline(s), now + 60 * SECOND);
    now += 59 * SECOND;
    say_open(c, 3, 1, "g", SEND); /* again: at once, with no view change */
    turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    session_disconnect(s, c, now);
    now += 59 * SECOND;
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, NODE_SEND);
    now += SECOND;
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, 0);
    ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
    end(NULL, NULL);
}
END_TEST

/* ---- sending */

START_TEST(grants_are_renewed_by_the_quarter_as_messages_leave)
{
    begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", SEND);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    core_event("g", GROUP_SENDABLE, 5);
    ck_assert_int_gt(say_submit(c, 1, 16, 1008, 'x'), 0); /* 1024 each: a quarter */
    turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    for (uint64_t n = 1; n <= 15; n++)
        core_pulls("g", n);
    turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    core_pulls("g", 16);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, 16384);
    end(c, NULL);
}
END_TEST

START_TEST(more_than_was_granted_closes_the_connection)
{
    begin();
    struct client *c = client_in("g", SEND);
    ck_assert_int_gt(say_submit(c, 1, 64, 1008, 'x'), 0);
    ck_assert_int_eq(say_submit(c, 1, 1, 0, 'x'), -EDQUOT);
    turn(NULL);
    ck_assert_str_eq(error_of(c),
                     "frame 4: Submit.bytes[0] = 0: is more than was granted for the group");
    ck_assert(told_close);
    end(c, NULL);
}
END_TEST

START_TEST(a_large_message_gets_a_grant_of_its_own_once_the_queue_is_empty)
{
    begin();
    struct client *c = client_in("g", SEND);
    ck_assert_int_gt(say_submit(c, 1, 1, 100, 'a'), 0);
    ck_assert_int_gt(say_need(c, 1, (16u << 20) + 16), 0);
    turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, (16u << 20) + 16 - 65536 + 116);
    ck_assert_int_gt(say_submit(c, 1, 1, 16u << 20, 'b'), 0);
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    turn(NULL);
    ck_assert_uint_ge(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    end(c, NULL);
}
END_TEST

START_TEST(clients_of_a_group_take_turns)
{
    begin();
    struct client *a = client_in("g", SEND), *b = connect_client();
    say_open(b, 1, 1, "g", SEND);
    turn(NULL);
    say_submit(a, 1, 3, 10, 'a');
    say_submit(b, 1, 2, 10, 'b');
    char order[8] = "";
    for (uint64_t n = 1; n <= 5; n++)
        order[n - 1] = (char)core_pulls("g", n);
    ck_assert_str_eq(order, "ababa");
    ck_assert_int_eq(core_pulls("g", 6), -1);
    ck_assert_uint_ge(fake.readies, 1);
    /* Completions follow who submitted what, once per turn and cumulative. */
    core_stable("g", 1, false);
    core_stable("g", 4, false);
    turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(COMPLETION), 0)->completion->k, 2);
    ck_assert_ptr_null(heard(a, WHAT(COMPLETION), 1));
    ck_assert_uint_eq(heard(b, WHAT(COMPLETION), 0)->completion->k, 2);
    core_stable("g", 5, false);
    turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(COMPLETION), 0)->completion->k, 3);
    ck_assert_ptr_null(heard(b, WHAT(COMPLETION), 0));
    end(a, b);
}
END_TEST

START_TEST(what_was_accepted_goes_out_though_its_client_is_gone)
{
    begin();
    struct client *c = client_in("g", SEND);
    say_submit(c, 1, 2, 10, 'a');
    session_disconnect(s, c, now);
    now += 100 * SECOND;
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, NODE_SEND);
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    ck_assert_int_eq(core_pulls("g", 2), 'a');
    ck_assert_int_eq(core_pulls("g", 3), -1);
    now += 100 * SECOND;
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, NODE_SEND); /* not stable yet */
    core_stable("g", 2, false);
    turn(NULL);
    now += 60 * SECOND;
    turn(NULL);
    ck_assert_uint_eq(fake.groups[0].mode, 0);
    end(NULL, NULL);
}
END_TEST

START_TEST(a_group_opened_again_sends_what_was_queued_before_first)
{
    begin();
    struct client *c = client_in("g", SEND);
    say_submit(c, 1, 1, 10, 'a');
    say_close(c, 2, 1, SEND);
    say_open(c, 3, 5, "g", SEND);
    turn(NULL);
    say_submit(c, 5, 1, 10, 'b');
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    core_stable("g", 2, false);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->id, 5);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 1);
    end(c, NULL);
}
END_TEST

START_TEST(completions_come_after_the_close_too)
{
    begin();
    struct client *c = client_in("g", SEND);
    say_submit(c, 1, 3, 10, 'a');
    core_pulls("g", 1);
    say_close(c, 2, 1, SEND);
    core_pulls("g", 2);
    core_pulls("g", 3);
    core_stable("g", 3, false);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 3);
    end(c, NULL);
}
END_TEST

/* ---- receiving */

START_TEST(messages_arrive_in_frames_of_64_with_all_that_names_them)
{
    begin();
    struct client *c = client_in("g", RECV);
    for (uint64_t n = 1; n <= 65; n++)
        core_delivers("g", n % 2 ? 2 : 3, n, &n, sizeof(n));
    turn(NULL);
    const struct told *t = delivered(c, 0);
    ck_assert_uint_eq(t->deliver->n_group, 64);
    ck_assert_uint_eq(t->deliver->group[63], 1);
    ck_assert_uint_eq(t->deliver->bytes[63], 8);
    ck_assert_uint_eq(t->deliver->sender[63], 3);
    ck_assert_uint_eq(t->deliver->number[63], 64);
    ck_assert_uint_eq(t->deliver->epoch[63], 5);
    uint64_t n = 64;
    ck_assert_mem_eq(t->payload + 63 * 8, &n, 8);
    /* host2 is known from the view. */
    ck_assert_uint_eq(t->deliver->n_host, 1);
    ck_assert_str_eq(t->deliver->host[0]->host, "host3");
    ck_assert_uint_eq(delivered(c, 1)->deliver->n_group, 1);
    ck_assert_uint_eq(delivered(c, 1)->deliver->n_host, 0);
    end(c, NULL);
}
END_TEST

START_TEST(large_payloads_are_referenced_and_small_ones_are_copied)
{
    begin();
    struct client *c = client_in("g", RECV);
    struct buf *body = buf_new(100000);
    memset(body->data, 'L', body->size);
    struct delivery d = {.group = 0,
                         .sender = 2,
                         .number = 1,
                         .epoch = 5,
                         .body = body,
                         .data = body->data + 5,
                         .bytes = 20000};
    core_delivers("g", 2, 1, "small", 5);
    up.deliver(up.ctx, &d);
    core_delivers("g", 2, 3, "tiny", 4);
    bool close;
    ck_assert_ptr_eq(session_next(s, &close), c);
    struct iovec iov[8];
    int count = session_output(c, iov, 8);
    bool found = false;
    for (int i = 0; i < count; i++)
        found = found || (iov[i].iov_base == body->data + 5 && iov[i].iov_len == 20000);
    ck_assert(found);
    ck_assert_uint_eq(body->refs, 2);
    forget();
    take(c);
    ck_assert_uint_eq(body->refs, 1);
    ck_assert_mem_eq(delivered(c, 0)->payload, "smallLLL", 8);
    ck_assert_mem_eq(delivered(c, 0)->payload + 20004, "Ltiny", 5);
    buf_unref(body);
    end(c, NULL);
}
END_TEST

START_TEST(output_survives_writes_that_are_cut_anywhere)
{
    begin();
    struct client *c = client_in("g", RECV);
    static uint8_t all[1u << 20];
    size_t total = 0;
    unsigned seed = 7;
    for (uint64_t n = 1; n <= 300; n++) {
        char text[6000];
        uint32_t bytes = (uint32_t)(n * 37 % 6000);
        memset(text, (int)n, sizeof(text));
        core_delivers("g", 2, n, text, bytes);
        bool close;
        session_next(s, &close);
        struct iovec iov[3];
        int count = session_output(c, iov, 3);
        size_t want = (size_t)(seed = seed * 1103515245u + 12345) % 9000, done = 0;
        for (int i = 0; i < count && done < want; i++) {
            size_t part = iov[i].iov_len < want - done ? iov[i].iov_len : want - done;
            memcpy(all + total + done, iov[i].iov_base, part);
            done += part;
        }
        session_wrote(c, done, now);
        total += done;
    }
    struct iovec iov[1];
    while (session_output(c, iov, 1) == 1) {
        memcpy(all + total, iov[0].iov_base, iov[0].iov_len);
        total += iov[0].iov_len;
        session_wrote(c, iov[0].iov_len, now);
    }
    forget();
    parse_output(c, all, total);
    uint64_t n = 0;
    for (unsigned i = 0; delivered(c, i); i++) {
        const struct told *t = delivered(c, i);
        const uint8_t *at = t->payload;
        for (size_t k = 0; k < t->deliver->n_group; k++) {
            ck_assert_uint_eq(t->deliver->number[k], ++n);
            ck_assert_uint_eq(t->deliver->bytes[k], n * 37 % 6000);
            for (uint32_t b = 0; b < t->deliver->bytes[k]; b++)
                ck_assert_uint_eq(at[b], (uint8_t)n);
            at += t->deliver->bytes[k];
        }
    }
    ck_assert_uint_eq(n, 300);
    end(c, NULL);
}
END_TEST

START_TEST(a_client_may_do_without_its_own_messages)
{
    begin();
    struct client *a = client_in("g", RECV | SEND | NO_ECHO), *b = connect_client();
    say_open(b, 1, 1, "g", RECV | SEND | NO_ECHO);
    turn(NULL);
    say_submit(a, 1, 1, 1, 'a');
    say_submit(b, 1, 1, 1, 'b');
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    core_delivers("g", 1, 1, "a", 1);
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    core_delivers("g", 1, 2, "b", 1);
    turn(NULL);
    ck_assert_uint_eq(delivered(a, 0)->deliver->n_group, 1);
    ck_assert_int_eq(delivered(a, 0)->payload[0], 'b');
    ck_assert_uint_eq(delivered(b, 0)->deliver->n_group, 1);
    ck_assert_int_eq(delivered(b, 0)->payload[0], 'a');
    end(a, b);
}
END_TEST

START_TEST(a_later_local_client_starts_after_what_was_delivered)
{
    begin();
    struct client *a = client_in("g", RECV);
    core_delivers("g", 2, 1, "x", 1);
    core_delivers("g", 3, 1, "x", 1);
    struct client *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    core_delivers("g", 2, 2, "y", 1);
    turn(NULL);
    ck_assert_uint_eq(delivered(b, 0)->deliver->n_group, 1);
    ck_assert_uint_eq(delivered(b, 0)->deliver->number[0], 2);
    /* Positions name only who was delivered to this subscription. */
    say_close(a, 2, 1, RECV);
    say_close(b, 2, 1, RECV);
    turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->n_position, 2);
    Qsm__EndEvent *e = heard(b, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->n_position, 1);
    ck_assert_uint_eq(e->position[0]->node, 2);
    ck_assert_uint_eq(e->position[0]->number, 2);
    end(a, b);
}
END_TEST

START_TEST(who_does_not_read_ends_slow_and_costs_only_itself)
{
    struct session_config config = config_default();
    config.queue_messages = 10;
    begin_with(&config);
    struct client *a = client_in("g", RECV), *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    turn(NULL);
    for (uint64_t n = 1; n <= 30; n++) {
        core_delivers("g", 2, n, "x", 1);
        turn(a);
        ck_assert_uint_eq(delivered(b, 0)->deliver->number[0], n);
    }
    forget();
    take(a);
    Qsm__EndEvent *e = heard(a, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 2);
    ck_assert_uint_eq(e->position[0]->number, 10);
    ck_assert(!e->rejoined);
    ck_assert_uint_eq(delivered(a, 9)->deliver->number[0], 10);
    ck_assert_ptr_null(delivered(a, 10));
    end(a, b);
}
END_TEST

START_TEST(a_client_that_reads_nothing_for_2_s_ends_slow)
{
    begin();
    struct client *a = client_in("g", RECV);
    say_open(a, 2, 2, "quiet", RECV);
    core_event("quiet", GROUP_VIEW, 5);
    turn(NULL);
    now += 100 * SECOND; /* idle for long, which is nobody's fault */
    core_delivers("g", 2, 1, "x", 1);
    turn(a);
    session_expire(s, now);
    ck_assert_uint_eq(session_deadline(s), now + 2 * SECOND);
    now += 2 * SECOND;
    session_expire(s, now);
    ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
    forget();
    take(a);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->id, 1);
    ck_assert_ptr_null(heard(a, WHAT(END), 1)); /* nothing waited for the other one */
    core_delivers("quiet", 2, 1, "x", 1);
    turn(NULL);
    ck_assert_uint_eq(delivered(a, 0)->deliver->group[0], 2);
    end(a, NULL);
}
END_TEST

START_TEST(an_empty_queue_takes_a_message_above_its_cap)
{
    begin();
    struct client *c = client_in("g", RECV);
    static uint8_t large[2u << 20];
    core_delivers("g", 2, 1, large, sizeof(large));
    turn(NULL);
    ck_assert_uint_eq(delivered(c, 0)->deliver->bytes[0], sizeof(large));
    end(c, NULL);
}
END_TEST

START_TEST(an_expelled_host_ends_subscriptions_and_begins_them_again)
{
    struct session_config config = config_default();
    config.trace = true;
    begin_with(&config);
    struct client *c = client_in("g", RECV | SEND);
    say_submit(c, 1, 3, 1, 'a');
    core_pulls("g", 1);
    core_pulls("g", 2);
    core_delivers("g", 2, 7, "x", 1);
    core_stable("g", 1, false);
    core_stable("g", 2, true);
    core_event("g", GROUP_EXPELLED, 5);
    core_delivers("g", 2, 8, "x", 1);
    turn(NULL);
    Qsm__EndEvent *e = heard(c, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 3);
    ck_assert(e->rejoined);
    ck_assert_uint_eq(e->position[0]->number, 7);
    ck_assert(!heard(c, WHAT(COMPLETION), 0)->completion->lost);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 1)->completion->k, 2);
    ck_assert(heard(c, WHAT(COMPLETION), 1)->completion->lost);
    ck_assert_str_ne(heard(c, WHAT(COMPLETION), 1)->completion->reason, "");
    ck_assert_uint_eq(fake.closes, 0);
    core_event("g", GROUP_VIEW, 9);
    core_event("g", GROUP_SENDABLE, 9);
    ck_assert_int_eq(core_pulls("g", 1), 'a'); /* under a new id numbers start again */
    core_delivers("g", 2, 9, "y", 1);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(VIEW), 0)->view->epoch, 9);
    ck_assert_uint_eq(delivered(c, 0)->deliver->number[0], 9);
    end(c, NULL);
    static const char *const lines[] = {
        "sub c=1 g=g\n",
        "accept c=1 k=3 g=g h=af63dc4c8601ec8c l=1 ask=1\n",
        "pull c=1 k=2 g=g n=2\n",
        "recv c=1 g=g s=2 n=7 h=af63f54c86021707\n",
        "complete c=1 k=1 g=g st=stable\n",
        "complete c=1 k=2 g=g st=unknown\n",
        "end c=1 g=g why=expelled\nsub c=1 g=g\npull c=1 k=3 g=g n=1\n",
        "close c=1\n"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        ck_assert_msg(strstr(trace_text, lines[i]), "no %s in:\n%s", lines[i], trace_text);
}
END_TEST

START_TEST(a_daemon_that_stops_ends_everything_with_a_reason)
{
    begin();
    struct client *c = client_in("g", RECV | SEND);
    say_submit(c, 1, 3, 1, 'a');
    core_pulls("g", 1);
    say_open(c, 5, 2, "h", RECV);
    session_stop(s, now);
    turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(END), 0)->end->why, 5);
    unsigned i = 0;
    while (heard(c, WHAT(COMPLETION), i))
        i++;
    ck_assert_uint_ge(i, 1);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), i - 1)->completion->k, 3);
    ck_assert(heard(c, WHAT(COMPLETION), 0)->completion->lost);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ESHUTDOWN);
    ck_assert_int_eq(core_pulls("g", 2), -1);
    end(c, NULL);
}
END_TEST

/* ---- questions */

static void emit_counter(void *ctx, void (*emit)(void *to, const char *name, uint64_t value),
                         void *to)
{
    (void)ctx;
    emit(to, "shell_turns", 12);
}

static void emit_fact(void *ctx, void (*emit)(void *to, const char *name, const char *value),
                      void *to)
{
    (void)ctx;
    emit(to, "cluster", "prod");
}

START_TEST(questions_are_answered)
{
    struct session_config config = config_default();
    config.shell_counters = emit_counter;
    config.shell_facts = emit_fact;
    begin_with(&config);
    struct client *c = client_in("g", RECV);
    say_hold(c, 2, "held", NULL);
    say_ask(c, 10, QSM__QUESTION__STATUS, "");
    say_ask(c, 11, QSM__QUESTION__GROUPS, "");
    say_ask(c, 12, QSM__QUESTION__GROUPS, "held");
    say_ask(c, 13, QSM__QUESTION__REGIONS, "");
    say_ask(c, 14, QSM__QUESTION__STATS, "");
    say_ask(c, 15, (Qsm__Question)9, "");
    turn(NULL);
    Qsm__NodeStatus *status = heard(c, WHAT(STATUS), 0)->status;
    ck_assert_uint_eq(status->request, 10);
    ck_assert_uint_eq(status->nodes, 3);
    ck_assert_uint_eq(status->groups, 2);
    ck_assert_uint_eq(status->clients, 1);
    ck_assert_str_eq(status->fact[0]->value, "prod");
    ck_assert_uint_eq(heard(c, WHAT(GROUPS), 0)->groups->n_group, 2);
    Qsm__GroupList *one = heard(c, WHAT(GROUPS), 1)->groups;
    ck_assert_uint_eq(one->n_group, 1);
    ck_assert(one->group[0]->held);
    ck_assert(!one->more);
    Qsm__RegionInfo *region = heard(c, WHAT(REGIONS), 0)->regions->region[0];
    ck_assert_str_eq(region->address, "239.192.77.1");
    ck_assert_str_eq(region->slowest, "host2");
    Qsm__StatsList *stats = heard(c, WHAT(STATS), 0)->stats;
    ck_assert_str_eq(stats->counter[0]->name, "messages_sent");
    ck_assert_uint_eq(stats->counter[0]->value, 4711);
    ck_assert_str_eq(stats->counter[stats->n_counter - 1]->name, "shell_turns");
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EOPNOTSUPP);
    end(c, NULL);
}
END_TEST

START_TEST(long_lists_come_in_several_frames)
{
    begin();
    for (fake.count = 0; fake.count < 1200; fake.count++)
        snprintf(fake.groups[fake.count].name, 300, "g%u", fake.count);
    struct client *c = connect_client();
    say_ask(c, 1, QSM__QUESTION__GROUPS, "");
    turn(NULL);
    size_t sum = 0;
    unsigned i = 0;
    for (; heard(c, WHAT(GROUPS), i); i++) {
        Qsm__GroupList *l = heard(c, WHAT(GROUPS), i)->groups;
        sum += l->n_group;
        ck_assert_int_eq(l->more, sum < 1200);
    }
    ck_assert_uint_gt(i, 1);
    ck_assert_uint_eq(sum, 1200);
    end(c, NULL);
}
END_TEST

START_TEST(who_asks_and_does_not_read_is_not_served_further)
{
    struct session_config config = config_default();
    config.queue_bytes = 100000;
    begin_with(&config);
    struct client *c = connect_client();
    long n = 1;
    unsigned asked = 0;
    for (; n > 0 && asked < 1000; asked++)
        n = say_ask(c, asked, QSM__QUESTION__STATS, "");
    ck_assert_int_eq(n, 0);
    ck_assert_uint_lt(asked, 200);
    ck_assert_uint_le(session_wants(c, frame_bytes, 20), 20);
    turn(NULL);
    ck_assert_int_gt(say_ask(c, asked, QSM__QUESTION__STATS, ""), 0);
    end(c, NULL);
}
END_TEST

/* ---- bad input */

START_TEST(submits_that_do_not_add_up_are_named)
{
    static const struct {
        uint32_t group, bytes;
        size_t groups, payload;
        const char *error;
    } rows[] = {
        {1, 4, 1, 3, "frame 3: Submit.bytes: do not add up to the length of the payloads"},
        {1, 4, 0, 4, "frame 3: Submit.group and Submit.bytes: are lists of different lengths"},
        {2, 4, 1, 4, "frame 3: Submit.group[0] = 2: is not open to send"},
        {1, (16u << 20) + 1, 1, 4, "frame 3: Submit.bytes[0]: is above 16 MiB"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin();
        struct client *c = client_in("g", SEND);
        uint32_t group = rows[i].group, bytes = rows[i].bytes;
        Qsm__Submit m = QSM__SUBMIT__INIT;
        m.n_group = rows[i].groups;
        m.group = &group;
        m.n_bytes = 1;
        m.bytes = &bytes;
        size_t header = qsm__submit__pack(&m, frame_bytes + FRAME_HEAD_BYTES);
        frame_write_head(frame_bytes, 3, header, rows[i].payload);
        ck_assert_int_lt(say(c, frame_bytes, FRAME_HEAD_BYTES + header + rows[i].payload), 0);
        turn(NULL);
        ck_assert_str_eq(error_of(c), rows[i].error);
        end(c, NULL);
    }
}
END_TEST

START_TEST(a_header_that_swells_is_refused)
{
    begin();
    struct client *c = client_in("g", SEND);
    /* Empty NeedGrants: two bytes each on the wire, forty and a pointer in memory. */
    for (size_t i = 0; i < 65534; i += 2) {
        frame_bytes[FRAME_HEAD_BYTES + i] = 3 << 3 | 2;
        frame_bytes[FRAME_HEAD_BYTES + i + 1] = 0;
    }
    frame_write_head(frame_bytes, 3, 65534, 0);
    ck_assert_int_eq(say(c, frame_bytes, FRAME_HEAD_BYTES + 65534), -EMSGSIZE);
    turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 3: Submit: takes more than 256 KiB unpacked");
    end(c, NULL);
}
END_TEST

/* What a busy client writes: hello, opens, messages, a need, a hold, questions, a close. */
static size_t recording(uint8_t *out, size_t *starts, size_t *ret_frames)
{
    Qsm__ClientHello h = QSM__CLIENT_HELLO__INIT;
    h.version = 1;
    Qsm__OpenGroup a = QSM__OPEN_GROUP__INIT, b = QSM__OPEN_GROUP__INIT, *groups[2] = {&a, &b};
    a.id = 1, a.name = (char *)"alpha", a.recv = a.send = true;
    b.id = 2, b.name = (char *)"beta", b.send = b.no_echo = true;
    Qsm__OpenGroups open = QSM__OPEN_GROUPS__INIT;
    open.request = 1, open.n_group = 2, open.group = groups;
    char *names[1] = {(char *)"held"};
    Qsm__Hold hold = QSM__HOLD__INIT;
    hold.request = 2, hold.n_join = 1, hold.join = names;
    Qsm__Ask ask = QSM__ASK__INIT;
    ask.request = 3, ask.question = QSM__QUESTION__GROUPS, ask.name = (char *)"alpha";
    Qsm__CloseGroup ca = QSM__CLOSE_GROUP__INIT, *closes[1] = {&ca};
    ca.id = 1, ca.recv = true;
    Qsm__CloseGroups close = QSM__CLOSE_GROUPS__INIT;
    close.request = 4, close.n_group = 1, close.group = closes;
    const struct {
        Qsm__ToDaemon__WhatCase what;
        void *message;
    } controls[] = {{QSM__TO_DAEMON__WHAT_HELLO, &h},
                    {QSM__TO_DAEMON__WHAT_OPEN, &open},
                    {QSM__TO_DAEMON__WHAT_HOLD, &hold},
                    {QSM__TO_DAEMON__WHAT_ASK, &ask},
                    {QSM__TO_DAEMON__WHAT_CLOSE, &close}};
    size_t at = 0, n = 0;
    for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
        Qsm__ToDaemon m = QSM__TO_DAEMON__INIT;
        m.what_case = controls[i].what;
        m.hello = controls[i].message;
        starts[n++] = at;
        at += control_frame(out + at, &m);
        if (i != 1)
            continue;
        uint32_t ids[3] = {1, 2, 1}, sizes[3] = {5, 0, 7};
        Qsm__NeedGrant need = QSM__NEED_GRANT__INIT, *needs[1] = {&need};
        need.id = 2, need.bytes = 300000;
        Qsm__Submit submit = QSM__SUBMIT__INIT;
        submit.n_group = submit.n_bytes = 3;
        submit.group = ids, submit.bytes = sizes;
        submit.n_need = 1, submit.need = needs;
        starts[n++] = at;
        size_t header = qsm__submit__pack(&submit, out + at + FRAME_HEAD_BYTES);
        frame_write_head(out + at, 3, header, 12);
        memcpy(out + at + FRAME_HEAD_BYTES + header, "hellomessage", 12);
        at += FRAME_HEAD_BYTES + header + 12;
    }
    *ret_frames = n;
    return at;
}

/* Plays bytes, cut at a place, to a new session that also hears from its node. */
static void play(const uint8_t *bytes, size_t count, size_t cut)
{
    begin();
    int error;
    struct client *c = session_connect(s, 1000, 1, now, &error);
    uint8_t *exact = malloc(count > 0 ? count : 1);
    memcpy(exact, bytes, count);
    long n = session_receive(c, exact, cut, now);
    if (n >= 0) {
        ck_assert_uint_le((size_t)n, cut);
        n = session_receive(c, exact + n, count - (size_t)n, now);
    }
    free(exact);
    if (handle_of("alpha") != UINT32_MAX) {
        core_event("alpha", GROUP_VIEW, 5);
        core_event("alpha", GROUP_SENDABLE, 5);
        core_delivers("alpha", 2, 1, "x", 1);
        core_pulls("alpha", 1);
        core_stable("alpha", 1, false);
    }
    turn(NULL);
    ck_assert_int_eq(n < 0, heard(c, WHAT(ERROR), 0) != NULL);
    end(c, NULL);
}

START_TEST(no_truncation_or_flipped_byte_of_a_client_does_harm)
{
    static uint8_t bytes[4096], flipped[4096];
    size_t starts[16], frames;
    size_t count = recording(bytes, starts, &frames);
    for (size_t cut = 0; cut <= count; cut++)
        play(bytes, cut, cut / 2);
    for (size_t at = 0; at < count; at++) {
        static const uint8_t flips[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
        for (size_t i = 0; i < sizeof(flips); i++) {
            memcpy(flipped, bytes, count);
            flipped[at] ^= flips[i];
            play(flipped, count, count);
        }
    }
}
END_TEST

static void add_more(TCase *t)
{
    tcase_add_test(t, messages_arrive_in_frames_of_64_with_all_that_names_them);
    tcase_add_test(t, large_payloads_are_referenced_and_small_ones_are_copied);
    tcase_add_test(t, output_survives_writes_that_are_cut_anywhere);
    tcase_add_test(t, a_client_may_do_without_its_own_messages);
    tcase_add_test(t, a_later_local_client_starts_after_what_was_delivered);
    tcase_add_test(t, who_does_not_read_ends_slow_and_costs_only_itself);
    tcase_add_test(t, a_client_that_reads_nothing_for_2_s_ends_slow);
    tcase_add_test(t, an_empty_queue_takes_a_message_above_its_cap);
    tcase_add_test(t, an_expelled_host_ends_subscriptions_and_begins_them_again);
    tcase_add_test(t, a_daemon_that_stops_ends_everything_with_a_reason);
    tcase_add_test(t, questions_are_answered);
    tcase_add_test(t, long_lists_come_in_several_frames);
    tcase_add_test(t, who_asks_and_does_not_read_is_not_served_further);
    tcase_add_test(t, submits_that_do_not_add_up_are_named);
    tcase_add_test(t, a_header_that_swells_is_refused);
    tcase_add_test(t, no_truncation_or_flipped_byte_of_a_client_does_harm);
}

Suite *suite_session(void)
{
    Suite *suite = suite_create("session");
    TCase *t = tcase_create("session");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_hello_is_answered_with_who_the_daemon_is);
    tcase_add_test(t, nothing_is_done_before_a_hello);
    tcase_add_test(t, clients_hear_when_the_node_is_admitted_under_another_id);
    tcase_add_test(t, quotas_of_connections_hold);
    tcase_add_test(t, one_request_opens_8192_groups_and_gets_one_result);
    tcase_add_test(t, a_group_is_opened_for_the_first_receiver_and_closed_after_the_last);
    tcase_add_test(t, a_view_names_its_members_once_per_connection);
    tcase_add_test(t, who_joins_while_the_node_leaves_waits_until_it_has_left);
    tcase_add_test(t, a_refusal_is_the_result_of_the_request);
    tcase_add_test(t, a_node_that_cannot_open_more_says_so);
    tcase_add_test(t, bad_names_and_ids_are_named);
    tcase_add_test(t, the_node_holds_a_membership_beyond_the_connection);
    tcase_add_test(t, a_group_stays_open_to_send_for_60_s_after_its_last_sender);
    tcase_add_test(t, grants_are_renewed_by_the_quarter_as_messages_leave);
    tcase_add_test(t, more_than_was_granted_closes_the_connection);
    tcase_add_test(t, a_large_message_gets_a_grant_of_its_own_once_the_queue_is_empty);
    tcase_add_test(t, clients_of_a_group_take_turns);
    tcase_add_test(t, what_was_accepted_goes_out_though_its_client_is_gone);
    tcase_add_test(t, a_group_opened_again_sends_what_was_queued_before_first);
    tcase_add_test(t, completions_come_after_the_close_too);
    add_more(t);
    suite_add_tcase(suite, t);
    return suite;
}
