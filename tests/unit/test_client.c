/* test_client: libqsmclient against a small daemon in a thread (client_rig). */
#include "suites.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "client_rig.h"
#include "frame.h"
#include "ipc.pb-c.h"
#include "qsmclient.h"

/* ---- an application */

struct seen {
    uint64_t messages, bytes, wrong, completed, lost, ends, writables;
    enum qsm_end why;
    uint64_t last;
    char host[16];
};

static void on_message(void *ctx, const struct qsm_message *m)
{
    struct seen *s = ctx;

    s->wrong += m->number != s->messages + 1;
    if (m->bytes >= sizeof(uint64_t)) {
        uint64_t k;
        memcpy(&k, m->data, sizeof(k));
        s->wrong += k != s->messages;
    }
    s->messages++;
    s->bytes += m->bytes;
    snprintf(s->host, sizeof(s->host), "%s", m->host);
}

static void on_end(void *ctx, struct qsm_group *g, const struct qsm_end_event *e)
{
    struct seen *s = ctx;

    (void)g;
    s->ends++;
    s->why = e->why;
    s->last = e->count == 1 ? e->positions[0].number : 0;
}

static void on_writable(void *ctx, struct qsm_group *g)
{
    struct seen *s = ctx;

    (void)g;
    s->writables++;
}

static void on_complete(void *ctx, struct qsm_group *g, uint64_t token, int status,
                        const char *reason)
{
    struct seen *s = ctx;

    (void)g;
    (void)reason;
    s->wrong += token != s->completed + s->lost;
    if (status == 0)
        s->completed++;
    else
        s->lost++;
}

static struct qsm *start(struct daemon *d, struct seen *seen, struct qsm_group **ret_group)
{
    struct qsm_callbacks callbacks = {.ctx = seen,
                                      .message = on_message,
                                      .end = on_end,
                                      .writable = on_writable,
                                      .complete = on_complete};
    const char *name = "g";
    struct qsm *q;

    daemon_start(d);
    ck_assert_int_eq(qsm_connect(d->path, &callbacks, WAIT_MS, &q), 0);
    if (ret_group)
        ck_assert_int_eq(qsm_open(q, &name, 1, QSM_RECV | QSM_SEND, WAIT_MS, ret_group), 0);
    return q;
}

static void finish(struct daemon *d, struct qsm *q)
{
    qsm_close(q);
    daemon_stop(d);
}

static void send_all(struct qsm *q, struct qsm_group *g, uint64_t count, size_t bytes)
{
    uint8_t *message = calloc(1, bytes + sizeof(uint64_t));

    for (uint64_t i = 0; i < count;) {
        memcpy(message, &i, sizeof(i));
        int error = qsm_send_complete(q, g, message, bytes, i);
        if (error == 0)
            i++;
        else if (error == -EAGAIN)
            ck_assert_int_ge(qsm_wait(q, WAIT_MS), 0);
        else
            break;
    }
    free(message);
}

/* ---- claims */

START_TEST(small_messages_travel_in_batches_and_come_back_in_order)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);

    send_all(q, g, 20000, 80);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.messages, 20000);
    ck_assert_uint_eq(seen.bytes, 20000 * 80);
    ck_assert_uint_eq(seen.completed, 20000);
    ck_assert_uint_eq(seen.wrong, 0);
    ck_assert_uint_gt(seen.writables, 0);
    ck_assert_str_eq(seen.host, "here");
    ck_assert_uint_eq(d.frame_messages_max, 64);
    ck_assert_uint_lt(d.frames, 20000 / 20);
    finish(&d, q);
}
END_TEST

START_TEST(empty_and_largest_messages_pass)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    const size_t sizes[] = {0, 1, 65535, 65536, 70000, 1 << 20, QSM_MESSAGE_MAX, 0, 9};
    uint8_t *bytes = calloc(1, QSM_MESSAGE_MAX + 1);
    size_t sum = 0;

    for (uint64_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int error;
        memcpy(bytes, &i, sizeof(i));
        while ((error = qsm_send(q, g, bytes, sizes[i])) == -EAGAIN)
            ck_assert_int_ge(qsm_wait(q, WAIT_MS), 0);
        ck_assert_int_eq(error, 0);
        sum += sizes[i];
    }
    ck_assert_int_eq(qsm_send(q, g, bytes, QSM_MESSAGE_MAX + 1), -EMSGSIZE);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.bytes, sum);
    ck_assert_uint_eq(seen.wrong, 0);
    free(bytes);
    finish(&d, q);
}
END_TEST

START_TEST(what_was_sent_before_close_reaches_the_daemon)
{
    struct daemon d = {.mute = true};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);

    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(qsm_send(q, g, "x", 1), 0);
    uint32_t before = d.frames;
    qsm_close(q);
    daemon_stop(&d);
    ck_assert_uint_eq(d.frames - before, 2);
}
END_TEST

static long make_numbers(void *ctx, void *buffer, size_t room, size_t *ret_needs)
{
    uint64_t *next = ctx;
    size_t bytes = *next % 50 == 49 ? 30000 : 100;

    if (*next == 1000)
        return -EAGAIN;
    *ret_needs = bytes;
    if (room < bytes)
        return -ENOBUFS;
    memset(buffer, 0, bytes);
    memcpy(buffer, next, sizeof(*next));
    ++*next;
    return (long)bytes;
}

START_TEST(a_feed_makes_its_messages_when_the_daemon_can_take_them)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    uint64_t next = 0;

    ck_assert_int_eq(qsm_feed(q, g, make_numbers, &next), 0);
    while (next < 1000)
        ck_assert_int_gt(qsm_wait(q, WAIT_MS), 0);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.messages, 1000);
    ck_assert_uint_eq(seen.wrong, 0);
    finish(&d, q);
}
END_TEST

START_TEST(a_daemon_that_goes_ends_everything_once_and_a_reconnect_begins_anew)
{
    struct daemon d = {.drop_after = 500};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);

    send_all(q, g, 600, 100);
    while (seen.ends == 0)
        qsm_wait(q, WAIT_MS);
    ck_assert_int_eq(qsm_wait(q, WAIT_MS), -ENOTCONN);
    ck_assert_int_eq(qsm_send(q, g, "x", 1), -ENOTCONN);
    ck_assert_uint_eq(seen.ends, 1);
    ck_assert_int_eq(seen.why, QSM_END_DISCONNECTED);
    ck_assert_uint_eq(seen.last, seen.messages);
    ck_assert_uint_ge(seen.completed + seen.lost, 500);
    d.drop_after = 0;
    memset(&seen, 0, sizeof(seen));
    ck_assert_int_eq(qsm_reconnect(q, WAIT_MS), 0);
    send_all(q, g, 600, 100);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), -EIO); /* of the first connection */
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.messages, 600);
    ck_assert_uint_eq(seen.wrong, 0);
    finish(&d, q);
}
END_TEST

START_TEST(a_refused_group_says_why_and_can_be_asked_again)
{
    struct daemon d = {.refuse_open = true};
    struct seen seen = {0};
    struct qsm *q = start(&d, &seen, NULL);
    const char *names[] = {"a", "b"};
    struct qsm_group *groups[2];

    ck_assert_int_eq(qsm_open(q, names, 2, QSM_RECV, WAIT_MS, groups), -EACCES);
    ck_assert_str_eq(qsm_error(q), "not for you");
    ck_assert_int_eq(qsm_drain(q, WAIT_MS), 0); /* the answers to its closes are in */
    d.refuse_open = false;
    ck_assert_int_eq(qsm_open(q, names, 2, QSM_RECV, WAIT_MS, groups), 0);
    ck_assert_int_eq(qsm_send(q, groups[0], "x", 1), -EBADF);
    finish(&d, q);
}
END_TEST

START_TEST(bad_group_names_are_refused_here)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm *q = start(&d, &seen, NULL);
    char longest[258];
    const char *names[] = {"good", "", "with space", "tab\t", longest};
    struct qsm_group *groups[2];

    memset(longest, 'x', 256);
    longest[256] = '\0';
    for (int i = 1; i < 5; i++) {
        const char *two[] = {names[0], names[i]};
        ck_assert_int_eq(qsm_open(q, two, 2, QSM_RECV, WAIT_MS, groups), -EINVAL);
    }
    longest[255] = '\0';
    ck_assert_int_eq(qsm_open(q, &names[4], 1, QSM_RECV, WAIT_MS, groups), 0);
    finish(&d, q);
}
END_TEST

START_TEST(completions_begin_anew_with_every_opening)
{
    struct daemon d = {.end_on_close = true};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    const char *name = "g";

    send_all(q, g, 100, 10);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_int_eq(qsm_leave(q, g, QSM_SEND), 0);
    while (seen.ends == 0)
        ck_assert_int_ge(qsm_wait(q, WAIT_MS), 0);
    ck_assert_int_eq(seen.why, QSM_END_SLOW);
    ck_assert_int_eq(qsm_open(q, &name, 1, QSM_RECV | QSM_SEND, WAIT_MS, &g), 0);
    seen.completed = 0;
    send_all(q, g, 5, 10);
    ck_assert_int_eq(qsm_flush(q, 2000), 0);
    ck_assert_uint_eq(seen.completed, 5);
    finish(&d, q);
}
END_TEST

START_TEST(word_of_an_earlier_opening_is_not_of_this_one)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    const char *name = "g";

    send_all(q, g, 100, 600);
    ck_assert_int_eq(qsm_leave(q, g, QSM_SEND), 0); /* nothing was heard yet */
    ck_assert_uint_eq(seen.lost, 100);
    ck_assert_int_eq(qsm_open_start(q, &name, 1, QSM_SEND, &g), 0);
    seen.lost = 0;
    send_all(q, g, 200, 600); /* all of a grant and more */
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.completed, 200);
    ck_assert_uint_eq(seen.lost, 0);
    finish(&d, q);
}
END_TEST

START_TEST(a_revoked_grant_is_given_back_and_not_used)
{
    struct daemon d = {.revokes = 20};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);

    send_all(q, g, 20000, 500);
    send_all(q, g, 1, 30000); /* more than is renewed: it has to ask */
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.completed, 20001);
    ck_assert_uint_eq(d.returned, 20);
    finish(&d, q);
}
END_TEST

START_TEST(who_is_granted_nothing_asks_for_each_message)
{
    struct daemon d = {.no_first_grant = true};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    uint64_t next = 0;

    send_all(q, g, 100, 200);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.completed, 100);
    seen.messages = 0;
    ck_assert_int_eq(qsm_feed(q, g, make_numbers, &next), 0);
    for (int64_t end = 2000; next < 200 && end > 0; end--)
        ck_assert_int_ge(qsm_wait(q, 10), 0);
    ck_assert_uint_ge(next, 200);
    ck_assert_int_eq(qsm_feed(q, g, NULL, NULL), 0);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    finish(&d, q);
}
END_TEST

START_TEST(messages_may_lie_apart_in_their_frame)
{
    struct daemon d = {.gap = 68};
    struct seen seen = {0};
    struct qsm_group *g;
    struct qsm *q = start(&d, &seen, &g);
    uint64_t next = 0;

    ck_assert_int_eq(qsm_feed(q, g, make_numbers, &next), 0); /* of two sizes */
    while (next < 1000)
        ck_assert_int_gt(qsm_wait(q, WAIT_MS), 0);
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_int_eq(qsm_feed(q, g, NULL, NULL), 0);
    ck_assert_uint_gt(d.frame_messages_max, 1);
    ck_assert_int_eq(qsm_send(q, g, "x", 1), 0); /* alone: the gap says nothing */
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(seen.messages, 1001);
    ck_assert_uint_eq(seen.bytes, 980 * 100 + 20 * 30000 + 1);
    ck_assert_uint_eq(seen.wrong, 0);
    finish(&d, q);
    d = (struct daemon){.gap = 68};
    memset(&seen, 0, sizeof(seen));
    q = start(&d, &seen, &g);
    send_all(q, g, 2000, 80); /* all of one size */
    ck_assert_int_eq(qsm_flush(q, WAIT_MS), 0);
    ck_assert_uint_eq(d.frame_messages_max, 64);
    ck_assert_uint_eq(seen.bytes, 2000 * 80);
    ck_assert_uint_eq(seen.wrong, 0);
    finish(&d, q);
}
END_TEST

/* How the connection ends when the daemon says this after its greeting. */
static int hear(const uint8_t *frame, size_t bytes, struct seen *seen)
{
    struct daemon d = {.say = frame, .say_bytes = bytes, .stop_after_hello = true};
    struct qsm *q = start(&d, seen, NULL);
    int n;

    while ((n = qsm_wait(q, WAIT_MS)) > 0)
        ;
    finish(&d, q);
    return n;
}

static size_t write_deliver(const Qsm__Deliver *d, size_t payload, uint8_t *frame)
{
    size_t header = qsm__deliver__pack(d, frame + FRAME_HEAD_BYTES);

    frame_write_head(frame, 4, header, payload);
    memset(frame + FRAME_HEAD_BYTES + header, 'x', payload);
    return FRAME_HEAD_BYTES + header + payload;
}

/* A Deliver of two messages, damaged: the connection ends with an error, nothing else happens. */
START_TEST(damaged_frames_end_the_connection)
{
    Qsm__Deliver deliver = QSM__DELIVER__INIT;
    uint32_t group = 0, lengths[] = {4, 2}, sender = 7;
    uint64_t number = 1, epoch = 3;
    uint8_t frame[256];

    deliver.count = 2;
    deliver.n_bytes = 2;
    deliver.n_group = deliver.n_sender = deliver.n_number = deliver.n_epoch = 1;
    deliver.group = &group;
    deliver.bytes = lengths;
    deliver.sender = &sender;
    deliver.number = &number;
    deliver.epoch = &epoch;
    size_t bytes = write_deliver(&deliver, 6, frame);
    for (size_t i = 0; i < bytes; i++) {
        struct seen seen = {0};
        frame[i] ^= 0x15;
        ck_assert_int_lt(hear(frame, bytes, &seen), 0);
        ck_assert_uint_eq(seen.messages, 0);
        frame[i] ^= 0x15;
    }
}
END_TEST

START_TEST(headers_that_do_not_add_up_end_the_connection)
{
    static const struct {
        uint32_t count;
        size_t group, bytes, sender, number, epoch; /* entries */
        uint64_t first;
        size_t payload;
        uint32_t gap;
    } rows[] = {
        {65, 1, 1, 1, 1, 1, 1, 65 * 4, 0},
        {UINT32_MAX, 1, 1, 1, 1, 1, 1, 4, 0},
        {0, 0, 0, 0, 0, 0, 0, 4, 0},
        {0, 0, 0, 1, 0, 0, 0, 0, 0},
        {3, 2, 3, 3, 3, 3, 1, 12, 0},
        {3, 3, 2, 3, 3, 3, 1, 8, 0},
        {3, 1, 1, 0, 1, 1, 1, 12, 0},
        {3, 1, 1, 1, 4, 1, 1, 12, 0},
        {3, 1, 1, 1, 1, 2, 1, 12, 0},
        {3, 1, 1, 1, 1, 1, 1, 4, 0},
        {3, 1, 1, 1, 1, 1, UINT64_MAX - 1, 12, 0},
        {3, 1, 1, 1, 1, 1, 1, 12, 5},
        {3, 1, 1, 1, 1, 1, 1, 21, 5},
        {3, 1, 3, 1, 1, 1, 1, 23, 5},
        {3, 1, 1, 1, 1, 1, 1, 27, 5}, /* none behind the last */
        {1, 1, 1, 1, 1, 1, 1, 9, 5},
        {1, 1, 1, 1, 1, 1, 1, 3, UINT32_MAX},
        {64, 1, 1, 1, 1, 1, 1, 256, UINT32_MAX},
        {64, 1, 1, 1, 1, 1, 1, 193, UINT32_MAX}, /* the sum, in 32 bits */
        {3, 1, 1, 1, 1, 1, 1, 12, 1u << 31},     /* the gaps are 0, in 32 bits */
    };
    uint32_t groups[4] = {0}, lengths[4] = {4, 4, 4, 4}, senders[4] = {7, 7, 7, 7};
    uint64_t epochs[4] = {3, 3, 3, 3};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t numbers[4] = {rows[i].first, 2, 3, 4};
        Qsm__Deliver d = QSM__DELIVER__INIT;
        struct seen seen = {0};
        uint8_t frame[1024];
        d.count = rows[i].count;
        d.n_group = rows[i].group, d.group = groups;
        d.n_bytes = rows[i].bytes, d.bytes = lengths;
        d.n_sender = rows[i].sender, d.sender = senders;
        d.n_number = rows[i].number, d.number = numbers;
        d.n_epoch = rows[i].epoch, d.epoch = epochs;
        d.gap = rows[i].gap;
        size_t bytes = write_deliver(&d, rows[i].payload, frame);
        ck_assert_int_eq(hear(frame, bytes, &seen), -EPROTO);
        ck_assert_uint_eq(seen.messages, 0);
    }
}
END_TEST

static void *wake_later(void *q)
{
    poll(NULL, 0, 20);
    qsm_wake(q);
    return NULL;
}

START_TEST(waiting_keeps_its_deadline_and_can_be_woken)
{
    struct daemon d = {0};
    struct seen seen = {0};
    struct qsm *q = start(&d, &seen, NULL);
    pthread_t thread;

    ck_assert_int_eq(qsm_wait(q, 30), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_later, q), 0);
    ck_assert_int_eq(qsm_wait(q, -1), 0);
    pthread_join(thread, NULL);
    finish(&d, q);
}
END_TEST

START_TEST(a_missing_daemon_is_an_error)
{
    struct qsm *q = NULL;

    ck_assert_int_eq(qsm_connect("/nonexistent/sock", NULL, 100, &q), -ENOENT);
    ck_assert_ptr_null(q);
    qsm_close(NULL);
}
END_TEST

Suite *suite_client(void)
{
    Suite *suite = suite_create("client");
    TCase *tc = tcase_create("client");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, small_messages_travel_in_batches_and_come_back_in_order);
    tcase_add_test(tc, empty_and_largest_messages_pass);
    tcase_add_test(tc, what_was_sent_before_close_reaches_the_daemon);
    tcase_add_test(tc, a_feed_makes_its_messages_when_the_daemon_can_take_them);
    tcase_add_test(tc, a_daemon_that_goes_ends_everything_once_and_a_reconnect_begins_anew);
    tcase_add_test(tc, a_refused_group_says_why_and_can_be_asked_again);
    tcase_add_test(tc, bad_group_names_are_refused_here);
    tcase_add_test(tc, completions_begin_anew_with_every_opening);
    tcase_add_test(tc, word_of_an_earlier_opening_is_not_of_this_one);
    tcase_add_test(tc, a_revoked_grant_is_given_back_and_not_used);
    tcase_add_test(tc, who_is_granted_nothing_asks_for_each_message);
    tcase_add_test(tc, messages_may_lie_apart_in_their_frame);
    tcase_add_test(tc, damaged_frames_end_the_connection);
    tcase_add_test(tc, headers_that_do_not_add_up_end_the_connection);
    tcase_add_test(tc, waiting_keeps_its_deadline_and_can_be_woken);
    tcase_add_test(tc, a_missing_daemon_is_an_error);
    suite_add_tcase(suite, tc);
    return suite;
}
