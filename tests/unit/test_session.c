/* Tests of daemon/session: connections, groups, memberships, questions. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "session_rig.h"
#include "suites.h"

/* ---- connections */

START_TEST(a_hello_is_answered_with_who_the_daemon_is)
{
    rig_begin();
    int error;
    struct client *c = session_connect(rig_session, 1000, 1, rig_now, &error);
    ck_assert_int_gt(say_hello(c), 0);
    rig_turn(NULL);
    Qsm__DaemonHello *h = heard(c, WHAT(HELLO), 0)->hello;
    ck_assert_str_eq(h->host, "here");
    ck_assert_str_eq(h->daemon_version, "1.0");
    ck_assert(h->admitted);
    ck_assert_uint_eq(h->node_id, 1);
    ck_assert_int_eq(say_hello(c), -EPROTO);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 2: ClientHello: said a second time");
    ck_assert(rig_closes);
    rig_end(c, NULL);
}
END_TEST

START_TEST(nothing_is_done_before_a_hello)
{
    rig_begin();
    int error;
    struct client *c = session_connect(rig_session, 1000, 1, rig_now, &error);
    ck_assert_int_eq(say_open(c, 1, 1, "a", RECV), -EPROTO);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 1: ToDaemon.what: came before a ClientHello");
    rig_end(c, NULL);
}
END_TEST

START_TEST(clients_hear_when_the_node_is_admitted_under_another_id)
{
    rig_begin();
    struct client *c = connect_client();
    rig_node.id = 4;
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(HELLO), 0)->hello->node_id, 4);
    rig_end(c, NULL);
}
END_TEST

START_TEST(quotas_of_connections_hold)
{
    rig_begin();
    struct client *c[8];
    int error;
    for (int i = 0; i < 6; i++)
        c[i] = session_connect(rig_session, 1000, 1, rig_now, &error);
    ck_assert_ptr_null(session_connect(rig_session, 1000, 1, rig_now, &error));
    ck_assert_int_eq(error, -EDQUOT);
    c[6] = session_connect(rig_session, 1001, 1, rig_now, &error);
    c[7] = session_connect(rig_session, 1001, 1, rig_now, &error);
    ck_assert_ptr_null(session_connect(rig_session, 1002, 1, rig_now, &error));
    ck_assert_int_eq(error, -EUSERS);
    for (int i = 0; i < 8; i++)
        session_disconnect(rig_session, c[i], rig_now);
    rig_end(NULL, NULL);
}
END_TEST

/* ---- groups */

START_TEST(one_request_opens_8192_groups_and_gets_one_result)
{
    rig_begin();
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
    ck_assert_uint_eq(rig_node.opens, 8192);
    for (uint32_t i = 0; i < 8191; i++)
        core_event(names[i], GROUP_VIEW, 5);
    rig_turn(NULL);
    ck_assert_ptr_nonnull(heard(c, WHAT(VIEW), 8190));
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event(names[8191], GROUP_VIEW, 5);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(RESULT), 0)->result->request, 9);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    /* One more is over the quota, and nothing else happens. */
    ck_assert_int_gt(say_open(c, 10, 8192, "more", RECV), 0);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EDQUOT);
    ck_assert_uint_eq(rig_node.opens, 8192);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_group_is_opened_for_the_first_receiver_and_closed_after_the_last)
{
    rig_begin();
    struct client *a = client_in("g", RECV), *b = connect_client();
    ck_assert_int_gt(say_open(b, 2, 7, "g", RECV), 0);
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.opens, 1);
    ck_assert_uint_eq(heard(b, WHAT(VIEW), 0)->view->epoch, 5);
    ck_assert_int_eq(heard(b, WHAT(RESULT), 0)->result->error, 0);
    say_close(a, 3, 1, RECV);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(a, WHAT(END), 0)->end->why, 1);
    ck_assert_uint_eq(rig_node.closes, 0);
    say_close(b, 3, 7, RECV);
    ck_assert_uint_eq(rig_node.closes, 1);
    rig_end(a, b);
}
END_TEST

START_TEST(a_view_names_its_members_once_per_connection)
{
    rig_begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", RECV);
    core_event("g", GROUP_VIEW, 5);
    core_event("g", GROUP_VIEW, 6);
    rig_turn(NULL);
    Qsm__ViewEvent *first = heard(c, WHAT(VIEW), 0)->view, *second = heard(c, WHAT(VIEW), 1)->view;
    ck_assert_uint_eq(first->n_member, 2);
    ck_assert_str_eq(first->member[1]->host, "host2");
    ck_assert_uint_eq(second->epoch, 6);
    ck_assert_uint_eq(second->member[1]->node, 2);
    ck_assert_str_eq(second->member[1]->host, "");
    rig_end(c, NULL);
}
END_TEST

START_TEST(who_joins_while_the_node_leaves_waits_until_it_has_left)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    say_close(c, 2, 1, RECV);
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    say_open(c, 3, 2, "g", RECV);
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.opens, 1);
    ck_assert_ptr_null(heard(c, WHAT(VIEW), 0));
    core_event("g", GROUP_LEFT, 6);
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.opens, 2);
    core_event("g", GROUP_VIEW, 7);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(VIEW), 0)->view->id, 2);
    ck_assert_uint_eq(heard(c, WHAT(RESULT), 0)->result->request, 3);
    rig_end(c, NULL);
}
END_TEST

START_TEST(who_leaves_before_the_first_view_may_come_back_at_once)
{
    rig_begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", RECV);
    say_close(c, 2, 1, RECV);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ECANCELED);
    ck_assert_ptr_null(heard(c, WHAT(END), 0));
    say_open(c, 3, 1, "g", RECV);
    ck_assert_uint_eq(rig_node.groups[0].mode, NODE_RECV);
    core_event("g", GROUP_VIEW, 7);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_refusal_is_the_result_of_the_request)
{
    rig_begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "g", RECV | SEND);
    core_event("g", GROUP_REFUSED, 0);
    rig_turn(NULL);
    ck_assert_int_lt(heard(c, WHAT(RESULT), 0)->result->error, 0);
    ck_assert_str_eq(heard(c, WHAT(RESULT), 0)->result->text, "regions_max");
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    /* What was on its way to it has an unknown end. */
    say_submit(c, 1, 2, 10, 'x');
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(COMPLETION), 0)->completion->k, 2);
    ck_assert(heard(c, WHAT(COMPLETION), 0)->completion->lost);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_node_that_cannot_open_more_says_so)
{
    rig_begin();
    struct client *c = connect_client();
    rig_node.open_error = -ENOSPC;
    say_open(c, 1, 1, "g", RECV);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ENOSPC);
    rig_end(c, NULL);
}
END_TEST

START_TEST(bad_names_and_ids_are_named)
{
    rig_begin();
    struct client *c = connect_client();
    say_open(c, 1, 1, "two words", RECV);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EINVAL);
    say_open(c, 2, 1, "a", RECV);
    ck_assert_int_eq(say_open(c, 3, 1, "b", RECV), -EEXIST);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c),
                     "frame 4: OpenGroups.group[0].id: is the id of another group that is open");
    rig_end(c, NULL);
}
END_TEST

START_TEST(the_node_holds_a_membership_beyond_the_connection)
{
    rig_begin();
    struct client *c = connect_client();
    say_hold(c, 1, "g", NULL);
    rig_turn(NULL);
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event("g", GROUP_VIEW, 5);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    ck_assert_ptr_null(heard(c, WHAT(VIEW), 0));
    core_delivers("g", 2, 1, "x", 1); /* nobody wants it */
    session_disconnect(rig_session, c, rig_now);
    ck_assert_uint_eq(rig_node.groups[0].mode, NODE_RECV);
    c = connect_client();
    say_hold(c, 2, NULL, "g");
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    ck_assert_ptr_null(heard(c, WHAT(RESULT), 0));
    core_event("g", GROUP_LEFT, 6);
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    say_hold(c, 3, NULL, "g");
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -ENOENT);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_group_stays_open_to_send_for_60_s_after_its_last_sender)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    say_close(c, 2, 1, SEND);
    rig_turn(NULL);
    ck_assert_uint_eq(session_deadline(rig_session), rig_now + 60 * SECOND);
    rig_now += 59 * SECOND;
    say_open(c, 3, 1, "g", SEND); /* again: at once, with no view change */
    rig_turn(NULL);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, 0);
    session_disconnect(rig_session, c, rig_now);
    rig_now += 59 * SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, NODE_SEND);
    rig_now += SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    ck_assert_uint_eq(session_deadline(rig_session), UINT64_MAX);
    rig_end(NULL, NULL);
}
END_TEST

START_TEST(who_comes_back_before_the_close_took_effect_can_send_still)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    say_close(c, 2, 1, SEND);
    rig_now += 60 * SECOND;
    rig_turn(NULL);
    ck_assert_uint_eq(rig_node.groups[0].mode, 0);
    rig_node.installed = NODE_SEND;
    say_open(c, 3, 1, "g", SEND);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(RESULT), 0)->result->request, 3);
    rig_end(c, NULL);
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
    rig_begin_with(&config);
    struct client *c = client_in("g", RECV);
    say_hold(c, 2, "held", NULL);
    say_ask(c, 10, QSM__QUESTION__STATUS, "");
    say_ask(c, 11, QSM__QUESTION__GROUPS, "");
    say_ask(c, 12, QSM__QUESTION__GROUPS, "held");
    say_ask(c, 13, QSM__QUESTION__REGIONS, "");
    say_ask(c, 14, QSM__QUESTION__STATS, "");
    say_ask(c, 15, (Qsm__Question)9, "");
    rig_turn(NULL);
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
    ck_assert_str_eq(stats->counter[stats->n_counter - 2]->name, "group_state_bytes");
    uint64_t groups = stats->counter[stats->n_counter - 3]->value;
    ck_assert_uint_gt(groups, 0);
    ck_assert_uint_gt(stats->counter[stats->n_counter - 2]->value, groups * 1000);
    ck_assert_uint_lt(stats->counter[stats->n_counter - 2]->value, groups * 3000);
    ck_assert_int_eq(heard(c, WHAT(RESULT), 0)->result->error, -EOPNOTSUPP);
    rig_end(c, NULL);
}
END_TEST

static const Qsm__Histogram *told_histogram(struct client *c, const char *name)
{
    say_ask(c, 50, QSM__QUESTION__STATS, "");
    rig_turn(NULL);
    Qsm__StatsList *stats = heard(c, WHAT(STATS), 0)->stats;
    for (size_t i = 0; i < stats->n_histogram; i++) {
        if (strcmp(stats->histogram[i]->name, name) == 0)
            return stats->histogram[i];
    }
    return NULL;
}

static void emit_histogram(void *ctx,
                           void (*emit)(void *to, const char *name, const struct histogram *h),
                           void *to)
{
    static const struct histogram h;
    (void)ctx;
    emit(to, "shell_turn_us", &h);
}

START_TEST(histograms_are_told_by_the_buckets_that_are_not_empty)
{
    struct session_config config = config_default();
    config.shell_histograms = emit_histogram;
    rig_begin_with(&config);
    struct client *c = connect_client();
    const Qsm__Histogram *h = told_histogram(c, "token_hop_us");
    ck_assert_uint_eq(h->count, 2);
    ck_assert_uint_eq(h->sum, 5100);
    ck_assert_uint_eq(h->max, 5000);
    ck_assert_uint_eq(h->n_up_to, 2);
    ck_assert_uint_eq(h->n_counts, 2);
    ck_assert_uint_eq(h->up_to[0], 111);
    ck_assert_uint_eq(h->up_to[1], 5119);
    ck_assert_uint_eq(h->counts[0], 1);
    ck_assert_uint_eq(told_histogram(c, "shell_turn_us")->count, 0);
    ck_assert_ptr_nonnull(told_histogram(c, "send_to_stable_us"));
    rig_end(c, NULL);
}
END_TEST

START_TEST(one_message_at_a_time_is_timed_until_the_core_pulls_it)
{
    rig_begin();
    struct client *c = client_in("g", SEND), *gone = connect_client();
    say_open(gone, 1, 1, "h", SEND);
    rig_turn(NULL);
    say_submit(gone, 1, 1, 10, 'z');
    rig_now += 100;
    say_submit(c, 1, 3, 10, 'a');
    rig_now += 400;
    core_pulls("g", 1); /* the other client's was first */
    ck_assert_uint_eq(told_histogram(c, "send_to_deliver_us")->count, 0);
    core_event("h", GROUP_REFUSED, 0); /* and never leaves */
    say_submit(c, 1, 1, 10, 'b');
    rig_now += 700;
    core_pulls("g", 2);
    core_pulls("g", 3);
    ck_assert_uint_eq(told_histogram(c, "send_to_deliver_us")->count, 0);
    core_pulls("g", 4);
    const Qsm__Histogram *h = told_histogram(c, "send_to_deliver_us");
    ck_assert_uint_eq(h->count, 1);
    ck_assert_uint_eq(h->max, 700);
    rig_end(c, gone);
}
END_TEST

START_TEST(long_lists_come_in_several_frames)
{
    rig_begin();
    for (rig_node.count = 0; rig_node.count < 1200; rig_node.count++)
        snprintf(rig_node.groups[rig_node.count].name, 300, "g%u", rig_node.count);
    struct client *c = connect_client();
    say_ask(c, 1, QSM__QUESTION__GROUPS, "");
    rig_turn(NULL);
    size_t sum = 0;
    unsigned i = 0;
    for (; heard(c, WHAT(GROUPS), i); i++) {
        Qsm__GroupList *l = heard(c, WHAT(GROUPS), i)->groups;
        sum += l->n_group;
        ck_assert_int_eq(l->more, sum < 1200);
    }
    ck_assert_uint_gt(i, 1);
    ck_assert_uint_eq(sum, 1200);
    rig_end(c, NULL);
}
END_TEST

START_TEST(who_asks_and_does_not_read_is_not_served_further)
{
    struct session_config config = config_default();
    config.queue_bytes = 100000;
    rig_begin_with(&config);
    struct client *c = connect_client();
    long n = 1;
    unsigned asked = 0;
    for (; n > 0 && asked < 1000; asked++)
        n = say_ask(c, asked, QSM__QUESTION__STATS, "");
    ck_assert_int_eq(n, 0);
    ck_assert_uint_lt(asked, 200);
    ck_assert_uint_le(session_wants(c, rig_frame, 20), 20);
    rig_turn(NULL);
    ck_assert_int_gt(say_ask(c, asked, QSM__QUESTION__STATS, ""), 0);
    rig_end(c, NULL);
}
END_TEST

START_TEST(a_leave_that_came_late_ends_subscriptions_and_begins_them_again)
{
    rig_begin();
    struct client *c = client_in("g", RECV);
    core_delivers("g", 2, 7, "x", 1);
    core_event("g", GROUP_GAP, 5);
    core_delivers("g", 2, 8, "x", 1);
    rig_turn(NULL);
    Qsm__EndEvent *e = heard(c, WHAT(END), 0)->end;
    ck_assert_uint_eq(e->why, 4);
    ck_assert(e->rejoined);
    ck_assert_uint_eq(e->position[0]->number, 7);
    ck_assert_ptr_null(delivered(c, 1));
    core_event("g", GROUP_VIEW, 9);
    core_delivers("g", 2, 9, "y", 1);
    rig_turn(NULL);
    ck_assert_uint_eq(heard(c, WHAT(VIEW), 0)->view->epoch, 9);
    ck_assert_uint_eq(delivered(c, 0)->deliver->number[0], 9);
    rig_end(c, NULL);
}
END_TEST

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
    tcase_add_test(t, who_leaves_before_the_first_view_may_come_back_at_once);
    tcase_add_test(t, a_refusal_is_the_result_of_the_request);
    tcase_add_test(t, a_node_that_cannot_open_more_says_so);
    tcase_add_test(t, bad_names_and_ids_are_named);
    tcase_add_test(t, the_node_holds_a_membership_beyond_the_connection);
    tcase_add_test(t, a_group_stays_open_to_send_for_60_s_after_its_last_sender);
    tcase_add_test(t, who_comes_back_before_the_close_took_effect_can_send_still);
    tcase_add_test(t, questions_are_answered);
    tcase_add_test(t, histograms_are_told_by_the_buckets_that_are_not_empty);
    tcase_add_test(t, one_message_at_a_time_is_timed_until_the_core_pulls_it);
    tcase_add_test(t, long_lists_come_in_several_frames);
    tcase_add_test(t, who_asks_and_does_not_read_is_not_served_further);
    tcase_add_test(t, a_leave_that_came_late_ends_subscriptions_and_begins_them_again);
    suite_add_tcase(suite, t);
    return suite;
}
