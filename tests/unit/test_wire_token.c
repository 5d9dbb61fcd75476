/* Tests of core/wire_token: the token as bytes, and the bookkeeping of who lacks what. */
#include "wire_token.h"
#include <string.h>
#include "property.h"
#include "roundtrip.h"
#include "suites.h"

static struct token token, other;
static uint8_t bytes_out[WIRE_TOKEN_BYTES_MAX];

static void fresh(uint32_t size, uint32_t channels)
{
    memset(&token, 0, sizeof token);
    token.rid = 1;
    token.epoch = 2;
    token.size = size;
    token.channel_count = channels;
}

static void check_order(const struct token *t)
{
    for (uint32_t i = 0; i < t->range_count; i++) {
        const struct token_range *range = &t->ranges[i], *before = range - 1;

        PROPERTY(range->from <= range->to);
        PROPERTY(i == 0 || before->channel < range->channel ||
                 (before->channel == range->channel && before->to < range->from));
    }
}

/* Range i is from..to of channel, and rank lacks or was served it. */
static void check_range(uint32_t i, uint32_t channel, uint64_t from, uint64_t to)
{
    ck_assert_uint_lt(i, token.range_count);
    ck_assert_uint_eq(token.ranges[i].channel, channel);
    ck_assert_uint_eq(token.ranges[i].from, from);
    ck_assert_uint_eq(token.ranges[i].to, to);
}

static bool lacks(uint32_t i, uint32_t rank)
{
    return bitmap_has(&token.ranges[i].lackers, rank);
}

/* ---- bitmaps */

START_TEST(a_bitmap_counts_what_is_below_its_size)
{
    struct bitmap b = {{0}};

    ck_assert(bitmap_empty(&b, VIEW_MEMBERS_MAX));
    bitmap_set(&b, 0);
    bitmap_set(&b, 9);
    bitmap_set(&b, VIEW_MEMBERS_MAX - 1);
    ck_assert(bitmap_has(&b, 9));
    ck_assert(!bitmap_has(&b, 8));
    ck_assert_uint_eq(bitmap_count(&b, VIEW_MEMBERS_MAX), 3);
    ck_assert_uint_eq(bitmap_count(&b, 10), 2);
    ck_assert_uint_eq(bitmap_count(&b, 9), 1);
    ck_assert_uint_eq(bitmap_count(&b, 0), 0);
    bitmap_clear(&b, 0);
    ck_assert(bitmap_empty(&b, 9));
    ck_assert(!bitmap_empty(&b, 10));
}
END_TEST

/* ---- who lacks what */

START_TEST(a_gap_splits_what_is_known_and_adds_the_rest)
{
    fresh(25, 3);
    ck_assert(token_lacks(&token, 1, 4, 10, 20));
    ck_assert(token_lacks(&token, 1, 7, 15, 30));
    ck_assert(token_lacks(&token, 1, 9, 5, 12));
    ck_assert_uint_eq(token.range_count, 5);
    check_range(0, 1, 5, 9);
    check_range(1, 1, 10, 12);
    check_range(2, 1, 13, 14);
    check_range(3, 1, 15, 20);
    check_range(4, 1, 21, 30);
    ck_assert(lacks(0, 9) && !lacks(0, 4));
    ck_assert(lacks(1, 9) && lacks(1, 4) && !lacks(1, 7));
    ck_assert(!lacks(2, 9) && lacks(2, 4) && !lacks(2, 7));
    ck_assert(lacks(3, 4) && lacks(3, 7));
    ck_assert(lacks(4, 7) && !lacks(4, 4));
}
END_TEST

START_TEST(channels_do_not_mix)
{
    fresh(25, 3);
    ck_assert(token_lacks(&token, 2, 0, 1, 9));
    ck_assert(token_lacks(&token, 0, 0, 1, 9));
    ck_assert(token_lacks(&token, 1, 1, 3, 5));
    ck_assert_uint_eq(token.range_count, 3);
    check_range(0, 0, 1, 9);
    check_range(1, 1, 3, 5);
    check_range(2, 2, 1, 9);
}
END_TEST

START_TEST(saying_it_again_changes_nothing)
{
    fresh(25, 1);
    ck_assert(token_lacks(&token, 0, 4, 10, 20));
    ck_assert(token_lacks(&token, 0, 4, 12, 13));
    ck_assert(token_lacks(&token, 0, 4, 21, 22));
    ck_assert_uint_eq(token.range_count, 1);
    check_range(0, 0, 10, 22);
}
END_TEST

START_TEST(who_was_served_is_left_alone_there)
{
    fresh(25, 1);
    ck_assert(token_lacks(&token, 0, 4, 10, 20));
    bitmap_clear(&token.ranges[0].lackers, 4);
    bitmap_set(&token.ranges[0].served, 4);
    ck_assert(token_lacks(&token, 0, 4, 8, 22));
    ck_assert_uint_eq(token.range_count, 3);
    check_range(0, 0, 8, 9);
    check_range(1, 0, 10, 20);
    check_range(2, 0, 21, 22);
    ck_assert(lacks(0, 4) && !lacks(1, 4) && lacks(2, 4));
}
END_TEST

static bool in_bits(void *ctx, uint64_t seq)
{
    const uint64_t *bits = ctx;

    return seq < 64 && (*bits >> seq & 1) != 0;
}

static uint64_t run_of_bits(void *ctx, uint64_t from, uint64_t to, bool *ret_held)
{
    *ret_held = in_bits(ctx, from);
    while (from < to && in_bits(ctx, from + 1) == *ret_held)
        from++;
    return from;
}

START_TEST(what_a_member_holds_is_taken_out_by_runs)
{
    uint64_t held = 0x3c; /* 2..5 */

    fresh(25, 2);
    ck_assert(token_lacks(&token, 0, 4, 1, 9));
    ck_assert(token_lacks(&token, 0, 5, 1, 9));
    ck_assert(token_lacks(&token, 1, 4, 1, 9));
    token_has(&token, 0, 4, run_of_bits, &held);
    ck_assert_uint_eq(token.range_count, 4);
    check_range(0, 0, 1, 1);
    check_range(1, 0, 2, 5);
    check_range(2, 0, 6, 9);
    check_range(3, 1, 1, 9);
    ck_assert(lacks(0, 4) && !lacks(1, 4) && lacks(2, 4) && lacks(3, 4));
    ck_assert(lacks(0, 5) && lacks(1, 5) && lacks(2, 5));
}
END_TEST

START_TEST(compacting_drops_the_done_and_joins_the_same)
{
    uint64_t held = 0x3c, all = UINT64_MAX;

    fresh(25, 1);
    ck_assert(token_lacks(&token, 0, 4, 1, 9));
    token_has(&token, 0, 4, run_of_bits, &held);
    token_compact(&token);
    ck_assert_uint_eq(token.range_count, 2);
    check_range(0, 0, 1, 1);
    check_range(1, 0, 6, 9);
    ck_assert(token_lacks(&token, 0, 4, 1, 9));
    token_compact(&token);
    ck_assert_uint_eq(token.range_count, 1);
    check_range(0, 0, 1, 9);
    ck_assert(token_split(&token, 0, 4));
    token.ranges[0].age = 1;
    token_compact(&token);
    ck_assert_uint_eq(token.range_count, 2);
    token_has(&token, 0, 4, run_of_bits, &all);
    bitmap_set(&token.ranges[1].served, 3);
    token_compact(&token);
    ck_assert_uint_eq(token.range_count, 1);
    check_range(0, 0, 4, 9);
}
END_TEST

START_TEST(a_full_token_says_so_and_stays_in_order)
{
    uint64_t held = 0x4;

    fresh(25, 1);
    for (uint64_t i = 0; i < WIRE_TOKEN_RANGES_MAX; i++)
        PROPERTY(token_lacks(&token, 0, 1, 1 + 4 * i, 3 + 4 * i));
    PROPERTY(!token_lacks(&token, 0, 1, 100000, 100000));
    PROPERTY(!token_lacks(&token, 0, 2, 2, 2));
    token_has(&token, 0, 1, run_of_bits, &held); /* no room to split 1..3: it stays */
    PROPERTY(lacks(0, 1));
    PROPERTY(token_lacks(&token, 0, 2, 1, 3));
    PROPERTY(token.range_count == WIRE_TOKEN_RANGES_MAX);
    check_order(&token);
}
END_TEST

#define MODEL_SEQS 48
#define MODEL_RANKS 6

/* Compares the token with the model: bit `rank` of lack and served by channel and number. */
static void check_model(uint8_t lack[2][MODEL_SEQS], uint8_t served[2][MODEL_SEQS])
{
    uint32_t i = 0;

    check_order(&token);
    for (uint32_t channel = 0; channel < 2; channel++) {
        for (uint64_t seq = 1; seq < MODEL_SEQS; seq++) {
            while (i < token.range_count &&
                   (token.ranges[i].channel < channel ||
                    (token.ranges[i].channel == channel && token.ranges[i].to < seq)))
                i++;
            if (i < token.range_count && token.ranges[i].channel == channel &&
                token.ranges[i].from <= seq) {
                PROPERTY(token.ranges[i].lackers.bits[0] == lack[channel][seq]);
                PROPERTY(token.ranges[i].served.bits[0] == served[channel][seq]);
            } else {
                PROPERTY(lack[channel][seq] == 0);
                PROPERTY(served[channel][seq] == 0);
            }
        }
    }
}

/* A repair to all who lack a range: moves them from lackers to served, in token and model. */
static void serve(uint32_t i, uint8_t lack[2][MODEL_SEQS], uint8_t served[2][MODEL_SEQS])
{
    struct token_range *range = &token.ranges[i];

    range->served.bits[0] |= range->lackers.bits[0];
    range->lackers.bits[0] = 0;
    for (uint64_t seq = range->from; seq <= range->to; seq++) {
        served[range->channel][seq] |= lack[range->channel][seq];
        lack[range->channel][seq] = 0;
    }
}

START_TEST(random_reports_match_a_plain_table)
{
    uint64_t random = property_seed("token");
    uint8_t lack[2][MODEL_SEQS] = {{0}}, served[2][MODEL_SEQS] = {{0}};

    fresh(MODEL_RANKS, 2);
    for (int round = 0; round < 4000; round++) {
        uint32_t channel = (uint32_t)property_below(&random, 2);
        uint32_t rank = (uint32_t)property_below(&random, MODEL_RANKS);
        uint64_t from = 1 + property_below(&random, MODEL_SEQS - 1);
        uint64_t to = from + property_below(&random, MODEL_SEQS - from);
        uint64_t held = property_next(&random) | property_next(&random);
        uint8_t bit = (uint8_t)(1 << rank);

        if (round % 3 == 0) {
            PROPERTY(token_lacks(&token, channel, rank, from, to));
            for (uint64_t seq = from; seq <= to; seq++)
                lack[channel][seq] |= (uint8_t)(bit & ~served[channel][seq]);
        } else if (round % 3 == 1) {
            token_has(&token, channel, rank, run_of_bits, &held);
            for (uint64_t seq = 1; seq < MODEL_SEQS; seq++) {
                if (in_bits(&held, seq))
                    lack[channel][seq] &= (uint8_t)~bit;
            }
        } else if (token.range_count > 0) {
            serve((uint32_t)property_below(&random, token.range_count), lack, served);
        }
        if (property_below(&random, 4) == 0)
            token_compact(&token);
        if (property_below(&random, 50) == 0) { /* a new round: nobody is served yet */
            memset(served, 0, sizeof served);
            for (uint32_t i = 0; i < token.range_count; i++)
                token.ranges[i].served = (struct bitmap){{0}};
        }
        check_model(lack, served);
    }
}
END_TEST

/* ---- as bytes */

static struct bitmap random_bits(uint64_t *random, uint32_t size)
{
    struct bitmap b = {{0}};

    for (uint32_t i = 0; i < size; i++) {
        if (property_below(random, 2) == 0)
            bitmap_set(&b, i);
    }
    return b;
}

static void random_token(uint64_t *random, uint32_t channels, uint32_t ranges)
{
    fresh(1 + (uint32_t)property_below(random, 30), channels);
    token.level = (uint8_t)property_below(random, 3);
    token.ring_epoch = (uint32_t)property_next(random);
    token.round = (uint32_t)property_next(random);
    token.active = (uint32_t)property_next(random);
    token.rate = property_next(random);
    token.slowest = (uint32_t)property_next(random);
    token.visited = random_bits(random, token.size);
    token.skipped = random_bits(random, token.size);
    token.failed = random_bits(random, token.size);
    for (uint32_t i = 0; i < channels; i++)
        token.channels[i] = (struct token_channel){
            .sender = (uint32_t)property_next(random),
            .late = property_below(random, 2) == 0,
            .max_seen = property_next(random) >> 2,
            .prefix = property_next(random),
            .cached = UINT64_MAX,
            .rel_known = property_next(random),
            .rel = property_next(random) >> 2,
            .cached_all = property_next(random),
            .behind = (uint32_t)property_next(random),
        };
    for (uint32_t i = 0; i < ranges && channels > 0 && token.level == 0; i++) {
        uint64_t from = 1 + property_below(random, 1000);
        uint32_t channel = (uint32_t)property_below(random, channels);

        token_lacks(&token, channel, (uint32_t)property_below(random, token.size), from,
                    from + property_below(random, 9));
    }
    for (uint32_t i = 0; i < token.range_count; i++)
        token.ranges[i].age = (uint8_t)property_below(random, 9);
}

static size_t token_example(uint64_t *random, uint8_t *out, size_t room)
{
    PROPERTY(room >= WIRE_TOKEN_BYTES_MAX);
    random_token(random, (uint32_t)property_below(random, 5), 6);
    return wire_write_token(&token, out);
}

static size_t token_again(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    PROPERTY(room >= WIRE_TOKEN_BYTES_MAX);
    return wire_read_token(bytes, n, &other) ? wire_write_token(&other, out) : 0;
}

static size_t full_token_example(uint64_t *random, uint8_t *out, size_t room)
{
    PROPERTY(room >= WIRE_TOKEN_BYTES_MAX);
    random_token(random, 1 + (uint32_t)property_below(random, WIRE_TOKEN_CHANNELS_MAX), 400);
    return wire_write_token(&token, out);
}

#define WRITER(out, room)                                                                          \
    {                                                                                              \
        .at = (out), .end = (out) + (room)                                                         \
    }
#define READER(bytes, n)                                                                           \
    {                                                                                              \
        .at = (bytes), .end = (bytes) + (n)                                                        \
    }

static size_t slice_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_slice s = {.rid = (uint32_t)property_next(random),
                           .epoch = property_next(random),
                           .level = (uint8_t)property_below(random, 3),
                           .index = (uint8_t)property_below(random, 3),
                           .count = (uint8_t)(3 + property_below(random, 6)),
                           .ring_epoch = (uint32_t)property_next(random),
                           .round = (uint32_t)property_next(random),
                           .offset = (uint32_t)property_below(random, 5000),
                           .bytes = bytes_out,
                           .size = (uint16_t)(1 + property_below(random, 100))};

    s.total = s.offset + s.size + (uint32_t)property_below(random, 5000);
    wire_write_slice(&w, &s);
    ck_assert_uint_eq((size_t)(w.at - out), WIRE_SLICE_BYTES + s.size);
    return (size_t)(w.at - out);
}

static size_t token_ack_example(uint64_t *random, uint8_t *out, size_t room)
{
    struct writer w = WRITER(out, room);
    struct wire_token_ack a = {.rid = (uint32_t)property_next(random),
                               .epoch = property_next(random),
                               .level = (uint8_t)property_next(random),
                               .slices = (uint8_t)property_next(random),
                               .ring_epoch = (uint32_t)property_next(random),
                               .round = (uint32_t)property_next(random)};

    wire_write_token_ack(&w, &a);
    return (size_t)(w.at - out);
}

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
        PROPERTY(!w.bad);                                                                          \
        return (size_t)(w.at - out);                                                               \
    }
AGAIN(slice)
AGAIN(token_ack)

static const struct roundtrip formats[] = {
    {"token", token_example, token_again},
    {"slice", slice_example, slice_again},
    {"token_ack", token_ack_example, token_ack_again},
    {"full token", full_token_example, token_again},
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

START_TEST(a_token_is_laid_out_as_promised)
{
    static const uint8_t expected[] = {
        1,  0, 0, 0,                      /* rid */
        2,  0, 0, 0, 0, 0, 0, 0,          /* epoch */
        0,                                /* level */
        3,  0, 0, 0,                      /* ring epoch */
        4,  0, 0, 0,                      /* round */
        10, 0,                            /* size */
        5,  0, 0, 0,                      /* active */
        14, 0, 0, 0, 0, 0, 0, 0,          /* rate */
        15, 0, 0, 0,                      /* slowest */
        1,  0, 1, 0,                      /* channels, ranges */
        1,  2,                            /* visited: 0 and 9 */
        0,  0,                            /* skipped */
        8,  0,                            /* failed: 3 */
        6,  0, 0, 0, 1,                   /* sender, late */
        7,  0, 0, 0, 0, 0, 0, 0,          /* max seen */
        8,  0, 0, 0, 0, 0, 0, 0,          /* prefix */
        9,  0, 0, 0, 0, 0, 0, 0,          /* cached */
        10, 0, 0, 0, 0, 0, 0, 0,          /* rel known */
        11, 0, 0, 0, 0, 0, 0, 0,          /* rel */
        12, 0, 0, 0, 0, 0, 0, 0,          /* cached by all */
        13, 0, 0, 0, 1,                   /* behind, held */
        20, 0, 0, 0, 0, 0, 0, 0,          /* from */
        3,  0, 0, 0,                      /* count */
        0,  0, 2, 9, 0, 0, 0, 0, 0, 0, 0, /* channel, age, from */
        3,  0, 0, 0, 4, 0, 0, 1,          /* count, lackers: 2, served: 8 */
    };

    fresh(10, 1);
    token.ring_epoch = 3;
    token.round = 4;
    token.active = 5;
    token.rate = 14;
    token.slowest = 15;
    bitmap_set(&token.visited, 0);
    bitmap_set(&token.visited, 9);
    bitmap_set(&token.failed, 3);
    token.channels[0] = (struct token_channel){6, true, 7, 8, 9, 10, 11, 13, 12, 1, {{20, 22}}};
    ck_assert(token_lacks(&token, 0, 2, 9, 11));
    token.ranges[0].age = 2;
    bitmap_set(&token.ranges[0].served, 8);
    ck_assert_uint_eq(wire_write_token(&token, bytes_out), sizeof expected);
    ck_assert_mem_eq(bytes_out, expected, sizeof expected);
    ck_assert(wire_read_token(bytes_out, sizeof expected, &other));
    ck_assert_mem_eq(&other.ranges[0], &token.ranges[0], sizeof token.ranges[0]);
}
END_TEST

START_TEST(of_a_token_that_is_too_long_each_channel_keeps_its_lowest_ranges)
{
    uint32_t kept[3] = {0};

    fresh(25, 3);
    for (uint64_t i = 0; i < 500; i++) {
        PROPERTY(token_lacks(&token, 0, 1, 1 + 2 * i, 1 + 2 * i));
        PROPERTY(token_lacks(&token, 1, 1, 1 + 2 * i, 1 + 2 * i));
    }
    for (uint64_t i = 0; i < 20; i++)
        PROPERTY(token_lacks(&token, 2, 1, 1 + 2 * i, 1 + 2 * i));
    PROPERTY(wire_read_token(bytes_out, wire_write_token(&token, bytes_out), &other));
    PROPERTY(token.range_count == 1020);
    check_order(&other);
    for (uint32_t i = 0; i < other.range_count; i++) {
        uint32_t channel = other.ranges[i].channel;

        PROPERTY(other.ranges[i].from == 1 + 2 * kept[channel]);
        kept[channel]++;
    }
    PROPERTY(kept[2] == 20);
    PROPERTY(kept[1] > 100);
    PROPERTY(kept[1] > kept[0] ? kept[1] - kept[0] : kept[0] - kept[1] <= 1);
}
END_TEST

/* Where the fields of the token below lie. */
enum { AT_LEVEL = 12, AT_SIZE = 21, AT_CHANNELS = 39, AT_SKIPPED = 45, AT_FAILED = 47 };
enum { AT_LATE = 53, AT_MAX_SEEN = 54, AT_RANGE = 107, RANGE = 19 };

START_TEST(malformed_tokens_are_refused)
{
    static const struct {
        size_t at;
        uint8_t value;
    } cases[] = {
        {AT_SIZE, 0},              /* no members */
        {AT_SIZE + 1, 5},          /* too many */
        {AT_CHANNELS, 121},        /* too many */
        {AT_CHANNELS + 2, 3},      /* a range that is not there */
        {AT_LEVEL, 1},             /* ranges above the partitions */
        {AT_SKIPPED + 1, 4},       /* place 10 of 10 */
        {AT_FAILED + 1, 4},        /* place 10 of 10 */
        {AT_LATE, 2},              /* neither */
        {AT_MAX_SEEN + 7, 0x40},   /* no number */
        {AT_RANGE, 1},             /* no such channel */
        {AT_RANGE + 3, 0},         /* packet 0 */
        {AT_RANGE + 10, 0x40},     /* no number */
        {AT_RANGE + 11, 0},        /* an empty range */
        {AT_RANGE + 13, 0x11},     /* longer than a store */
        {AT_RANGE + 16, 4},        /* place 10 of 10 lacks it */
        {AT_RANGE + 18, 4},        /* place 10 of 10 was served */
        {AT_RANGE + 11, 5},        /* overlaps the next */
        {AT_RANGE + RANGE + 3, 2}, /* before the other */
    };
    size_t n;

    fresh(10, 1);
    ck_assert(token_lacks(&token, 0, 1, 5, 6));
    ck_assert(token_lacks(&token, 0, 1, 8, 9));
    n = wire_write_token(&token, bytes_out);
    ck_assert_uint_eq(n, AT_RANGE + 2 * RANGE);
    ck_assert(wire_read_token(bytes_out, n, &other));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t was = bytes_out[cases[i].at];

        ck_assert_uint_ne(was, cases[i].value);
        bytes_out[cases[i].at] = cases[i].value;
        ck_assert_msg(!wire_read_token(bytes_out, n, &other), "case %zu", i);
        bytes_out[cases[i].at] = was;
    }
    ck_assert(wire_read_token(bytes_out, n, &other));
}
END_TEST

START_TEST(which_channel_gets_the_last_room_changes_with_the_round)
{
    uint32_t kept[WIRE_TOKEN_CHANNELS_MAX] = {0}, least = UINT32_MAX;

    fresh(25, WIRE_TOKEN_CHANNELS_MAX);
    for (uint32_t i = 0; i < 5 * WIRE_TOKEN_CHANNELS_MAX; i++)
        PROPERTY(token_lacks(&token, i % WIRE_TOKEN_CHANNELS_MAX, 1, 1 + 2 * (uint64_t)i,
                             1 + 2 * (uint64_t)i));
    for (token.round = 0; token.round < WIRE_TOKEN_CHANNELS_MAX; token.round++) {
        PROPERTY(wire_read_token(bytes_out, wire_write_token(&token, bytes_out), &other));
        for (uint32_t i = 0; i < other.range_count; i++)
            kept[other.ranges[i].channel]++;
    }
    for (uint32_t i = 0; i < WIRE_TOKEN_CHANNELS_MAX; i++)
        least = kept[i] < least ? kept[i] : least;
    ck_assert_uint_eq(other.range_count, least);
}
END_TEST

START_TEST(the_largest_token_fits_with_all_its_channels)
{
    fresh(VIEW_MEMBERS_MAX, WIRE_TOKEN_CHANNELS_MAX);
    for (uint32_t i = 0; i < WIRE_TOKEN_RANGES_MAX; i++)
        PROPERTY(token_lacks(&token, i % WIRE_TOKEN_CHANNELS_MAX, i, 1 + 2 * (uint64_t)i,
                             1 + 2 * (uint64_t)i));
    PROPERTY(wire_read_token(bytes_out, wire_write_token(&token, bytes_out), &other));
    PROPERTY(other.channel_count == WIRE_TOKEN_CHANNELS_MAX);
    PROPERTY(other.range_count > 5);
}
END_TEST

START_TEST(ranges_put_out_of_order_are_written_in_order)
{
    struct token_range last;

    fresh(25, 2);
    ck_assert(token_lacks(&token, 0, 1, 1, 2));
    ck_assert(token_lacks(&token, 0, 1, 5, 6));
    ck_assert(token_lacks(&token, 1, 1, 1, 2));
    last = token.ranges[2];
    token.ranges[2] = token.ranges[0];
    token.ranges[0] = last;
    ck_assert(wire_read_token(bytes_out, wire_write_token(&token, bytes_out), &other));
    ck_assert_uint_eq(other.range_count, 3);
}
END_TEST

START_TEST(a_range_longer_than_a_store_is_cut)
{
    fresh(25, 1);
    ck_assert(token_lacks(&token, 0, 1, 7, WIRE_NUMBER_MAX));
    ck_assert(wire_read_token(bytes_out, wire_write_token(&token, bytes_out), &other));
    ck_assert_uint_eq(other.ranges[0].from, 7);
    ck_assert_uint_eq(other.ranges[0].to, 6 + WIRE_RANGE_MAX);
}
END_TEST

START_TEST(a_slice_outside_of_its_token_is_refused)
{
    static const struct {
        uint32_t offset, total;
        uint8_t index, count;
        bool good;
    } cases[] = {
        {0, 10, 0, 1, true},
        {5, 15, 7, 8, true},
        {6, 15, 0, 1, false},
        {0, 9, 0, 1, false},
        {UINT32_MAX, 10, 0, 1, false},
        {0, WIRE_TOKEN_BYTES_MAX, 0, 1, true},
        {0, WIRE_TOKEN_BYTES_MAX + 1, 0, 1, false},
        {0, 10, 1, 1, false},
        {0, 10, 0, 0, false},
        {0, 10, 0, WIRE_TRAIN_MAX + 1, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[100];
        struct writer w = WRITER(out, sizeof out);
        struct reader r = READER(out, 0);
        struct wire_slice s = {.index = cases[i].index,
                               .count = cases[i].count,
                               .offset = cases[i].offset,
                               .total = cases[i].total,
                               .bytes = bytes_out,
                               .size = 10};

        wire_write_slice(&w, &s);
        r.end = w.at;
        ck_assert(wire_read_slice(&r, &s) == cases[i].good);
    }
}
END_TEST

Suite *suite_wire_token(void)
{
    Suite *s = suite_create("wire_token");
    TCase *t = tcase_create("wire_token");

    tcase_set_timeout(t, 120);
    tcase_add_test(t, a_bitmap_counts_what_is_below_its_size);
    tcase_add_test(t, a_gap_splits_what_is_known_and_adds_the_rest);
    tcase_add_test(t, channels_do_not_mix);
    tcase_add_test(t, saying_it_again_changes_nothing);
    tcase_add_test(t, who_was_served_is_left_alone_there);
    tcase_add_test(t, what_a_member_holds_is_taken_out_by_runs);
    tcase_add_test(t, compacting_drops_the_done_and_joins_the_same);
    tcase_add_test(t, a_full_token_says_so_and_stays_in_order);
    tcase_add_test(t, random_reports_match_a_plain_table);
    tcase_add_loop_test(t, what_is_written_reads_the_same, 0, FORMATS);
    tcase_add_loop_test(t, a_truncated_datagram_is_refused, 0, FORMATS);
    tcase_add_loop_test(t, a_flipped_byte_is_refused_or_kept, 0, FORMATS);
    tcase_add_loop_test(t, noise_is_refused_or_kept, 0, FORMATS);
    tcase_add_test(t, a_token_is_laid_out_as_promised);
    tcase_add_test(t, of_a_token_that_is_too_long_each_channel_keeps_its_lowest_ranges);
    tcase_add_test(t, malformed_tokens_are_refused);
    tcase_add_test(t, which_channel_gets_the_last_room_changes_with_the_round);
    tcase_add_test(t, the_largest_token_fits_with_all_its_channels);
    tcase_add_test(t, ranges_put_out_of_order_are_written_in_order);
    tcase_add_test(t, a_range_longer_than_a_store_is_cut);
    tcase_add_test(t, a_slice_outside_of_its_token_is_refused);
    suite_add_tcase(s, t);
    return s;
}
