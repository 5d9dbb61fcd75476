/* Scenarios: what is lost comes back, from whom, and what it costs when nothing is lost. */
#include "story.h"
#include "suites.h"

/* Three hosts in one group; host 0 sends. */
static struct story *three(void)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    return st;
}

/* Each message of 1,000 bytes fills a packet. */
static void send_packets(struct story *st, uint32_t host, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        story_send(st, host, 0, 1000);
}

START_TEST(a_message_reaches_all_members_and_becomes_stable)
{
    struct story *st = three();
    uint32_t s = story_id(st, 0);
    story_send(st, 0, 0, 10);
    story_settle(st);
    story_expect(st, "p0 accept c=10 k=1 g=group0 *");
    story_expect(st, "p0 deliver g=* s=%u n=1 *", s);
    story_expect(st, "p? take s=%u * q=1", s);
    story_expect(st, "p? deliver g=* s=%u n=1 *", s);
    story_expect(st, "p? deliver g=* s=%u n=1 *", s);
    story_expect(st, "p0 round * full=1");
    story_expect(st, "p0 stable g=* n=1");
    story_expect(st, "p0 complete c=10 k=1 g=group0 st=stable");
    story_expect(st, "p1 drop s=%u * q=1 why=rel", s);
    story_end(st);
}
END_TEST

START_TEST(a_receiver_that_missed_a_packet_gets_it_from_a_peer)
{
    struct story *st = three();
    uint32_t s = story_id(st, 0);
    story_drop(st, (struct rule){0, 2, WIRE_DATA, 3, 1});
    send_packets(st, 0, 6);
    story_settle(st);
    story_expect(st, "p2 take s=%u * q=4", s);
    story_expect(st, "p2 gap * s=%u q=3 n=3", s);
    story_expect(st, "p2 take s=%u * q=3", s);
    story_expect(st, "p2 next s=%u * q=3", s);
    story_expect(st, "p2 next s=%u * q=4", s);
    ck_assert_uint_eq(story_stats(st, 2)->repairs_from_sender, 0);
    ck_assert_uint_eq(story_stats(st, 2)->repairs_from_cachers, 1);
    story_end(st);
}
END_TEST

START_TEST(a_region_that_missed_a_packet_gets_it_from_the_sender)
{
    struct story *st = three();
    uint32_t s = story_id(st, 0);
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 3, 1});
    story_drop(st, (struct rule){0, 2, WIRE_DATA, 3, 1});
    send_packets(st, 0, 6);
    story_settle(st);
    story_expect(st, "p1 take s=%u * q=4", s);
    story_expect(st, "p1 take s=%u * q=3", s);
    ck_assert_uint_ge(
        story_stats(st, 1)->repairs_from_sender + story_stats(st, 2)->repairs_from_sender, 1);
    story_end(st);
}
END_TEST

START_TEST(a_loss_at_one_receiver_is_made_good_with_repairs_by_the_sender_disabled)
{
    struct sim_config c = sim_config_default();
    c.hosts = 4;
    c.groups = 1;
    c.node.no_sender_repair = true;
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < 4; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    for (uint32_t to = 1; to < 4; to++)
        story_drop(st, (struct rule){0, to, WIRE_DATA, 1 + to, 1});
    send_packets(st, 0, 8);
    story_settle(st);
    for (uint32_t to = 1; to < 4; to++) {
        story_rewind(st);
        story_expect(st, "p%u take s=%u * q=5", to, story_id(st, 0));
        story_expect(st, "p%u take s=%u * q=%u", to, story_id(st, 0), 1 + to);
        ck_assert_uint_eq(story_stats(st, to)->repairs_from_sender, 0);
    }
    story_end(st);
}
END_TEST

START_TEST(the_last_packet_of_a_burst_is_not_lost)
{
    struct story *st = three();
    uint32_t s = story_id(st, 0);
    story_drop(st, (struct rule){0, STORY_ANY, WIRE_DATA, 5, 2});
    send_packets(st, 0, 5);
    story_settle(st);
    story_expect(st, "p1 deliver g=* s=%u n=5 *", s);
    story_rewind(st);
    story_expect(st, "p2 deliver g=* s=%u n=5 *", s);
    story_end(st);
}
END_TEST

START_TEST(a_quiet_ring_sends_no_tokens)
{
    struct story *st = three();
    send_packets(st, 0, 5);
    story_settle(st);
    story_run(st, SIM_S);
    uint64_t tokens = st->passed[WIRE_TOKEN], beacons = st->passed[WIRE_BEACON];
    ck_assert_uint_gt(tokens, 0);
    story_skip(st);
    story_run(st, 60 * SIM_S);
    ck_assert_uint_eq(st->passed[WIRE_TOKEN], tokens);
    ck_assert_uint_eq(st->passed[WIRE_BEACON], beacons);
    story_never(st, "p? token *");
    story_end(st);
}
END_TEST

START_TEST(a_lost_token_is_made_anew_and_proves_nothing)
{
    struct story *st = three();
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_TOKEN, 0, 3});
    send_packets(st, 0, 3);
    story_settle(st);
    story_expect(st, "p0 complete c=10 k=3 g=group0 st=stable");
    story_end(st);
}
END_TEST

START_TEST(a_large_message_survives_the_loss_of_a_fragment)
{
    struct story *st = three();
    uint32_t s = story_id(st, 0);
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 7, 1});
    story_drop(st, (struct rule){0, 2, WIRE_DATA, 9, 1});
    story_send(st, 0, 0, 300000);
    story_settle(st);
    story_expect(st, "p1 deliver g=* s=%u n=1 * l=300000", s);
    story_rewind(st);
    story_expect(st, "p2 deliver g=* s=%u n=1 * l=300000", s);
    story_end(st);
}
END_TEST

Suite *suite_repair(void)
{
    Suite *s = suite_create("repair");
    TCase *t = tcase_create("repair");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_message_reaches_all_members_and_becomes_stable);
    tcase_add_test(t, a_receiver_that_missed_a_packet_gets_it_from_a_peer);
    tcase_add_test(t, a_region_that_missed_a_packet_gets_it_from_the_sender);
    tcase_add_test(t, a_loss_at_one_receiver_is_made_good_with_repairs_by_the_sender_disabled);
    tcase_add_test(t, the_last_packet_of_a_burst_is_not_lost);
    tcase_add_test(t, a_quiet_ring_sends_no_tokens);
    tcase_add_test(t, a_lost_token_is_made_anew_and_proves_nothing);
    tcase_add_test(t, a_large_message_survives_the_loss_of_a_fragment);
    suite_add_tcase(s, t);
    return s;
}
