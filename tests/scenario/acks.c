/* Scenarios: what a sender hears: of many regions few datagrams, by way of a collector or not, and
 * of packets above a gap. */
#include "story.h"
#include "suites.h"

/* Host 0 sends; the others are members of group0, and each two of them of a group of their own: a
 * region. Host 0 sends into all of these. */
static struct story *many_regions(uint32_t regions, uint32_t ring_size)
{
    struct sim_config c = sim_config_default();
    c.hosts = 1 + 2 * regions;
    c.groups = 1 + regions;
    c.node.rcvbuf_bytes = 128 << 10; /* a window that fills up, so that tokens are asked for */
    c.cms.ring_size = ring_size;
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < 2 * regions; i++) {
        story_join(st, 1 + i, 0);
        story_join(st, 1 + i, 1 + i / 2);
    }
    for (uint32_t g = 0; g <= regions; g++)
        story_sender(st, 0, g);
    story_settle(st);
    story_skip(st);
    return st;
}

static void send_to_each(struct story *st, uint32_t regions)
{
    for (uint32_t g = 1; g <= regions; g++)
        story_send(st, 0, g, 1000);
}

/* The regions in the order of their ids are those of hosts 1 and 2, 3 and 4 …, unless the CMS
 * numbers them otherwise: the leader of the first of them. */
struct first {
    uint32_t rid, leader;
};

static void look_first(void *ctx, const struct node_region_info *region)
{
    struct first *first = ctx;
    if (region->sent > 0 && (first->rid == 0 || region->rid < first->rid))
        *first = (struct first){region->rid, region->members[0]};
}

static uint32_t host_of(struct story *st, uint32_t id)
{
    uint32_t host = 0;
    while (story_id(st, host) != id)
        host++;
    return host;
}

static uint32_t collector(struct story *st)
{
    struct first first = {0};
    node_each_region(story_host(st, 0)->node, look_first, &first);
    return host_of(st, first.leader);
}

/* Milliseconds until message k that host 0 sends into a group is stable. */
static uint64_t until_stable(struct story *st, uint32_t group, uint32_t k)
{
    uint64_t begun = st->sim->now_us;
    story_skip(st);
    story_until(st, "p0 complete c=10 k=%u g=group%u st=stable", k, group);
    return (st->sim->now_us - begun) / SIM_MS;
}

START_TEST(a_sender_into_many_regions_gets_few_combined_acks)
{
    const uint32_t regions = 14;
    struct story *st = many_regions(regions, 25);
    const struct node_stats *sender = story_stats(st, 0);
    send_to_each(st, regions);
    story_settle(st);
    uint64_t acks = sender->acks_received, datagrams = sender->ack_datagrams, relayed = 0;
    for (uint32_t i = 0; i < 200; i++) {
        story_send(st, 0, 0, 1000);
        story_run(st, SIM_MS);
    }
    story_settle(st);
    acks = sender->acks_received - acks;
    datagrams = sender->ack_datagrams - datagrams;
    for (uint32_t i = 1; i <= 2 * regions; i++)
        relayed += story_stats(st, i)->acks_relayed;
    printf("acks: %llu in %llu datagrams\n", (unsigned long long)acks,
           (unsigned long long)datagrams);
    ck_assert_uint_gt(acks, 20 * regions);
    ck_assert_uint_ge(acks, 5 * datagrams);
    ck_assert_uint_gt(relayed, acks / 2);
    ck_assert_uint_eq(sender->marks[MARK_collector_left], 0);
    story_end(st);
}
END_TEST

START_TEST(a_sender_into_two_regions_hears_their_leaders_themselves)
{
    struct story *st = many_regions(2, 25);
    for (uint32_t i = 0; i < 20; i++) {
        story_send(st, 0, 0, 1000);
        story_run(st, SIM_MS);
    }
    story_settle(st);
    ck_assert_uint_eq(story_stats(st, 0)->acks_received, story_stats(st, 0)->ack_datagrams);
    for (uint32_t i = 1; i < 5; i++)
        ck_assert_uint_eq(story_stats(st, i)->acks_relayed, 0);
    story_end(st);
}
END_TEST

START_TEST(each_run_of_ring_size_regions_has_a_collector_of_its_own)
{
    struct story *st = many_regions(6, 2);
    uint32_t collectors = 0;
    send_to_each(st, 6);
    story_settle(st);
    for (uint32_t i = 1; i <= 12; i++)
        collectors += story_stats(st, i)->acks_relayed > 0;
    ck_assert_uint_eq(collectors, 3);
    story_end(st);
}
END_TEST

/* The sender is the first member of one of the regions: it hears itself, and collects nothing. */
START_TEST(a_region_that_the_sender_leads_needs_no_collector)
{
    struct story *st = many_regions(4, 25);
    story_join(st, 0, 0);
    story_join(st, 0, 1);
    story_settle(st);
    uint64_t combined = story_stats(st, 0)->acks_received - story_stats(st, 0)->ack_datagrams;
    for (uint32_t i = 0; i < 3; i++) {
        send_to_each(st, 4);
        story_settle(st);
    }
    ck_assert_uint_gt(story_stats(st, 0)->acks_received - story_stats(st, 0)->ack_datagrams,
                      combined);
    ck_assert_uint_eq(story_stats(st, 0)->acks_relayed, 0);
    ck_assert_uint_eq(story_stats(st, 0)->marks[MARK_collector_left], 0);
    story_end(st);
}
END_TEST

START_TEST(what_asks_for_a_repair_comes_straight)
{
    struct story *st = many_regions(5, 25);
    send_to_each(st, 5);
    story_settle(st);
    uint32_t broken = collector(st), other = broken == 9 ? 1 : 9;
    story_drop(st, (struct rule){STORY_ANY, broken, WIRE_ACK, 0, STORY_EVER});
    story_drop(st, (struct rule){0, other, WIRE_DATA, 2, 1});
    story_drop(st, (struct rule){0, other + 1, WIRE_DATA, 2, 1});
    send_to_each(st, 5);
    uint64_t begun = st->sim->now_us;
    story_skip(st);
    story_until(st, "p%u take s=%u * q=2", other, story_id(st, 0));
    ck_assert_uint_lt(st->sim->now_us - begun, 20 * SIM_MS); /* before the sender has doubts */
    story_settle(st);
    story_end(st);
}
END_TEST

/* The collector is dead and not expelled yet; one of its regions asks it for its ACK. */
START_TEST(a_dead_collector_delays_an_ack_but_not_for_long)
{
    struct story *st = many_regions(5, 25);
    send_to_each(st, 5);
    story_settle(st);
    send_to_each(st, 5);
    uint32_t usual = (uint32_t)until_stable(st, 5, 2);
    story_settle(st);
    uint32_t dead = collector(st), other = dead == 9 ? 1 : 5;
    host_crash(story_host(st, dead), true);
    send_to_each(st, 5);
    uint64_t first = until_stable(st, other, 3);
    ck_assert_uint_eq(story_stats(st, 0)->marks[MARK_collector_left] > 0, true);
    story_run(st, 10 * SIM_MS);
    send_to_each(st, 5);
    uint64_t second = until_stable(st, other, 4);
    printf("acks: stable after %u ms, by way of a dead collector %llu, then %llu\n", usual,
           (unsigned long long)first, (unsigned long long)second);
    ck_assert_uint_gt(first, usual);
    ck_assert_uint_le(first, 60);
    ck_assert_uint_le(second, usual + 2);
    story_settle(st);
    story_expect(st, "cms expel *");
    story_end(st);
}
END_TEST

START_TEST(a_collector_that_gets_no_acks_is_not_named_for_a_while_only)
{
    struct story *st = many_regions(5, 25);
    send_to_each(st, 5);
    story_settle(st);
    uint32_t broken = collector(st);
    const struct node_stats *sender = story_stats(st, 0);
    story_drop(st, (struct rule){STORY_ANY, broken, WIRE_ACK, 0, STORY_EVER});
    send_to_each(st, 5);
    story_settle(st);
    ck_assert_uint_gt(sender->marks[MARK_collector_left], 0);
    story_drop_nothing(st);
    uint64_t before = sender->acks_received - sender->ack_datagrams;
    send_to_each(st, 5);
    story_settle(st);
    ck_assert_uint_eq(sender->acks_received - sender->ack_datagrams, before);
    story_run(st, 2 * SIM_S);
    send_to_each(st, 5);
    story_settle(st);
    ck_assert_uint_ge(sender->acks_received - sender->ack_datagrams, before + 4);
    story_end(st);
}
END_TEST

/* Host 0 sends to hosts 1 to 4, in partitions of two, and host 2 gets no packet 3, by no way. */
static struct story *with_gap(uint32_t ack_ranges)
{
    struct sim_config c = sim_config_default();
    c.hosts = 5;
    c.groups = 1;
    c.node.rcvbuf_bytes = 128 << 10; /* 32 KB may be in flight */
    c.cms.ring_size = 2;
    c.cms.ack_ranges = ack_ranges;
    struct story *st = story_with(&c);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 5; i++)
        story_join(st, i, 0);
    story_settle(st);
    story_skip(st);
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 3, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_REPAIR, 3, STORY_EVER});
    return st;
}

/* Packets that host 0 sends in a second of the 200 that it has. */
static uint64_t sent_with_gap(struct story *st)
{
    uint64_t before = story_stats(st, 0)->packets_sent;
    for (uint32_t i = 0; i < 200; i++)
        story_send(st, 0, 0, 1000);
    story_run(st, SIM_S);
    return story_stats(st, 0)->packets_sent - before;
}

START_TEST(a_window_opens_past_a_gap)
{
    struct story *st = with_gap(2);
    ck_assert_uint_eq(sent_with_gap(st), 200);
    story_expect(st, "p0 ahead * q=4 *");
    story_rewind(st);
    story_never(st, "p0 stable g=* n=3");
    ck_assert_uint_gt(story_stats(st, 0)->marks[MARK_window_past_gap], 0);
    story_drop_nothing(st);
    story_settle(st);
    story_expect(st, "p0 complete c=10 k=200 g=group0 st=stable");
    story_end(st);
}
END_TEST

START_TEST(a_window_that_is_told_no_ranges_waits_for_the_gap)
{
    struct story *st = with_gap(0);
    ck_assert_uint_lt(sent_with_gap(st), 40);
    story_never(st, "p0 ahead *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(what_one_member_lacks_stays_in_flight)
{
    struct story *st = with_gap(8);
    for (uint32_t to = 1; to < 4; to++) { /* each of these has a gap of its own */
        story_drop(st, (struct rule){STORY_ANY, to, WIRE_DATA, 3 + 2 * to, STORY_EVER});
        story_drop(st, (struct rule){STORY_ANY, to, WIRE_REPAIR, 3 + 2 * to, STORY_EVER});
    }
    sent_with_gap(st);
    for (uint64_t q = 4; q < 10; q += 2)
        story_expect(st, "p0 ahead * q=%u n=%u", (unsigned)q, (unsigned)q);
    story_expect(st, "p0 ahead * q=10 *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

Suite *suite_acks(void)
{
    Suite *s = suite_create("acks");
    TCase *t = tcase_create("acks");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_sender_into_many_regions_gets_few_combined_acks);
    tcase_add_test(t, a_sender_into_two_regions_hears_their_leaders_themselves);
    tcase_add_test(t, each_run_of_ring_size_regions_has_a_collector_of_its_own);
    tcase_add_test(t, a_region_that_the_sender_leads_needs_no_collector);
    tcase_add_test(t, what_asks_for_a_repair_comes_straight);
    tcase_add_test(t, a_dead_collector_delays_an_ack_but_not_for_long);
    tcase_add_test(t, a_collector_that_gets_no_acks_is_not_named_for_a_while_only);
    tcase_add_test(t, a_window_opens_past_a_gap);
    tcase_add_test(t, a_window_that_is_told_no_ranges_waits_for_the_gap);
    tcase_add_test(t, what_one_member_lacks_stays_in_flight);
    suite_add_tcase(s, t);
    return s;
}
