/* wire_token: the token's contents (DESIGN section 5) as a struct and as bytes. Bytes may be more
 * than a datagram: a token travels as a train of up to WIRE_TRAIN_MAX slices. */
#ifndef QSM_WIRE_TOKEN_H
#define QSM_WIRE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "view.h"
#include "wire_data.h"

#define WIRE_TRAIN_MAX 8
#define WIRE_TOKEN_CHANNELS_MAX 120
#define WIRE_TOKEN_RANGES_MAX 1024
#define WIRE_TOKEN_HELD_MAX 170 /* ranges that all visited hold, shared evenly among the channels */
#define WIRE_TOKEN_BYTES_MAX (WIRE_TRAIN_MAX * (WIRE_CONTROL_MAX - WIRE_OUTER_BYTES - WIRE_SLICE_BYTES))
#define WIRE_SLICE_BYTES 40
#define BITMAP_BYTES (VIEW_MEMBERS_MAX / 8)

struct bitmap {
    uint8_t bits[BITMAP_BYTES];
};
bool bitmap_has(const struct bitmap *b, uint32_t i);
void bitmap_set(struct bitmap *b, uint32_t i);
void bitmap_clear(struct bitmap *b, uint32_t i);
uint32_t bitmap_count(const struct bitmap *b, uint32_t size);  /* bits set below size */
bool bitmap_empty(const struct bitmap *b, uint32_t size);

struct token_channel {
    uint32_t sender;
    bool late;           /* named in mid-round by a member: no proof, the leader takes it up next round */
    uint64_t max_seen;   /* highest packet any visited member knows of */
    uint64_t prefix;     /* least contiguous prefix of the visited */
    uint64_t cached;     /* least prefix up to which a visited member holds its own share as a cacher */
    uint64_t rel_known;  /* least rel that the visited know */
    uint64_t rel;        /* highest rel that any visited knows */
    uint32_t behind;     /* node id of the visited one with the least prefix; 0: nobody yet */
    uint64_t cached_all; /* from above: proved that all cachers of the region hold their share */
    /* above a gap, and all visited have them: the lowest ones */
    uint8_t held_count;
    struct range held[WIRE_ACK_RANGES_MAX];
};

/* A range of one channel that some lack. The ranges of a token are sorted by channel, then number,
 * and disjoint; token_lacks and token_has rely on it. */
struct token_range {
    uint16_t channel;      /* index into channels */
    uint8_t age;           /* complete rounds that it survived */
    uint64_t from, to;     /* both included */
    struct bitmap lackers; /* places that lack it and were not served in this round */
    struct bitmap served;  /* places to which a repair was sent in this round */
};

struct token {
    uint32_t rid;
    uint64_t epoch;       /* of the region view */
    uint8_t level;        /* 0: ring of a partition; above: rings of leaders, without ranges */
    uint32_t ring_epoch;  /* higher each time a token is made anew */
    uint32_t round;
    uint32_t size;        /* members of this ring: bits used in bitmaps */
    uint64_t rate;        /* bytes/s: least that a visited member can take; 0: no limit */
    uint32_t slowest;     /* node id of that member; 0: none */
    uint32_t active;      /* senders with unreleased data in the last complete round of the region */
    struct bitmap visited;
    struct bitmap skipped; /* did not answer one member: the next one tries */
    struct bitmap failed;  /* answered neither */
    uint32_t channel_count, range_count;
    struct token_channel channels[WIRE_TOKEN_CHANNELS_MAX];
    struct token_range ranges[WIRE_TOKEN_RANGES_MAX];
};

/* How many held ranges a token of so many channels carries of each. */
uint32_t wire_token_held_max(uint32_t channels);

/* Sorts the ranges by channel and number, if somebody put them out of order, and writes the token.
 * Ranges that do not fit are not written (they stay in t), those of the highest packets first, the
 * channels taking turns, and nor are held ones beyond wire_token_held_max; of a range longer than WIRE_RANGE_MAX the lowest part is. Returns the bytes
 * written, at most WIRE_TOKEN_BYTES_MAX. */
size_t wire_write_token(struct token *t, uint8_t *out);

/* False when malformed: lengths, channel indices, order of ranges, bits above size. */
bool wire_read_token(const uint8_t *bytes, size_t n, struct token *ret);

/* Cuts range i in two that say the same, the second from `number` on (from < number <= to). False
 * when there is no room. */
bool token_split(struct token *t, uint32_t i, uint64_t number);

/* Notes in the token that rank lacks from..to of a channel: splits and adds ranges as needed. A rank
 * that was served in this round is left alone. False when there is no room: then part of it may not
 * be noted. */
bool token_lacks(struct token *t, uint32_t channel, uint32_t rank, uint64_t from, uint64_t to);

/* Takes rank out of the lackers of what it holds in channel. run says of number `from` whether it is
 * held and returns the last number, at most to, up to which that is so: a peer may claim ranges of any
 * length, so they are walked by runs and not by numbers. */
void token_has(struct token *t, uint32_t channel, uint32_t rank,
               uint64_t (*run)(void *ctx, uint64_t from, uint64_t to, bool *ret_held), void *ctx);

/* Drops ranges that nobody lacks and nobody was served, closing up the list, and joins neighbours
 * that say the same. */
void token_compact(struct token *t);

/* TOKEN datagram: this head, then a slice of the token's bytes. */
struct wire_slice {
    uint32_t rid;
    uint64_t epoch;
    uint8_t level;
    uint8_t index, count;  /* index < count <= WIRE_TRAIN_MAX */
    uint32_t ring_epoch, round;
    uint16_t hops;          /* that the token has made in this round: tells copies apart */
    uint32_t offset, total; /* bytes of the whole token */
    const uint8_t *bytes;
    uint16_t size;
};
void wire_write_slice(struct writer *w, const struct wire_slice *s);
bool wire_read_slice(struct reader *r, struct wire_slice *ret);

/* TOKEN_ACK: slices that arrived, as bits. */
struct wire_token_ack {
    uint32_t rid;
    uint64_t epoch;
    uint8_t level;
    uint8_t slices;
    uint32_t ring_epoch, round;
};
void wire_write_token_ack(struct writer *w, const struct wire_token_ack *a);
bool wire_read_token_ack(struct reader *r, struct wire_token_ack *ret);

#endif
