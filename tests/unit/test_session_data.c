/* Tests of daemon/session: messages from clients and to them. */
#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "session_rig.h"
#include "suites.h"

/* ---- sending */

START_TEST(grants_are_renewed_by_the_quarter_as_messages_leave)
{
    rig_begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", SEND);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    core_event("g", GROUP_SENDABLE, 5);
    ck_assert_int_gt(say_submit(c, 1, 16, 1008, 'x'), 0); /* 1024 each: a quarter */
    rig_turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    for (uint64_t n = 1; n <= 15; n++)
        core_pulls("g", n);
    rig_turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    core_pulls("g", 16);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, 16384);
    rig_end(c, NULL);
}
END_TEST

START_TEST(more_than_was_granted_closes_the_connection)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    ck_assert_int_gt(say_submit(c, 1, 64, 1008, 'x'), 0);
    ck_assert_int_eq(say_submit(c, 1, 1, 0, 'x'), -EDQUOT);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c),
                     "frame 4: Submit.bytes[0] = 0: is more than was granted for the group");
    ck_assert(rig_closes);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_large_message_gets_a_grant_of_its_own_once_the_queue_is_empty)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    ck_assert_int_gt(say_submit(c, 1, 1, 100, 'a'), 0);
    ck_assert_int_gt(say_need(c, 1, (16u << 20) + 16), 0);
    rig_turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(GRANT), 0));
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, (16u << 20) + 16 - 65536 + 116);
    ck_assert_int_gt(say_submit(c, 1, 1, 16u << 20, 'b'), 0);
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    rig_turn(NULL);
    ck_assert_uint_ge(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    rig_end(c, NULL);
}
END_TEST

START_TEST(clients_of_a_group_take_turns)
{
    rig_begin();
    struct client *a = client_in("g", SEND), *b = connect_client();
    say_open(b, 1, 1, "g", SEND);
    rig_turn(NULL);
    say_submit(a, 1, 3, 10, 'a');
    say_submit(b, 1, 2, 10, 'b');
    char order[8] = "";
    for (uint64_t n = 1; n <= 5; n++)
        order[n - 1] = (char)core_pulls("g", n);
    ck_assert_str_eq(order, "ababa");
    ck_assert_int_eq(core_pulls("g", 6), -1);
    ck_assert_uint_ge(rig_node.readies, 1);
    /* Completions follow who submitted what, once per turn and cumulative. */
    core_stable("g", 1, false);
    core_stable("g", 4, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(COMPLETION), 0)->completion->k, 2);
    ck_assert_ptr_null(heard(a, WHAT(COMPLETION), 1));
    ck_assert_uint_eq(heard(b, WHAT(COMPLETION), 0)->completion->k, 2);
    core_stable("g", 5, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(COMPLETION), 0)->completion->k, 3);
    ck_assert_ptr_null(heard(b, WHAT(COMPLETION), 0));
    rig_end(a, b);
}
END_TEST

START_TEST(messages_of_one_frame_are_pulled_one_by_one)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    uint32_t group = 1, lengths[] = {3, 3, 0, 0, 3, 5000, 1, 1};
    const uint32_t count = sizeof(lengths) / sizeof(lengths[0]);
    Qsm__Submit m = QSM__SUBMIT__INIT;
    m.count = count;
    m.n_group = 1, m.group = &group;
    m.n_bytes = count, m.bytes = lengths;
    uint8_t payload[5011];
    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)(i % 251);
    size_t header = qsm__submit__pack(&m, rig_frame + FRAME_HEAD_BYTES), at = 0;
    frame_write_head(rig_frame, 3, header, sizeof(payload));
    memcpy(rig_frame + FRAME_HEAD_BYTES + header, payload, sizeof(payload));
    ck_assert_int_gt(rig_say(c, rig_frame, FRAME_HEAD_BYTES + header + sizeof(payload)), 0);
    struct buf *bodies[8];
    for (uint32_t i = 0; i < count; i++) {
        struct message pulled;
        ck_assert(rig_up.pull(rig_up.ctx, rig_handle("g"), i + 1, 0, &pulled));
        ck_assert_uint_eq(pulled.bytes, lengths[i]);
        ck_assert_int_eq(pulled.last, i + 1 == count);
        ck_assert_mem_eq(pulled.data, payload + at, lengths[i]);
        at += lengths[i];
        bodies[i] = pulled.body;
    }
    ck_assert_int_eq(core_pulls("g", count + 1), -1);
    ck_assert_uint_eq(bodies[0]->refs, count);
    for (uint32_t i = 0; i < count; i++)
        buf_unref(bodies[i]);
    for (uint64_t n = 1; n <= count; n++) {
        core_stable("g", n, false);
        rig_turn(NULL);
        ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, n);
    }
    rig_end(c, NULL);
}
END_TEST

START_TEST(memory_of_the_pool_is_not_pinned_by_what_is_short)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    struct message m;
    for (uint64_t n = 1; n <= 2; n++) {
        say_submit(c, 1, 16, n == 1 ? 200 : 1000, 'x');
        ck_assert(rig_up.pull(rig_up.ctx, rig_handle("g"), 16 * n - 15, 0, &m));
        ck_assert_uint_eq(m.body->size, n == 1 ? 3200 : 16000);
        ck_assert_uint_lt(malloc_usable_size(m.body), m.body->size + 512);
        buf_unref(m.body);
        for (uint64_t k = 1; k < 16; k++)
            core_pulls("g", 16 * n - 15 + k);
    }
    rig_end(c, NULL);
}
END_TEST

START_TEST(what_was_accepted_goes_out_though_its_client_is_gone)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    say_submit(c, 1, 2, 10, 'a');
    session_disconnect(rig_session, c, rig_now);
    rig_now += 100 * SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, NODE_SEND);
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    ck_assert_int_eq(core_pulls("g", 2), 'a');
    ck_assert_int_eq(core_pulls("g", 3), -1);
    rig_now += 100 * SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, NODE_SEND); /* not stable yet */
    core_stable("g", 2, false);
    rig_turn(NULL);
    rig_now += 60 * SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    rig_end(NULL, NULL);
}
END_TEST

START_TEST(a_group_opened_again_sends_what_was_queued_before_first)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    say_submit(c, 1, 1, 10, 'a');
    say_close(c, 2, 1, SEND);
    say_open(c, 3, 5, "g", SEND);
    rig_turn(NULL);
    say_submit(c, 5, 1, 10, 'b');
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    core_stable("g", 2, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->id, 5);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 1);
    rig_end(c, NULL);
}
END_TEST

START_TEST(what_was_accepted_before_a_close_goes_out_without_a_word)
{
    rig_begin();
    struct client *c = client_in("g", RECV | SEND);
    say_submit(c, 1, 2, 10, 'a');
    core_pulls("g", 1);
    say_close(c, 2, 1, SEND);
    core_stable("g", 1, false);
    core_pulls("g", 2);
    rig_turn(NULL);
    ck_assert_ptr_null(
        heard(c, WHAT(COMPLETION),
              0)); /* k begins anew with every opening to send, though it stayed open to receive. */
    say_open(c, 3, 1, "g", SEND);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(GRANT), 0)->grant->bytes, 65536);
    say_submit(c, 1, 1, 10, 'b');
    core_pulls("g", 3);
    core_stable("g", 3, false);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 1);
    rig_end(c, NULL);
}
END_TEST

/* ---- receiving */

START_TEST(messages_arrive_in_frames_of_64_with_all_that_names_them)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    for (uint64_t n = 1; n <= 65; n++)
        core_delivers("g", n % 2 ? 2 : 3, n, &n, sizeof(n));
    rig_turn(NULL);
    const struct told *t = delivered(c, 0);
    ck_assert_uint_eq(t->deliver->count, 64);
    struct told_message last = told_message(t->deliver, 63);
    ck_assert_uint_eq(last.group, 1);
    ck_assert_uint_eq(last.bytes, 8);
    ck_assert_uint_eq(last.sender, 3);
    ck_assert_uint_eq(last.number, 64);
    ck_assert_uint_eq(last.epoch, 5);
    uint64_t n = 64;
    ck_assert_mem_eq(t->payload + 63 * 8, &n, 8);
    /* host2 is known from the view. */
    ck_assert_uint_eq(t->deliver->n_host, 1);
    ck_assert_str_eq(t->deliver->host[0]->host, "host3");
    ck_assert_uint_eq(delivered(c, 1)->deliver->count, 1);
    ck_assert_uint_eq(delivered(c, 1)->deliver->n_host, 0);
    rig_end(c, NULL);
}
END_TEST

/* Which lists of the i-th frame have an entry for each message. */
static const char *long_lists(const struct client *c, unsigned i)
{
    static char text[8];
    const Qsm__Deliver *d = delivered(c, i)->deliver;
    snprintf(text, sizeof(text), "%s%s%s%s%s", d->n_group > 1 ? "g" : "", d->n_bytes > 1 ? "b" : "",
             d->n_sender > 1 ? "s" : "", d->n_number > 1 ? "n" : "", d->n_epoch > 1 ? "e" : "");
    return text;
}

START_TEST(what_is_the_same_of_all_messages_of_a_frame_is_said_once)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    say_open(c, 2, 2, "h", RECV);
    core_event("h", GROUP_VIEW, 5);
    rig_turn(NULL);
    static const struct {
        const char *group;
        uint32_t sender, bytes;
        uint64_t number;
        const char *lists; /* with two in turn before it */
    } rows[] = {{"g", 2, 1, 3, ""},    {"h", 2, 1, 3, "g"}, {"g", 2, 0, 3, "b"},
                {"g", 3, 1, 3, "s"},   {"g", 2, 1, 4, "n"}, {"g", 2, 1, 1, "n"},
                {"h", 3, 0, 9, "gbsn"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        core_delivers("g", 2, 1, "x", 1);
        core_delivers("g", 2, 2, "y", 1);
        core_delivers(rows[i].group, rows[i].sender, rows[i].number, "z", rows[i].bytes);
        rig_turn(NULL);
        ck_assert_str_eq(long_lists(c, 0), rows[i].lists);
        struct told_message second = told_message(delivered(c, 0)->deliver, 1);
        ck_assert_uint_eq(second.group, 1);
        ck_assert_uint_eq(second.bytes, 1);
        ck_assert_uint_eq(second.sender, 2);
        ck_assert_uint_eq(second.number, 2);
        struct told_message third = told_message(delivered(c, 0)->deliver, 2);
        ck_assert_uint_eq(third.group, *rows[i].group == 'g' ? 1 : 2);
        ck_assert_uint_eq(third.bytes, rows[i].bytes);
        ck_assert_uint_eq(third.sender, rows[i].sender);
        ck_assert_uint_eq(third.number, rows[i].number);
    }
    rig_end(c, NULL);
}
END_TEST

START_TEST(large_payloads_are_referenced_and_small_ones_are_copied)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    struct buf *body = buf_new(80000);
    memset(body->data, 'L', body->size);
    struct delivery d = {.group = 0,
                         .sender = 2,
                         .number = 1,
                         .epoch = 5,
                         .body = body,
                         .data = body->data + 5,
                         .bytes = 20000};
    core_delivers("g", 2, 1, "small", 5);
    rig_up.deliver(rig_up.ctx, &d);
    core_delivers("g", 2, 3, "tiny", 4);
    d.bytes = 5000; /* not worth keeping all of body for */
    d.number = 4;
    rig_up.deliver(rig_up.ctx, &d);
    bool close;
    ck_assert_ptr_eq(session_next(rig_session, &close), c);
    struct iovec iov[8];
    int count = session_output(c, iov, 8);
    bool found = false;
    for (int i = 0; i < count; i++)
        found = found || (iov[i].iov_base == body->data + 5 && iov[i].iov_len == 20000);
    ck_assert(found);
    ck_assert_uint_eq(body->refs, 2);
    rig_forget();
    rig_take(c);
    ck_assert_uint_eq(body->refs, 1);
    ck_assert_mem_eq(delivered(c, 0)->payload, "smallLLL", 8);
    ck_assert_mem_eq(delivered(c, 0)->payload + 20004, "Ltiny", 5);
    buf_unref(body);
    rig_end(c, NULL);
}
END_TEST

START_TEST(output_survives_writes_that_are_cut_anywhere)
{
    rig_begin();
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
        session_next(rig_session, &close);
        struct iovec iov[3];
        int count = session_output(c, iov, 3);
        size_t want = (size_t)(seed = seed * 1103515245u + 12345) % 9000, done = 0;
        for (int i = 0; i < count && done < want; i++) {
            size_t part = iov[i].iov_len < want - done ? iov[i].iov_len : want - done;
            memcpy(all + total + done, iov[i].iov_base, part);
            done += part;
        }
        session_wrote(c, done, rig_now);
        total += done;
    }
    struct iovec iov[1];
    while (session_output(c, iov, 1) == 1) {
        memcpy(all + total, iov[0].iov_base, iov[0].iov_len);
        total += iov[0].iov_len;
        session_wrote(c, iov[0].iov_len, rig_now);
    }
    rig_forget();
    rig_parse(c, all, total);
    uint64_t n = 0;
    for (unsigned i = 0; delivered(c, i); i++) {
        const struct told *t = delivered(c, i);
        const uint8_t *at = t->payload;
        for (size_t k = 0; k < t->deliver->count; k++) {
            struct told_message m = told_message(t->deliver, k);
            ck_assert_uint_eq(m.number, ++n);
            ck_assert_uint_eq(m.bytes, n * 37 % 6000);
            for (uint32_t b = 0; b < m.bytes; b++)
                ck_assert_uint_eq(at[b], (uint8_t)n);
            at += m.bytes;
        }
    }
    ck_assert_uint_eq(n, 300);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_client_may_do_without_its_own_messages)
{
    rig_begin();
    struct client *a = client_in("g", RECV | SEND | NO_ECHO), *b = connect_client();
    say_open(b, 1, 1, "g", RECV | SEND | NO_ECHO);
    rig_turn(NULL);
    say_submit(a, 1, 1, 1, 'a');
    say_submit(b, 1, 1, 1, 'b');
    ck_assert_int_eq(core_pulls("g", 1), 'a');
    core_delivers("g", 1, 1, "a", 1);
    ck_assert_int_eq(core_pulls("g", 2), 'b');
    core_delivers("g", 1, 2, "b", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(a, 0)->deliver->count, 1);
    ck_assert_int_eq(delivered(a, 0)->payload[0], 'b');
    ck_assert_uint_eq(delivered(b, 0)->deliver->count, 1);
    ck_assert_int_eq(delivered(b, 0)->payload[0], 'a');
    rig_end(a, b);
}
END_TEST

START_TEST(a_later_local_client_starts_after_what_was_delivered)
{
    rig_begin();
    struct client *a = client_in("g", RECV);
    core_delivers("g", 2, 1, "x", 1);
    core_delivers("g", 3, 1, "x", 1);
    struct client *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    core_delivers("g", 2, 2, "y", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(b, 0)->deliver->count, 1);
    ck_assert_uint_eq(delivered(b, 0)->deliver->number[0], 2);
    /* Positions name only who was delivered to this subscription. */
    say_close(a, 2, 1, RECV);
    say_close(b, 2, 1, RECV);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->n_position, 2);
    Qsm__EndEvent *e = heard(b, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->n_position, 1);
    ck_assert_uint_eq(e->position[0]->node, 2);
    ck_assert_uint_eq(e->position[0]->number, 2);
    rig_end(a, b);
}
END_TEST

START_TEST(who_does_not_read_ends_slow_and_costs_only_itself)
{
    struct session_config config = config_default();
    config.queue_messages = 10;
    rig_begin_with(&config);
    struct client *a = client_in("g", RECV), *b = connect_client();
    say_open(b, 1, 1, "g", RECV);
    rig_turn(NULL);
    for (uint64_t n = 1; n <= 30; n++) {
        core_delivers("g", 2, n, "x", 1);
        rig_turn(a);
        ck_assert_uint_eq(delivered(b, 0)->deliver->number[0], n);
    }
    rig_forget();
    rig_take(a);
    Qsm__EndEvent *e = heard(a, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 2);
    ck_assert_uint_eq(e->position[0]->number, 10);
    ck_assert(!e->rejoined);
    ck_assert_uint_eq(delivered(a, 9)->deliver->number[0], 10);
    ck_assert_ptr_null(delivered(a, 10));
    rig_end(a, b);
}
END_TEST

START_TEST(a_client_that_reads_nothing_for_2_s_ends_slow)
{
    rig_begin();
    struct client *a = client_in("g", RECV);
    say_open(a, 2, 2, "quiet", RECV);
    core_event("quiet", GROUP_VIEW, 5);
    rig_turn(NULL);
    rig_now += 100 * SECOND; /* idle for long, which is nobody's fault */
    core_delivers("g", 2, 1, "x", 1);
    rig_turn(a);
    session_expire(rig_session, rig_now);
    ck_assert_uint_eq(session_deadline(rig_session), rig_now + 2 * SECOND);
    rig_now += 2 * SECOND;
    session_expire(rig_session, rig_now);
    ck_assert_uint_eq(session_deadline(rig_session), UINT64_MAX);
    rig_forget();
    rig_take(a);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->id, 1);
    ck_assert_ptr_null(heard(a, WHAT(END), 1)); /* nothing waited for the other one */
    core_delivers("quiet", 2, 1, "x", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(a, 0)->deliver->group[0], 2);
    rig_end(a, NULL);
}
END_TEST

START_TEST(an_empty_queue_takes_a_message_above_its_cap)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    static uint8_t large[2u << 20];
    core_delivers("g", 2, 1, large, sizeof(large));
    rig_turn(NULL);
    ck_assert_uint_eq(delivered(c, 0)->deliver->bytes[0], sizeof(large));
    rig_end(c, NULL);
}
END_TEST

START_TEST(an_expelled_host_ends_subscriptions_and_begins_them_again)
{
    struct session_config config = config_default();
    config.trace = true;
    rig_begin_with(&config);
    struct client *c = client_in("g", RECV | SEND);
    say_submit(c, 1, 3, 1, 'a');
    core_pulls("g", 1);
    core_pulls("g", 2);
    core_delivers("g", 2, 7, "x", 1);
    core_stable("g", 1, false);
    core_stable("g", 2, true);
    core_event("g", GROUP_EXPELLED, 5);
    core_delivers("g", 2, 8, "x", 1);
    rig_turn(NULL);
    Qsm__EndEvent *e = heard(c, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 3);
    ck_assert(e->rejoined);
    ck_assert_uint_eq(e->position[0]->number, 7);
    ck_assert(!heard(c, WHAT(COMPLETION), 0)->completion->lost);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 1)->completion->k, 2);
    ck_assert(heard(c, WHAT(COMPLETION), 1)->completion->lost);
    ck_assert_str_ne(heard(c, WHAT(COMPLETION), 1)->completion->reason, "");
    ck_assert_uint_eq(rig_node.closes, 0);
    core_event("g", GROUP_VIEW, 9);
    core_event("g", GROUP_SENDABLE, 9);
    ck_assert_int_eq(core_pulls("g", 1), 'a'); /* under a new id numbers start again */
    core_delivers("g", 2, 9, "y", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(VIEW), 0)->view->epoch, 9);
    ck_assert_uint_eq(delivered(c, 0)->deliver->number[0], 9);
    rig_end(c, NULL);
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
        ck_assert_msg(strstr(rig_trace, lines[i]), "no %s in:\n%s", lines[i], rig_trace);
}
END_TEST

START_TEST(a_daemon_that_stops_ends_everything_with_a_reason)
{
    rig_begin();
    struct client *c = client_in("g", RECV | SEND);
    say_submit(c, 1, 3, 1, 'a');
    core_pulls("g", 1);
    say_open(c, 5, 2, "h", RECV);
    session_stop(rig_session, rig_now);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(END), 0)->end->why, 5);
    unsigned i = 0;
    while (heard(c, WHAT(COMPLETION), i))
        i++;
    ck_assert_uint_ge(i, 1);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), i - 1)->completion->k, 3);
    ck_assert(heard(c, WHAT(COMPLETION), 0)->completion->lost);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ESHUTDOWN);
    ck_assert_int_eq(core_pulls("g", 2), -1);
    rig_end(c, NULL);
}
END_TEST

Suite *suite_session_data(void)
{
    Suite *suite = suite_create("session_data");
    TCase *t = tcase_create("session_data");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, grants_are_renewed_by_the_quarter_as_messages_leave);
    tcase_add_test(t, more_than_was_granted_closes_the_connection);
    tcase_add_test(t, a_large_message_gets_a_grant_of_its_own_once_the_queue_is_empty);
    tcase_add_test(t, clients_of_a_group_take_turns);
    tcase_add_test(t, messages_of_one_frame_are_pulled_one_by_one);
    tcase_add_test(t, memory_of_the_pool_is_not_pinned_by_what_is_short);
    tcase_add_test(t, what_was_accepted_goes_out_though_its_client_is_gone);
    tcase_add_test(t, a_group_opened_again_sends_what_was_queued_before_first);
    tcase_add_test(t, what_was_accepted_before_a_close_goes_out_without_a_word);
    tcase_add_test(t, messages_arrive_in_frames_of_64_with_all_that_names_them);
    tcase_add_test(t, what_is_the_same_of_all_messages_of_a_frame_is_said_once);
    tcase_add_test(t, large_payloads_are_referenced_and_small_ones_are_copied);
    tcase_add_test(t, output_survives_writes_that_are_cut_anywhere);
    tcase_add_test(t, a_client_may_do_without_its_own_messages);
    tcase_add_test(t, a_later_local_client_starts_after_what_was_delivered);
    tcase_add_test(t, who_does_not_read_ends_slow_and_costs_only_itself);
    tcase_add_test(t, a_client_that_reads_nothing_for_2_s_ends_slow);
    tcase_add_test(t, an_empty_queue_takes_a_message_above_its_cap);
    tcase_add_test(t, an_expelled_host_ends_subscriptions_and_begins_them_again);
    tcase_add_test(t, a_daemon_that_stops_ends_everything_with_a_reason);
    suite_add_tcase(suite, t);
    return suite;
}
