/* Tests of daemon/session: messages that go to clients from where their train landed. */
#include <check.h>
#include <string.h>
#include "session_rig.h"
#include "suites.h"

#define HEADS 68u /* before a message of a train, 76 before its first */

/* What was delivered to group g in a test: sizes by number, from 1. */
static uint32_t sizes[300];
static uint64_t last;

struct train {
    struct buf *body;
    size_t at; /* where its last message ends */
};

static struct client *begin(void)
{
    last = 0;
    rig_begin();
    return client_in("g", RECV);
}

static struct train lands(size_t bytes)
{
    struct train t = {.body = buf_new(bytes)};
    memset(t.body->data, 0xee, bytes);
    return t;
}

static uint8_t byte_of(uint64_t number, uint32_t i)
{
    return (uint8_t)(number * 7 + i % 101);
}

/* The next message lies so many bytes behind the end of the last one; what the core says of that is
 * lead. */
static void delivers(struct train *t, uint32_t distance, uint32_t lead, uint32_t bytes)
{
    t->at += distance;
    ck_assert_uint_le(t->at + bytes, t->body->size);
    uint8_t *data = t->body->data + t->at;
    last++;
    ck_assert_uint_lt(last, sizeof(sizes) / sizeof(sizes[0]));
    sizes[last] = bytes;
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = byte_of(last, i);
    struct delivery d = {.group = rig_handle("g"),
                         .sender = 2,
                         .number = last,
                         .epoch = 5,
                         .body = t->body,
                         .data = data,
                         .bytes = bytes,
                         .lead = lead};
    rig_up.deliver(rig_up.ctx, &d);
    t->at += bytes;
}

static void delivers_run(struct train *t, unsigned count, uint32_t bytes)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t lead = t->at == 0 ? HEADS + 8 : HEADS;
        delivers(t, lead, lead, bytes);
    }
}

/* How many segments of what waits for the client lie in body; the first is *ret. */
static unsigned segments_in(struct client *c, const struct buf *body, struct iovec *ret)
{
    struct iovec iov[16];
    int count = session_output(c, iov, 16);
    unsigned found = 0;
    for (int i = 0; i < count; i++) {
        const uint8_t *at = iov[i].iov_base;
        if (at < body->data || at >= body->data + body->size)
            continue;
        if (found++ == 0)
            *ret = iov[i];
    }
    return found;
}

static void cut(struct client *c)
{
    bool close;
    ck_assert_ptr_eq(session_next(rig_session, &close), c);
    rig_forget();
}

/* The client was told all messages from number first on, in order and whole. */
static void check_all(const struct client *c, uint64_t first)
{
    uint64_t number = first;
    for (unsigned i = 0; delivered(c, i); i++) {
        const struct told *t = delivered(c, i);
        const uint8_t *at = t->payload;
        for (uint32_t k = 0; k < t->deliver->count; k++, number++) {
            struct told_message m = told_message(t->deliver, k);
            ck_assert_uint_eq(m.number, number);
            ck_assert_uint_eq(m.bytes, sizes[number]);
            for (uint32_t b = 0; b < m.bytes; b++)
                ck_assert_uint_eq(at[b], byte_of(number, b));
            at += m.bytes;
        }
    }
    ck_assert_uint_eq(number, last + 1);
}

static void check_frame(const struct client *c, unsigned i, uint32_t count, uint32_t gap)
{
    ck_assert_ptr_nonnull(delivered(c, i));
    ck_assert_uint_eq(delivered(c, i)->deliver->count, count);
    ck_assert_uint_eq(delivered(c, i)->deliver->gap, gap);
}

/* A run in place: at least eight messages or half a block, a quarter of the buf, and none below 512
 * bytes to begin with. */
START_TEST(a_run_that_is_worth_it_is_referenced_and_others_are_copied)
{
    static const struct {
        size_t landing;
        unsigned count;
        uint32_t bytes;
        bool in_place;
    } rows[] = {
        {65536, 20, 1000, true},  {65536, 60, 1000, true}, {65536, 17, 1000, true},
        {65536, 16, 1000, false}, {65536, 1, 1000, false}, {16384, 8, 1000, true},
        {16384, 7, 1000, false},  {65536, 7, 5500, true},  {65536, 6, 5500, false},
        {65536, 32, 512, true},   {65536, 31, 512, false}, {65536, 60, 511, false},
        {65536, 60, 100, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct client *c = begin();
        struct train t = lands(rows[i].landing);
        uint32_t count = rows[i].count, gap = rows[i].in_place ? HEADS : 0;
        struct iovec at = {0};
        delivers_run(&t, count, rows[i].bytes);
        cut(c);
        ck_assert_uint_eq(segments_in(c, t.body, &at), rows[i].in_place);
        ck_assert_uint_eq(t.body->refs, rows[i].in_place ? 2 : 1);
        if (rows[i].in_place) {
            ck_assert_ptr_eq(at.iov_base, t.body->data + HEADS + 8);
            ck_assert_uint_eq(at.iov_len, count * rows[i].bytes + (count - 1) * HEADS);
        }
        rig_take(c);
        ck_assert_uint_eq(t.body->refs, 1);
        check_frame(c, 0, count, gap);
        ck_assert_ptr_null(delivered(c, 1));
        check_all(c, 1);
        buf_unref(t.body);
        rig_end(c, NULL);
    }
}
END_TEST

START_TEST(a_run_goes_on_in_place_behind_a_frame_that_is_full)
{
    struct client *c = begin();
    struct train t = lands(131072);
    struct iovec at = {0};
    delivers_run(&t, 110, 1000);
    cut(c);
    ck_assert_uint_eq(t.body->refs, 3);
    ck_assert_uint_eq(segments_in(c, t.body, &at), 2);
    rig_take(c);
    ck_assert_uint_eq(t.body->refs, 1);
    check_frame(c, 0, 64, HEADS);
    check_frame(c, 1, 46, HEADS);
    check_all(c, 1);
    buf_unref(t.body);
    rig_end(c, NULL);
}
END_TEST

START_TEST(messages_of_all_sizes_are_in_place_behind_a_first_that_is)
{
    struct client *c = begin();
    struct train t = lands(65536);
    static const uint32_t bytes[] = {600, 0, 1, 5000, 0, 511, 17000, 0, 4096, 3};
    struct iovec at = {0};
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++)
        delivers_run(&t, 1, bytes[i]);
    cut(c);
    ck_assert_uint_eq(segments_in(c, t.body, &at), 1);
    rig_take(c);
    check_frame(c, 0, 10, HEADS);
    check_all(c, 1);
    buf_unref(t.body);
    rig_end(c, NULL);
}
END_TEST

enum odd { OTHER_LEAD, FARTHER, NEARER, NO_LEAD, AT_ONCE, OTHER_BODY, EMPTY, ODDS };

/* A message behind a run: of all kinds but the last it is not in place. */
static void delivers_odd(struct train *t, struct train *other, enum odd odd)
{
    static const struct {
        uint32_t distance, lead, bytes;
    } rows[] = {[OTHER_LEAD] = {HEADS - 8, HEADS - 8, 1000},
                [FARTHER] = {HEADS + 8, HEADS, 1000},
                [NEARER] = {HEADS - 8, HEADS, 1000},
                [NO_LEAD] = {HEADS, 0, 1000},
                [AT_ONCE] = {0, 0, 1000},
                [OTHER_BODY] = {HEADS, HEADS, 1000},
                [EMPTY] = {HEADS, HEADS, 0}};
    delivers(odd == OTHER_BODY ? other : t, rows[odd].distance, rows[odd].lead, rows[odd].bytes);
}

START_TEST(what_is_not_next_in_place_ends_a_run_that_is_worth_it)
{
    for (enum odd odd = 0; odd < ODDS; odd++) {
        struct client *c = begin();
        struct train t = lands(65536), other = lands(65536);
        delivers_run(&t, 20, 1000);
        delivers_odd(&t, &other, odd);
        cut(c);
        ck_assert_uint_eq(t.body->refs, 2);
        ck_assert_uint_eq(other.body->refs, 1);
        rig_take(c);
        ck_assert_uint_eq(t.body->refs, 1);
        check_frame(c, 0, odd == EMPTY ? 21 : 20, HEADS);
        if (odd != EMPTY)
            check_frame(c, 1, 1, 0);
        ck_assert_ptr_null(delivered(c, odd == EMPTY ? 1 : 2));
        check_all(c, 1);
        buf_unref(t.body);
        buf_unref(other.body);
        rig_end(c, NULL);
    }
}
END_TEST

/* What is behind it is copied, too, though it would be worth it alone. */
START_TEST(a_run_that_is_not_worth_it_is_copied_with_what_is_not_next_in_place)
{
    for (enum odd odd = 0; odd < EMPTY; odd++) {
        for (unsigned run = 1; run <= 3; run += 2) {
            struct client *c = begin();
            struct train t = lands(65536), other = lands(65536);
            delivers_run(&t, run, 1000);
            if (odd == OTHER_LEAD && run == 1) /* with one there is no gap yet */
                delivers(&t, HEADS, HEADS, 1000);
            delivers_odd(&t, &other, odd);
            uint32_t count = (uint32_t)last + 20;
            ck_assert_uint_eq(t.body->refs, 1);
            delivers_run(&t, 20, 1000);
            cut(c);
            ck_assert_uint_eq(t.body->refs, 1);
            ck_assert_uint_eq(other.body->refs, 1);
            rig_take(c);
            check_frame(c, 0, count, 0);
            ck_assert_ptr_null(delivered(c, 1));
            check_all(c, 1);
            buf_unref(t.body);
            buf_unref(other.body);
            rig_end(c, NULL);
        }
    }
}
END_TEST

START_TEST(each_run_in_place_has_a_frame_and_a_gap_of_its_own)
{
    struct client *c = begin();
    struct train t = lands(65536), other = lands(16384);
    delivers_run(&t, 20, 1000);
    for (unsigned i = 0; i < 20; i++) /* packets with several messages have less between them */
        delivers(&t, 8, 8, 1000);
    delivers_run(&other, 10, 700);
    delivers(&other, HEADS, 0, 10);
    delivers(&other, HEADS, 0, 0);
    ck_assert_uint_eq(t.body->refs, 3);
    ck_assert_uint_eq(other.body->refs, 2);
    rig_turn(NULL);
    ck_assert_uint_eq(t.body->refs, 1);
    ck_assert_uint_eq(other.body->refs, 1);
    check_frame(c, 0, 20, HEADS);
    check_frame(c, 1, 20, 8);
    check_frame(c, 2, 10, HEADS);
    check_frame(c, 3, 2, 0);
    check_all(c, 1);
    buf_unref(t.body);
    buf_unref(other.body);
    rig_end(c, NULL);
}
END_TEST

START_TEST(messages_of_which_it_is_not_known_where_they_lie_are_copied)
{
    struct client *c = begin();
    struct train t = lands(65536);
    for (unsigned i = 0; i < 20; i++) {
        delivers(&t, 0, 0, 1000);
        ck_assert_uint_eq(t.body->refs, 1);
    }
    rig_turn(NULL);
    check_frame(c, 0, 20, 0);
    check_all(c, 1);
    buf_unref(t.body);
    rig_end(c, NULL);
}
END_TEST

/* Small messages before a run: the run is copied behind them. */
START_TEST(a_run_does_not_begin_within_a_frame)
{
    struct client *c = begin();
    struct train t = lands(65536);
    delivers_run(&t, 1, 100);
    delivers_run(&t, 20, 1000);
    ck_assert_uint_eq(t.body->refs, 1);
    rig_turn(NULL);
    check_frame(c, 0, 21, 0);
    check_all(c, 1);
    buf_unref(t.body);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_run_survives_writes_that_are_cut_anywhere)
{
    struct client *c = begin();
    struct train t = lands(65536);
    static uint8_t all[1u << 17];
    size_t total = 0;
    struct iovec iov[1];
    delivers_run(&t, 50, 1000);
    cut(c);
    while (session_output(c, iov, 1) == 1) {
        size_t part = iov[0].iov_len < 777 ? iov[0].iov_len : 777;
        memcpy(all + total, iov[0].iov_base, part);
        total += part;
        ck_assert_uint_eq(t.body->refs, 2);
        session_wrote(c, part, rig_now);
    }
    ck_assert_uint_eq(t.body->refs, 1);
    rig_parse(c, all, total);
    check_frame(c, 0, 50, HEADS);
    check_all(c, 1);
    buf_unref(t.body);
    rig_end(c, NULL);
}
END_TEST

START_TEST(all_clients_of_a_group_get_a_run_from_its_place)
{
    struct client *a = begin(), *b = connect_client();
    struct train t = lands(65536);
    say_open(b, 1, 1, "g", RECV);
    rig_turn(NULL);
    delivers_run(&t, 20, 1000);
    ck_assert_uint_eq(t.body->refs, 3);
    rig_turn(a);
    ck_assert_uint_eq(t.body->refs, 2);
    check_frame(b, 0, 20, HEADS);
    check_all(b, 1);
    delivers_run(&t, 20, 1000);
    ck_assert_uint_eq(t.body->refs, 4);
    rig_turn(a);
    check_all(b, 21);
    ck_assert_uint_eq(t.body->refs, 3);
    rig_take(a);
    ck_assert_uint_eq(t.body->refs, 1);
    check_frame(a, 0, 20, HEADS);
    check_frame(a, 1, 20, HEADS);
    check_all(a, 1);
    buf_unref(t.body);
    rig_end(a, b);
}
END_TEST

START_TEST(a_client_that_goes_leaves_what_is_in_place)
{
    struct client *a = begin(), *b = connect_client();
    struct train t = lands(65536);
    say_open(b, 1, 1, "g", RECV);
    rig_turn(NULL);
    delivers_run(&t, 20, 1000);
    rig_turn(a);
    delivers_run(&t, 20, 1000);
    ck_assert_uint_eq(t.body->refs, 4);
    session_wrote(a, 5000, rig_now); /* one frame in part, the other one is open */
    session_disconnect(rig_session, a, rig_now);
    ck_assert_uint_eq(t.body->refs, 2);
    rig_turn(NULL);
    ck_assert_uint_eq(t.body->refs, 1);
    check_frame(b, 0, 20, HEADS);
    check_all(b, 21);
    delivers_run(&t, 9, 1000);
    session_disconnect(rig_session, b, rig_now);
    ck_assert_uint_eq(t.body->refs, 1);
    buf_unref(t.body);
    rig_end(NULL, NULL);
}
END_TEST

Suite *suite_session_place(void)
{
    Suite *suite = suite_create("session_place");
    TCase *t = tcase_create("session_place");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_run_that_is_worth_it_is_referenced_and_others_are_copied);
    tcase_add_test(t, a_run_goes_on_in_place_behind_a_frame_that_is_full);
    tcase_add_test(t, messages_of_all_sizes_are_in_place_behind_a_first_that_is);
    tcase_add_test(t, what_is_not_next_in_place_ends_a_run_that_is_worth_it);
    tcase_add_test(t, a_run_that_is_not_worth_it_is_copied_with_what_is_not_next_in_place);
    tcase_add_test(t, each_run_in_place_has_a_frame_and_a_gap_of_its_own);
    tcase_add_test(t, messages_of_which_it_is_not_known_where_they_lie_are_copied);
    tcase_add_test(t, a_run_does_not_begin_within_a_frame);
    tcase_add_test(t, a_run_survives_writes_that_are_cut_anywhere);
    tcase_add_test(t, all_clients_of_a_group_get_a_run_from_its_place);
    tcase_add_test(t, a_client_that_goes_leaves_what_is_in_place);
    suite_add_tcase(suite, t);
    return suite;
}
