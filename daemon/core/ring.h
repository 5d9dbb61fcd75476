/* ring: one token ring of a region view: who holds its token, when it goes, and what a complete
 * round proves (DESIGN section 5). Its first member leads: it makes the token, on demand and at
 * token_rate while anything is unproved. A token visits the members in order; a hop is
 * acknowledged, tried HOP_TRIES times, then the silent successor is skipped and left to another
 * member to try. Only a complete round proves anything. What a token contains is in ring_visit.c;
 * the rings that a node is on are in rings.c. */
#ifndef QSM_RING_H
#define QSM_RING_H

#include "context.h"
#include "recovery.h"
#include "wire_token.h"

#define HOP_TRIES 4
#define HOP_FIRST_US 6000 /* until the first try again at most, doubled for each that follows */
#define HOP_SOON_US 2000  /* at least ... */
#define HOP_MARGIN 4      /* ... and so many times what acknowledgements take */
#define TOKEN_LOST_US 250000
#define TOKEN_LOST_PER_MEMBER_US 10000
#define TOKEN_PER_MEMBER_US 100 /* least interval between tokens: this times the ring's members */
#define TOKEN_AGAIN_US 20000    /* what a round leaves open that skipped somebody is asked again */
#define TOKEN_ACKS_MAX 16
#define RING_EPOCHS_MAX 65536 /* how far ahead of the last one seen a token may be */

struct rings;

/* What complete rounds proved of one sender's channel, for the members of the ring and of all rings
 * below it; only the leader keeps it. */
struct proof {
    UT_hash_handle hh;
    uint32_t sender;
    uint64_t max_seen, stable, cached, rel_known;
    uint32_t behind; /* node id of the member with the least prefix; 0: unknown */
    uint64_t rel;
    uint8_t held_count; /* above a gap, as of the last complete round: they may be displaced again */
    struct range held[WIRE_ACK_RANGES_MAX];
    uint64_t cached_all;    /* the same as cached, of the whole region: known from above */
    struct seeking seeking; /* level 0: what was asked of other partitions */
    struct wire_ack ack;    /* to be told */
    TAILQ_ENTRY(proof) entry;
    bool ack_due;
    uint32_t via;  /* node id of who collects the sender's ACKs; 0: nobody */
    bool beaconed; /* the sender may not have heard: it is told after the next round, news or not */
};

/* A token on its way in, slice by slice. */
struct train {
    uint32_t ring_epoch, round, total;
    uint16_t hops;
    uint8_t count, got;
    uint8_t *bytes;
};

struct ring {
    struct rings *all; /* not owned, and so the next */
    struct context *ctx;
    struct view_ring at; /* which ring, and our place on it */
    uint32_t *ids;       /* node ids of the members, ascending; owned */

    struct token *token; /* in hand, or on its way to the next hop */
    bool holding;        /* in hand: goes when a socket can take it */
    bool visited;        /* in hand, and this node's part is in it */
    uint32_t seen_epoch, seen_round;
    uint16_t seen_hops; /* newest token seen */
    struct train in;

    /* the hop */
    uint8_t *bytes;
    uint32_t total;
    uint16_t hops;
    uint8_t slices, unacked, to_send; /* count, bits, bits */
    uint32_t hop, tries;              /* place of the successor */
    uint64_t hop_sent_us;             /* the first try */
    uint64_t hop_us;                  /* from there to its acknowledgement, smoothed */
    struct bitmap tried;              /* silent to us while we hold this token */
    struct bitmap doubted;            /* silent to us last time: tried once only */
    struct timer hop_timer;
    struct {
        uint32_t address;
        struct wire_token_ack ack;
    } acks[TOKEN_ACKS_MAX];
    uint32_t ack_count;
    struct source source;

    /* the leader */
    bool in_flight, asked;
    bool wanted; /* what was asked for is not answered before a round is complete */
    uint32_t ring_epoch, round;
    uint32_t active;  /* senders in the region */
    uint64_t rate;    /* bytes/s: least that a member can take, as the last round saw it; 0: no limit */
    uint32_t slowest; /* node id of that member; 0: none */
    uint32_t rotate; /* first channel of the next token when not all fit */
    uint64_t started_us;
    struct token_range *carried; /* what some lack since the last round; owned */
    uint32_t *carried_sender;    /* whose, by index of carried; owned */
    uint32_t carried_count;
    struct proof *proofs;
    TAILQ_HEAD(proof_list, proof) acks_due;
    struct source ack_source;
    struct timer next, lost;
};

/* A ring of the rings' view that this node has a place on; it is one of `all`. */
struct ring *ring_new(struct rings *all, const struct view_ring *at);
void ring_free(struct ring *r); /* NULL is fine */

void ring_receive(struct ring *r, const struct wire_slice *s, uint32_t from);
void ring_receive_ack(struct ring *r, const struct wire_token_ack *a, uint32_t from);

/* A token is wanted soon, though nothing be known here: at the leader only. */
void ring_want(struct ring *r);
/* The leader may have something new to prove: sees that a token goes at token_rate. */
void ring_schedule(struct ring *r);

bool ring_leads(const struct ring *r);
/* Whether it is the ring that spans the region: its leader tells the senders. */
bool ring_is_top(const struct ring *r);

#endif
