/* Runs: messages of one size that the core pulls, and delivers, in one go. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "property.h"
#include "session_rig.h"
#include "suites.h"

/* Pulls as much as room bytes admit; returns how many messages, 0 when the feed is dry. */
static uint32_t pull_run(uint64_t number, uint32_t room, uint32_t bytes, int first, bool *ret_last)
{
    struct message m;
    if (!rig_up.pull(rig_up.ctx, rig_handle("g"), number, room, &m))
        return 0;
    ck_assert_uint_eq(m.bytes, bytes);
    for (uint32_t i = 0; i < (m.more + 1) * bytes; i++)
        ck_assert_int_eq(m.data[i], first);
    buf_unref(m.body);
    *ret_last = m.last;
    return m.more + 1;
}

/* Delivers messages from number on to the group, whose bytes count up from 0. */
static void deliver_run(uint64_t number, uint32_t messages, uint32_t bytes)
{
    struct buf *body = buf_new((size_t)messages * bytes + 1);
    for (uint32_t i = 0; i < messages * bytes; i++)
        body->data[i] = (uint8_t)i;
    struct delivery d = {.group = rig_handle("g"),
                         .sender = 2,
                         .number = number,
                         .epoch = 5,
                         .body = body,
                         .data = body->data,
                         .bytes = bytes,
                         .more = messages - 1};
    rig_up.deliver(rig_up.ctx, &d);
    ck_assert_uint_eq(body->refs, 1);
    buf_unref(body);
}

START_TEST(a_run_is_what_fits_of_messages_of_one_size)
{
    static const struct {
        uint32_t room, count;
    } pulls[] = {{0, 1}, {99, 1}, {199, 1}, {200, 2}, {350, 3}, {5000, 3}};
    rig_begin();
    struct client *c = client_in("g", SEND);
    uint64_t number = 1;
    bool last = false;
    say_submit(c, 1, 10, 100, 'a');
    say_submit(c, 1, 2, 101, 'b');
    for (size_t i = 0; i < sizeof(pulls) / sizeof(pulls[0]); i++) {
        ck_assert(!last);
        uint32_t n = pull_run(number, pulls[i].room, i < 6 ? 100 : 101, 'a', &last);
        ck_assert_uint_eq(n, i == 5 ? 2 : pulls[i].count); /* ten in all */
        number += n;
    }
    ck_assert(!last);
    ck_assert_uint_eq(pull_run(number, 5000, 101, 'b', &last), 2);
    ck_assert(last);
    core_stable("g", 4, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 4);
    core_stable("g", 12, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 12);
    rig_end(c, NULL);
}
END_TEST

START_TEST(empty_messages_come_by_themselves)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    bool last = false;
    say_submit(c, 1, 3, 0, 'a');
    for (uint64_t n = 1; n <= 3; n++)
        ck_assert_uint_eq(pull_run(n, 1400, 0, 0, &last), 1);
    ck_assert(last);
    rig_end(c, NULL);
}
END_TEST

START_TEST(what_a_run_leaves_free_is_granted_again)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    bool last = false;
    rig_turn(NULL);
    say_submit(c, 1, 64, 48, 'x'); /* counts 4,096 */
    for (uint64_t n = 1; n <= 64; n += 16)
        ck_assert_uint_eq(pull_run(n, 16 * 48, 48, 'x', &last), 16);
    ck_assert(last);
    for (uint32_t i = 1; i < 16; i++) { /* the rest of the grant */
        say_submit(c, 1, 64, 48, 'x');
        ck_assert_uint_eq(pull_run(64 * i + 1, 64 * 48, 48, 'x', &last), 64);
    }
    rig_turn(NULL);
    ck_assert_uint_ge(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    rig_end(c, NULL);
}
END_TEST

/* Clients of a group take turns with runs, too; each hears of its own messages. */
START_TEST(runs_of_two_clients_are_told_apart)
{
    rig_begin();
    struct client *a = client_in("g", SEND), *b = connect_client();
    bool last = false;
    say_open(b, 1, 1, "g", SEND);
    rig_turn(NULL);
    say_submit(a, 1, 4, 10, 'a');
    say_submit(b, 1, 4, 10, 'b');
    ck_assert_uint_eq(pull_run(1, 20, 10, 'a', &last), 2);
    ck_assert_uint_eq(pull_run(3, 30, 10, 'b', &last), 3);
    ck_assert_uint_eq(pull_run(6, 90, 10, 'a', &last), 2);
    ck_assert(!last);
    ck_assert_uint_eq(pull_run(8, 90, 10, 'b', &last), 1);
    ck_assert(last);
    rig_turn(NULL);
    core_stable("g", 5, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(COMPLETION), 0)->completion->k, 2);
    ck_assert_uint_eq(heard(b, WHAT(COMPLETION), 0)->completion->k, 3);
    rig_end(a, b);
}
END_TEST

/* More messages than a frame takes, behind some that are in it already. */
START_TEST(a_run_goes_on_in_the_next_frame)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    core_delivers("g", 2, 1, "first", 5);
    deliver_run(2, 150, 7);
    core_delivers("g", 2, 152, "last", 4);
    rig_turn(NULL);
    uint64_t number = 1;
    for (unsigned f = 0; f < 3; f++) {
        const struct told *t = delivered(c, f);
        const uint8_t *at = t->payload;
        ck_assert_uint_eq(t->deliver->count, f < 2 ? 64 : 24);
        for (uint32_t i = 0; i < t->deliver->count; i++, number++) {
            struct told_message m = told_message(t->deliver, i);
            ck_assert_uint_eq(m.number, number);
            ck_assert_uint_eq(m.sender, 2);
            ck_assert_uint_eq(m.bytes, number == 1 ? 5 : number == 152 ? 4 : 7);
            if (m.bytes == 7)
                ck_assert_int_eq(*at, (uint8_t)((number - 2) * 7));
            at += m.bytes;
        }
    }
    ck_assert_ptr_null(delivered(c, 3));
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_run_of_large_messages_is_cut_at_64_kb)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    deliver_run(1, 20, 4000);
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(c, 0)->deliver->count, 16);
    ck_assert_uint_eq(delivered(c, 1)->deliver->count, 4);
    ck_assert_int_eq(delivered(c, 1)->payload[0], (uint8_t)(16 * 4000));
    rig_end(c, NULL);
}
END_TEST

/* The run that does not fit as a whole is queued as far as it does, and the end says how far. */
START_TEST(who_does_not_read_ends_slow_within_a_run)
{
    struct session_config config = config_default();
    config.queue_messages = 10;
    rig_begin_with(&config);
    struct client *a = client_in("g", RECV), *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    rig_turn(NULL);
    deliver_run(1, 4, 3);
    rig_turn(a);
    deliver_run(5, 9, 3);
    rig_turn(a);
    ck_assert_uint_eq(delivered(b, 0)->deliver->count, 9);
    rig_forget();
    rig_take(a);
    Qsm__EndEvent *e = heard(a, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 2);
    ck_assert_uint_eq(e->position[0]->number, 10);
    ck_assert_uint_eq(delivered(a, 0)->deliver->count, 4);
    ck_assert_uint_eq(delivered(a, 1)->deliver->count, 6);
    ck_assert_ptr_null(delivered(a, 2));
    deliver_run(14, 2, 3);
    rig_turn(a);
    ck_assert_uint_eq(told_message(delivered(b, 0)->deliver, 0).number, 14);
    rig_end(a, b);
}
END_TEST

/* Who gets nothing of a run is not told of what another got of it. */
START_TEST(each_that_ends_slow_within_a_run_is_told_its_own_last_message)
{
    struct session_config config = config_default();
    config.queue_messages = 10;
    rig_begin_with(&config);
    struct client *a = client_in("g", RECV), *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    say_open(b, 2, 2, "full", RECV);
    rig_turn(NULL);
    core_event("full", GROUP_VIEW, 5);
    for (uint64_t n = 1; n <= 6; n++)
        core_delivers("full", 2, n, "x", 1);
    deliver_run(1, 4, 3);
    deliver_run(5, 9, 3);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->position[0]->number, 10);
    ck_assert_uint_eq(heard(b, WHAT(END), 0)->end->position[0]->number, 4);
    rig_end(a, b);
}
END_TEST

/* An empty queue takes any one message, and not a run of any length. */
START_TEST(a_run_takes_no_more_of_an_empty_queue_than_its_cap)
{
    struct session_config config = config_default();
    config.queue_messages = 10;
    rig_begin_with(&config);
    struct client *c = client_in("g", RECV);
    rig_turn(NULL);
    deliver_run(1, 100, 3);
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(c, 0)->deliver->count, 10);
    ck_assert_ptr_null(delivered(c, 1));
    ck_assert_uint_eq(heard(c, WHAT(END), 0)->end->position[0]->number, 10);
    rig_end(c, NULL);
}
END_TEST

START_TEST(the_latest_of_a_run_are_kept)
{
    struct session_config config = config_default();
    config.queue_messages = 40;
    rig_begin_with(&config);
    struct client *c = client_in("g", RECV | LATEST);
    rig_turn(NULL);
    for (uint64_t n = 1; n <= 200; n += 20)
        deliver_run(n, 20, 5);
    uint64_t seen = 0, number = 0;
    for (int turns = 0; turns < 8; turns++) {
        rig_turn(NULL);
        for (unsigned i = 0; delivered(c, i) != NULL; i++) {
            const Qsm__Deliver *d = delivered(c, i)->deliver;
            for (uint32_t k = 0; k < d->count; k++) {
                ck_assert_uint_gt(told_message(d, k).number, number);
                number = told_message(d, k).number;
                ck_assert_int_eq(delivered(c, i)->payload[5 * k],
                                 (uint8_t)((number - 1) % 20 * 5));
                seen++;
            }
        }
    }
    ck_assert_uint_eq(number, 200);
    ck_assert_uint_ge(seen, 64);
    ck_assert_uint_lt(seen, 200);
    rig_end(c, NULL);
}
END_TEST

/* ---- trains */

/* Datagrams as they land, one behind the other, and what was delivered out of them. */
struct train {
    struct buf *body;
    uint32_t used;
    uint64_t random;
    uint64_t number[2], heard[2][2]; /* by group, and of each client */
    uint32_t in_place;               /* frames whose payloads lie apart */
};

static uint8_t byte_of(uint32_t g, uint64_t number, uint32_t i)
{
    return (uint8_t)(number * 31 + (uint64_t)i * 7 + g * 101);
}

/* A record of `messages` of one size, behind `heads` bytes. */
static void record_lands(struct train *t, uint32_t g, uint32_t heads, uint32_t bytes,
                         uint32_t messages)
{
    memset(t->body->data + t->used, 0xaa, heads);
    t->used += heads;
    struct delivery d = {.group = rig_handle(g == 0 ? "g" : "h"),
                         .sender = 2,
                         .number = t->number[g] + 1,
                         .epoch = 5,
                         .body = t->body,
                         .data = t->body->data + t->used,
                         .bytes = bytes,
                         .more = messages - 1,
                         .lead = heads};
    for (uint32_t m = 0; m < messages; m++) {
        t->number[g]++;
        for (uint32_t i = 0; i < bytes; i++)
            t->body->data[t->used++] = byte_of(g, t->number[g], i);
    }
    if (property_below(&t->random, 50) == 0) { /* it waited for a gap, and was copied */
        d.body = buf_copy(d.data, (size_t)bytes * messages);
        d.data = d.body->data;
        rig_up.deliver(rig_up.ctx, &d);
        buf_unref(d.body);
        return;
    }
    rig_up.deliver(rig_up.ctx, &d);
}

static void train_lands(struct train *t)
{
    static const uint32_t sizes[] = {90, 300, 511, 512, 700, 1300};
    uint64_t odd = property_below(&t->random, 3) == 0 ? 3 : 200;
    uint32_t g = (uint32_t)property_below(&t->random, 2);
    uint32_t bytes = sizes[property_below(&t->random, 6)];
    t->body = buf_new(65536);
    t->used = 0;
    uint64_t packets = 1 + property_below(&t->random, 45);
    while (packets-- > 0) {
        uint32_t heads = 60, end = t->used + 1400;
        while (t->used + heads + 8 + bytes <= end) {
            uint32_t fit = (end - t->used - heads - 8) / bytes;
            bool run = fit > 1 && property_below(&t->random, 2) == 0;
            record_lands(t, g, heads + 8, bytes, run ? fit : 1);
            heads = 0;
            if (property_below(&t->random, odd) == 0)
                g ^= 1;
            if (property_below(&t->random, odd) == 0)
                bytes = sizes[property_below(&t->random, 6)];
        }
    }
    buf_unref(t->body);
}

static void train_heard(struct train *t, const struct client *c, uint32_t who)
{
    const struct told *frame;
    for (unsigned f = 0; (frame = delivered(c, f)); f++) {
        const uint8_t *at = frame->payload;
        t->in_place += frame->deliver->gap > 0;
        for (uint32_t i = 0; i < frame->deliver->count; i++) {
            struct told_message m = told_message(frame->deliver, i);
            uint32_t g = m.group - 1;
            PROPERTY(m.number == ++t->heard[who][g]);
            for (uint32_t k = 0; k < m.bytes; k++)
                PROPERTY(at[k] == byte_of(g, m.number, k));
            at += m.bytes;
        }
    }
}

/* Whether payloads are copied or go from where they landed, they arrive byte for byte. */
START_TEST(what_lands_in_trains_arrives_as_it_was_sent)
{
    struct train t = {.random = property_seed("trains")};
    struct session_config config = config_default();
    config.queue_messages = 1000000;
    rig_begin_with(&config);
    struct client *a = client_in("g", RECV), *b = connect_client();
    say_open(a, 2, 2, "h", RECV);
    say_open(b, 1, 1, "g", RECV);
    rig_turn(NULL);
    core_event("h", GROUP_VIEW, 5);
    rig_turn(NULL);
    for (int turn = 0; turn < 200; turn++) {
        for (uint64_t n = 1 + property_below(&t.random, 3); n > 0; n--)
            train_lands(&t);
        rig_turn(NULL);
        train_heard(&t, a, 0);
        train_heard(&t, b, 1);
        PROPERTY(t.heard[0][0] == t.number[0] && t.heard[0][1] == t.number[1]);
        PROPERTY(t.heard[1][0] == t.number[0]);
    }
    ck_assert_uint_gt(t.in_place, 10);
    rig_end(a, b);
}
END_TEST

Suite *suite_session_run(void)
{
    Suite *s = suite_create("session_run");
    TCase *t = tcase_create("session_run");

    tcase_add_test(t, a_run_is_what_fits_of_messages_of_one_size);
    tcase_add_test(t, empty_messages_come_by_themselves);
    tcase_add_test(t, what_a_run_leaves_free_is_granted_again);
    tcase_add_test(t, runs_of_two_clients_are_told_apart);
    tcase_add_test(t, a_run_goes_on_in_the_next_frame);
    tcase_add_test(t, a_run_of_large_messages_is_cut_at_64_kb);
    tcase_add_test(t, who_does_not_read_ends_slow_within_a_run);
    tcase_add_test(t, each_that_ends_slow_within_a_run_is_told_its_own_last_message);
    tcase_add_test(t, a_run_takes_no_more_of_an_empty_queue_than_its_cap);
    tcase_add_test(t, the_latest_of_a_run_are_kept);
    tcase_add_test(t, what_lands_in_trains_arrives_as_it_was_sent);
    suite_add_tcase(s, t);
    return s;
}
