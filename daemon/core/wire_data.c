/* wire_data: see wire_data.h; the fields are those of proto/WIRE.md, in its order. A body that has
 * bytes behind its last field is malformed, and so is a reserved field that is not 0: whatever a
 * reader takes, the writer gives back byte for byte. */
#include "wire_data.h"
#include <assert.h>
#include <string.h>

#define ACK_LACK_BYTES 20

static_assert(2 + WIRE_ACK_BYTES + WIRE_ACK_LACKS_MAX * ACK_LACK_BYTES +
                      WIRE_ACK_RANGES_MAX * WIRE_HELD_BYTES <=
                  WIRE_CONTROL_MAX - WIRE_OUTER_BYTES,
              "the largest ACK fits into a datagram");

/* ---- small checks */

/* Whether everything was read and nothing was missing. */
static bool complete(const struct reader *r)
{
    return !r->bad && r->at == r->end;
}

/* A number of a packet or message: counted from 1, far from overflow. */
static bool is_number(uint64_t v)
{
    return v >= 1 && v <= WIRE_NUMBER_MAX;
}

/* ---- the outer header */

void wire_write_outer(struct writer *w, const struct wire_outer *o)
{
    uint8_t *at = write_room(w, WIRE_OUTER_BYTES);

    if (at == NULL)
        return;
    put_u32(at, WIRE_MAGIC);
    at[4] = WIRE_VERSION;
    at[5] = o->kind;
    put_u16(at + 6, 0); /* key epoch: not sealed */
    put_u32(at + 8, o->cluster);
    put_u32(at + 12, o->node_id);
    put_u64(at + 16, o->counter);
}

enum wire_bad wire_read_outer(struct reader *r, uint32_t cluster, struct wire_outer *ret)
{
    const uint8_t *at = read_bytes(r, WIRE_OUTER_BYTES);

    if (at == NULL)
        return WIRE_BAD_LENGTH;
    ret->kind = at[5];
    ret->cluster = get_u32(at + 8);
    ret->node_id = get_u32(at + 12);
    ret->counter = get_u64(at + 16);
    if (get_u32(at) != WIRE_MAGIC)
        return WIRE_BAD_MAGIC;
    if (at[4] != WIRE_VERSION || get_u16(at + 6) != 0)
        return WIRE_BAD_VERSION;
    if (ret->cluster != cluster)
        return WIRE_BAD_CLUSTER;
    if (ret->kind < WIRE_DATA || ret->kind >= WIRE_KINDS)
        return WIRE_BAD_KIND;
    return WIRE_OK;
}

uint32_t wire_cluster_tag(const char *name)
{
    uint32_t hash = 2166136261u;

    for (; *name != '\0'; name++) {
        hash ^= (uint8_t)*name;
        hash *= 16777619u;
    }
    return hash;
}

/* ---- packets and records */

#define CHANNEL_BYTES 16

static void put_channel(uint8_t *at, const struct channel_id *c)
{
    put_u32(at, c->rid);
    put_u64(at + 4, c->epoch);
    put_u32(at + 12, c->sender);
}

static void get_channel(const uint8_t *at, struct channel_id *ret)
{
    ret->rid = get_u32(at);
    ret->epoch = get_u64(at + 4);
    ret->sender = get_u32(at + 12);
}

static void write_channel(struct writer *w, const struct channel_id *c)
{
    uint8_t *at = write_room(w, CHANNEL_BYTES);

    if (at != NULL)
        put_channel(at, c);
}

static void read_channel(struct reader *r, struct channel_id *ret)
{
    const uint8_t *at = read_bytes(r, CHANNEL_BYTES);

    *ret = (struct channel_id){0};
    if (at != NULL)
        get_channel(at, ret);
}

void wire_write_packet(struct writer *w, const struct wire_packet *p)
{
    uint8_t *at = write_room(w, WIRE_PACKET_BYTES);

    if (at == NULL)
        return;
    put_channel(at, &p->channel);
    put_u64(at + 16, p->seq);
    put_u64(at + 24, p->rel);
    put_u16(at + 32, p->records);
    put_u16(at + 34, p->pad);
}

static bool is_zero(const uint8_t *at, size_t n)
{
    return n == 0 || (*at == 0 && memcmp(at, at + 1, n - 1) == 0);
}

bool wire_read_packet(struct reader *r, struct wire_packet *ret)
{
    const uint8_t *at = read_bytes(r, WIRE_PACKET_BYTES);

    if (at == NULL)
        return false;
    get_channel(at, &ret->channel);
    ret->seq = get_u64(at + 16);
    ret->rel = get_u64(at + 24);
    ret->records = get_u16(at + 32);
    ret->pad = get_u16(at + 34);
    if (ret->pad > reader_left(r))
        return false;
    r->end -= ret->pad;
    return is_number(ret->seq) && ret->rel <= WIRE_NUMBER_MAX && ret->records > 0 &&
           is_zero(r->end, ret->pad);
}

size_t wire_record_bytes(uint16_t flags, size_t payload_bytes)
{
    size_t bytes = WIRE_RECORD_BYTES + payload_bytes;

    if (flags & RECORD_NUMBER)
        bytes += WIRE_NUMBER_BYTES;
    if (flags & RECORD_FRAGMENT)
        bytes += WIRE_FRAGMENT_BYTES;
    if (flags & RECORD_RUN)
        bytes += WIRE_RUN_BYTES;
    return bytes;
}

void wire_write_record(struct writer *w, const struct record *rec)
{
    uint8_t *at = write_room(w, WIRE_RECORD_BYTES);

    assert((rec->flags & ~(RECORD_NUMBER | RECORD_FRAGMENT | RECORD_RUN)) == 0);
    if (at == NULL)
        return;
    put_u32(at, rec->slot);
    put_u16(at + 4, rec->flags);
    put_u16(at + 6, rec->payload_bytes);
    if (rec->flags & RECORD_NUMBER)
        write_u64(w, rec->number);
    if (rec->flags & RECORD_FRAGMENT) {
        write_u32(w, rec->index);
        write_u32(w, rec->count);
    }
    if (rec->flags & RECORD_RUN)
        write_u32(w, rec->more);
    write_bytes(w, rec->payload, (size_t)rec->payload_bytes * (rec->more + 1));
}

/* Whether the last message of a record has a number, too. */
static bool number_fits(const struct record *rec)
{
    return rec->number <= WIRE_NUMBER_MAX - rec->more;
}

/* The number of messages behind the first of a run, which end within the packet. */
static bool read_run(struct reader *r, struct record *ret)
{
    ret->more = read_u32(r);
    return !(ret->flags & RECORD_FRAGMENT) && ret->more > 0 && ret->payload_bytes > 0 &&
           ret->more < reader_left(r) / ret->payload_bytes;
}

bool wire_read_record(struct reader *r, struct record *ret)
{
    const uint8_t *at = read_bytes(r, WIRE_RECORD_BYTES);

    if (at == NULL)
        return false;
    *ret = (struct record){.slot = get_u32(at),
                           .flags = get_u16(at + 4),
                           .count = 1,
                           .payload_bytes = get_u16(at + 6)};
    if ((ret->flags & ~(RECORD_NUMBER | RECORD_FRAGMENT | RECORD_RUN)) != 0)
        return false;
    if (ret->flags & RECORD_NUMBER) {
        ret->number = read_u64(r);
        if (!is_number(ret->number))
            return false;
    }
    if (ret->flags & RECORD_FRAGMENT) {
        ret->index = read_u32(r);
        ret->count = read_u32(r);
    }
    if (ret->flags & RECORD_RUN && !read_run(r, ret))
        return false;
    ret->payload = read_bytes(r, (size_t)ret->payload_bytes * (ret->more + 1));
    return !r->bad && ret->index < ret->count && number_fits(ret);
}

bool wire_check_records(const uint8_t *body, size_t bytes, uint16_t records, uint32_t slot_count)
{
    struct reader r = {.at = body, .end = body + bytes};
    struct record rec;

    for (uint16_t i = 0; i < records; i++) {
        if (!wire_read_record(&r, &rec) || rec.slot >= slot_count)
            return false;
    }
    return complete(&r);
}

void wire_write_proxy_head(struct writer *w, const struct wire_proxy *p)
{
    write_u64(w, p->epoch);
    write_u32(w, p->sender);
    write_u32(w, p->group);
    write_u64(w, p->number);
    write_u32(w, p->index);
    write_u32(w, p->count);
    write_u16(w, p->payload_bytes);
}

void wire_write_proxy(struct writer *w, const struct wire_proxy *p)
{
    wire_write_proxy_head(w, p);
    write_bytes(w, p->payload, p->payload_bytes);
}

bool wire_read_proxy(struct reader *r, struct wire_proxy *ret)
{
    ret->epoch = read_u64(r);
    ret->sender = read_u32(r);
    ret->group = read_u32(r);
    ret->number = read_u64(r);
    ret->index = read_u32(r);
    ret->count = read_u32(r);
    ret->payload_bytes = read_u16(r);
    ret->payload = read_bytes(r, ret->payload_bytes);
    return complete(r) && is_number(ret->number) && ret->index < ret->count;
}

/* ---- control */

void wire_write_beacon(struct writer *w, const struct wire_beacon *b)
{
    write_channel(w, &b->channel);
    write_u64(w, b->last);
    write_u64(w, b->rel);
    write_u32(w, b->via);
}

bool wire_read_beacon(struct reader *r, struct wire_beacon *ret)
{
    read_channel(r, &ret->channel);
    ret->last = read_u64(r);
    ret->rel = read_u64(r);
    ret->via = read_u32(r);
    return complete(r) && ret->last <= WIRE_NUMBER_MAX && ret->rel <= ret->last;
}

void wire_write_ask(struct writer *w, const struct wire_ask *a)
{
    write_u32(w, a->rid);
    write_u64(w, a->epoch);
    write_u8(w, a->level);
    write_u32(w, a->via);
}

bool wire_read_ask(struct reader *r, struct wire_ask *ret)
{
    ret->rid = read_u32(r);
    ret->epoch = read_u64(r);
    ret->level = read_u8(r);
    ret->via = read_u32(r);
    return complete(r) && (ret->via == 0 || ret->level == WIRE_ASK_ALL);
}

/* Whether from, from + 1 … are count numbers of packets. */
static bool is_run(uint64_t from, uint32_t count)
{
    return is_number(from) && count > 0 && is_number(from + count - 1);
}

void wire_write_held(struct writer *w, const struct range *held, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t packets = held[i].to - held[i].from + 1;

        write_u64(w, held[i].from);
        write_u32(w, packets < WIRE_RANGE_MAX ? (uint32_t)packets : WIRE_RANGE_MAX);
    }
}

bool wire_read_held(struct reader *r, uint64_t prefix, struct range *ret, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t from = read_u64(r);
        uint32_t packets = read_u32(r);

        if (!is_run(from, packets) || packets > WIRE_RANGE_MAX || from - 1 <= prefix)
            return false;
        prefix = from + packets - 1;
        ret[i] = (struct range){from, prefix};
    }
    return !r->bad;
}

static void write_ack(struct writer *w, const struct wire_ack *a)
{
    assert(a->lack_count <= WIRE_ACK_LACKS_MAX);
    assert(a->held_count <= WIRE_ACK_RANGES_MAX);
    write_channel(w, &a->channel);
    write_u64(w, a->round);
    write_u64(w, a->stable);
    write_u64(w, a->rel_known);
    write_u32(w, a->active);
    write_u64(w, a->rate);
    write_u32(w, a->slowest);
    write_u32(w, a->behind);
    write_u16(w, a->lack_count);
    write_u16(w, a->held_count);
    for (uint16_t i = 0; i < a->lack_count; i++) {
        write_u64(w, a->lacks[i].from);
        write_u32(w, a->lacks[i].count);
        write_u32(w, a->lacks[i].requesters);
        write_u32(w, a->lacks[i].one);
    }
    wire_write_held(w, a->held, a->held_count);
}

static bool read_ack(struct reader *r, struct wire_ack *ret)
{
    read_channel(r, &ret->channel);
    ret->round = read_u64(r);
    ret->stable = read_u64(r);
    ret->rel_known = read_u64(r);
    ret->active = read_u32(r);
    ret->rate = read_u64(r);
    ret->slowest = read_u32(r);
    ret->behind = read_u32(r);
    ret->lack_count = read_u16(r);
    ret->held_count = read_u16(r);
    if (ret->stable > WIRE_NUMBER_MAX || ret->rel_known > WIRE_NUMBER_MAX ||
        ret->lack_count > WIRE_ACK_LACKS_MAX || ret->held_count > WIRE_ACK_RANGES_MAX)
        return false;
    for (uint16_t i = 0; i < ret->lack_count; i++) {
        ret->lacks[i].from = read_u64(r);
        ret->lacks[i].count = read_u32(r);
        ret->lacks[i].requesters = read_u32(r);
        ret->lacks[i].one = read_u32(r);
        if (!is_run(ret->lacks[i].from, ret->lacks[i].count))
            return false;
    }
    return wire_read_held(r, ret->stable, ret->held, ret->held_count);
}

uint16_t wire_acks_fit(const struct wire_ack *list, size_t count)
{
    size_t room = WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - 2;
    uint16_t fit = 0;

    while (fit < count) {
        size_t bytes = WIRE_ACK_BYTES + list[fit].lack_count * (size_t)ACK_LACK_BYTES +
                       list[fit].held_count * (size_t)WIRE_HELD_BYTES;

        if (bytes > room)
            break;
        room -= bytes;
        fit++;
    }
    return fit;
}

void wire_write_acks(struct writer *w, const struct wire_ack *list, uint16_t count)
{
    assert(count >= 1);
    assert(count <= WIRE_ACKS_MAX);
    write_u16(w, count);
    for (uint16_t i = 0; i < count; i++)
        write_ack(w, &list[i]);
}

bool wire_read_acks(struct reader *r, struct wire_acks *ret)
{
    ret->count = read_u16(r);
    if (ret->count < 1 || ret->count > WIRE_ACKS_MAX)
        return false;
    for (uint16_t i = 0; i < ret->count; i++) {
        if (!read_ack(r, &ret->list[i]))
            return false;
    }
    return complete(r);
}

void wire_write_fetch(struct writer *w, const struct wire_fetch *f)
{
    assert(f->count <= WIRE_FETCH_MAX);
    write_channel(w, &f->channel);
    write_u32(w, f->requester);
    write_u16(w, f->count);
    for (uint16_t i = 0; i < f->count; i++) {
        write_u64(w, f->want[i].from);
        write_u32(w, f->want[i].count);
    }
}

bool wire_read_fetch(struct reader *r, struct wire_fetch *ret)
{
    read_channel(r, &ret->channel);
    ret->requester = read_u32(r);
    ret->count = read_u16(r);
    if (ret->count > WIRE_FETCH_MAX)
        return false;
    for (uint16_t i = 0; i < ret->count; i++) {
        ret->want[i].from = read_u64(r);
        ret->want[i].count = read_u32(r);
        if (!is_run(ret->want[i].from, ret->want[i].count))
            return false;
    }
    return complete(r);
}

void wire_write_fetch_num(struct writer *w, const struct wire_fetch_num *f)
{
    write_u64(w, f->epoch);
    write_u32(w, f->requester);
    write_u32(w, f->sender);
    write_u32(w, f->group);
    write_u64(w, f->first);
    write_u64(w, f->last);
    write_u32(w, f->index);
}

bool wire_read_fetch_num(struct reader *r, struct wire_fetch_num *ret)
{
    ret->epoch = read_u64(r);
    ret->requester = read_u32(r);
    ret->sender = read_u32(r);
    ret->group = read_u32(r);
    ret->first = read_u64(r);
    ret->last = read_u64(r);
    ret->index = read_u32(r);
    return complete(r) && is_number(ret->first) && is_number(ret->last) && ret->first <= ret->last;
}
