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

/* Host 0 leads the ring; host 1 sends packet 1, which host 0 has, and packet 2, which waits. Host 0
 * is asked for a token; does packet 2, when it comes before the socket can take the token, count?
 */
static uint64_t token_after_ask(bool packet_comes)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 1, 0);
    story_settle(st);
    uint32_t sender = story_id(st, 1);
    struct sim *s = st->sim;
    struct node *leader = story_host(st, 0)->node;
    story_send(st, 1, 0, 100);
    story_settle(st);
    st->catch_to = 0;
    story_send(st, 1, 0, 100);
    story_run(st, SIM_MS);
    struct parcel *data = NULL;
    for (uint32_t i = 0; i < st->caught_count; i++) {
        struct wire_outer outer;
        read_parcel(st->caught[i], &outer);
        if (outer.kind == WIRE_DATA)
            data = st->caught[i];
    }
    ck_assert_ptr_nonnull(data);
    /* A beacon of packet 2 asks for a round: the token is ready, but not pulled yet. */
    uint64_t now = s->now_us + 300 * SIM_MS;
    host_pause(story_host(st, 0), now + SIM_S);
    uint8_t ask[64];
    struct writer w = {.at = ask, .end = ask + sizeof(ask)};
    wire_write_outer(&w, &(struct wire_outer){WIRE_BEACON, wire_cluster_tag("sim"), sender, 9999});
    struct reader r = {.at = data->data, .end = data->data + data->bytes};
    struct wire_outer outer;
    struct wire_packet packet;
    ck_assert_int_eq(wire_read_outer(&r, wire_cluster_tag("sim"), &outer), WIRE_OK);
    ck_assert(wire_read_packet(&r, &packet));
    ck_assert_uint_eq(packet.seq, 2);
    wire_write_beacon(&w, &(struct wire_beacon){packet.channel, 1, 0});
    node_receive(leader, NET_CONTROL, ask, (size_t)(w.at - ask), now);
    node_expire(leader, now);
    if (packet_comes)
        node_receive(leader, NET_DATA, data->data, data->bytes, now);
    uint64_t seen = token_says(leader, sender, now);
    story_end(st);
    return seen;
}

START_TEST(state_changed_between_ready_and_pull_is_in_the_token_that_leaves)
{
    ck_assert_uint_eq(token_after_ask(false), 1);
    ck_assert_uint_eq(token_after_ask(true), 2);
}
END_TEST

Suite *suite_packets(void)
{
    Suite *s = suite_create("packets");
    TCase *t = tcase_create("packets");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_datagram_carries_messages_of_two_groups);
    tcase_add_test(t, state_changed_between_ready_and_pull_is_in_the_token_that_leaves);
    suite_add_tcase(s, t);
    return s;
}
