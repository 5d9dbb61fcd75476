/* Scenarios: what is lost comes back, from whom, and what it costs when nothing is lost. */
#include <stdlib.h>
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

/* A stream to 24 receivers, and how late each message was that waited for nothing but itself: what
 * is lost holds up those behind it, and all come at once. */
enum { STREAM_HOSTS = 25, STREAM_MESSAGES = 2500, STREAM_GAP_US = 2000 };
struct stream {
    struct sim *sim;
    uint64_t sent_us[STREAM_MESSAGES + 1], came_us[STREAM_HOSTS];
    uint64_t late_us[STREAM_HOSTS * STREAM_MESSAGES];
    uint32_t late_count;
};

static void on_stream(void *ctx, const struct host *h, const struct delivery *d)
{
    struct stream *s = ctx;
    if (s->came_us[h->index] != s->sim->now_us)
        s->late_us[s->late_count++] = s->sim->now_us - s->sent_us[d->number];
    s->came_us[h->index] = s->sim->now_us;
}

static int falling(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

START_TEST(one_percent_of_loss_at_24_receivers_is_made_good_soon_and_by_peers)
{
    static struct stream s;
    struct story *st = story_new(STREAM_HOSTS, 1);
    for (uint32_t i = 0; i < STREAM_HOSTS; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    s = (struct stream){.sim = st->sim};
    st->sim->on_deliver = on_stream;
    st->sim->look_ctx = &s;
    st->sim->net.loss = 0.01;
    for (uint32_t i = 1; i <= STREAM_MESSAGES; i++) {
        s.sent_us[i] = st->sim->now_us;
        story_send(st, 0, 0, 1000);
        story_run(st, STREAM_GAP_US);
    }
    story_settle(st);
    uint64_t repaired = 0, by_sender = 0, repairs = 0;
    for (uint32_t i = 0; i < STREAM_HOSTS; i++) {
        const struct node_stats *n = story_stats(st, i);
        repaired += n->repairs_from_cachers + n->repairs_from_holders + n->repairs_from_sender;
        by_sender += n->repairs_from_sender;
        repairs += n->repairs_sent;
    }
    ck_assert_uint_gt(repaired, STREAM_MESSAGES * 24 / 200);
    ck_assert_uint_le(by_sender * 20, repaired);
    ck_assert_uint_le(repairs * 10, repaired * 13);
    qsort(s.late_us, s.late_count, sizeof(s.late_us[0]), falling);
    ck_assert_uint_lt(s.late_us[repaired / 100], 20 * SIM_MS); /* p99 of the repaired, at most */
    st->sim->counts.lost = 0; /* no story has losses that it did not ask for */
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
    tcase_add_test(t, one_percent_of_loss_at_24_receivers_is_made_good_soon_and_by_peers);
    suite_add_tcase(s, t);
    return s;
}
