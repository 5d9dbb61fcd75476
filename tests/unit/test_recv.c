/* Tests of core/recv: what a pool that is full takes, drops and asks for, and where bodies lie. All
 * else is in the scenarios. */
#include <string.h>
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

/* ---- a train that landed in one buf */

struct train {
    struct buf *landing;
    struct writer at;
    struct {
        const uint8_t *body;
        size_t bytes;
        uint16_t records;
    } packets[20]; /* by number, from 1 */
    uint64_t count;
};

static void train_init(struct train *t)
{
    memset(t, 0, sizeof(*t));
    t->landing = buf_new(65536);
    t->at = (struct writer){.at = t->landing->data, .end = t->landing->data + t->landing->size};
}

/* Puts the next packet behind those before. */
static void packet_lands(struct train *t, const struct record *records, uint16_t count)
{
    uint64_t seq = ++t->count;

    wire_write_outer(&t->at, &(struct wire_outer){.kind = WIRE_DATA, .node_id = SENDER});
    wire_write_packet(
        &t->at, &(struct wire_packet){.channel = {1, 1, SENDER}, .seq = seq, .records = count});
    t->packets[seq].body = t->at.at;
    for (uint16_t i = 0; i < count; i++) {
        wire_write_record(&t->at, &records[i]);
    }
    t->packets[seq].bytes = (size_t)(t->at.at - t->packets[seq].body);
    t->packets[seq].records = count;
}

static bool is_taken(struct rig *r, const struct train *t, uint64_t seq)
{
    struct wire_packet p = {
        .channel = {1, 1, SENDER}, .seq = seq, .records = t->packets[seq].records};
    return recv_packet(&r->recv, &p, t->packets[seq].body, t->packets[seq].bytes, t->landing,
                       SENDER, false);
}

/* What was delivered. */
struct heard {
    struct delivery d[20];
    unsigned count;
};

static void hear(void *ctx, const struct delivery *d)
{
    struct heard *h = ctx;
    h->d[h->count++] = *d;
}

/* The rig's node is a receiver of the group. */
static void rig_listen(struct rig *r, struct heard *h)
{
    struct group *g = r->recv.by_slot[0];

    g->handle = 0;
    g->want = g->installed = NODE_RECV;
    r->ctx.up.ctx = h;
    r->ctx.up.deliver = hear;
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

START_TEST(messages_of_a_train_lie_apart_as_far_as_is_said)
{
    static const uint8_t payload[900];
    static const struct record whole = {.count = 1, .payload = payload, .payload_bytes = 900},
                               empty = {.count = 1, .payload = payload};
    struct record first = whole;
    struct heard h = {0};
    struct train t;
    struct rig r;

    first.flags = RECORD_NUMBER;
    first.number = 1;
    rig_init(&r, 1 << 20);
    rig_listen(&r, &h);
    train_init(&t);
    packet_lands(&t, (const struct record[]){first, whole, empty, whole}, 4);
    packet_lands(&t, (const struct record[]){whole}, 1);
    packet_lands(&t, (const struct record[]){empty, whole}, 2);
    packet_lands(&t, (const struct record[]){whole}, 1);
    ck_assert(is_taken(&r, &t, 1));
    ck_assert(is_taken(&r, &t, 3));
    ck_assert(is_taken(&r, &t, 4));
    ck_assert(is_taken(&r, &t, 2));
    ck_assert_uint_eq(h.count, 8);
    ck_assert_uint_eq(h.d[0].lead, WIRE_OUTER_BYTES + WIRE_PACKET_BYTES + 16);
    ck_assert_uint_eq(h.d[1].lead, WIRE_RECORD_BYTES);
    const uint8_t *end = t.landing->data;
    for (unsigned i = 0; i < h.count; i++) {
        ck_assert_uint_eq(h.d[i].number, i + 1);
        ck_assert_ptr_eq(h.d[i].body, t.landing);
        ck_assert_ptr_eq(h.d[i].data, end + h.d[i].lead);
        end = h.d[i].data + h.d[i].bytes;
    }
    ck_assert_ptr_eq(end, t.at.at);
    rig_done(&r);
    ck_assert_uint_eq(t.landing->refs, 1);
    buf_unref(t.landing);
}
END_TEST

START_TEST(a_message_in_fragments_lies_nowhere)
{
    static const uint8_t payload[900];
    struct record piece[2], whole = {.count = 1, .payload = payload, .payload_bytes = 900};
    struct heard h = {0};
    struct train t;
    struct rig r;

    for (uint32_t i = 0; i < 2; i++) {
        piece[i] = (struct record){.flags = RECORD_NUMBER | RECORD_FRAGMENT,
                                   .number = 1,
                                   .index = i,
                                   .count = 2,
                                   .payload = payload,
                                   .payload_bytes = 900};
    }
    rig_init(&r, 1 << 20);
    r.ctx.config.reassembly_bytes = 1 << 20;
    rig_listen(&r, &h);
    train_init(&t);
    packet_lands(&t, &piece[0], 1);
    packet_lands(&t, (const struct record[]){piece[1], whole}, 2);
    ck_assert(is_taken(&r, &t, 1));
    ck_assert(is_taken(&r, &t, 2));
    ck_assert_uint_eq(h.count, 2);
    ck_assert_uint_eq(h.d[0].bytes, 1800);
    ck_assert_uint_eq(h.d[0].lead, 0);
    ck_assert_ptr_eq(h.d[1].body, t.landing);
    ck_assert_uint_eq(h.d[1].lead, WIRE_RECORD_BYTES);
    rig_done(&r);
    buf_unref(t.landing);
}
END_TEST

/* Packet seq of 1,000 bytes lies where it landed, or was copied; whole in either case. */
static void check_place(struct rig *r, const struct train *t, uint64_t seq, bool landed)
{
    const struct channel_in *ch = recv_find(&r->recv, SENDER);
    const struct packet *p = store_find(&ch->store, seq);

    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(p->body == t->landing, landed);
    ck_assert_int_eq(p->data == t->packets[seq].body, landed);
    ck_assert_uint_eq(p->bytes, 1000);
    ck_assert_mem_eq(p->data, t->packets[seq].body, 1000);
}

static void train_of_thousands(struct train *t)
{
    train_init(t);
    for (uint64_t n = 1; n <= 15; n++) {
        uint8_t payload[984];
        memset(payload, (int)n, sizeof(payload));
        struct record rec = {.flags = RECORD_NUMBER,
                             .number = n,
                             .count = 1,
                             .payload = payload,
                             .payload_bytes = sizeof(payload)};
        packet_lands(t, &rec, 1);
        ck_assert_uint_eq(t->packets[n].bytes, 1000);
    }
}

/* With one replica among three each byte that is kept stands for three; from a quarter of the pool
 * on nothing is kept where it landed. */
START_TEST(what_is_cached_is_copied_out_once_that_saves_half_the_pool)
{
    struct rig r;
    struct train t;
    unsigned landed = 0, moved = 0;

    rig_init(&r, 42000);
    train_of_thousands(&t);
    r.recv.view->replicas = 1;
    for (uint64_t n = 1; n <= 15; n++) {
        ck_assert(is_taken(&r, &t, n));
        ck_assert_uint_eq(r.ctx.stats.store_bytes, n * 1000);
        struct channel_in *ch = recv_find(&r.recv, SENDER);
        bool caches = view_caches(r.recv.view, r.recv.rank, ch->rank, n);
        bool stays = n <= 7 || (n <= 11 && !caches);
        check_place(&r, &t, n, stays);
        moved += n <= 11 && !stays;
        landed += stays;
        ck_assert_uint_eq(t.landing->refs, 1 + landed);
    }
    ck_assert_uint_gt(moved, 0);
    ck_assert_uint_lt(moved, 4);
    for (uint64_t n = 1; n <= 7; n++) {
        check_place(&r, &t, n, true);
    }
    recv_learn(recv_find(&r.recv, SENDER), 15, 15);
    ck_assert_uint_eq(t.landing->refs, 1);
    ck_assert_uint_eq(r.ctx.stats.store_bytes, 0);
    buf_unref(t.landing);
    rig_done(&r);
}
END_TEST

START_TEST(what_waits_is_delivered_from_where_it_was_copied_to)
{
    struct heard h = {0};
    struct rig r;
    struct train t;
    unsigned moved = 0;

    rig_init(&r, 24000);
    rig_listen(&r, &h);
    train_of_thousands(&t);
    r.recv.view->replicas = 1;
    for (uint64_t n = 2; n <= 8; n++) {
        ck_assert(is_taken(&r, &t, n));
    }
    ck_assert_uint_eq(h.count, 0);
    ck_assert(is_taken(&r, &t, 1));
    ck_assert_uint_eq(h.count, 8);
    for (unsigned i = 0; i < h.count; i++) {
        struct packet *p = store_find(&recv_find(&r.recv, SENDER)->store, i + 1);
        ck_assert_uint_eq(h.d[i].number, i + 1);
        ck_assert_mem_eq(h.d[i].data, t.packets[i + 1].body + 16, 984);
        moved += i > 0 && h.d[i].body != t.landing;
        ck_assert_ptr_eq(h.d[i].body, p->body);
    }
    ck_assert_uint_gt(moved, 0);
    rig_done(&r);
    ck_assert_uint_eq(t.landing->refs, 1);
    buf_unref(t.landing);
}
END_TEST

START_TEST(where_nobody_caches_nothing_is_copied_out)
{
    struct rig r;
    struct train t;

    rig_init(&r, 24000);
    train_of_thousands(&t);
    r.recv.view->replicas = 0;
    for (uint64_t n = 1; n <= 7; n++) {
        ck_assert(is_taken(&r, &t, n));
        check_place(&r, &t, n, true);
    }
    rig_done(&r);
    buf_unref(t.landing);
}
END_TEST

Suite *suite_recv(void)
{
    Suite *s = suite_create("recv");
    TCase *t = tcase_create("recv");

    tcase_add_test(t, what_is_in_order_displaces_what_is_not);
    tcase_add_test(t, a_full_pool_drops_nothing_in_vain_and_asks_for_nothing);
    tcase_add_test(t, the_only_packet_in_order_is_taken_above_the_cap);
    tcase_add_test(t, messages_of_a_train_lie_apart_as_far_as_is_said);
    tcase_add_test(t, a_message_in_fragments_lies_nowhere);
    tcase_add_test(t, what_is_cached_is_copied_out_once_that_saves_half_the_pool);
    tcase_add_test(t, what_waits_is_delivered_from_where_it_was_copied_to);
    tcase_add_test(t, where_nobody_caches_nothing_is_copied_out);
    suite_add_tcase(s, t);
    return s;
}
