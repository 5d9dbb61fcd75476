/* wire_token: see wire_token.h; the fields are those of proto/WIRE.md. The ranges of a token are
 * sorted by channel and number at all times, so that noting a gap is a binary search and a move. */
#include "wire_token.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES (4 + 8 + 1 + 4 + 4 + 2 + 4 + 8 + 4 + 2 + 2) /* then three bitmaps */
#define CHANNEL_BYTES (4 + 1 + 6 * 8 + 4 + 1)                  /* then the held ranges */
#define RANGE_BYTES (2 + 1 + 8 + 4)                            /* then two bitmaps */

static_assert(HEAD_BYTES + 3 * BITMAP_BYTES + WIRE_TOKEN_CHANNELS_MAX * CHANNEL_BYTES +
                      WIRE_TOKEN_HELD_MAX * WIRE_HELD_BYTES <=
                  WIRE_TOKEN_BYTES_MAX,
              "all channels of a token and their held ranges fit into a train");

/* ---- bitmaps */

bool bitmap_has(const struct bitmap *b, uint32_t i)
{
    assert(i < VIEW_MEMBERS_MAX);
    return b->bits[i / 8] >> (i % 8) & 1;
}

void bitmap_set(struct bitmap *b, uint32_t i)
{
    assert(i < VIEW_MEMBERS_MAX);
    b->bits[i / 8] = (uint8_t)(b->bits[i / 8] | 1u << (i % 8));
}

void bitmap_clear(struct bitmap *b, uint32_t i)
{
    assert(i < VIEW_MEMBERS_MAX);
    b->bits[i / 8] = (uint8_t)(b->bits[i / 8] & ~(1u << (i % 8)));
}

/* Byte i of b without the bits at size and above. */
static uint8_t byte_below(const struct bitmap *b, uint32_t i, uint32_t size)
{
    uint32_t bits = size - i * 8;

    if (bits >= 8)
        return b->bits[i];
    return (uint8_t)(b->bits[i] & ((1u << bits) - 1));
}

uint32_t bitmap_count(const struct bitmap *b, uint32_t size)
{
    uint32_t count = 0;

    assert(size <= VIEW_MEMBERS_MAX);
    for (uint32_t i = 0; i * 8 < size; i++)
        count += (uint32_t)__builtin_popcount(byte_below(b, i, size));
    return count;
}

bool bitmap_empty(const struct bitmap *b, uint32_t size)
{
    assert(size <= VIEW_MEMBERS_MAX);
    for (uint32_t i = 0; i * 8 < size; i++) {
        if (byte_below(b, i, size) != 0)
            return false;
    }
    return true;
}

/* Bytes of a bitmap of size bits on the wire. */
static size_t bitmap_bytes(uint32_t size)
{
    return (size + 7) / 8;
}

static void write_bitmap(struct writer *w, const struct bitmap *b, uint32_t size)
{
    write_bytes(w, b->bits, bitmap_bytes(size));
}

/* False when a bit above size is set. */
static bool read_bitmap(struct reader *r, uint32_t size, struct bitmap *ret)
{
    size_t n = bitmap_bytes(size);
    const uint8_t *bytes = read_bytes(r, n);

    *ret = (struct bitmap){0};
    if (bytes == NULL)
        return false;
    memcpy(ret->bits, bytes, n);
    return size % 8 == 0 || ret->bits[n - 1] >> (size % 8) == 0;
}

/* ---- the token as bytes */

static int range_compare(const void *left, const void *right)
{
    const struct token_range *a = left, *b = right;

    if (a->channel != b->channel)
        return a->channel < b->channel ? -1 : 1;
    return (a->from > b->from) - (a->from < b->from);
}

static void sort_ranges(struct token *t)
{
    for (uint32_t i = 1; i < t->range_count; i++) {
        if (range_compare(&t->ranges[i - 1], &t->ranges[i]) > 0) {
            qsort(t->ranges, t->range_count, sizeof t->ranges[0], range_compare);
            return;
        }
    }
}

/* Shares room for `room` ranges among the channels, one for each in turn, so that none starves for
 * another; who comes first changes with the round. Says how many of each channel, its lowest ones,
 * are to be written, and returns their sum. */
static uint32_t share_room(const struct token *t, size_t room,
                           uint32_t ret_taken[WIRE_TOKEN_CHANNELS_MAX])
{
    uint32_t there[WIRE_TOKEN_CHANNELS_MAX] = {0};
    uint32_t taken = 0, most = t->range_count;

    memset(ret_taken, 0, WIRE_TOKEN_CHANNELS_MAX * sizeof ret_taken[0]);
    for (uint32_t i = 0; i < t->range_count; i++) {
        assert(t->ranges[i].channel < t->channel_count);
        there[t->ranges[i].channel]++;
    }
    if (room < most)
        most = (uint32_t)room;
    for (uint32_t turn = t->round; taken < most; turn++) {
        uint32_t channel = turn % t->channel_count;

        if (ret_taken[channel] < there[channel]) {
            ret_taken[channel]++;
            taken++;
        }
    }
    return taken;
}

uint32_t wire_token_held_max(uint32_t channels)
{
    uint32_t share = channels > 0 ? WIRE_TOKEN_HELD_MAX / channels : 0;

    return share < WIRE_ACK_RANGES_MAX ? share : WIRE_ACK_RANGES_MAX;
}

/* Held ranges of a channel that go into a token. */
static uint8_t held_written(const struct token *t, uint32_t channel)
{
    uint32_t max = wire_token_held_max(t->channel_count);

    return (uint8_t)(t->channels[channel].held_count < max ? t->channels[channel].held_count : max);
}

static void write_channel(struct writer *w, const struct token_channel *c, uint8_t held)
{
    write_u32(w, c->sender);
    write_u8(w, c->late);
    write_u64(w, c->max_seen);
    write_u64(w, c->prefix);
    write_u64(w, c->cached);
    write_u64(w, c->rel_known);
    write_u64(w, c->rel);
    write_u64(w, c->cached_all);
    write_u32(w, c->behind);
    write_u8(w, held);
    wire_write_held(w, c->held, held);
}

static void write_range(struct writer *w, const struct token_range *range, uint32_t size)
{
    uint64_t count = range->to - range->from + 1;

    assert(range->from >= 1);
    assert(range->from <= range->to);
    write_u16(w, range->channel);
    write_u8(w, range->age);
    write_u64(w, range->from);
    write_u32(w, count < WIRE_RANGE_MAX ? (uint32_t)count : WIRE_RANGE_MAX);
    write_bitmap(w, &range->lackers, size);
    write_bitmap(w, &range->served, size);
}

size_t wire_write_token(struct token *t, uint8_t *out)
{
    struct writer w = {.at = out, .end = out + WIRE_TOKEN_BYTES_MAX};
    size_t bitmaps = 2 * bitmap_bytes(t->size);
    uint32_t taken[WIRE_TOKEN_CHANNELS_MAX];
    size_t used;

    assert(t->size >= 1);
    assert(t->size <= VIEW_MEMBERS_MAX);
    assert(t->channel_count <= WIRE_TOKEN_CHANNELS_MAX);
    assert(t->range_count <= WIRE_TOKEN_RANGES_MAX);
    sort_ranges(t);
    used = HEAD_BYTES + 3 * bitmap_bytes(t->size) + t->channel_count * (size_t)CHANNEL_BYTES;
    for (uint32_t i = 0; i < t->channel_count; i++)
        used += held_written(t, i) * (size_t)WIRE_HELD_BYTES;
    write_u32(&w, t->rid);
    write_u64(&w, t->epoch);
    write_u8(&w, t->level);
    write_u32(&w, t->ring_epoch);
    write_u32(&w, t->round);
    write_u16(&w, (uint16_t)t->size);
    write_u32(&w, t->active);
    write_u64(&w, t->rate);
    write_u32(&w, t->slowest);
    write_u16(&w, (uint16_t)t->channel_count);
    write_u16(&w, (uint16_t)share_room(t, (WIRE_TOKEN_BYTES_MAX - used) / (RANGE_BYTES + bitmaps),
                                       taken));
    write_bitmap(&w, &t->visited, t->size);
    write_bitmap(&w, &t->skipped, t->size);
    write_bitmap(&w, &t->failed, t->size);
    for (uint32_t i = 0; i < t->channel_count; i++)
        write_channel(&w, &t->channels[i], held_written(t, i));
    for (uint32_t i = 0; i < t->range_count; i++) {
        if (taken[t->ranges[i].channel] > 0) {
            taken[t->ranges[i].channel]--;
            write_range(&w, &t->ranges[i], t->size);
        }
    }
    assert(!w.bad);
    return (size_t)(w.at - out);
}

static bool read_channel(struct reader *r, uint32_t held_max, struct token_channel *ret)
{
    uint8_t late;

    ret->sender = read_u32(r);
    late = read_u8(r);
    ret->late = late == 1;
    ret->max_seen = read_u64(r);
    ret->prefix = read_u64(r);
    ret->cached = read_u64(r);
    ret->rel_known = read_u64(r);
    ret->rel = read_u64(r);
    ret->cached_all = read_u64(r);
    ret->behind = read_u32(r);
    ret->held_count = read_u8(r);
    return ret->held_count <= held_max &&
           wire_read_held(r, ret->prefix, ret->held, ret->held_count) && late <= 1 &&
           ret->max_seen <= WIRE_NUMBER_MAX && ret->rel <= WIRE_NUMBER_MAX;
}

static bool read_range(struct reader *r, const struct token *t, struct token_range *ret)
{
    uint32_t count;

    ret->channel = read_u16(r);
    ret->age = read_u8(r);
    ret->from = read_u64(r);
    count = read_u32(r);
    if (ret->channel >= t->channel_count || ret->from < 1 || ret->from > WIRE_NUMBER_MAX ||
        count < 1 || count > WIRE_RANGE_MAX)
        return false;
    ret->to = ret->from + count - 1;
    return read_bitmap(r, t->size, &ret->lackers) && read_bitmap(r, t->size, &ret->served);
}

/* Whether b may follow a in a list that is sorted and disjoint. */
static bool in_order(const struct token_range *a, const struct token_range *b)
{
    return a->channel < b->channel || (a->channel == b->channel && a->to < b->from);
}

bool wire_read_token(const uint8_t *bytes, size_t n, struct token *ret)
{
    struct reader r = {.at = bytes, .end = bytes + n};

    ret->rid = read_u32(&r);
    ret->epoch = read_u64(&r);
    ret->level = read_u8(&r);
    ret->ring_epoch = read_u32(&r);
    ret->round = read_u32(&r);
    ret->size = read_u16(&r);
    ret->active = read_u32(&r);
    ret->rate = read_u64(&r);
    ret->slowest = read_u32(&r);
    ret->channel_count = read_u16(&r);
    ret->range_count = read_u16(&r);
    if (n > WIRE_TOKEN_BYTES_MAX || ret->size < 1 || ret->size > VIEW_MEMBERS_MAX ||
        ret->channel_count > WIRE_TOKEN_CHANNELS_MAX || ret->range_count > WIRE_TOKEN_RANGES_MAX ||
        (ret->level > 0 && ret->range_count > 0))
        return false;
    if (!read_bitmap(&r, ret->size, &ret->visited) || !read_bitmap(&r, ret->size, &ret->skipped) ||
        !read_bitmap(&r, ret->size, &ret->failed))
        return false;
    for (uint32_t i = 0; i < ret->channel_count; i++) {
        if (!read_channel(&r, wire_token_held_max(ret->channel_count), &ret->channels[i]))
            return false;
    }
    for (uint32_t i = 0; i < ret->range_count; i++) {
        if (!read_range(&r, ret, &ret->ranges[i]))
            return false;
        if (i > 0 && !in_order(&ret->ranges[i - 1], &ret->ranges[i]))
            return false;
    }
    return !r.bad && reader_left(&r) == 0;
}

/* ---- who lacks what */

/* Index of the first range that is in channel and ends at number or above, or that is behind it. */
static uint32_t find_range(const struct token *t, uint32_t channel, uint64_t number)
{
    uint32_t low = 0, high = t->range_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct token_range *range = &t->ranges[middle];

        if (range->channel < channel || (range->channel == channel && range->to < number))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Makes room for a range at index i; false when there is none. */
static bool open_up(struct token *t, uint32_t i)
{
    if (t->range_count == WIRE_TOKEN_RANGES_MAX)
        return false;
    memmove(&t->ranges[i + 1], &t->ranges[i], (t->range_count - i) * sizeof t->ranges[0]);
    t->range_count++;
    return true;
}

bool token_split(struct token *t, uint32_t i, uint64_t number)
{
    assert(i < t->range_count);
    assert(t->ranges[i].from < number);
    assert(number <= t->ranges[i].to);
    if (!open_up(t, i + 1))
        return false;
    t->ranges[i + 1] = t->ranges[i];
    t->ranges[i].to = number - 1;
    t->ranges[i + 1].from = number;
    return true;
}

/* Whether b goes on where a ends and says the same. */
static bool continues(const struct token_range *a, const struct token_range *b)
{
    return a->channel == b->channel && a->to + 1 == b->from && a->age == b->age &&
           memcmp(&a->lackers, &b->lackers, sizeof a->lackers) == 0 &&
           memcmp(&a->served, &b->served, sizeof a->served) == 0;
}

/* Notes numbers that are in no range yet: lengthens the range before index *i or adds one there.
 * *i is then behind it. */
static bool note_new(struct token *t, uint32_t *i, uint32_t channel, uint32_t rank, uint64_t from,
                     uint64_t to)
{
    struct token_range range = {.channel = (uint16_t)channel, .from = from, .to = to};

    bitmap_set(&range.lackers, rank);
    if (*i > 0 && continues(&t->ranges[*i - 1], &range)) {
        t->ranges[*i - 1].to = to;
        return true;
    }
    if (!open_up(t, *i))
        return false;
    t->ranges[(*i)++] = range;
    return true;
}

/* Notes in range *i, which contains `from`, that rank lacks from..to as far as the range goes. *i
 * is then behind what was noted. */
static bool note_known(struct token *t, uint32_t *i, uint32_t rank, uint64_t from, uint64_t to)
{
    const struct token_range *range = &t->ranges[*i];

    if (!bitmap_has(&range->served, rank) && !bitmap_has(&range->lackers, rank)) {
        if (range->from < from && !token_split(t, (*i)++, from))
            return false;
        if (t->ranges[*i].to > to && !token_split(t, *i, to + 1))
            return false;
        bitmap_set(&t->ranges[*i].lackers, rank);
    }
    (*i)++;
    return true;
}

bool token_lacks(struct token *t, uint32_t channel, uint32_t rank, uint64_t from, uint64_t to)
{
    uint32_t i = find_range(t, channel, from);

    assert(channel < t->channel_count);
    assert(rank < t->size);
    assert(from >= 1);
    assert(from <= to);
    assert(to <= WIRE_NUMBER_MAX);
    while (from <= to) {
        bool any = i < t->range_count && t->ranges[i].channel == channel && t->ranges[i].from <= to;
        uint64_t end = to;

        if (any && t->ranges[i].from <= from) {
            end = t->ranges[i].to;
            if (!note_known(t, &i, rank, from, to))
                return false;
        } else {
            if (any)
                end = t->ranges[i].from - 1;
            if (!note_new(t, &i, channel, rank, from, end))
                return false;
        }
        from = end + 1;
    }
    return true;
}

void token_has(struct token *t, uint32_t channel, uint32_t rank,
               uint64_t (*run)(void *ctx, uint64_t from, uint64_t to, bool *ret_held), void *ctx)
{
    uint32_t i = find_range(t, channel, 0);

    for (; i < t->range_count && t->ranges[i].channel == channel; i++) {
        uint64_t end, to = t->ranges[i].to;
        bool held;

        if (!bitmap_has(&t->ranges[i].lackers, rank))
            continue;
        /* The first run of numbers that are all held or all lacking; the next range is the rest. */
        end = run(ctx, t->ranges[i].from, to, &held);
        /* Without room for a split it stays as it is: asking too much does no harm. */
        if (end < to && !token_split(t, i, end + 1))
            continue;
        if (held)
            bitmap_clear(&t->ranges[i].lackers, rank);
    }
}

void token_compact(struct token *t)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < t->range_count; i++) {
        const struct token_range *range = &t->ranges[i];

        if (bitmap_empty(&range->lackers, t->size) && bitmap_empty(&range->served, t->size))
            continue;
        if (kept > 0 && continues(&t->ranges[kept - 1], range))
            t->ranges[kept - 1].to = range->to;
        else if (kept++ != i)
            t->ranges[kept - 1] = *range;
    }
    t->range_count = kept;
}

/* ---- TOKEN and TOKEN_ACK */

void wire_write_slice(struct writer *w, const struct wire_slice *s)
{
    write_u32(w, s->rid);
    write_u64(w, s->epoch);
    write_u8(w, s->level);
    write_u8(w, s->index);
    write_u8(w, s->count);
    write_u8(w, 0);
    write_u32(w, s->ring_epoch);
    write_u32(w, s->round);
    write_u32(w, s->offset);
    write_u32(w, s->total);
    write_u16(w, s->size);
    write_u16(w, s->hops);
    write_u32(w, 0);
    write_bytes(w, s->bytes, s->size);
}

bool wire_read_slice(struct reader *r, struct wire_slice *ret)
{
    uint32_t reserved;

    ret->rid = read_u32(r);
    ret->epoch = read_u64(r);
    ret->level = read_u8(r);
    ret->index = read_u8(r);
    ret->count = read_u8(r);
    reserved = read_u8(r);
    ret->ring_epoch = read_u32(r);
    ret->round = read_u32(r);
    ret->offset = read_u32(r);
    ret->total = read_u32(r);
    ret->size = read_u16(r);
    ret->hops = read_u16(r);
    reserved |= read_u32(r);
    ret->bytes = read_bytes(r, ret->size);
    return !r->bad && reader_left(r) == 0 && reserved == 0 && ret->index < ret->count &&
           ret->count <= WIRE_TRAIN_MAX && ret->size > 0 && ret->total <= WIRE_TOKEN_BYTES_MAX &&
           ret->size <= ret->total && ret->offset <= ret->total - ret->size;
}

void wire_write_token_ack(struct writer *w, const struct wire_token_ack *a)
{
    write_u32(w, a->rid);
    write_u64(w, a->epoch);
    write_u8(w, a->level);
    write_u8(w, a->slices);
    write_u32(w, a->ring_epoch);
    write_u32(w, a->round);
}

bool wire_read_token_ack(struct reader *r, struct wire_token_ack *ret)
{
    ret->rid = read_u32(r);
    ret->epoch = read_u64(r);
    ret->level = read_u8(r);
    ret->slices = read_u8(r);
    ret->ring_epoch = read_u32(r);
    ret->round = read_u32(r);
    return !r->bad && reader_left(r) == 0;
}
