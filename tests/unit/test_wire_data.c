/* Tests of core/wire_data: the layout that proto/WIRE.md promises, byte for byte, and what must
 * hold for every kind of datagram. */
#include "wire_data.h"
#include <string.h>
#include "property.h"
#include "roundtrip.h"
#include "suites.h"

#define CLUSTER 0x11223344u

/* ---- an example and a round trip of each kind */

static uint64_t number(uint64_t *random)
{
    return 1 + property_below(random, UINT64_C(1) << property_below(random, 62));
}

static struct channel_id channel(uint64_t *random)
{
    return (struct channel_id){.rid = (uint32_t)property_next(random),
                               .epoch = property_next(random),
                               .sender = (uint32_t)property_next(random)};
}

static size_t written(const struct writer *w, const uint8_t *out)
{
    PROPERTY(!w->bad);
    return (size_t)(w->at - out);
}

#define WRITER(out, room)                                                                          \
    {                                                                                              \
        .at = (out), .end = (out) + (room)                                                         \
    }
#define READER(bytes, n)                                                                           \
    {                                                                                              \
        .at = (bytes), .end = (bytes) + (n)                                                        \
    }

static uint8_t payload_bytes[2000];

static size_t outer_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_outer o = {.kind = (uint8_t)(1 + property_below(random, WIRE_KINDS - 1)),
                           .cluster = CLUSTER,
                           .node_id = (uint32_t)property_next(random),
                           .counter = property_next(random)};

    wire_write_outer(&w, &o);
    return written(&w, out);
}

static size_t outer_again(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    struct reader r = READER(bytes, n);
    struct writer w = WRITER(out, room);
    struct wire_outer o;

    if (wire_read_outer(&r, CLUSTER, &o) != WIRE_OK || reader_left(&r) > 0)
        return 0;
    wire_write_outer(&w, &o);
    return written(&w, out);
}

static size_t packet_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_packet p = {.channel = channel(random),
                            .seq = number(random),
                            .rel = number(random),
                            .records = (uint16_t)(1 + property_below(random, 5)),
                            .pad =
                                (uint16_t)(property_below(random, 2) * property_below(random, 40))};
    static const uint8_t zeros[40];

    wire_write_packet(&w, &p);
    for (uint16_t i = 0; i < p.records; i++) {
        struct record rec = {.slot = (uint32_t)property_below(random, 10),
                             .flags = (uint16_t)property_below(random, 6),
                             .payload = payload_bytes,
                             .payload_bytes = (uint16_t)property_below(random, 30)};
        size_t before = writer_left(&w);

        if (rec.flags & RECORD_RUN) {
            rec.payload_bytes = (uint16_t)(1 + property_below(random, 9));
            rec.more = (uint32_t)(1 + property_below(random, 3));
        }

        rec.number = number(random);
        rec.index = (uint32_t)property_below(random, 10);
        rec.count = rec.index + 1 + (uint32_t)property_below(random, 10);
        wire_write_record(&w, &rec);
        PROPERTY(before - writer_left(&w) ==
                 wire_record_bytes(rec.flags, (size_t)rec.payload_bytes * (rec.more + 1)));
    }
    write_bytes(&w, zeros, p.pad);
    return written(&w, out);
}

static size_t packet_again(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    struct reader r = READER(bytes, n);
    struct writer w = WRITER(out, room);
    struct wire_packet p;

    if (!wire_read_packet(&r, &p) || !wire_check_records(r.at, reader_left(&r), p.records, 10))
        return 0;
    wire_write_packet(&w, &p);
    for (uint16_t i = 0; i < p.records; i++) {
        struct record rec;

        PROPERTY(wire_read_record(&r, &rec));
        wire_write_record(&w, &rec);
    }
    write_bytes(&w, r.end, p.pad);
    return written(&w, out);
}

static size_t proxy_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_proxy p = {.epoch = property_next(random),
                           .sender = (uint32_t)property_next(random),
                           .group = (uint32_t)property_next(random),
                           .number = number(random),
                           .index = (uint32_t)property_below(random, 3),
                           .count = 3,
                           .payload = payload_bytes,
                           .payload_bytes = (uint16_t)property_below(random, 40)};

    wire_write_proxy(&w, &p);
    return written(&w, out);
}

static struct wire_ack one_ack(uint64_t *random, uint32_t lacks_max)
{
    struct wire_ack a = {.channel = channel(random),
                         .round = property_next(random),
                         .stable = number(random),
                         .rel_known = number(random),
                         .active = (uint32_t)property_next(random),
                         .rate = property_next(random),
                         .slowest = (uint32_t)property_next(random),
                         .behind = (uint32_t)property_next(random),
                         .lack_count = (uint16_t)property_below(random, lacks_max + 1)};

    for (uint16_t i = 0; i < a.lack_count; i++) {
        a.lacks[i].from = number(random) / 2 + 1;
        a.lacks[i].count = 1 + (uint32_t)property_below(random, 1000);
        a.lacks[i].requesters = (uint32_t)property_next(random);
        a.lacks[i].one = (uint32_t)property_next(random);
    }
    a.held_count = (uint16_t)property_below(random, WIRE_ACK_RANGES_MAX + 1);
    for (uint64_t i = 0, from = a.stable / 2 + 2; i < a.held_count; i++) {
        a.held[i].from = from + property_below(random, 10);
        a.held[i].to = a.held[i].from + property_below(random, 10);
        from = a.held[i].to + 2;
    }
    a.stable /= 2;
    return a;
}

/* As a leader sends it, or as a collector does. */
static size_t acks_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_ack list[WIRE_ACKS_MAX];
    bool leader = property_below(random, 2) == 0;

    for (uint32_t i = 0; i < WIRE_ACKS_MAX; i++)
        list[i] = one_ack(random, leader ? WIRE_ACK_LACKS_MAX : 1);
    wire_write_acks(&w, list, leader ? 1 : wire_acks_fit(list, WIRE_ACKS_MAX));
    return written(&w, out);
}

static size_t fetch_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_fetch f = {.channel = channel(random),
                           .requester = (uint32_t)property_next(random),
                           .count = (uint16_t)property_below(random, WIRE_FETCH_MAX + 1)};

    for (uint16_t i = 0; i < f.count; i++) {
        f.want[i].from = number(random) / 2 + 1;
        f.want[i].count = 1 + (uint32_t)property_below(random, 1000);
    }
    wire_write_fetch(&w, &f);
    return written(&w, out);
}

static size_t fetch_num_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_fetch_num f = {.epoch = property_next(random),
                               .requester = (uint32_t)property_next(random),
                               .sender = (uint32_t)property_next(random),
                               .group = (uint32_t)property_next(random),
                               .first = number(random) / 2 + 1};

    f.last = f.first + property_below(random, 100);
    wire_write_fetch_num(&w, &f);
    return written(&w, out);
}

static size_t beacon_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_beacon b = {.channel = channel(random), .last = number(random)};

    b.rel = property_below(random, b.last + 1);
    b.via = (uint32_t)property_next(random);
    wire_write_beacon(&w, &b);
    return written(&w, out);
}

static size_t ask_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_ask a = {.rid = (uint32_t)property_next(random),
                         .epoch = property_next(random),
                         .level = (uint8_t)property_next(random)};

    if (property_below(random, 2) == 0) {
        a.level = WIRE_ASK_ALL;
        a.via = (uint32_t)property_next(random);
    }
    wire_write_ask(&w, &a);
    return written(&w, out);
}

static size_t acks_again(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    struct reader r = READER(bytes, n);
    struct writer w = WRITER(out, room);
    struct wire_acks acks;

    if (!wire_read_acks(&r, &acks))
        return 0;
    wire_write_acks(&w, acks.list, acks.count);
    return written(&w, out);
}

/* The kinds whose body is one struct. */
#define AGAIN(kind)                                                                                \
    static size_t kind##_again(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)          \
    {                                                                                              \
        struct reader r = READER(bytes, n);                                                        \
        struct writer w = WRITER(out, room);                                                       \
        struct wire_##kind body;                                                                   \
                                                                                                   \
        if (!wire_read_##kind(&r, &body))                                                          \
            return 0;                                                                              \
        wire_write_##kind(&w, &body);                                                              \
        return written(&w, out);                                                                   \
    }
AGAIN(proxy)
AGAIN(fetch)
AGAIN(fetch_num)
AGAIN(beacon)
AGAIN(ask)

static const struct roundtrip formats[] = {
    {"outer", outer_example, outer_again},    {"packet", packet_example, packet_again},
    {"proxy", proxy_example, proxy_again},    {"ack", acks_example, acks_again},
    {"fetch", fetch_example, fetch_again},    {"fetch_num", fetch_num_example, fetch_num_again},
    {"beacon", beacon_example, beacon_again}, {"ask", ask_example, ask_again},
};
#define FORMATS ((int)(sizeof formats / sizeof formats[0]))

START_TEST(what_is_written_reads_the_same)
{
    roundtrip_examples(&formats[_i]);
}
END_TEST

START_TEST(a_truncated_datagram_is_refused)
{
    roundtrip_truncated(&formats[_i]);
}
END_TEST

START_TEST(a_flipped_byte_is_refused_or_kept)
{
    roundtrip_flipped(&formats[_i]);
}
END_TEST

START_TEST(noise_is_refused_or_kept)
{
    roundtrip_noise(&formats[_i]);
}
END_TEST

/* ---- the layout */

START_TEST(the_outer_header_is_laid_out_as_promised)
{
    static const uint8_t expected[WIRE_OUTER_BYTES] = {
        'Q', 'S', 'M', '1', 1, WIRE_BEACON, 0, 0, 0x44, 0x33, 0x22, 0x11,
        5,   0,   0,   0,   7, 0,           0, 0, 0,    0,    0,    1,
    };
    uint8_t out[WIRE_OUTER_BYTES];
    struct writer w = WRITER(out, sizeof out);

    wire_write_outer(&w, &(struct wire_outer){.kind = WIRE_BEACON,
                                              .cluster = CLUSTER,
                                              .node_id = 5,
                                              .counter = 0x0100000000000007});
    ck_assert_uint_eq(written(&w, out), sizeof expected);
    ck_assert_mem_eq(out, expected, sizeof expected);
}
END_TEST

START_TEST(a_packet_is_laid_out_as_promised)
{
    static const uint8_t expected[] = {
        1,   0,   0, 0,             /* rid */
        2,   0,   0, 0, 0, 0, 0, 0, /* epoch */
        3,   0,   0, 0,             /* sender */
        4,   0,   0, 0, 0, 0, 0, 0, /* seq */
        3,   0,   0, 0, 0, 0, 0, 0, /* rel */
        1,   0,   0, 0,             /* records, reserved */
        9,   0,   0, 0, 3, 0, 2, 0, /* slot, flags, payload length */
        8,   0,   0, 0, 0, 0, 0, 0, /* number */
        1,   0,   0, 0, 2, 0, 0, 0, /* index, count */
        'h', 'i',
    };
    uint8_t out[sizeof expected];
    struct writer w = WRITER(out, sizeof out);

    wire_write_packet(
        &w, &(struct wire_packet){.channel = {1, 2, 3}, .seq = 4, .rel = 3, .records = 1});
    ck_assert_uint_eq(written(&w, out), WIRE_PACKET_BYTES);
    wire_write_record(&w, &(struct record){.slot = 9,
                                           .flags = RECORD_NUMBER | RECORD_FRAGMENT,
                                           .number = 8,
                                           .index = 1,
                                           .count = 2,
                                           .payload = (const uint8_t *)"hi",
                                           .payload_bytes = 2});
    ck_assert_uint_eq(written(&w, out), sizeof expected);
    ck_assert_mem_eq(out, expected, sizeof expected);
}
END_TEST

START_TEST(a_run_is_laid_out_as_promised)
{
    static const uint8_t expected[] = {
        9,   0,   0,   0,   5,   0,   2, 0, /* slot, flags, length of each */
        8,   0,   0,   0,   0,   0,   0, 0, /* number */
        2,   0,   0,   0,                   /* more */
        'h', 'i', 'h', 'o', 'h', 'u',
    };
    uint8_t out[sizeof expected];
    struct writer w = WRITER(out, sizeof out);
    struct reader r = READER(expected, sizeof expected);
    struct record rec;

    wire_write_record(&w, &(struct record){.slot = 9,
                                           .flags = RECORD_NUMBER | RECORD_RUN,
                                           .number = 8,
                                           .count = 1,
                                           .more = 2,
                                           .payload = (const uint8_t *)"hihohu",
                                           .payload_bytes = 2});
    ck_assert_uint_eq(written(&w, out), sizeof expected);
    ck_assert_mem_eq(out, expected, sizeof expected);
    ck_assert(wire_read_record(&r, &rec));
    ck_assert_uint_eq(rec.more, 2);
    ck_assert_uint_eq(rec.payload_bytes, 2);
    ck_assert_ptr_eq(rec.payload, expected + 20);
    ck_assert_uint_eq(reader_left(&r), 0);
}
END_TEST

/* Each is a record of ten bytes of payload, of whose head something is wrong. */
START_TEST(runs_that_are_malformed_are_refused)
{
    static const struct {
        uint16_t flags, length;
        uint32_t more;
        bool good;
    } rows[] = {
        {RECORD_RUN, 5, 1, true},  /* ten bytes */
        {RECORD_RUN, 5, 0, false}, /* a run of one */
        {RECORD_RUN, 0, 9, false}, /* of nothing: as many as one likes */
        {RECORD_RUN, 5, 2, false}, /* longer than the packet */
        {RECORD_RUN, 1, UINT32_MAX, false},
        {RECORD_RUN, 0x8000, 0x1ffff, false}, /* 2^32 bytes */
        {RECORD_RUN | RECORD_FRAGMENT, 5, 1, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[64] = {1,
                             0,
                             0,
                             0,
                             (uint8_t)rows[i].flags,
                             0,
                             (uint8_t)rows[i].length,
                             (uint8_t)(rows[i].length >> 8)};
        struct writer w = WRITER(bytes + 8, sizeof bytes - 8);

        if (rows[i].flags & RECORD_FRAGMENT) {
            write_u32(&w, 0);
            write_u32(&w, 1);
        }
        write_u32(&w, rows[i].more);
        size_t head = 8 + written(&w, bytes + 8);
        ck_assert_int_eq(wire_check_records(bytes, head + 10, 1, 2), rows[i].good);
    }
}
END_TEST

START_TEST(a_run_ends_below_the_highest_number)
{
    for (uint64_t off = 0; off < 2; off++) {
        uint8_t bytes[64];
        struct writer w = WRITER(bytes, sizeof bytes);

        wire_write_record(&w, &(struct record){.flags = RECORD_NUMBER | RECORD_RUN,
                                               .number = WIRE_NUMBER_MAX - 2 + off,
                                               .count = 1,
                                               .more = 2,
                                               .payload = (const uint8_t *)"abc",
                                               .payload_bytes = 1});
        ck_assert_int_eq(wire_check_records(bytes, written(&w, bytes), 1, 1), off == 0);
    }
}
END_TEST

START_TEST(control_datagrams_are_laid_out_as_promised)
{
    static const uint8_t expected[] = {
        1, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0, 255, 4, 0, 0, 0, /* ASK: rid, epoch, level, via */
        1, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0, 3,   0, 0, 0,    /* BEACON: channel */
        5, 0, 0, 0,  0, 0, 0, 0, 4, 0, 0, 0, 0,   0, 0, 0,    /* last, rel */
        6, 0, 0, 0,                                           /* via */
        2, 0,                                                 /* ACK: how many */
        1, 0, 0, 0,  2, 0, 0, 0, 0, 0, 0, 0, 3,   0, 0, 0,    /* channel */
        7, 0, 0, 0,  8, 0, 0, 0,                              /* round */
        9, 0, 0, 0,  0, 0, 0, 0, 8, 0, 0, 0, 0,   0, 0, 0,    /* stable, rel known */
        2, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,                  /* active, rate */
        6, 0, 0, 0,  7, 0, 0, 0, 1, 0, 1, 0,                  /* slowest, behind, lacks, held */
        9, 0, 0, 0,  0, 0, 0, 0, 2, 0, 0, 0, 3,   0, 0, 0, 4,
        0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 5, 0,   0, 0,
    };
    struct wire_ack list[2] = {{.channel = {1, 2, 3},
                                .round = UINT64_C(8) << 32 | 7,
                                .stable = 9,
                                .rel_known = 8,
                                .active = 2,
                                .rate = 5,
                                .slowest = 6,
                                .behind = 7,
                                .lack_count = 1,
                                .lacks = {{9, 2, 3, 4}},
                                .held_count = 1,
                                .held = {{11, 15}}}};
    uint8_t out[sizeof expected + WIRE_ACK_BYTES];
    struct writer w = WRITER(out, sizeof out);

    wire_write_ask(&w, &(struct wire_ask){.rid = 1, .epoch = 2, .level = WIRE_ASK_ALL, .via = 4});
    wire_write_beacon(&w,
                      &(struct wire_beacon){.channel = {1, 2, 3}, .last = 5, .rel = 4, .via = 6});
    wire_write_acks(&w, list, 2);
    ck_assert_uint_eq(written(&w, out), sizeof out);
    ck_assert_mem_eq(out, expected, sizeof expected);
}
END_TEST

START_TEST(a_datagram_without_an_ack_and_an_ask_of_a_member_for_a_collector_are_refused)
{
    uint8_t none[2] = {0, 0}, ask[17] = {[12] = 0, [13] = 1};
    struct reader no_acks = READER(none, sizeof none), of_member = READER(ask, sizeof ask);
    struct wire_acks acks;
    struct wire_ask a;

    ck_assert(!wire_read_acks(&no_acks, &acks));
    ck_assert(!wire_read_ask(&of_member, &a));
}
END_TEST

START_TEST(what_a_stranger_sends_is_told_apart_by_reason)
{
    static const struct {
        size_t at;
        uint8_t value;
        enum wire_bad reason;
    } cases[] = {
        {0, 'q', WIRE_BAD_MAGIC},     {4, 2, WIRE_BAD_VERSION}, {6, 1, WIRE_BAD_VERSION},
        {8, 0, WIRE_BAD_CLUSTER},     {5, 0, WIRE_BAD_KIND},    {5, WIRE_KINDS, WIRE_BAD_KIND},
        {5, WIRE_KINDS - 1, WIRE_OK},
    };
    uint64_t random = property_seed("outer");

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t bytes[WIRE_OUTER_BYTES];
        struct reader r = READER(bytes, sizeof bytes), cut = READER(bytes, sizeof bytes - 1);
        struct wire_outer o;

        outer_example(&random, bytes, sizeof bytes);
        bytes[cases[i].at] = cases[i].value;
        ck_assert_int_eq(wire_read_outer(&r, CLUSTER, &o), cases[i].reason);
        ck_assert_int_eq(wire_read_outer(&cut, CLUSTER, &o), WIRE_BAD_LENGTH);
    }
}
END_TEST

START_TEST(a_cluster_tag_is_the_fnv_1a_of_its_name)
{
    ck_assert_uint_eq(wire_cluster_tag(""), 0x811c9dc5);
    ck_assert_uint_eq(wire_cluster_tag("a"), 0xe40c292c);
    ck_assert_uint_eq(wire_cluster_tag("foobar"), 0xbf9cf968);
}
END_TEST

START_TEST(a_cursor_that_went_bad_stays_bad)
{
    uint8_t bytes[3] = {1, 2, 3}, out[3] = {9, 9, 9};
    struct reader r = READER(bytes, sizeof bytes);
    struct writer w = WRITER(out, sizeof out);

    ck_assert_uint_eq(read_u32(&r), 0);
    ck_assert(r.bad);
    ck_assert_uint_eq(read_u8(&r), 0);
    ck_assert_uint_eq(reader_left(&r), 0);
    ck_assert_ptr_null(read_bytes(&r, 0));
    write_u32(&w, 1);
    write_u8(&w, 1);
    ck_assert(w.bad);
    ck_assert_uint_eq(writer_left(&w), 0);
    ck_assert_mem_eq(out, "\t\t\t", 3);
}
END_TEST

/* A body of one record, built by hand. */
static bool record_ok(uint16_t flags, uint64_t num, uint32_t index, uint32_t count, uint16_t length,
                      size_t there)
{
    uint8_t body[100];
    struct writer w = WRITER(body, sizeof body);

    write_u32(&w, 4);
    write_u16(&w, flags);
    write_u16(&w, length);
    if (flags & RECORD_NUMBER)
        write_u64(&w, num);
    if (flags & RECORD_FRAGMENT) {
        write_u32(&w, index);
        write_u32(&w, count);
    }
    write_bytes(&w, payload_bytes, there);
    return wire_check_records(body, written(&w, body), 1, 5);
}

START_TEST(malformed_records_are_refused)
{
    const uint16_t both = RECORD_NUMBER | RECORD_FRAGMENT;

    ck_assert(record_ok(both, 1, 0, 1, 7, 7));
    ck_assert(record_ok(0, 0, 0, 0, 0, 0));
    ck_assert(!record_ok(both, 0, 0, 1, 7, 7));
    ck_assert(record_ok(both, WIRE_NUMBER_MAX, 0, 1, 7, 7));
    ck_assert(!record_ok(both, WIRE_NUMBER_MAX + 1, 0, 1, 7, 7));
    ck_assert(!record_ok(both, 1, 2, 2, 7, 7));
    ck_assert(!record_ok(both, 1, 0, 0, 7, 7));
    ck_assert(!record_ok(4, 1, 0, 1, 7, 7));
    ck_assert(!record_ok(both, 1, 0, 1, 8, 7));
    ck_assert(!record_ok(both, 1, 0, 1, UINT16_MAX, 7));
    ck_assert(!record_ok(both, 1, 0, 1, 6, 7));
}
END_TEST

START_TEST(records_and_slots_must_be_as_many_as_announced)
{
    uint8_t body[16] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0};

    ck_assert(wire_check_records(body, sizeof body, 2, 3));
    ck_assert(!wire_check_records(body, sizeof body, 2, 2));
    ck_assert(!wire_check_records(body, sizeof body, 1, 3));
    ck_assert(!wire_check_records(body, sizeof body, 3, 3));
    ck_assert(!wire_check_records(body, sizeof body - 1, 2, 3));
}
END_TEST

START_TEST(runs_of_numbers_cannot_overflow)
{
    struct wire_fetch f = {.count = 1};
    uint8_t out[100];

    for (int i = 0; i < 4; i++) {
        struct writer w = WRITER(out, sizeof out);
        struct reader r = READER(out, 0);

        f.want[0].from = i == 0 ? 0 : i == 1 ? UINT64_MAX : i == 2 ? WIRE_NUMBER_MAX : 1;
        f.want[0].count = i == 2 ? 2 : i == 3 ? 0 : 1;
        wire_write_fetch(&w, &f);
        r.end = w.at;
        ck_assert(!wire_read_fetch(&r, &f));
    }
}
END_TEST

START_TEST(the_largest_control_datagrams_fit)
{
    static struct wire_ack a = {.lack_count = WIRE_ACK_LACKS_MAX,
                                .held_count = WIRE_ACK_RANGES_MAX},
                           many[WIRE_ACKS_MAX + 1];
    static struct wire_fetch f = {.count = WIRE_FETCH_MAX};
    uint8_t out[WIRE_CONTROL_MAX - WIRE_OUTER_BYTES];
    struct writer ack = WRITER(out, sizeof out), fetch = WRITER(out, sizeof out);
    struct writer acks = WRITER(out, sizeof out);

    wire_write_acks(&ack, &a, 1);
    ck_assert(!ack.bad);
    ck_assert_uint_eq(wire_acks_fit(many, WIRE_ACKS_MAX + 1), WIRE_ACKS_MAX);
    wire_write_acks(&acks, many, WIRE_ACKS_MAX);
    ck_assert(!acks.bad);
    many[1] = a;
    ck_assert_uint_eq(wire_acks_fit(many, 2), 2);
    many[0] = a;
    ck_assert_uint_eq(wire_acks_fit(many, 2), 1);
    wire_write_fetch(&fetch, &f);
    ck_assert(!fetch.bad);
}
END_TEST

Suite *suite_wire_data(void)
{
    Suite *s = suite_create("wire_data");
    TCase *t = tcase_create("wire_data");

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, what_is_written_reads_the_same, 0, FORMATS);
    tcase_add_loop_test(t, a_truncated_datagram_is_refused, 0, FORMATS);
    tcase_add_loop_test(t, a_flipped_byte_is_refused_or_kept, 0, FORMATS);
    tcase_add_loop_test(t, noise_is_refused_or_kept, 0, FORMATS);
    tcase_add_test(t, the_outer_header_is_laid_out_as_promised);
    tcase_add_test(t, a_packet_is_laid_out_as_promised);
    tcase_add_test(t, a_run_is_laid_out_as_promised);
    tcase_add_test(t, runs_that_are_malformed_are_refused);
    tcase_add_test(t, a_run_ends_below_the_highest_number);
    tcase_add_test(t, control_datagrams_are_laid_out_as_promised);
    tcase_add_test(t, a_datagram_without_an_ack_and_an_ask_of_a_member_for_a_collector_are_refused);
    tcase_add_test(t, what_a_stranger_sends_is_told_apart_by_reason);
    tcase_add_test(t, a_cluster_tag_is_the_fnv_1a_of_its_name);
    tcase_add_test(t, a_cursor_that_went_bad_stays_bad);
    tcase_add_test(t, malformed_records_are_refused);
    tcase_add_test(t, records_and_slots_must_be_as_many_as_announced);
    tcase_add_test(t, runs_of_numbers_cannot_overflow);
    tcase_add_test(t, the_largest_control_datagrams_fit);
    suite_add_tcase(s, t);
    return s;
}
