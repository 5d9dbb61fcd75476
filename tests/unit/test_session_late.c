/* Tests of daemon/session_late: subscriptions that want the latest. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session_internal.h"
#include "session_rig.h"
#include "suites.h"

/* What a client heard of one subscription, in order: messages as their numbers, a view as v and its
 * epoch, what was dropped as -count, an end as end. */
static const char *story(const struct client *c)
{
    static char text[4096];
    size_t used = 0;
    text[0] = '\0';
    for (unsigned i = 0;; i++) {
        const struct told *t = heard_any(c, i);
        if (!t)
            return text;
        for (size_t k = 0; t->deliver && k < t->deliver->count; k++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%llu ",
                                     (unsigned long long)told_message(t->deliver, k).number);
        if (t->control && t->control->what_case == WHAT(VIEW))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "v%llu ",
                                     (unsigned long long)t->control->view->epoch);
        if (t->control && t->control->what_case == WHAT(DROPPED))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "-%llu ",
                                     (unsigned long long)t->control->dropped->messages);
        if (t->control && t->control->what_case == WHAT(END))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "end ");
    }
}

/* Messages of so many bytes from..to of host 2, the client does not read. */
static void arrive(const struct client *sleeper, uint64_t from, uint64_t to, uint32_t bytes)
{
    static uint8_t body[1u << 20];
    for (uint64_t n = from; n <= to; n++) {
        core_delivers("g", 2, n, body, bytes);
        rig_turn(sleeper);
    }
}

/* The client reads all there is, in as many turns as that takes. */
static const char *wakes(struct client *c)
{
    rig_forget();
    do {
        bool close;
        rig_take(c);
        while (session_next(rig_session, &close))
            continue;
    } while (session_output(c, &(struct iovec){0}, 1) > 0);
    return story(c);
}

static void begin(uint32_t queue_messages)
{
    struct session_config config = config_default();
    config.queue_messages = queue_messages;
    rig_begin_with(&config);
}

START_TEST(who_reads_gets_everything)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    for (uint64_t n = 1; n <= 100; n++) {
        core_delivers("g", 2, n, "x", 1);
        rig_turn(NULL);
        ck_assert_uint_eq(delivered(c, 0)->deliver->number[0], n);
    }
    ck_assert_uint_eq(rig_session->stats.latest_dropped, 0);
    rig_end(c, NULL);
}
END_TEST

START_TEST(who_sleeps_misses_the_oldest_and_is_told_how_many)
{
    begin(16); /* a quarter: 4 messages */
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 1000, 10);
    const char *heard_all = wakes(c);
    /* The newest 64 of the other 996. */
    ck_assert_msg(strncmp(heard_all, "1 2 3 4 -932 937 938 ", 21) == 0, "%s", heard_all);
    ck_assert_msg(strstr(heard_all, " 999 1000 ") != NULL, "%s", heard_all);
    ck_assert_uint_eq(rig_session->stats.latest_dropped, 932);
    ck_assert_uint_eq(rig_session->stats.subscriptions_slow, 0);
    /* It is as if nothing had been. */
    core_delivers("g", 2, 1001, "x", 1);
    rig_turn(NULL);
    ck_assert_str_eq(story(c), "1001 ");
    rig_end(c, NULL);
}
END_TEST

START_TEST(an_hour_asleep_ends_nothing)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 10, 10);
    rig_now += 3600 * (uint64_t)SECOND;
    rig_turn(c);
    arrive(c, 11, 200, 10);
    const char *heard_all = wakes(c);
    ck_assert_ptr_null(strstr(heard_all, "end"));
    ck_assert_msg(strstr(heard_all, "-132 137 ") != NULL, "%s", heard_all);
    rig_end(c, NULL);
}
END_TEST

START_TEST(views_stay_between_their_messages)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 6, 10); /* two are kept */
    core_event("g", GROUP_VIEW, 6);
    core_event("g", GROUP_VIEW, 7); /* nothing was sent in 6 */
    arrive(c, 7, 8, 10);
    core_event("g", GROUP_VIEW, 8);
    ck_assert_str_eq(wakes(c), "1 2 3 4 5 6 v7 7 8 v8 ");
    /* What is left of a view in which everything was dropped is nothing. */
    arrive(c, 9, 12, 10);
    core_event("g", GROUP_VIEW, 9);
    arrive(c, 13, 13, 10);
    core_event("g", GROUP_VIEW, 10);
    arrive(c, 14, 77, 10);
    const char *heard_all = wakes(c);
    ck_assert_msg(strncmp(heard_all, "9 10 11 12 -1 v10 14 15 ", 24) == 0, "%s", heard_all);
    rig_end(c, NULL);
}
END_TEST

START_TEST(an_end_tells_what_was_kept_as_dropped)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 7, 10);
    say_close(c, 2, 1, RECV);
    ck_assert_str_eq(wakes(c), "1 2 3 4 -3 end ");
    rig_end(c, NULL);
}
END_TEST

START_TEST(what_is_kept_has_a_cap)
{
    struct session_config config = config_default();
    config.queue_bytes = 1u << 18;
    rig_begin_with(&config);
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 100, 50000); /* a quarter is 64 KiB: one in the queue, one kept */
    ck_assert_uint_eq(rig_session->late_bytes, 50000);
    arrive(c, 101, 110, 1u << 20); /* more than all that one client may have waiting */
    ck_assert_uint_eq(rig_session->late_bytes, 0);
    ck_assert_str_eq(wakes(c), "1 -109 ");
    rig_end(c, NULL);
}
END_TEST

START_TEST(others_of_the_same_client_end_as_ever)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    say_open(c, 2, 2, "h", RECV);
    core_event("h", GROUP_VIEW, 5);
    rig_turn(NULL);
    arrive(c, 1, 100, 10);
    for (uint64_t n = 1; n <= 20; n++)
        core_delivers("h", 2, n, "x", 1);
    rig_turn(c);
    wakes(c);
    ck_assert_uint_eq(heard(c, WHAT(END), 0)->end->id, 2);
    ck_assert_ptr_null(heard(c, WHAT(END), 1));
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_connection_that_goes_leaves_nothing)
{
    begin(16);
    struct client *c = client_in("g", RECV | LATEST);
    arrive(c, 1, 100, 5000);
    core_event("g", GROUP_VIEW, 6);
    session_disconnect(rig_session, c, rig_now);
    ck_assert_uint_eq(rig_session->late_bytes, 0);
    rig_end(NULL, NULL);
}
END_TEST

Suite *suite_session_late(void)
{
    Suite *suite = suite_create("session_late");
    TCase *t = tcase_create("session_late");
    tcase_add_test(t, who_reads_gets_everything);
    tcase_add_test(t, who_sleeps_misses_the_oldest_and_is_told_how_many);
    tcase_add_test(t, an_hour_asleep_ends_nothing);
    tcase_add_test(t, views_stay_between_their_messages);
    tcase_add_test(t, an_end_tells_what_was_kept_as_dropped);
    tcase_add_test(t, what_is_kept_has_a_cap);
    tcase_add_test(t, others_of_the_same_client_end_as_ever);
    tcase_add_test(t, a_connection_that_goes_leaves_nothing);
    suite_add_tcase(suite, t);
    return suite;
}
