/* Scenarios: what is in the datagrams: several groups in one, and state that is as late as can be.
 */
#include <stdlib.h>
#include "daemon/core/wire_token.h"
#include "story.h"
#include "suites.h"

static struct reader read_parcel(const struct parcel *p, struct wire_outer *ret)
{
    struct reader r = {.at = p->data, .end = p->data + p->bytes};
    ck_assert_int_eq(wire_read_outer(&r, wire_cluster_tag("sim"), ret), WIRE_OK);
    return r;
}

START_TEST(a_datagram_carries_messages_of_two_groups)
{
    struct story *st = story_new(2, 2);
    for (uint32_t i = 0; i < 2; i++) {
        story_join(st, i, 0);
        story_join(st, i, 1);
    }
    story_sender(st, 0, 0);
    story_sender(st, 0, 1);
    story_settle(st);
    story_send(st, 0, 0, 100); /* a new sender's window is one datagram */
    story_settle(st);
    st->catch_to = 1;
    story_send(st, 0, 0, 100);
    story_send(st, 0, 1, 100);
    story_run(st, SIM_MS);
    uint32_t data = 0;
    for (uint32_t i = 0; i < st->caught_count; i++) {
        struct wire_outer outer;
        struct wire_packet packet;
        struct record first, second;
        struct reader r = read_parcel(st->caught[i], &outer);
        if (outer.kind != WIRE_DATA)
            continue;
        data++;
        ck_assert(wire_read_packet(&r, &packet));
        ck_assert_uint_eq(packet.records, 2);
        ck_assert(wire_read_record(&r, &first));
        ck_assert(wire_read_record(&r, &second));
        ck_assert_uint_ne(first.slot, second.slot);
    }
    ck_assert_uint_eq(data, 1);
    st->catch_to = STORY_ANY;
    story_settle(st);
    story_end(st);
}
END_TEST

/* Groups that have something share the packets in turn, though messages of one size come in runs
 * and others each by itself: while the window is full, too. */
START_TEST(runs_take_no_more_of_the_packets_than_their_turn)
{
    struct sim_config c = sim_config_default();
    c.hosts = c.groups = 2;
    c.node.rcvbuf_bytes = 32 << 10; /* some packets in flight at a time */
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < 2; i++) {
        story_join(st, i, 0);
        story_join(st, i, 1);
    }
    story_sender(st, 0, 0);
    story_sender(st, 0, 1);
    story_settle(st);
    const struct app_group *groups = st->sim->hosts[0].groups;
    for (uint32_t i = 0; i < 190; i++) { /* more than a new sender's window takes */
        story_send(st, 0, 0, 100);
        story_send(st, 0, 1, 100 + i % 2);
    }
    while (groups[0].queued > 0)
        story_run(st, 100);
    ck_assert_uint_lt(groups[1].queued, 125);
    story_settle(st);
    story_end(st);
}
END_TEST

/* Packets that follow each other are of one size, so that they can leave as a train; the last one,
 * behind which there is nothing, is as short as it is. */
START_TEST(packets_that_are_nearly_full_are_padded_to_one_size)
{
    struct story *st = story_new(2, 1);
    story_join(st, 0, 0);
    story_join(st, 1, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    for (uint32_t i = 0; i < 4; i++) { /* until the window takes all that follows at once */
        story_send(st, 0, 0, 1000);
        story_settle(st);
    }
    st->catch_to = 1;
    for (uint32_t i = 0; i < 30; i++)
        story_send(st, 0, 0, 90 + 7 * i);
    story_run(st, SIM_MS);
    uint32_t full = st->sim->hosts[0].config.datagram_bytes, padded = 0, data = 0, last = 0;
    for (uint32_t i = 0; i < st->caught_count; i++) {
        struct wire_outer outer;
        struct wire_packet packet;
        struct reader r = read_parcel(st->caught[i], &outer);
        if (outer.kind != WIRE_DATA)
            continue;
        ck_assert(data == 0 || last == full);
        ck_assert(wire_read_packet(&r, &packet));
        padded += packet.pad > 0;
        last = st->caught[i]->bytes;
        data++;
    }
    ck_assert_uint_ge(data, 3);
    ck_assert_uint_ge(padded, 2);
    ck_assert_uint_lt(last, full);
    st->catch_to = STORY_ANY;
    story_settle(st);
    story_end(st);
}
END_TEST

/* The highest packet of `sender` in the token that leaves node n now; 0: no token leaves. */
static uint64_t token_says(struct node *n, uint32_t sender, uint64_t now_us)
{
    static struct token token;
    struct datagram d;
    uint64_t seen = 0;
    while (node_pull(n, NET_CONTROL, &d, now_us)) {
        struct reader r = {.at = d.head, .end = d.head + d.head_bytes};
        struct wire_outer outer;
        struct wire_slice slice;
        ck_assert_int_eq(wire_read_outer(&r, wire_cluster_tag("sim"), &outer), WIRE_OK);
        buf_unref(d.body_ref);
        if (outer.kind != WIRE_TOKEN)
            continue;
        ck_assert(wire_read_slice(&r, &slice));
        ck_assert_uint_eq(slice.count, 1);
        ck_assert(wire_read_token(slice.bytes, slice.size, &token));
        for (uint32_t i = 0; i < token.channel_count; i++) {
            if (token.channels[i].sender == sender)
                seen = token.channels[i].max_seen;
        }
    }
    return seen;
}

/* The DATA datagram among those caught. */
static struct parcel *caught_data(struct story *st)
{
    struct wire_outer outer;
    for (uint32_t i = 0; i < st->caught_count; i++) {
        read_parcel(st->caught[i], &outer);
        if (outer.kind == WIRE_DATA)
            return st->caught[i];
    }
    ck_abort_msg("no data was sent");
    return NULL;
}

/* Host 0 leads the ring. Of host 1 it has packet 2, which is not stable yet, so that a token is
 * due; packet 3 is under way. Does packet 3 count when it comes after the token became ready, but
 * before the socket takes it? */
static uint64_t token_that_leaves(bool packet_comes)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 1, 0);
    story_settle(st);
    story_send(st, 1, 0, 100);
    story_settle(st);
    story_drop(st, (struct rule){0, 1, WIRE_ACK, 0, STORY_EVER});
    story_send(st, 1, 0, 100);
    story_run(st, 50 * SIM_MS);
    st->catch_to = 0; /* from here on host 0 is driven by hand */
    story_send(st, 1, 0, 100);
    story_run(st, SIM_MS);
    struct parcel *data = caught_data(st);
    struct node *leader = story_host(st, 0)->node;
    uint32_t sender = story_id(st, 1);
    uint64_t now = st->sim->now_us + SIM_S;
    for (int i = 0; i < 3; i++) /* a token under way is lost, another gets ready */
        node_expire(leader, now + (uint64_t)i);
    now += 3;
    if (packet_comes)
        node_receive(leader, NET_DATA, data->data, data->bytes, NULL, now);
    uint64_t seen = token_says(leader, sender, now);
    story_end(st);
    return seen;
}

START_TEST(state_changed_between_ready_and_pull_is_in_the_token_that_leaves)
{
    ck_assert_uint_eq(token_that_leaves(false), 2);
    ck_assert_uint_eq(token_that_leaves(true), 3);
}
END_TEST

Suite *suite_packets(void)
{
    Suite *s = suite_create("packets");
    TCase *t = tcase_create("packets");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_datagram_carries_messages_of_two_groups);
    tcase_add_test(t, runs_take_no_more_of_the_packets_than_their_turn);
    tcase_add_test(t, packets_that_are_nearly_full_are_padded_to_one_size);
    tcase_add_test(t, state_changed_between_ready_and_pull_is_in_the_token_that_leaves);
    suite_add_tcase(s, t);
    return s;
}
