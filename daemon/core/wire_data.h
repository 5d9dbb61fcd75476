/* wire_data: every datagram except the token, field by field as in proto/WIRE.md. Reading goes
 * through one cursor (cursor.h) with a checked bound per read; nothing is converted in place. */
#ifndef QSM_WIRE_DATA_H
#define QSM_WIRE_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cursor.h"
#include "range.h"

#define WIRE_MAGIC 0x314d5351u /* "QSM1" */
#define WIRE_VERSION 1
#define WIRE_OUTER_BYTES 24      /* every datagram */
#define WIRE_PACKET_BYTES 36     /* head of DATA and REPAIR, behind the outer one */
#define WIRE_RECORD_BYTES 8      /* head of a record */
#define WIRE_NUMBER_BYTES 8      /* with RECORD_NUMBER */
#define WIRE_FRAGMENT_BYTES 8    /* with RECORD_FRAGMENT */
#define WIRE_RUN_BYTES 4         /* with RECORD_RUN */
#define WIRE_CONTROL_MAX 1400    /* largest control datagram */
#define WIRE_DATAGRAM_MAX 8972   /* largest datagram at all: jumbo frame */
#define WIRE_DATAGRAM_MIN 548
#define WIRE_RANGE_MAX (1u << 20) /* packets in one range on the wire, as many as a store can span */
#define WIRE_NUMBER_MAX (UINT64_MAX >> 2) /* packet and message numbers above are malformed */

enum wire_kind {
    WIRE_DATA = 1,   /* data socket: a packet of a channel */
    WIRE_REPAIR,     /* repair socket: the same packet, from anybody who holds it */
    WIRE_PROXY,      /* repair socket: a piece of a message, by origin, group and number */
    WIRE_TOKEN,      /* control socket, and so are all below */
    WIRE_TOKEN_ACK,
    WIRE_ASK,        /* asks a leader for a token */
    WIRE_ACK,        /* leader to sender */
    WIRE_BEACON,     /* sender to region: its last packet */
    WIRE_FETCH,      /* asks for packets of a channel */
    WIRE_FETCH_NUM,  /* view change: asks for messages by number */
    WIRE_PROBE,
    WIRE_PROBE_ACK,
    WIRE_KINDS,
};

struct wire_outer {
    uint8_t kind;
    uint32_t cluster; /* tag */
    uint32_t node_id; /* who sent this datagram */
    uint64_t counter;
};

enum wire_bad { WIRE_OK, WIRE_BAD_LENGTH, WIRE_BAD_MAGIC, WIRE_BAD_VERSION, WIRE_BAD_CLUSTER,
                WIRE_BAD_KIND };

void wire_write_outer(struct writer *w, const struct wire_outer *o);
/* Reads and checks the outer header; cluster is the tag that we expect. */
enum wire_bad wire_read_outer(struct reader *r, uint32_t cluster, struct wire_outer *ret);

/* The tag of a cluster name: a 32-bit hash (FNV-1a). */
uint32_t wire_cluster_tag(const char *name);

/* A channel: what one sender sends into one region view. */
struct channel_id {
    uint32_t rid;
    uint64_t epoch;  /* of the region view */
    uint32_t sender; /* node id */
};

/* DATA and REPAIR: this head, then the records. */
struct wire_packet {
    struct channel_id channel;
    uint64_t seq;
    uint64_t rel;
    uint16_t records;
    uint16_t pad; /* zeros behind the records, DATA only */
};
/* All but the records and the padding, which are to follow. */
void wire_write_packet(struct writer *w, const struct wire_packet *p);
/* The reader then ends where the records do. */
bool wire_read_packet(struct reader *r, struct wire_packet *ret);

enum { RECORD_NUMBER = 1, RECORD_FRAGMENT = 2, RECORD_RUN = 4 };
/* A record: slot u32, flags u16, payload length u16, [number u64], [index u32, count u32 | more
 * u32], payload. A run is several messages of one length, whose payloads follow each other. */
struct record {
    uint32_t slot;
    uint16_t flags;
    uint64_t number;      /* with RECORD_NUMBER: the message's number; 0 otherwise */
    uint32_t index, count; /* with RECORD_FRAGMENT, index < count; otherwise 0 and 1 */
    uint32_t more;         /* with RECORD_RUN: messages behind the first, at least 1; otherwise 0 */
    const uint8_t *payload;
    uint16_t payload_bytes; /* of each message */
};
/* payload_bytes: of all its messages. */
size_t wire_record_bytes(uint16_t flags, size_t payload_bytes);
void wire_write_record(struct writer *w, const struct record *rec);
/* False when the record is malformed: cursor bad, unknown flags or both of a run and a fragment,
 * index >= count, number 0, a run of one or of nothing. */
bool wire_read_record(struct reader *r, struct record *ret);
/* Whether `records` well-formed records with slots below slot_count fill the body exactly. */
bool wire_check_records(const uint8_t *body, size_t bytes, uint16_t records, uint32_t slot_count);

/* PROXY: piece `index` of `count` of one message; a piece is at most what a fragment is. */
struct wire_proxy {
    uint64_t epoch;   /* the attempt's: epoch that is to be installed */
    uint32_t sender;  /* origin of the message */
    uint32_t group;   /* group id */
    uint64_t number;
    uint32_t index, count;
    const uint8_t *payload;
    uint16_t payload_bytes;
};
/* All but the payload, which is to follow. */
void wire_write_proxy_head(struct writer *w, const struct wire_proxy *p);
void wire_write_proxy(struct writer *w, const struct wire_proxy *p);
bool wire_read_proxy(struct reader *r, struct wire_proxy *ret);

struct wire_beacon {
    struct channel_id channel;
    uint64_t last, rel;
    uint32_t via; /* node id of who collects its ACKs; 0: they come straight */
};
void wire_write_beacon(struct writer *w, const struct wire_beacon *b);
bool wire_read_beacon(struct reader *r, struct wire_beacon *ret);

#define WIRE_ASK_ALL 255
struct wire_ask {
    uint32_t rid;
    uint64_t epoch;
    uint8_t level; /* of the ring, or WIRE_ASK_ALL: a sender asks all leaders */
    uint32_t via;  /* from a sender, as in a beacon; 0 otherwise */
};
void wire_write_ask(struct writer *w, const struct wire_ask *a);
bool wire_read_ask(struct reader *r, struct wire_ask *ret);

/* ACK: the leader tells a sender what a complete round proved of its channel. A collector sends on
 * those of several channels in one datagram. */
#define WIRE_ACK_BYTES 64 /* without lacks and ranges */
#define WIRE_ACK_LACKS_MAX 32
#define WIRE_ACK_RANGES_MAX 8
#define WIRE_ACKS_MAX ((WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - 2) / WIRE_ACK_BYTES)
struct wire_ack {
    struct channel_id channel;
    uint64_t round;     /* (ring epoch << 32 | round) of the proof: older ones are ignored; 0: none */
    uint64_t stable;    /* region stable prefix: MaxContiguous */
    uint64_t rel_known; /* least rel known to all members */
    uint32_t active;    /* senders with unreleased data in that round */
    uint64_t rate;      /* bytes/s: least that a member can take, for all senders; 0: no limit */
    uint32_t slowest;   /* node id of that member; 0: none */
    uint32_t behind;    /* node id of the member with the least prefix; 0: unknown */
    uint16_t lack_count; /* ranges that the sender must send again */
    struct { uint64_t from; uint32_t count; uint32_t requesters; uint32_t one; } lacks[WIRE_ACK_LACKS_MAX];
    /* one: a requester's node id, for a unicast repair when requesters is 1 */
    uint16_t held_count;
    struct range held[WIRE_ACK_RANGES_MAX]; /* above a gap, and all members have them */
};
struct wire_acks {
    uint16_t count; /* at least 1 */
    struct wire_ack list[WIRE_ACKS_MAX];
};
/* Ranges that all hold above `prefix`, in ACKs and tokens; at most max, of at most WIRE_RANGE_MAX
 * packets each. */
#define WIRE_HELD_BYTES 12
void wire_write_held(struct writer *w, const struct range *held, uint32_t count);
/* False when they are not sorted, or touch each other or the prefix. */
bool wire_read_held(struct reader *r, uint64_t prefix, struct range *ret, uint32_t count);

/* How many of the first ACKs of a list fit into one datagram, at least 1. */
uint16_t wire_acks_fit(const struct wire_ack *list, size_t count);
void wire_write_acks(struct writer *w, const struct wire_ack *list, uint16_t count);
bool wire_read_acks(struct reader *r, struct wire_acks *ret);

/* FETCH: asks for packets of a channel: of the live sender or a holder, in a view change; of cachers
 * elsewhere, what a partition lacks. */
#define WIRE_FETCH_MAX 64
struct wire_fetch {
    struct channel_id channel;
    uint32_t requester; /* whom to answer: a request may be passed on; 0: the whole region */
    uint16_t count;
    struct { uint64_t from; uint32_t count; } want[WIRE_FETCH_MAX];
};
void wire_write_fetch(struct writer *w, const struct wire_fetch *f);
bool wire_read_fetch(struct reader *r, struct wire_fetch *ret);

/* FETCH_NUM: messages first..last of a dead sender to a group, from a holder in another region. */
struct wire_fetch_num {
    uint64_t epoch;     /* of the attempt */
    uint32_t requester;
    uint32_t sender, group;
    uint64_t first, last;
    uint32_t index;     /* pieces of `first` below it are not needed */
};
void wire_write_fetch_num(struct writer *w, const struct wire_fetch_num *f);
bool wire_read_fetch_num(struct reader *r, struct wire_fetch_num *ret);

/* PROBE and PROBE_ACK carry a u64 that the answer repeats. */

#endif
