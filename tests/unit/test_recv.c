/* Tests of core/recv: what a pool that is full takes, drops and asks for. All else is in the
 * scenarios. */
#include "recv.h"
#include "suites.h"

#define SENDER 2

struct rig {
    struct context ctx;
    struct groups groups;
    struct recv recv;
};

/* Node 1 of a region of three, with one group. */
static void rig_init(struct rig *r, uint64_t pool_bytes)
{
    static const uint32_t members[] = {1, 2, 3}, groups[] = {7};
    static const struct upcalls none;
    struct node_config config = {
        .cluster = "test", .name = "host", .datagram_bytes = 1000, .pool_bytes = pool_bytes};
    struct view *v = view_new(1, 1, members, 3, groups, 1);

    v->ring_size = 25;
    v->replicas = 5;
    context_init(&r->ctx, &config, &none, 0);
    r->ctx.id = 1;
    groups_init(&r->groups, &r->ctx);
    struct group *g = groups_add(&r->groups, "g");
    groups_set_gid(&r->groups, g, 7);
    group_add_place(g, v, 0);
    recv_init(&r->recv, &r->ctx, &r->groups);
    recv_move(&r->recv, v);
    view_unref(v);
}

static void rig_done(struct rig *r)
{
    recv_done(&r->recv);
    groups_done(&r->groups);
    context_done(&r->ctx);
}

/* Packet seq with one message of the same number. */
static bool arrives(struct rig *r, uint64_t seq, uint16_t bytes)
{
    static uint8_t body[2000], payload[1000];
    struct writer w = {.at = body, .end = body + sizeof(body)};
    struct wire_packet p = {.channel = {1, 1, SENDER}, .seq = seq, .records = 1};

    wire_write_record(&w, &(struct record){.flags = RECORD_NUMBER,
                                           .number = seq,
                                           .count = 1,
                                           .payload = payload,
                                           .payload_bytes = bytes});
    return recv_packet(&r->recv, &p, body, (size_t)(w.at - body), NULL, SENDER, false);
}

START_TEST(what_is_in_order_displaces_what_is_not)
{
    struct rig r;

    rig_init(&r, 2500);
    ck_assert(arrives(&r, 1, 984));
    ck_assert(arrives(&r, 3, 984));
    struct channel_in *ch = recv_find(&r.recv, SENDER);
    ck_assert(recv_wants(ch));
    ck_assert(arrives(&r, 2, 984));
    ck_assert_uint_eq(ch->prefix, 2);
    ck_assert(!recv_has(ch, 3));
    ck_assert_uint_eq(r.ctx.stats.store_bytes, 2000);
    rig_done(&r);
}
END_TEST

START_TEST(a_full_pool_drops_nothing_in_vain_and_asks_for_nothing)
{
    struct rig r;

    rig_init(&r, 1500);
    ck_assert(arrives(&r, 1, 984));
    ck_assert(arrives(&r, 3, 84));
    struct channel_in *ch = recv_find(&r.recv, SENDER);
    ck_assert(!recv_wants(ch));
    ck_assert(!arrives(&r, 2, 984));
    ck_assert_uint_eq(ch->prefix, 1);
    ck_assert(recv_has(ch, 3));
    ck_assert_uint_eq(r.ctx.stats.packets_dropped_full, 1);
    recv_learn(ch, 3, 1); /* what all have makes room */
    ck_assert(recv_wants(ch));
    ck_assert(arrives(&r, 2, 984));
    ck_assert_uint_eq(ch->prefix, 3);
    rig_done(&r);
}
END_TEST

START_TEST(the_only_packet_in_order_is_taken_above_the_cap)
{
    struct rig r;

    rig_init(&r, 500);
    ck_assert(arrives(&r, 1, 984));
    ck_assert(!arrives(&r, 2, 984));
    ck_assert(!recv_wants(recv_find(&r.recv, SENDER)));
    rig_done(&r);
}
END_TEST

Suite *suite_recv(void)
{
    Suite *s = suite_create("recv");
    TCase *t = tcase_create("recv");

    tcase_add_test(t, what_is_in_order_displaces_what_is_not);
    tcase_add_test(t, a_full_pool_drops_nothing_in_vain_and_asks_for_nothing);
    tcase_add_test(t, the_only_packet_in_order_is_taken_above_the_cap);
    suite_add_tcase(s, t);
    return s;
}
