/* store: the packets of one channel that a node holds, by number. Two facts about a packet are kept
 * apart: that it was received (`have`, what tokens report) and its body (freed by the rules of S10
 * while the entry stays until release, since an entry also knows which messages its packet carried). */
#ifndef QSM_STORE_H
#define QSM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

/* Which messages of a group a packet carries: what maps numbers to packets (S7) and tells a sender
 * what a stable prefix makes stable. */
struct mark {
    uint32_t slot;
    uint64_t first, last; /* numbers of the messages of which something is in this packet */
    uint64_t unit;        /* at the sender: the last unit (message or fragment) of the group in it;
                           * at others: which fragment of message `last`, from 0, is the last in it */
};

/* One line of the processor's cache: what is looked at when a packet is taken, proved stable and
 * released is all here, and not in the body, which is long cold by then. */
struct packet {
    uint64_t seq;
    struct buf *body;    /* a reference to what holds the records; NULL: freed */
    const uint8_t *data; /* the records, inside body */
    uint16_t bytes;      /* at data */
    uint16_t records;    /* in them */
    uint16_t pad;        /* sender only: zeros behind them, that go out with the packet */
    uint16_t mark_count;
    union {
        struct mark mark;  /* the only one, when mark_count is 1 */
        struct mark *more; /* all of them, when there are more; owned */
    };
};

static inline const struct mark *packet_marks(const struct packet *p)
{
    return p->mark_count > 1 ? p->more : &p->mark;
}

struct store {
    uint64_t base;       /* packets below or at base are released, entries gone */
    uint64_t top;        /* highest number that is there, or base */
    struct packet *ring; /* entries base+1 .. base+room by number mod room; owned */
    size_t room;         /* a power of two */
    uint64_t peak;       /* what it spanned at most, fading each time that it becomes empty */
    uint64_t body_bytes; /* sum of the bodies held */
    uint64_t body_count;
};

void store_init(struct store *s);
void store_done(struct store *s);

/* The entry of packet seq, or NULL when it was never put or is released. An entry that is there has
 * its number in seq; 0, which numbers no packet, says that it is not. */
static inline struct packet *store_find(const struct store *s, uint64_t seq)
{
    struct packet *p;

    if (seq <= s->base || seq > s->top)
        return NULL;
    p = &s->ring[seq & (s->room - 1)];
    return p->seq == seq ? p : NULL;
}

/* Makes the entry of packet seq (above base, not there yet), whose records are the bytes at data
 * inside body, to which it takes over a reference.
 * seq may be at most STORE_SPAN_MAX above base. The pointer is good until the next put. */
struct packet *store_put(struct store *s, uint64_t seq, struct buf *body, const uint8_t *data,
                         uint16_t bytes, uint16_t records);

/* Notes in a packet's entry that it carries messages first..last of slot, or a part of one. Calls
 * for one slot come with ascending numbers; the slot's mark then covers all of them. False: these
 * are below the last. */
bool store_mark(struct packet *p, uint32_t slot, uint64_t first, uint64_t last, uint64_t unit);

/* Frees the body of one packet; the entry stays. Nothing happens when it is gone already. */
void store_free_body(struct store *s, struct packet *p);

/* Takes the entry of packet seq out, body included, as if it was never put. */
void store_forget(struct store *s, uint64_t seq);

/* Releases everything up to and including seq: base moves there. Nothing happens below base. */
void store_release(struct store *s, uint64_t seq);

#define STORE_SPAN_MAX (1u << 20)

#endif
