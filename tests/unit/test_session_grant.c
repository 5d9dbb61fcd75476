/* Tests of daemon/session_grant: what clients may have granted and queued stays under its caps,
 * whatever they do, and who waits is served. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "session_internal.h"
#include "session_rig.h"
#include "suites.h"

#define MIB (1u << 20)

/* A session whose clients may have so much each, and together. */
static void begin(uint64_t bytes, uint64_t bytes_all)
{
    struct session_config config = config_default();
    config.grant_bytes = (uint32_t)bytes;
    config.grant_bytes_all = bytes_all;
    rig_begin_with(&config);
}

static uint64_t used(void)
{
    const struct purse *p = &rig_session->purse;
    return p->used[GRANT_SMALL] + p->used[GRANT_LARGE];
}

static const char *name_of(uint32_t id)
{
    static char name[8];
    snprintf(name, sizeof(name), "g%u", id);
    return name;
}

/* A client with groups 0 to count - 1 open to send. */
static struct client *client_with(uint32_t count)
{
    struct client *c = connect_client();
    for (uint32_t id = 0; id < count; id++) {
        ck_assert_int_gt(say_open(c, id + 1, id, name_of(id), SEND), 0);
        core_event(name_of(id), GROUP_SENDABLE, 5);
    }
    rig_turn(NULL);
    return c;
}

/* Bytes granted to a group in what was heard in this turn. */
static uint64_t granted(const struct client *c, uint32_t id)
{
    uint64_t sum = 0;
    Qsm__ToClient *m;
    for (unsigned i = 0; (m = heard(c, WHAT(GRANT), i)); i++)
        sum += m->grant->id == id ? m->grant->bytes : 0;
    return sum;
}

static const Qsm__Revoke *revoked(const struct client *c, uint32_t id)
{
    Qsm__ToClient *m;
    for (unsigned i = 0; (m = heard(c, WHAT(REVOKE), i)); i++) {
        if (m->revoke->id == id)
            return m->revoke;
    }
    return NULL;
}

static long say_returned(struct client *c, uint32_t id, uint64_t serial)
{
    Qsm__Returned m = QSM__RETURNED__INIT;
    m.id = id;
    m.serial = serial;
    return say_control(c, QSM__TO_DAEMON__WHAT_RETURNED, &m);
}

START_TEST(many_feeds_share_the_sum)
{
    begin(2 * MIB, 64 * MIB); /* 1 MiB for shares, 3/4 of it for all at once */
    struct client *c = client_with(12);
    for (uint32_t id = 0; id < 12; id++)
        ck_assert_uint_eq(granted(c, id), 65536);
    for (uint32_t id = 12; id < 96; id++) {
        say_open(c, id + 1, id, name_of(id), SEND);
        rig_turn(NULL);
        ck_assert_uint_ge(granted(c, id), 8192); /* at once, out of the others' if need be */
        ck_assert_uint_le(rig_session->purse.used[GRANT_SMALL], MIB);
        ck_assert_uint_le(used(), 2 * MIB);
        for (unsigned i = 0; heard(c, WHAT(REVOKE), i);) {
            const Qsm__Revoke *r = heard(c, WHAT(REVOKE), i++)->revoke;
            ck_assert_uint_lt(granted(c, r->id), 65536);
            ck_assert_uint_gt(granted(c, r->id), 0); /* its share stays */
        }
    }
    rig_end(c, NULL);
}
END_TEST

START_TEST(large_grants_come_as_far_as_the_sum_goes_and_in_order)
{
    begin(80 * MIB, 80 * MIB); /* 40 MiB for large ones: two of 16 MiB */
    struct client *a = client_with(3), *b = client_with(2);
    for (uint32_t id = 0; id < 3; id++)
        say_need(a, id, 16 * MIB + 16);
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(NULL);
    ck_assert_uint_eq(granted(a, 0), 16 * MIB + 16 - 65536);
    ck_assert_uint_eq(granted(a, 1), 16 * MIB + 16 - 65536);
    ck_assert_uint_eq(granted(a, 2), 0);
    ck_assert_uint_eq(granted(b, 0), 0);
    /* What is small does not wait behind them, nor does a new feed. */
    say_submit(b, 1, 64, 1008, 'x');
    for (uint64_t n = 1; n <= 64; n++)
        core_pulls("g1", n);
    say_open(b, 9, 9, "new", SEND);
    rig_turn(NULL);
    ck_assert_uint_ge(granted(b, 1), 65536);
    ck_assert_uint_eq(granted(b, 9), 65536);
    /* A smaller one that comes later does not overtake. */
    say_need(b, 9, MIB * 12);
    rig_turn(NULL);
    ck_assert_uint_eq(granted(b, 9), 0);
    say_submit(a, 0, 1, 16 * MIB, 'a');
    ck_assert_int_eq(core_pulls("g0", 1), 'a');
    rig_turn(NULL);
    ck_assert_uint_eq(granted(a, 2), 16 * MIB + 16 - 65536);
    ck_assert_uint_eq(granted(b, 0), 0);
    say_submit(a, 1, 1, 16 * MIB, 'a');
    ck_assert_int_eq(core_pulls("g1", 65), 'a');
    rig_turn(NULL);
    ck_assert_uint_eq(granted(b, 0), 16 * MIB + 16 - 65536);
    say_submit(a, 2, 1, 16 * MIB, 'a');
    core_pulls("g2", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(granted(b, 9), 12 * MIB - 65536);
    ck_assert_uint_eq(rig_session->stats.grants_waited, 3);
    rig_end(a, b);
}
END_TEST

START_TEST(a_client_over_its_own_sum_keeps_nobody_else_waiting)
{
    begin(40 * MIB, 160 * MIB); /* one of 16 MiB for each client */
    struct client *a = client_with(2), *b = client_with(1);
    say_need(a, 0, 16 * MIB + 16);
    say_need(a, 1, 16 * MIB + 16);
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(NULL);
    ck_assert_uint_gt(granted(a, 0), 0);
    ck_assert_uint_eq(granted(a, 1), 0);
    ck_assert_uint_gt(granted(b, 0), 0);
    rig_end(a, b);
}
END_TEST

START_TEST(an_unused_large_grant_is_taken_back_for_who_waits)
{
    begin(32 * MIB + 65536, 32 * MIB + 65536);
    struct client *a = client_with(1), *b = client_with(1);
    say_need(a, 0, 16 * MIB + 16);
    rig_turn(NULL);
    ck_assert_uint_gt(granted(a, 0), 0);
    rig_now += 10 * SECOND;
    rig_turn(NULL);
    ck_assert_ptr_null(revoked(a, 0)); /* nobody waits */
    say_need(a, 0, 16 * MIB + 16);
    say_submit(a, 0, 1, 16 * MIB, 'a');
    core_pulls("g0", 1);
    rig_turn(NULL);
    say_need(a, 0, 16 * MIB + 16);
    rig_turn(NULL);
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(NULL);
    ck_assert_uint_eq(granted(b, 0), 0);
    ck_assert_uint_le(session_deadline(rig_session), rig_now + SECOND);
    ck_assert_uint_gt(session_deadline(rig_session), rig_now);
    rig_now += SECOND;
    rig_turn(NULL);
    const Qsm__Revoke *r = revoked(a, 0);
    ck_assert_ptr_nonnull(r);
    ck_assert_uint_eq(granted(a, 0), 65536);
    ck_assert_uint_eq(granted(b, 0), 16 * MIB + 16 - 65536);
    /* It had its message on the way before it heard of that. */
    uint64_t serial = r->serial;
    ck_assert_int_eq(say_submit(a, 0, 1, 16 * MIB, 'o'), 0); /* not read yet */
    ck_assert_uint_le(used(), 32 * MIB + 65536);
    ck_assert_uint_gt(session_deadline(rig_session), rig_now);
    ck_assert_int_gt(say_submit(b, 0, 1, 16 * MIB, 'b'), 0);
    ck_assert_int_eq(core_pulls("g0", 2), 'b');
    ck_assert_uint_le(session_deadline(rig_session), rig_now); /* a turn that tries it again */
    rig_turn(NULL);
    ck_assert_int_gt(say_submit(a, 0, 1, 16 * MIB, 'o'), 0);
    ck_assert_int_eq(core_pulls("g0", 3), 'o');
    say_returned(a, 0, serial);
    /* What is behind the answer has the new grant alone. */
    ck_assert_int_gt(say_submit(a, 0, 1, 65520, 'n'), 0);
    ck_assert_int_eq(say_submit(a, 0, 1, 65520, 'n'), -EDQUOT);
    rig_end(a, b);
}
END_TEST

START_TEST(an_answer_to_an_older_revoke_changes_nothing)
{
    begin(40 * MIB, 40 * MIB);
    struct client *a = client_with(1), *b = client_with(1);
    say_need(a, 0, 16 * MIB + 16);
    rig_turn(NULL);
    rig_now += SECOND;
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(NULL);
    uint64_t serial = revoked(a, 0)->serial;
    say_close(a, 5, 0, SEND);
    say_open(a, 6, 0, "g0", SEND);
    rig_turn(NULL);
    ck_assert_int_gt(say_returned(a, 0, serial), 0);
    ck_assert_int_gt(say_returned(a, 0, 0), 0);
    ck_assert_int_gt(say_returned(a, 77, serial), 0);
    ck_assert_int_gt(say_submit(a, 0, 1, 65520, 'x'), 0);
    ck_assert_int_eq(say_submit(a, 0, 1, 0, 'x'), -EDQUOT);
    rig_end(a, b);
}
END_TEST

START_TEST(a_grant_taken_back_before_it_was_told_comes_later)
{
    struct session_config config = config_default();
    config.grant_bytes = 40 * MIB;
    config.grant_bytes_all = 40 * MIB;
    config.queue_bytes = 100;
    rig_begin_with(&config);
    struct client *a = client_with(1), *b = client_with(1);
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(NULL);
    say_need(a, 0, 16 * MIB + 16);
    rig_turn(a);
    say_ask(a, 7, QSM__QUESTION__STATS, ""); /* the answer fills its queue */
    rig_turn(a);
    say_submit(b, 0, 1, 16 * MIB, 'b');
    core_pulls("g0", 1);
    rig_turn(a);
    ck_assert_uint_ge(a->purse.used[GRANT_LARGE], 15 * MIB);
    say_need(b, 0, 16 * MIB + 16);
    rig_turn(a);
    rig_now += SECOND;
    rig_turn(a);
    ck_assert_uint_eq(a->purse.used[GRANT_LARGE], 0);
    ck_assert_uint_ge(granted(b, 0), 15 * MIB);
    say_submit(b, 0, 1, 16 * MIB, 'b');
    core_pulls("g0", 2);
    rig_turn(a);
    rig_take(a);
    rig_turn(NULL);
    ck_assert_uint_eq(granted(a, 0), 16 * MIB + 16 - 65536);
    ck_assert_ptr_null(revoked(a, 0)); /* it never knew */
    rig_end(a, b);
}
END_TEST

START_TEST(what_the_core_has_in_hand_is_counted)
{
    begin(40 * MIB, 40 * MIB);
    struct client *c = client_with(2);
    say_need(c, 0, 16 * MIB + 16);
    rig_turn(NULL);
    say_submit(c, 0, 1, 16 * MIB, 'x');
    say_need(c, 1, 16 * MIB + 16);
    struct message m;
    ck_assert(rig_up.pull(rig_up.ctx, rig_handle("g0"), 1, 0, &m));
    rig_turn(NULL);
    ck_assert_uint_eq(granted(c, 1), 0); /* cut into packets as windows allow, not gone yet */
    ck_assert_uint_ge(used(), 16 * MIB);
    buf_unref(m.body);
    rig_now += SECOND / 10;
    rig_turn(NULL);
    ck_assert_uint_gt(granted(c, 1), 0);
    rig_end(c, NULL);
}
END_TEST

START_TEST(what_has_left_is_not_pinned_by_what_waits)
{
    begin(256 * MIB, 256 * MIB);
    struct client *c = client_with(2);
    /* Seven of nearly 8 KiB to one group and an empty one to another, in one frame. */
    uint32_t groups[8] = {0, 0, 0, 1, 0, 0, 0, 0}, sizes[8];
    Qsm__Submit s = QSM__SUBMIT__INIT;
    size_t payload = 0;
    for (int i = 0; i < 8; i++) {
        sizes[i] = groups[i] == 1 ? 1 : 8000;
        payload += sizes[i];
    }
    s.count = 8;
    s.n_group = s.n_bytes = 8;
    s.group = groups;
    s.bytes = sizes;
    ck_assert_int_gt(say_messages(c, &s, payload, 0), 0);
    struct message m;
    ck_assert(rig_up.pull(rig_up.ctx, rig_handle("g1"), 1, 0, &m));
    ck_assert_uint_eq(m.body->size, 1);
    buf_unref(m.body);
    uint64_t credit = used(), freed = 0;
    for (uint64_t n = 1; n <= 7; n++) {
        ck_assert(rig_up.pull(rig_up.ctx, rig_handle("g0"), n, 0, &m));
        ck_assert_uint_le(m.body->size, RUN_BYTES);
        buf_unref(m.body);
        freed = credit - used();
    }
    /* All but the last is counted as free; that may be in the core's hand. */
    ck_assert_uint_ge(freed, 5 * 8016);
    core_stable("g0", 7, false);
    ck_assert_uint_eq(credit - used(), 7 * 8016);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_frame_longer_than_all_grants_is_refused_by_its_head)
{
    begin(256 * MIB, 256 * MIB);
    struct client *c = client_with(2);
    uint8_t head[FRAME_HEAD_BYTES + 100] = {0};
    frame_write_head(head, 3, 20, 2 * 65536);
    ck_assert_int_eq(session_receive(c, head, sizeof(head), rig_now), 0); /* may be so */
    frame_write_head(head, 3, 20, 2 * 65536 + 65536);
    ck_assert_int_eq(session_receive(c, head, sizeof(head), rig_now), -EDQUOT);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 4: Submit: is longer than all that was granted");
    rig_end(c, NULL);
}
END_TEST

START_TEST(the_trace_says_how_full_it_was_at_most)
{
    struct session_config config = config_default();
    config.trace = true;
    rig_begin_with(&config);
    struct client *c = client_in("g", SEND);
    rig_node.store_bytes = 500;
    for (int i = 0; i < 4; i++) {
        rig_now += 5000;
        session_expire(rig_session, rig_now);
        rig_node.store_bytes = i == 1 ? 600 : 400;
    }
    const char *first = strstr(rig_trace, "full name=store_bytes value=500 max=1000\n");
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_nonnull(strstr(first, "full name=store_bytes value=600 max=1000\n"));
    ck_assert_ptr_null(strstr(rig_trace, "value=400"));
    ck_assert_ptr_nonnull(strstr(rig_trace, "full name=client_granted value=65536 "));
    rig_end(c, NULL);
}
END_TEST

/* ---- anything goes, by clients that keep to what they were told */

#define CLIENTS 4
#define GROUPS 12
#define CLOSES 1000 /* number of the request that closes group 0 */
struct model {
    struct client *client;
    uint64_t grant[GROUPS], want[GROUPS], needed[GROUPS];
    bool open[GROUPS];
    unsigned closes[GROUPS]; /* not answered: grants until then are of an earlier opening */
    uint8_t *held;           /* a frame that the daemon did not take yet */
    size_t held_bytes;
};

static uint32_t seed;

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static size_t frame_size(void)
{
    struct frame f;
    return (size_t)frame_parse(rig_frame, sizeof(rig_frame), &f);
}

/* Writes what is in rig_frame, which must not be an error; keeps it when it is not taken. */
static void put(struct model *m, long n)
{
    size_t bytes = frame_size();

    ck_assert_int_ge(n, 0);
    if (n > 0)
        return;
    m->held = malloc(bytes);
    m->held_bytes = bytes;
    memcpy(m->held, rig_frame, bytes);
}

static bool blocked(struct model *m)
{
    while (m->held_bytes > 0) {
        long n = session_receive(m->client, m->held, m->held_bytes, rig_now);
        ck_assert_int_ge(n, 0);
        if (n == 0)
            return true;
        m->held_bytes -= (size_t)n;
        memmove(m->held, m->held + n, m->held_bytes);
    }
    free(m->held);
    m->held = NULL;
    return false;
}

static void answer(struct model *m, const Qsm__Revoke *r)
{
    Qsm__Returned returned = QSM__RETURNED__INIT;
    Qsm__ToDaemon d = QSM__TO_DAEMON__INIT;

    m->grant[r->id] = m->needed[r->id] = 0;
    returned.id = r->id, returned.serial = r->serial;
    d.what_case = QSM__TO_DAEMON__WHAT_RETURNED;
    d.returned = &returned;
    m->held = realloc(m->held, m->held_bytes + 64);
    m->held_bytes += rig_control(m->held + m->held_bytes, &d);
    blocked(m);
}

static void hear(struct model *m)
{
    Qsm__ToClient *t;
    for (unsigned i = 0; (t = heard(m->client, WHAT(_NOT_SET), i)); i++) {
        if (t->what_case == WHAT(REVOKE))
            answer(m, t->revoke);
        if (t->what_case == WHAT(RESULT) && t->result->request >= CLOSES)
            m->closes[t->result->request - CLOSES]--;
        if (t->what_case == WHAT(GRANT) && m->open[t->grant->id] && !m->closes[t->grant->id])
            m->grant[t->grant->id] += t->grant->bytes;
        if (t->what_case == WHAT(GRANT) && m->grant[t->grant->id] >= m->needed[t->grant->id])
            m->needed[t->grant->id] = 0;
    }
    ck_assert_str_eq(error_of(m->client), "");
}

/* Once is enough. */
static void ask(struct model *m, uint32_t id)
{
    if (m->needed[id] < m->want[id])
        put(m, say_need(m->client, id, m->want[id]));
    m->needed[id] = m->want[id];
}

static void act(struct model *m)
{
    static const uint32_t sizes[] = {0, 10, 500, 9000, 40000, 300000, 2000000};
    uint32_t id = dice(GROUPS);

    if (blocked(m))
        return;
    if (!m->open[id] || dice(200) == 0) {
        put(m, m->open[id] ? say_close(m->client, CLOSES + id, id, SEND)
                           : say_open(m->client, 1, id, name_of(id), SEND));
        m->closes[id] += m->open[id];
        m->open[id] = !m->open[id];
        m->grant[id] = m->want[id] = m->needed[id] = 0;
        return;
    }
    if (m->want[id] == 0)
        m->want[id] = sizes[dice(7)] + 16;
    if (m->want[id] > m->grant[id]) {
        ask(m, id);
    } else if (dice(3) > 0) {
        put(m, say_submit(m->client, id, 1, (uint32_t)m->want[id] - 16, 'x'));
        m->grant[id] -= m->want[id];
        m->want[id] = 0;
    }
}

static void sums_hold(const struct model *models)
{
    const struct session *s = rig_session;
    ck_assert_uint_le(used(), s->purse.max[GRANT_SMALL] + s->purse.max[GRANT_LARGE]);
    uint64_t sums[GRANT_KINDS] = {0}, senders = 0, extra = 0;
    for (int i = 0; i < CLIENTS; i++) {
        const struct purse *p = &models[i].client->purse;
        ck_assert_uint_le(p->used[GRANT_SMALL] + p->used[GRANT_LARGE],
                          p->max[GRANT_SMALL] + p->max[GRANT_LARGE]);
        senders += p->senders;
        extra += p->extra;
        for (int kind = 0; kind < GRANT_KINDS; kind++)
            sums[kind] += p->used[kind];
    }
    ck_assert_uint_eq(senders, s->purse.senders);
    ck_assert_uint_eq(extra, s->purse.extra);
    for (int kind = 0; kind < GRANT_KINDS; kind++)
        ck_assert_uint_eq(sums[kind], s->purse.used[kind]);
}

/* Who slept reads what was written then. */
static void all_hear(struct model *models, const struct model *sleeper)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (&models[i] != sleeper)
            rig_take(models[i].client);
    }
    for (int i = 0; i < CLIENTS; i++)
        hear(&models[i]);
}

/* Sends what it wants to send, or asks for the grant. */
static void insist(struct model *m)
{
    for (uint32_t id = 0; id < GROUPS && !blocked(m); id++) {
        if (!m->open[id] || m->want[id] == 0)
            continue;
        if (m->want[id] > m->grant[id]) {
            ask(m, id);
            continue;
        }
        put(m, say_submit(m->client, id, 1, (uint32_t)m->want[id] - 16, 'x'));
        m->grant[id] -= m->want[id];
        m->want[id] = 0;
    }
}

static void drain(uint64_t *number)
{
    for (uint32_t id = 0; id < GROUPS; id++) {
        while (core_pulls(name_of(id), number[id] + 1) >= 0)
            number[id]++;
        core_stable(name_of(id), number[id], false);
    }
}

START_TEST(no_order_of_events_breaks_the_sums_or_leaves_anybody_waiting)
{
    struct session_config config = config_default();
    config.grant_bytes = 8 * MIB;
    config.grant_bytes_all = 12 * MIB;
    config.queue_bytes = _i % 2 ? 100 : MIB; /* grants may have to wait until they are told */
    rig_begin_with(&config);
    struct model models[CLIENTS] = {0};
    uint64_t number[GROUPS] = {0};
    seed = (uint32_t)_i + 1;
    for (int i = 0; i < CLIENTS; i++)
        models[i].client = connect_client();
    for (int step = 0; step < 3000; step++) {
        struct model *m = &models[dice(CLIENTS)];
        act(m);
        uint32_t id = dice(GROUPS);
        if (rig_handle(name_of(id)) != UINT32_MAX && dice(2) == 0) {
            core_event(name_of(id), GROUP_SENDABLE, 5);
            while (dice(4) > 0 && core_pulls(name_of(id), number[id] + 1) >= 0)
                number[id]++;
            core_stable(name_of(id), number[id], false);
        }
        if (dice(3) == 0) {
            const struct model *sleeper = &models[dice(CLIENTS)];
            rig_now += dice(50000);
            rig_turn(sleeper->client);
            all_hear(models, sleeper);
        }
        sums_hold(models);
    }
    /* Everything leaves: whoever waits gets its grant. */
    for (int round = 0; round < 60; round++) {
        rig_now += SECOND / 4;
        drain(number);
        for (int i = 0; i < CLIENTS; i++)
            insist(&models[i]);
        rig_turn(NULL);
        all_hear(models, NULL);
        sums_hold(models);
    }
    ck_assert(TAILQ_EMPTY(&rig_session->wanting));
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_ptr_null(models[i].held);
        for (uint32_t id = 0; id < GROUPS; id++)
            ck_assert_uint_eq(models[i].want[id], 0);
        session_disconnect(rig_session, models[i].client, rig_now);
    }
    drain(number);
    ck_assert_uint_eq(used(), 0);
    rig_end(NULL, NULL);
}
END_TEST

Suite *suite_session_grant(void)
{
    Suite *suite = suite_create("session_grant");
    TCase *t = tcase_create("session_grant");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, many_feeds_share_the_sum);
    tcase_add_test(t, large_grants_come_as_far_as_the_sum_goes_and_in_order);
    tcase_add_test(t, a_client_over_its_own_sum_keeps_nobody_else_waiting);
    tcase_add_test(t, an_unused_large_grant_is_taken_back_for_who_waits);
    tcase_add_test(t, an_answer_to_an_older_revoke_changes_nothing);
    tcase_add_test(t, a_grant_taken_back_before_it_was_told_comes_later);
    tcase_add_test(t, what_the_core_has_in_hand_is_counted);
    tcase_add_test(t, what_has_left_is_not_pinned_by_what_waits);
    tcase_add_test(t, a_frame_longer_than_all_grants_is_refused_by_its_head);
    tcase_add_test(t, the_trace_says_how_full_it_was_at_most);
    tcase_add_loop_test(t, no_order_of_events_breaks_the_sums_or_leaves_anybody_waiting, 0, 20);
    suite_add_tcase(suite, t);
    return suite;
}
