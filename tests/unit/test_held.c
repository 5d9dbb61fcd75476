/* Tests of the ranges that all members hold above a gap: how they are intersected (core/range), and
 * what tokens and ACKs say of them (core/wire_token, core/wire_data). */
#include <string.h>
#include "property.h"
#include "range.h"
#include "roundtrip.h"
#include "suites.h"
#include "wire_token.h"

static struct token token, other;
static uint8_t bytes[WIRE_TOKEN_BYTES_MAX];

START_TEST(what_two_have_in_common_are_their_lowest_ranges)
{
    const struct range low[] = {{5, 9}, {12, 20}, {30, 40}}, high[] = {{14, 16}, {18, 35}};
    struct range both[4];

    ck_assert_uint_eq(ranges_common(low, 3, 7, high, 2, both, 4), 4);
    ck_assert_mem_eq(both, ((struct range[]){{5, 7}, {14, 16}, {18, 20}, {30, 35}}), sizeof both);
    ck_assert_uint_eq(ranges_common(low, 3, 7, high, 2, both, 2), 2);
    ck_assert_uint_eq(ranges_common(low, 3, 3, NULL, 0, both, 4), 0);
    ck_assert_uint_eq(ranges_common(NULL, 0, 7, high, 2, both, 4), 0);
    ck_assert_uint_eq(ranges_common(low, 3, UINT64_MAX, NULL, 0, both, 4), 3);
    ck_assert_uint_eq(ranges_common(low, 3, 7, high, 2, both, 0), 0);
}
END_TEST

/* Random bits as a prefix and ranges above it. */
static uint64_t parts_of(const bool *has, uint64_t count, struct ranges *ret)
{
    uint64_t prefix = 0;

    while (prefix < count && has[prefix + 1])
        prefix++;
    for (uint64_t i = prefix + 1; i <= count; i++) {
        if (has[i])
            ranges_add(ret, i, i);
    }
    return prefix;
}

START_TEST(what_two_have_in_common_matches_a_plain_table)
{
    enum { COUNT = 40 };
    uint64_t random = property_seed("held");

    for (int loop = 0; loop < 2000; loop++) {
        bool has[2][COUNT + 2] = {{0}};
        struct ranges parts[2];
        struct range both[COUNT];
        uint64_t prefix[2], chance = 2 + property_below(&random, 8);

        for (int k = 0; k < 2; k++) {
            for (uint64_t i = 1; i <= COUNT; i++)
                has[k][i] = property_below(&random, 10) < chance;
            ranges_init(&parts[k]);
            prefix[k] = parts_of(has[k], COUNT, &parts[k]);
        }
        int low = prefix[0] < prefix[1] ? 0 : 1;
        uint32_t count = ranges_common(parts[low].list, parts[low].count, prefix[!low],
                                       parts[!low].list, parts[!low].count, both, COUNT);
        uint32_t at = 0;
        for (uint64_t i = prefix[low] + 1; i <= COUNT; i++) {
            while (at < count && both[at].to < i)
                at++;
            PROPERTY((has[0][i] && has[1][i]) == (at < count && both[at].from <= i));
        }
        PROPERTY(count == 0 || both[0].from > prefix[low] + 1);
        ranges_done(&parts[0]);
        ranges_done(&parts[1]);
    }
}
END_TEST

/* A token of level 1 with so many held ranges in each channel: 12..13, 22..23 and so on. */
static size_t held_token(uint32_t channels, uint8_t held)
{
    memset(&token, 0, sizeof token);
    token.level = 1;
    token.size = 25;
    token.channel_count = channels;
    for (uint32_t i = 0; i < channels; i++) {
        struct token_channel *c = &token.channels[i];

        c->max_seen = 1000;
        c->prefix = 10;
        c->held_count = held;
        for (uint64_t k = 0; k < held; k++)
            c->held[k] = (struct range){12 + k * 10, 13 + k * 10};
    }
    return wire_write_token(&token, bytes);
}

START_TEST(the_channels_of_a_token_share_the_room_for_held_ranges)
{
    static const uint32_t expected[][2] = {{1, 8}, {21, 8}, {22, 7}, {85, 2}, {120, 1}};

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        ck_assert(wire_read_token(bytes, held_token(expected[i][0], 8), &other));
        for (uint32_t k = 0; k < expected[i][0]; k++) {
            ck_assert_uint_eq(other.channels[k].held_count, expected[i][1]);
            ck_assert_mem_eq(other.channels[k].held, token.channels[k].held,
                             expected[i][1] * sizeof(struct range));
        }
    }
}
END_TEST

/* Whether a token of one channel whose held ranges these are is taken. */
static bool token_ok(uint64_t prefix, struct range a, struct range b)
{
    held_token(1, 2);
    token.channels[0].prefix = prefix;
    token.channels[0].held[0] = a;
    token.channels[0].held[1] = b;
    return wire_read_token(bytes, wire_write_token(&token, bytes), &other);
}

static bool ack_ok(uint64_t prefix, struct range a, struct range b)
{
    uint8_t out[200];
    struct wire_ack ack = {.stable = prefix, .held_count = 2, .held = {a, b}};
    struct writer w = {.at = out, .end = out + sizeof out};
    struct wire_acks acks;

    wire_write_acks(&w, &ack, 1);
    struct reader r = {.at = out, .end = w.at};
    return wire_read_acks(&r, &acks);
}

START_TEST(held_ranges_that_are_not_above_a_gap_and_in_order_are_malformed)
{
    static const struct {
        uint64_t prefix;
        struct range a, b;
        bool ok;
    } cases[] = {
        {10, {12, 13}, {15, 15}, true},
        {10, {11, 13}, {15, 15}, false},
        {10, {9, 13}, {15, 15}, false},
        {10, {12, 13}, {14, 15}, false},
        {10, {15, 15}, {12, 13}, false},
        {10, {12, 13}, {0, 5}, false},
        {UINT64_MAX, {12, 13}, {15, 15}, false},
        {10, {12, 13}, {WIRE_NUMBER_MAX, WIRE_NUMBER_MAX}, true},
        {10, {12, 13}, {WIRE_NUMBER_MAX, WIRE_NUMBER_MAX + 1}, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_msg(token_ok(cases[i].prefix, cases[i].a, cases[i].b) == cases[i].ok, "token %zu",
                      i);
        ck_assert_msg(ack_ok(cases[i].prefix, cases[i].a, cases[i].b) == cases[i].ok, "ack %zu", i);
    }
}
END_TEST

START_TEST(more_held_ranges_than_a_channel_has_room_for_are_malformed)
{
    const size_t at = 43 + 3 * 4 + 57; /* the count of the first of 22 channels, which may have 7 */
    size_t n = held_token(22, 7);

    ck_assert(wire_read_token(bytes, n, &other));
    ck_assert_uint_eq(bytes[at], 7);
    memmove(bytes + at + 13, bytes + at + 1, n - at - 1);
    bytes[at] = 8;
    memset(bytes + at + 1, 0, 12);
    bytes[at + 1] = 12;
    bytes[at + 9] = bytes[at + 21] = 1; /* 12..12, then 12..12 as 14..14 */
    bytes[at + 13] = 14;
    ck_assert(!wire_read_token(bytes, n + 12, &other));
}
END_TEST

static size_t held_example(uint64_t *random, uint8_t *out, size_t room)
{
    uint32_t channels = 1 + (uint32_t)property_below(random, 30);
    size_t n = held_token(channels, (uint8_t)property_below(random, WIRE_ACK_RANGES_MAX + 1));

    PROPERTY(n <= room);
    memcpy(out, bytes, n);
    return n;
}

static size_t held_again(const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
    (void)room;
    return wire_read_token(in, n, &other) ? wire_write_token(&other, out) : 0;
}

START_TEST(a_token_with_held_ranges_reads_the_same_or_is_refused)
{
    const struct roundtrip f = {"held token", held_example, held_again};

    roundtrip_examples(&f);
    roundtrip_truncated(&f);
    roundtrip_flipped(&f);
}
END_TEST

Suite *suite_held(void)
{
    Suite *s = suite_create("held");
    TCase *t = tcase_create("held");

    tcase_add_test(t, what_two_have_in_common_are_their_lowest_ranges);
    tcase_add_test(t, what_two_have_in_common_matches_a_plain_table);
    tcase_add_test(t, the_channels_of_a_token_share_the_room_for_held_ranges);
    tcase_add_test(t, held_ranges_that_are_not_above_a_gap_and_in_order_are_malformed);
    tcase_add_test(t, more_held_ranges_than_a_channel_has_room_for_are_malformed);
    tcase_add_test(t, a_token_with_held_ranges_reads_the_same_or_is_refused);
    suite_add_tcase(s, t);
    return s;
}
