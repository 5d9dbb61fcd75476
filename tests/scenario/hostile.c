/* hostile: datagrams with our cluster's tag and contents that cannot be. They cost what they say
 * they cost: a count. */
#include <string.h>
#include "relay.h"
#include "story.h"
#include "suites.h"
#include "wire_token.h"

/* Host 0 sends to group 0 in two regions: host 1, and hosts 2 and 3, who are in group 1, too. */
static struct story *two_regions(void)
{
    struct story *st = story_new(4, 2);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 4; i++)
        story_join(st, i, 0);
    story_join(st, 2, 1);
    story_join(st, 3, 1);
    story_settle(st);
    story_send(st, 0, 0, 100);
    story_settle(st);
    return st;
}

struct forged {
    struct story *st;
    uint8_t bytes[WIRE_CONTROL_MAX];
    struct writer w;
};

static void forge(struct forged *f, struct story *st, uint32_t from, enum wire_kind kind)
{
    f->st = st;
    f->w = (struct writer){.at = f->bytes, .end = f->bytes + sizeof f->bytes};
    struct wire_outer outer = {.kind = (uint8_t)kind,
                               .cluster = wire_cluster_tag(story_host(st, 0)->config.cluster),
                               .node_id = story_id(st, from)};
    wire_write_outer(&f->w, &outer);
}

static void deliver(struct forged *f, uint32_t to, enum net_class net)
{
    ck_assert(!f->w.bad);
    node_receive(story_host(f->st, to)->node, net, f->bytes, (size_t)(f->w.at - f->bytes), NULL,
                 f->st->sim->now_us);
}

static void own_region(void *ctx, const struct node_region_info *info)
{
    struct channel_id *id = ctx;
    if (info->ours) {
        id->rid = info->rid;
        id->epoch = info->epoch;
    }
}

/* The channel of host `from` into the region of host `to`. */
static struct channel_id channel(struct story *st, uint32_t from, uint32_t to)
{
    struct channel_id id = {.sender = story_id(st, from)};
    node_each_region(story_host(st, to)->node, own_region, &id);
    return id;
}

START_TEST(numbers_that_go_back_within_a_packet_are_malformed)
{
    struct story *st = two_regions();
    struct forged f;
    forge(&f, st, 0, WIRE_DATA);
    struct wire_packet p = {.channel = channel(st, 0, 1), .seq = 2, .records = 2};
    wire_write_packet(&f.w, &p);
    for (uint64_t number = 100; number > 10; number -= 45) {
        struct record rec = {
            .flags = RECORD_NUMBER, .number = number, .count = 1, .payload = f.bytes};
        wire_write_record(&f.w, &rec);
    }
    deliver(&f, 1, NET_DATA);
    ck_assert_uint_eq(story_stats(st, 1)->datagrams_malformed, 2);
    story_end(st);
}
END_TEST

START_TEST(an_ack_for_packets_that_were_not_sent_is_not_believed)
{
    struct story *st = two_regions();
    struct forged f;
    for (uint32_t to = 1; to < 3; to++) {
        forge(&f, st, to, WIRE_ACK);
        struct wire_ack ack = {
            .channel = channel(st, 0, to), .round = UINT32_MAX, .stable = 2, .active = 1};
        wire_write_acks(&f.w, &ack, 1);
        deliver(&f, 0, NET_CONTROL);
    }
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=2");
    story_end(st);
}
END_TEST

/* What a collector takes of an ACK that claims to be for node `sender`. */
static uint64_t collected(struct story *st, struct wire_ack ack, uint32_t copies)
{
    struct wire_ack list[2] = {ack, ack};
    struct forged f;
    forge(&f, st, 2, WIRE_ACK);
    wire_write_acks(&f.w, list, (uint16_t)copies);
    deliver(&f, 1, NET_CONTROL);
    host_wake(story_host(st, 1), st->sim->now_us);
    return story_stats(st, 1)->relay_acks;
}

START_TEST(what_is_collected_is_as_harmless_as_what_comes_straight)
{
    struct story *st = two_regions();
    struct wire_ack ack = {.channel = channel(st, 0, 2), .round = UINT32_MAX, .stable = 2};
    struct wire_ack stranger = ack, urgent = ack;
    stranger.channel.sender = 1000;
    urgent.lack_count = 1;
    urgent.lacks[0].from = urgent.lacks[0].count = 1;
    ck_assert_uint_eq(collected(st, stranger, 1), 0);
    ck_assert_uint_eq(collected(st, urgent, 1), 0);
    ck_assert_uint_eq(collected(st, ack, 2), 0); /* it multiplies no datagram */
    ck_assert_uint_eq(collected(st, ack, 1), 1);
    ck_assert_uint_eq(collected(st, ack, 1), 1);
    story_run(st, 10 * SIM_MS);
    ck_assert_uint_eq(story_stats(st, 1)->relay_acks, 0);
    ck_assert_uint_eq(story_stats(st, 1)->acks_relayed, 1);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=2");
    story_end(st);
}
END_TEST

START_TEST(a_collector_keeps_no_more_for_a_sender_than_its_cap)
{
    struct story *st = two_regions();
    struct wire_ack ack = {.channel = channel(st, 0, 2), .round = 1};
    uint64_t before = story_stats(st, 0)->ack_datagrams;
    for (ack.channel.rid = 1000; ack.channel.rid < 2000; ack.channel.rid++)
        collected(st, ack, 1);
    ck_assert_uint_le(story_stats(st, 1)->relay_acks, RELAY_SENDER_ACKS_MAX);
    story_run(st, 10 * SIM_MS);
    ck_assert_uint_eq(story_stats(st, 1)->relay_acks, 0);
    ck_assert_uint_eq(story_stats(st, 0)->ack_datagrams - before, 13); /* 21 in each */
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_beacon_of_a_packet_that_cannot_be_stops_nothing)
{
    struct story *st = two_regions();
    struct forged f;
    forge(&f, st, 0, WIRE_BEACON);
    wire_write_beacon(
        &f.w, &(struct wire_beacon){.channel = channel(st, 0, 1), .last = UINT64_C(1) << 60});
    deliver(&f, 1, NET_CONTROL);
    ck_assert_uint_eq(story_stats(st, 1)->datagrams_malformed, 1);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_beacon_that_releases_what_did_not_come_skips_nothing)
{
    struct story *st = story_new(2, 1);
    struct forged f;
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_settle(st);
    story_send(st, 0, 0, 100);
    story_settle(st);
    forge(&f, st, 0, WIRE_BEACON);
    wire_write_beacon(&f.w,
                      &(struct wire_beacon){.channel = channel(st, 0, 1), .last = 2, .rel = 2});
    deliver(&f, 1, NET_CONTROL);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p1 deliver g=* n=2 *");
    story_end(st);
}
END_TEST

START_TEST(a_sender_that_no_epoch_names_gets_no_channel)
{
    struct story *st = two_regions();
    uint64_t before = story_stats(st, 1)->channels_in;
    struct forged f;
    for (uint32_t id = 1000; id < 1100; id++) {
        struct channel_id c = channel(st, 0, 1);
        c.sender = id;
        forge(&f, st, 0, WIRE_BEACON);
        wire_write_beacon(&f.w, &(struct wire_beacon){.channel = c, .last = 3});
        deliver(&f, 1, NET_CONTROL);
    }
    ck_assert_uint_eq(story_stats(st, 1)->channels_in, before);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(an_ack_for_a_packet_that_has_not_left_yet_is_not_believed)
{
    struct story *st = two_regions();
    struct host *sender = story_host(st, 0);
    struct datagram d;
    story_send(st, 0, 0, 100);
    app_turn(sender);
    /* The message is in a packet for each region; one leaves, the other is still here when both are
     * acknowledged. */
    ck_assert(node_pull(sender->node, NET_DATA, &d, st->sim->now_us));
    net_send(st->sim, sender, &d);
    buf_unref(d.body_ref);
    for (uint32_t to = 1; to < 3; to++) {
        struct wire_ack ack = {
            .channel = channel(st, 0, to), .round = UINT32_MAX, .stable = 2, .active = 1};
        struct forged f;
        forge(&f, st, to, WIRE_ACK);
        wire_write_acks(&f.w, &ack, 1);
        deliver(&f, 0, NET_CONTROL);
    }
    story_settle(st);
    story_expect(st, "p0 stable g=* n=2");
    story_end(st);
}
END_TEST

START_TEST(a_token_from_far_ahead_does_not_silence_the_ring)
{
    static uint8_t bytes[WIRE_TOKEN_BYTES_MAX];
    struct story *st = two_regions();
    struct channel_id c = channel(st, 0, 2);
    struct token t = {
        .rid = c.rid, .epoch = c.epoch, .ring_epoch = UINT32_MAX, .round = UINT32_MAX, .size = 2};
    struct wire_slice s = {.rid = c.rid,
                           .epoch = c.epoch,
                           .count = 1,
                           .ring_epoch = t.ring_epoch,
                           .round = t.round,
                           .total = (uint32_t)wire_write_token(&t, bytes),
                           .bytes = bytes};
    s.size = (uint16_t)s.total;
    struct forged f;
    forge(&f, st, 2, WIRE_TOKEN);
    wire_write_slice(&f.w, &s);
    deliver(&f, 3, NET_CONTROL);
    ck_assert_uint_eq(story_stats(st, 3)->datagrams_malformed, 0);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(fragments_whose_numbers_go_back_within_a_packet_are_malformed)
{
    struct story *st = story_new(4, 2);
    story_sender(st, 0, 0);
    for (uint32_t i = 1; i < 4; i++)
        story_join(st, i, 0);
    story_join(st, 2, 1); /* the group is in two regions */
    story_join(st, 3, 1);
    story_settle(st);
    struct forged f;
    forge(&f, st, 0, WIRE_DATA);
    struct wire_packet p = {.channel = channel(st, 0, 1), .seq = 1, .records = 2};
    wire_write_packet(&f.w, &p);
    for (uint64_t number = 100; number > 10; number -= 45) {
        struct record rec = {.flags = RECORD_NUMBER | RECORD_FRAGMENT,
                             .number = number,
                             .count = 2,
                             .payload = f.bytes,
                             .payload_bytes = 10};
        wire_write_record(&f.w, &rec);
    }
    deliver(&f, 1, NET_DATA);
    ck_assert_uint_ge(story_stats(st, 1)->datagrams_malformed, 1);
    story_end(st);
}
END_TEST

/* A packet of host 0 with one record, padded. */
static void padded_packet(struct story *st, enum wire_kind kind, uint16_t pad, uint8_t byte)
{
    struct forged f;
    struct record rec = {.flags = RECORD_NUMBER, .number = 1, .count = 1, .payload = f.bytes};
    forge(&f, st, 0, kind);
    struct wire_packet p = {.channel = channel(st, 0, 1), .seq = 7, .records = 1, .pad = pad};
    wire_write_packet(&f.w, &p);
    wire_write_record(&f.w, &rec);
    write_u8(&f.w, byte);
    deliver(&f, 1, kind == WIRE_DATA ? NET_DATA : NET_REPAIR);
}

START_TEST(padding_is_zeros_in_data_and_nowhere_else)
{
    struct story *st = two_regions();
    const struct node_stats *s = story_stats(st, 1);
    uint64_t before = s->packets_received;
    padded_packet(st, WIRE_DATA, 0, 0);
    padded_packet(st, WIRE_DATA, 2, 0);
    padded_packet(st, WIRE_DATA, 1000, 0);
    padded_packet(st, WIRE_DATA, 1, 7);
    padded_packet(st, WIRE_REPAIR, 1, 0);
    ck_assert_uint_eq(s->datagrams_malformed, 5);
    ck_assert_uint_eq(s->packets_received, before);
    padded_packet(st, WIRE_DATA, 1, 0);
    ck_assert_uint_eq(s->datagrams_malformed, 5);
    ck_assert_uint_eq(s->packets_received, before + 1);
    story_end(st);
}
END_TEST

START_TEST(packets_of_views_far_ahead_are_not_held)
{
    struct story *st = two_regions();
    struct forged f;
    forge(&f, st, 0, WIRE_DATA);
    struct wire_packet p = {.channel = channel(st, 0, 1), .seq = 1, .records = 1};
    p.channel.epoch = UINT64_C(1) << 60;
    wire_write_packet(&f.w, &p);
    deliver(&f, 1, NET_DATA);
    ck_assert_uint_eq(story_stats(st, 1)->held_packets, 0);
    story_end(st);
}
END_TEST

Suite *suite_hostile(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");

    tcase_add_test(t, numbers_that_go_back_within_a_packet_are_malformed);
    tcase_add_test(t, an_ack_for_packets_that_were_not_sent_is_not_believed);
    tcase_add_test(t, an_ack_for_a_packet_that_has_not_left_yet_is_not_believed);
    tcase_add_test(t, what_is_collected_is_as_harmless_as_what_comes_straight);
    tcase_add_test(t, a_collector_keeps_no_more_for_a_sender_than_its_cap);
    tcase_add_test(t, a_beacon_of_a_packet_that_cannot_be_stops_nothing);
    tcase_add_test(t, a_beacon_that_releases_what_did_not_come_skips_nothing);
    tcase_add_test(t, a_sender_that_no_epoch_names_gets_no_channel);
    tcase_add_test(t, a_token_from_far_ahead_does_not_silence_the_ring);
    tcase_add_test(t, fragments_whose_numbers_go_back_within_a_packet_are_malformed);
    tcase_add_test(t, padding_is_zeros_in_data_and_nowhere_else);
    tcase_add_test(t, packets_of_views_far_ahead_are_not_held);
    suite_add_tcase(s, t);
    return s;
}
