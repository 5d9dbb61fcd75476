/* Scenarios: rings of rings, and the caching partitions between them. */
#include "story.h"
#include "suites.h"

/* Hosts in one group, in partitions of two; host `sender` sends. */
static struct story *pairs(uint32_t hosts, uint32_t sender)
{
    struct sim_config c = sim_config_default();
    c.hosts = hosts;
    c.groups = 1;
    c.cms.ring_size = 2;
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < hosts; i++)
        story_join(st, i, 0);
    story_sender(st, sender, 0);
    story_settle(st);
    story_skip(st);
    return st;
}

static void send_packets(struct story *st, uint32_t host, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        story_send(st, host, 0, 1000);
}

static uint64_t node_mark(struct story *st, uint32_t host, enum mark_id mark)
{
    return story_stats(st, host)->marks[mark];
}

START_TEST(what_is_proved_on_all_levels_is_stable)
{
    struct story *st = pairs(7, 0); /* 4 partitions, 2 rings of leaders, one above */
    send_packets(st, 0, 1);
    story_settle(st);
    story_expect(st, "p0 round * l=0 * full=1");
    story_expect(st, "p0 round * l=2 * full=1");
    story_expect(st, "p0 stable g=* n=1");
    story_run(st, SIM_S);
    uint64_t tokens = st->passed[WIRE_TOKEN], asks = st->passed[WIRE_ASK];
    story_run(st, 10 * SIM_S);
    ck_assert_uint_eq(st->passed[WIRE_TOKEN], tokens); /* all levels are quiet */
    ck_assert_uint_eq(st->passed[WIRE_ASK], asks);
    story_end(st);
}
END_TEST

START_TEST(nothing_is_stable_before_the_last_partition_has_it)
{
    struct story *st = pairs(7, 0);
    story_drop(st, (struct rule){STORY_ANY, 6, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 6, WIRE_REPAIR, 0, STORY_EVER});
    send_packets(st, 0, 1);
    story_run(st, 2 * SIM_S);
    story_expect(st, "p0 round * l=2 * full=1");
    story_never(st, "p0 stable *");
    story_drop_nothing(st);
    story_settle(st);
    story_expect(st, "p6 take * q=1");
    story_expect(st, "p0 stable g=* n=1");
    story_end(st);
}
END_TEST

START_TEST(a_partition_that_lacks_a_packet_gets_it_from_the_one_that_caches_it)
{
    struct story *st = pairs(4, 0);
    uint32_t s = story_id(st, 0);
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 3, 1}); /* its only neighbour is the sender */
    send_packets(st, 0, 6);
    story_settle(st);
    story_expect(st, "p1 gap * s=%u q=3 n=3", s);
    story_expect(st, "p1 take s=%u * q=3", s);
    ck_assert_uint_eq(story_stats(st, 1)->repairs_from_cachers, 1);
    ck_assert_uint_eq(story_stats(st, 1)->repairs_from_sender, 0);
    ck_assert_uint_eq(node_mark(st, 0, MARK_sought_elsewhere), 1);
    ck_assert_uint_eq(st->passed[WIRE_FETCH], 1);
    story_end(st);
}
END_TEST

START_TEST(a_cacher_remembers_what_it_was_asked_for)
{
    struct story *st = pairs(4, 0);
    uint32_t s = story_id(st, 0);
    for (uint32_t to = 1; to < 4; to++)
        story_drop(st, (struct rule){0, to, WIRE_DATA, 3, 1});
    story_drop(st, (struct rule){0, 1, WIRE_REPAIR, 0, STORY_EVER});
    send_packets(st, 0, 6);
    story_settle(st);
    story_expect(st, "p? take s=%u * q=3", s);
    story_expect(st, "p1 take s=%u * q=3", s);
    ck_assert_uint_eq(story_stats(st, 1)->repairs_from_cachers, 1);
    ck_assert_uint_ge(
        node_mark(st, 2, MARK_served_on_arrival) + node_mark(st, 3, MARK_served_on_arrival), 1);
    story_end(st);
}
END_TEST

START_TEST(a_pair_that_can_not_talk_breaks_no_round)
{
    struct story *st = story_new(5, 1);
    for (uint32_t i = 0; i < 5; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    story_drop(st, (struct rule){1, 2, WIRE_TOKEN, 0, STORY_EVER});
    send_packets(st, 0, 3);
    story_settle(st);
    story_expect(st, "p3 token *");
    story_expect(st, "p2 token *");
    story_expect(st, "p0 round * full=1");
    story_expect(st, "p0 complete c=10 k=3 g=group0 st=stable");
    ck_assert_uint_ge(node_mark(st, 2, MARK_skipped_reached), 1);
    story_rewind(st);
    story_never(st, "cms expel *");
    story_end(st);
}
END_TEST

START_TEST(a_token_that_gets_lost_is_sent_again_once_its_acknowledgement_is_overdue)
{
    struct story *st = story_new(5, 1);
    for (uint32_t i = 0; i < 5; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    for (uint32_t i = 0; i < 20; i++) { /* what acknowledgements take here */
        send_packets(st, 0, 1);
        story_settle(st);
    }
    story_skip(st);
    story_drop(st, (struct rule){1, 2, WIRE_TOKEN, 0, 1});
    send_packets(st, 0, 1);
    story_settle(st);
    story_expect(st, "p1 token *");
    uint64_t began = story_time(st);
    story_expect(st, "p2 token *");
    ck_assert_uint_eq(story_stats(st, 1)->tokens_retried, 1);
    ck_assert_uint_lt(story_time(st) - began, 3 * SIM_MS);
    /* Which try was answered nobody knows. */
    ck_assert_uint_eq(story_stats(st, 1)->token_hop_us.count, story_stats(st, 1)->tokens_sent - 1);
    story_end(st);
}
END_TEST

START_TEST(hops_rounds_and_samples_of_messages_are_timed)
{
    struct story *st = pairs(5, 2); /* partitions of hosts 0, of 1 and 2, of 3 and 4 */
    for (uint32_t i = 0; i < 20; i++) {
        send_packets(st, 2, 3);
        story_settle(st);
    }
    const struct node_stats *leader = story_stats(st, 1), *sender = story_stats(st, 2);
    const struct node_stats *alone = story_stats(st, 0);
    ck_assert_uint_eq(leader->token_hop_us.count, leader->tokens_sent);
    ck_assert_uint_gt(histogram_percentile(&leader->token_hop_us, 50), 0);
    ck_assert_uint_lt(leader->token_hop_us.max, 6 * SIM_MS);
    ck_assert_uint_eq(leader->token_round_trip_us.count, leader->rounds_complete);
    ck_assert_uint_eq(leader->token_round_trip_us.sum, leader->round_trip_us);
    ck_assert_uint_ge(leader->token_round_trip_us.max, leader->last_round_trip_us);
    ck_assert_uint_eq(sender->token_round_trip_us.count, 0);
    ck_assert_uint_lt(alone->token_round_trip_us.count, alone->rounds_complete); /* no token goes */
    ck_assert_uint_ge(sender->send_to_stable_us.count, 20);
    ck_assert_uint_lt(sender->send_to_stable_us.count, 60);
    ck_assert_uint_ge(histogram_percentile(&sender->send_to_stable_us, 50),
                      histogram_percentile(&leader->token_round_trip_us, 50));
    ck_assert_uint_lt(sender->send_to_stable_us.max, SIM_S);
    story_end(st);
}
END_TEST

START_TEST(a_token_that_its_leader_does_not_take_is_taken_home_by_another)
{
    struct story *st = story_new(5, 1);
    for (uint32_t i = 0; i < 5; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    story_drop(st, (struct rule){4, 0, WIRE_TOKEN, 0, STORY_EVER});
    send_packets(st, 0, 3);
    story_settle(st);
    story_expect(st, "p0 round * full=1");
    story_expect(st, "p0 complete c=10 k=3 g=group0 st=stable");
    ck_assert_uint_ge(node_mark(st, 0, MARK_taken_home), 1);
    ck_assert_uint_eq(story_stats(st, 0)->tokens_remade, 0);
    story_end(st);
}
END_TEST

START_TEST(a_member_whose_leader_is_silent_asks_cachers_itself)
{
    struct story *st = story_new(5, 1);
    for (uint32_t i = 0; i < 5; i++)
        story_join(st, i, 0);
    story_sender(st, 3, 0);
    story_settle(st);
    send_packets(st, 3, 1); /* an ACK opens the window */
    story_settle(st);
    story_skip(st);
    uint32_t s = story_id(st, 3);
    story_drop(st, (struct rule){3, 2, WIRE_DATA, 3, 1});
    story_drop(st, (struct rule){0, STORY_ANY, WIRE_TOKEN, 0, STORY_EVER});
    send_packets(st, 3, 3);
    story_run(st, 600 * SIM_MS);
    story_expect(st, "p2 take s=%u * q=4", s);
    story_expect(st, "p2 take s=%u * q=3", s);
    ck_assert_uint_ge(node_mark(st, 2, MARK_helped_itself), 1);
    story_never(st, "p2 token *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_finished_channel_does_not_hurry_the_tokens_of_another)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_sender(st, 1, 0);
    story_settle(st);
    send_packets(st, 0, 1);
    story_settle(st);
    uint64_t tokens = st->passed[WIRE_TOKEN];
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_REPAIR, 0, STORY_EVER});
    send_packets(st, 1, 1);
    story_run(st, 300 * SIM_MS);
    ck_assert_uint_lt(st->passed[WIRE_TOKEN] - tokens, 3 * 60);
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

/* Tries at several members and repeats of a token wait for who wakes up: whichever it takes, the
 * round goes on, or the leader soon asks again. */
START_TEST(who_wakes_in_mid_round_is_waited_for_no_longer)
{
    for (uint64_t asleep = 5 * SIM_MS; asleep < 400 * SIM_MS; asleep += 7 * SIM_MS) {
        struct story *st = story_new(5, 1);
        for (uint32_t i = 0; i < 5; i++)
            story_join(st, i, 0);
        story_sender(st, 1, 0);
        story_settle(st);
        send_packets(st, 1, 1); /* an ACK opens the window */
        story_settle(st);
        story_skip(st);
        uint32_t sleeper = asleep / SIM_MS % 2 ? 2 : 4;
        host_pause(story_host(st, sleeper), st->sim->now_us + asleep);
        send_packets(st, 1, 100);
        story_run(st, asleep + 45 * SIM_MS);
        story_expect(st, "p1 complete c=10 k=101 g=group0 st=stable");
        story_settle(st);
        story_end(st);
    }
}
END_TEST

START_TEST(who_pauses_for_a_second_is_not_expelled_as_unreachable)
{
    struct story *st = story_new(5, 1);
    for (uint32_t i = 0; i < 5; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    host_pause(story_host(st, 2), st->sim->now_us + SIM_S);
    for (uint32_t i = 0; i < 20; i++) {
        send_packets(st, 0, 1);
        story_run(st, 100 * SIM_MS);
    }
    story_settle(st);
    story_never(st, "cms expel *");
    story_end(st);
}
END_TEST

struct seen_region {
    uint32_t member_count, slowest;
    uint64_t rate, sent;
};

static void note_region(void *ctx, const struct node_region_info *r)
{
    struct seen_region *seen = ctx; /* by the number of members */
    seen[r->member_count] = (struct seen_region){r->member_count, r->slowest, r->rate, r->sent};
}

START_TEST(a_slow_receiver_is_named_and_paces_its_region_only)
{
    struct sim_config c = sim_config_default();
    c.hosts = 6;
    c.groups = 2;
    struct story *st = story_with(&c);
    for (uint32_t i = 1; i < 4; i++)
        story_join(st, i, 0);
    story_join(st, 4, 1);
    story_join(st, 5, 1);
    story_sender(st, 0, 0);
    story_sender(st, 0, 1);
    story_settle(st);
    struct host *slow = story_host(st, 2);
    slow->receive_cost_us = 1000; /* 1,000 packets a second, and a socket that is soon full */
    slow->queues[NET_DATA].bytes_max = 20000;
    struct seen_region seen[7] = {{0}};
    for (uint32_t i = 0; i < 300; i++) {
        for (uint32_t k = 0; k < 30; k++) {
            app_publish(story_host(st, 0), 0, 0, 1000, false);
            app_publish(story_host(st, 0), 0, 1, 1000, false);
        }
        sim_run_until(st->sim, st->sim->now_us + 10 * SIM_MS);
        node_each_region(story_host(st, 0)->node, note_region, seen);
    }
    ck_assert_uint_eq(seen[3].slowest, story_id(st, 2));
    ck_assert_uint_gt(seen[3].rate, 200000);
    ck_assert_uint_lt(seen[3].rate, 2000000);
    ck_assert_uint_eq(seen[2].rate, 0);
    ck_assert_uint_gt(seen[2].sent, 8500); /* of 9,000 */
    ck_assert_uint_lt(seen[3].sent, 4500);
    slow->receive_cost_us = 5;
    slow->queues[NET_DATA].bytes_max = 1 << 20;
    st->sim->counts.overruns = 0; /* these were meant */
    story_settle(st);
    story_end(st);
}
END_TEST

Suite *suite_rings(void)
{
    Suite *s = suite_create("rings");
    TCase *t = tcase_create("rings");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_proved_on_all_levels_is_stable);
    tcase_add_test(t, nothing_is_stable_before_the_last_partition_has_it);
    tcase_add_test(t, a_partition_that_lacks_a_packet_gets_it_from_the_one_that_caches_it);
    tcase_add_test(t, a_cacher_remembers_what_it_was_asked_for);
    tcase_add_test(t, a_pair_that_can_not_talk_breaks_no_round);
    tcase_add_test(t, a_token_that_gets_lost_is_sent_again_once_its_acknowledgement_is_overdue);
    tcase_add_test(t, hops_rounds_and_samples_of_messages_are_timed);
    tcase_add_test(t, a_token_that_its_leader_does_not_take_is_taken_home_by_another);
    tcase_add_test(t, a_member_whose_leader_is_silent_asks_cachers_itself);
    tcase_add_test(t, a_finished_channel_does_not_hurry_the_tokens_of_another);
    tcase_add_test(t, who_wakes_in_mid_round_is_waited_for_no_longer);
    tcase_add_test(t, who_pauses_for_a_second_is_not_expelled_as_unreachable);
    tcase_add_test(t, a_slow_receiver_is_named_and_paces_its_region_only);
    suite_add_tcase(s, t);
    return s;
}
