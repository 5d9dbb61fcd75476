/* regress: mistakes that seeds of the simulator found, as stories. */
#include <string.h>
#include "story.h"
#include "suites.h"

/* Host 0 sends to group 0, hosts 1 and 2 are its members; host 2 is in group 1, too, so there are
 * two regions of one host each. */
static struct story *two_regions(void)
{
    struct story *st = story_new(3, 4);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_join(st, 2, 1);
    story_settle(st);
    return st;
}

START_TEST(a_sender_whose_ack_was_lost_is_told_again)
{
    struct story *st = two_regions();
    story_drop(st, (struct rule){STORY_ANY, 0, WIRE_ACK, 0, 6});
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=1");
    story_end(st);
}
END_TEST

START_TEST(a_view_change_waits_for_what_a_lone_member_sent_to_other_regions)
{
    struct story *st = story_new(3, 4);
    story_join(st, 0, 0);
    story_join(st, 0, 2);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_settle(st);
    /* Host 0 moves to another region while its message is on its way to hosts 1 and 2. */
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 1, WIRE_REPAIR, 0, 20});
    story_send(st, 0, 0, 100);
    story_join(st, 0, 1);
    story_run(st, 20 * SIM_MS);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p1 deliver g=* s=%u n=1 *", story_id(st, 0));
    story_expect(st, "p0 stable g=* n=2");
    story_end(st);
}
END_TEST

START_TEST(what_a_view_change_proves_is_released_in_regions_out_of_its_scope)
{
    struct story *st = two_regions();
    story_drop(st, (struct rule){2, 0, WIRE_ACK, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_run(st, 100 * SIM_MS);
    story_join(st, 2, 2); /* the region of host 2 alone changes */
    story_run(st, SIM_S);
    story_expect(st, "p0 vote *");
    story_expect(st, "p0 stable g=* n=1");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_left_before_its_first_view_is_left)
{
    struct story *st = two_regions();
    story_join(st, 0, 3);
    story_leave(st, 0, 3);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_left_before_its_first_view_is_left_at_the_cms_too)
{
    struct story *st = two_regions();
    story_skip(st);
    story_join(st, 0, 3);
    story_run(st, 10 * SIM_MS); /* the CMS was told, and has not begun a view change yet */
    story_leave(st, 0, 3);
    story_settle(st);
    story_run(st, SIM_S);
    story_never(st, "cms epoch *");
    story_end(st);
}
END_TEST

/* Hosts 1 and 4 are a region, 2 and 3 another; host 0 sends to both. Only host 1 hears 5,000 small
 * messages and one of many pieces, and host 0 dies. */
static struct story *sender_heard_by_one(void)
{
    struct story *st = story_new(5, 2);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 5; i++)
        story_join(st, i, 0);
    story_join(st, 2, 1);
    story_join(st, 3, 1);
    story_settle(st);
    story_send(st, 0, 0, 1);
    story_settle(st);
    for (uint32_t to = 2; to < 5; to++) {
        story_drop(st, (struct rule){0, to, WIRE_DATA, 0, STORY_EVER});
        story_drop(st, (struct rule){0, to, WIRE_BEACON, 0, STORY_EVER});
    }
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_TOKEN, 0, STORY_EVER});
    for (uint32_t i = 0; i < 25; i++) {
        for (uint32_t k = 0; k < 200; k++)
            story_send(st, 0, 0, i == 12 && k == 0 ? 20000 : 1);
        story_run(st, SIM_MS);
    }
    story_skip(st);
    host_crash(story_host(st, 0), false);
    story_drop_nothing(st);
    return st;
}

START_TEST(thousands_of_messages_of_the_dead_are_fetched_in_lots_and_in_any_order)
{
    struct story *st = sender_heard_by_one();
    st->sim->net.reorder = 0.3;
    st->sim->net.reorder_us = SIM_MS;
    story_run(st, SIM_S);
    story_expect(st, "cms expel *");
    size_t expelled = st->at;
    for (uint32_t i = 2; i < 4; i++) {
        st->at = expelled;
        story_expect(st, "p%u prep *", i);
        uint64_t began = story_time(st);
        story_expect(st, "p%u deliver g=* n=5001 *", i);
        ck_assert_uint_lt(story_time(st) - began, 50 * SIM_MS);
        ck_assert_uint_eq(story_stats(st, i)->repairs_from_flush, 4999 + 15);
    }
    ck_assert_uint_eq(story_stats(st, 1)->repairs_over_budget, 0);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_that_came_back_under_another_id_is_known_by_the_new_one)
{
    struct story *st = story_new(3, 2);
    story_join(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 1);
    story_settle(st);
    /* Host 2 hears of nothing, until it is told of the whole state. */
    cmshost_crash(st->sim, 0);
    story_host(st, 2)->exiled_until_us = st->sim->now_us + 2 * SIM_S;
    cmshost_start(st->sim);
    story_run(st, 500 * SIM_MS);
    story_leave(st, 0, 0);
    story_leave(st, 1, 0);
    story_run(st, 500 * SIM_MS);
    story_join(st, 0, 0);
    story_join(st, 1, 0);
    story_run(st, 500 * SIM_MS);
    story_expect(st, "p2 name g=1 name=group0");
    story_expect(st, "p0 name g=3 name=group0");
    story_settle(st);
    story_expect(st, "p2 name g=3 name=group0");
    story_sender(st, 2, 0);
    story_settle(st);
    story_send(st, 2, 0, 100);
    story_settle(st);
    story_expect(st, "p1 deliver g=3 s=%u n=1 *", story_id(st, 2));
    story_end(st);
}
END_TEST

START_TEST(a_message_cut_off_by_a_boundary_fits_the_smaller_datagrams_of_the_next_view)
{
    struct sim_config c = sim_config_default();
    c.node.window_bytes = 64 << 10;
    struct story *st = story_with(&c);
    host_crash(story_host(st, 2), false);
    story_host(st, 2)->config.datagram_bytes = WIRE_DATAGRAM_MIN;
    host_boot(story_host(st, 2));
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_settle(st);
    story_skip(st);
    story_drop(st, (struct rule){1, 0, WIRE_ACK, 0, STORY_EVER}); /* the window fills up */
    story_send(st, 0, 0, 300000);
    story_run(st, 20 * SIM_MS);
    story_join(st, 2, 0);
    story_run(st, 200 * SIM_MS);
    story_expect(st, "p0 pull *");
    story_never(st, "p0 send *");
    story_expect(st, "p2 view *");
    story_drop_nothing(st);
    story_settle(st);
    story_expect(st, "p2 deliver g=* n=1 * l=300000");
    story_end(st);
}
END_TEST

START_TEST(who_left_a_group_is_not_told_that_it_may_send_to_it)
{
    struct story *st = two_regions();
    story_sender(st, 1, 0);
    story_leave(st, 1, 0);
    story_skip(st);
    size_t lines = st->sim->kept_count;
    for (bool prepared = false; !prepared; story_run(st, 50)) {
        for (; lines < st->sim->kept_count; lines++)
            prepared |= strstr(st->sim->kept[lines], " p1 prep ") != NULL;
    }
    app_close_send(story_host(st, 1), 0); /* too late for the epoch that lets it send */
    story_settle(st);
    story_expect(st, "p1 left g=*");
    story_end(st); /* no upcall for a handle that is gone */
}
END_TEST

START_TEST(acks_of_many_regions_do_not_come_all_at_once_for_ever)
{
    const uint32_t regions = 20;
    struct sim_config c = sim_config_default();
    c.hosts = c.groups = regions + 1;
    c.cms.ring_size = 2; /* no more than two are combined */
    struct story *st = story_with(&c);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i <= regions; i++) {
        story_join(st, i, 0);
        story_join(st, i, i);
    }
    story_settle(st);
    /* Room for a few ACKs at a time; those of the first regions must not always be the lucky ones.
     */
    story_host(st, 0)->queues[NET_CONTROL].bytes_max = 2000;
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=1");
    ck_assert_uint_gt(st->sim->counts.overruns, 0);
    st->sim->counts.overruns = 0; /* it was meant */
    story_end(st);
}
END_TEST

START_TEST(a_datagram_of_each_of_many_senders_is_under_the_cap_that_is_told)
{
    struct sim_config c = sim_config_default();
    c.hosts = 80;
    c.groups = 1;
    c.node.pool_bytes = 64 << 10;
    struct story *st = story_with(&c);
    story_join(st, 0, 0);
    for (uint32_t i = 1; i < c.hosts; i++)
        story_sender(st, i, 0);
    story_settle(st);
    for (uint32_t i = 1; i < c.hosts; i++)
        story_send(st, i, 0, 1300);
    story_settle(st);
    ck_assert_uint_gt(story_host(st, 0)->peaks[0], c.node.pool_bytes); /* or it shows nothing */
    story_end(st);
}
END_TEST

START_TEST(what_an_attempt_with_a_smaller_scope_leaves_out_is_waited_for)
{
    struct story *st = story_new(7, 3); /* regions: 1, 2 in groups 0, 2; 3, 4 in 0, 1; 6 in 2 */
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 5; i++) {
        story_join(st, i, 0);
        story_join(st, i, i < 3 ? 2 : 1);
    }
    story_join(st, 6, 2);
    story_settle(st);
    story_send(st, 0, 0, 10); /* an ACK opens the window */
    story_settle(st);
    story_skip(st);
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_REPAIR, 0, STORY_EVER});
    story_send(st, 0, 0, 10);
    story_run(st, 20 * SIM_MS);
    story_join(st, 5, 1); /* takes the region of 3 and 4 in */
    story_run(st, 100 * SIM_MS);
    story_expect(st, "p0 prep * a=1");
    host_crash(story_host(st, 5), false); /* nobody joins any more, and that region is left out */
    host_crash(story_host(st, 6), false);
    story_run(st, 600 * SIM_MS);
    story_expect(st, "p0 prep * a=2");
    story_never(st, "p0 stable g=* n=2");
    story_drop_nothing(st);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=2");
    story_rewind(st);
    story_expect(st, "p4 deliver g=* n=2 *");
    story_end(st);
}
END_TEST

START_TEST(what_an_attempt_with_a_larger_scope_froze_goes_on_after_the_change)
{
    struct story *st = story_new(7, 3); /* regions: 1, 2 in groups 0, 2; 3, 4 in 0, 1 */
    story_sender(st, 0, 0);
    story_sender(st, 6, 2);
    for (uint32_t i = 1; i < 5; i++) {
        story_join(st, i, 0);
        story_join(st, i, i < 3 ? 2 : 1);
    }
    story_settle(st);
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_REPAIR, 0, STORY_EVER});
    story_send(st, 0, 0, 10);
    story_run(st, 20 * SIM_MS);
    story_join(st, 5, 1); /* takes the region of 3 and 4 in */
    story_run(st, 100 * SIM_MS);
    host_crash(story_host(st, 6), false); /* whose channels all in scope freeze */
    story_until(st, "p3 prep * a=2");
    host_crash(story_host(st, 5), false); /* leaves that region out again */
    story_until(st, "p1 prep * a=3");
    story_never(st, "p3 prep *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

/* One cacher for each packet; hosts 1, 2 and 3 are in one region, host 4 in another, and of host
 * 0's large message host 4 gets the first fragment only. Who is asked for the rest, once host 0 is
 * dead, has freed most of it, and the cacher of the first packet lacks what is in the others. */
START_TEST(the_rest_of_a_large_message_of_the_dead_is_asked_of_who_caches_it)
{
    struct sim_config c = sim_config_default();
    c.hosts = 5;
    c.groups = 2;
    c.cms.cache_replicas = 1;
    struct story *st = story_with(&c);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 5; i++)
        story_join(st, i, 0);
    story_join(st, 4, 1);
    story_settle(st);
    for (uint64_t seq = 2; seq <= 7; seq++)
        story_drop(st, (struct rule){STORY_ANY, 4, WIRE_DATA, seq, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_REPAIR, 0, STORY_EVER});
    story_send(st, 0, 0, 9000);
    story_run(st, SIM_S);
    story_never(st, "p4 deliver *");
    host_crash(story_host(st, 0), false);
    story_until(st, "cms expel *");
    story_until(st, "p4 deliver g=* n=1 *");
    story_until(st, "p4 vote *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

/* Host 1 joins, leaves `stays` ms later, before it has a view, and joins again `pauses` ms later.
 * Returns how many subscriptions have ended with a gap. */
static unsigned join_leave_join(uint64_t stays, uint64_t pauses)
{
    unsigned gaps = 0;
    struct story *st = story_new(2, 2);
    story_join(st, 0, 0);
    story_settle(st);
    story_join(st, 1, 0);
    story_run(st, stays * SIM_MS);
    story_leave(st, 1, 0);
    story_run(st, pauses * SIM_MS);
    bool joins = app_subscribe(story_host(st, 1), 0, 0); /* not while it has yet to leave */
    story_settle(st);
    for (size_t i = 0; i < st->sim->kept_count; i++) {
        gaps += strstr(st->sim->kept[i], "why=gap") != NULL;
    }
    story_end(st);
    return joins ? gaps : 0;
}

/* The leave is told while the join is installed, and the next join while the leave is. */
START_TEST(a_leave_that_overtakes_the_next_join_ends_the_subscription)
{
    unsigned gaps = 0;
    for (uint64_t stays = 40; stays < 80; stays += 2) {
        for (uint64_t pauses = 1; pauses < 90; pauses += 4) {
            gaps += join_leave_join(stays, pauses);
        }
    }
    ck_assert_uint_gt(gaps, 0);
}
END_TEST

Suite *suite_regress(void)
{
    Suite *s = suite_create("regress");
    TCase *t = tcase_create("regress");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_sender_whose_ack_was_lost_is_told_again);
    tcase_add_test(t, a_view_change_waits_for_what_a_lone_member_sent_to_other_regions);
    tcase_add_test(t, what_a_view_change_proves_is_released_in_regions_out_of_its_scope);
    tcase_add_test(t, a_group_left_before_its_first_view_is_left);
    tcase_add_test(t, a_group_left_before_its_first_view_is_left_at_the_cms_too);
    tcase_add_test(t, thousands_of_messages_of_the_dead_are_fetched_in_lots_and_in_any_order);
    tcase_add_test(t, a_group_that_came_back_under_another_id_is_known_by_the_new_one);
    tcase_add_test(t, a_message_cut_off_by_a_boundary_fits_the_smaller_datagrams_of_the_next_view);
    tcase_add_test(t, who_left_a_group_is_not_told_that_it_may_send_to_it);
    tcase_add_test(t, acks_of_many_regions_do_not_come_all_at_once_for_ever);
    tcase_add_test(t, a_datagram_of_each_of_many_senders_is_under_the_cap_that_is_told);
    tcase_add_test(t, what_an_attempt_with_a_smaller_scope_leaves_out_is_waited_for);
    tcase_add_test(t, what_an_attempt_with_a_larger_scope_froze_goes_on_after_the_change);
    tcase_add_test(t, a_leave_that_overtakes_the_next_join_ends_the_subscription);
    tcase_add_test(t, the_rest_of_a_large_message_of_the_dead_is_asked_of_who_caches_it);
    suite_add_tcase(s, t);
    return s;
}
