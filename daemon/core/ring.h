/* ring: who holds the token of a region view, when it goes, and what a complete round proves
 * (DESIGN section 5). The first member leads: it makes the token, on demand and at token_rate while
 * anything is unstable. A token visits the members in order of rank; a hop is acknowledged, tried
 * HOP_TRIES times, then the silent successor is skipped. Only a complete round proves stability. */
#ifndef QSM_RING_H
#define QSM_RING_H

#include "context.h"
#include "peer.h"
#include "recovery.h"
#include "recv.h"
#include "send.h"
#include "wire_token.h"

#define HOP_TRIES 4
#define HOP_FIRST_US 6000
#define TOKEN_LOST_US 250000
#define TOKEN_LOST_PER_MEMBER_US 10000
#define TOKEN_PER_MEMBER_US 100 /* least interval between tokens: this times the members */
#define TOKEN_ACKS_MAX 16
#define RING_EPOCHS_MAX 65536 /* how far ahead of the last one seen a token may be */

/* What complete rounds proved of one sender's channel; only the leader keeps it. */
struct proof {
    UT_hash_handle hh;
    uint32_t sender;
    uint64_t max_seen, stable, cached_all, rel_known;
    uint64_t rel;
    struct wire_ack ack; /* to be told */
    TAILQ_ENTRY(proof) entry;
    bool ack_due;
    bool beaconed; /* the sender may not have heard: it is told after the next round, news or not */
};

/* A token on its way in, slice by slice. */
struct train {
    uint32_t ring_epoch, round, total;
    uint8_t count, got;
    uint8_t *bytes;
};

struct ring {
    struct context *ctx; /* not owned, and so the next four */
    struct send *send;
    struct recv *recv;
    struct peers *peers;
    struct recovery *recovery;
    void (*suspect)(void *ctx, uint32_t node_id); /* a silent successor was skipped */
    void *suspect_ctx;

    struct view *view; /* a reference; NULL: on no ring */
    uint8_t level;
    uint32_t rank, size;
    struct token *token;             /* in hand, or on its way to the next hop */
    bool holding;                    /* in hand: goes when a socket can take it */
    uint32_t seen_epoch, seen_round; /* newest token seen */
    struct train in;

    /* the hop */
    uint8_t *bytes;
    uint32_t total;
    uint8_t slices, unacked, to_send; /* count, bits, bits */
    uint32_t hop, tries;              /* rank of the successor */
    struct timer hop_timer;
    struct {
        uint32_t address;
        struct wire_token_ack ack;
    } acks[TOKEN_ACKS_MAX];
    uint32_t ack_count;
    struct source source;

    /* the leader */
    bool in_flight, asked;
    uint32_t ring_epoch, round, active;
    uint32_t rotate; /* first channel of the next token when not all fit */
    uint64_t started_us;
    struct token_range *carried; /* what some lack since the last round; owned */
    uint32_t *carried_sender;    /* whose, by index of carried; owned */
    uint32_t carried_count;
    struct proof *proofs;
    TAILQ_HEAD(proof_list, proof) acks_due;
    struct source ack_source;
    struct timer next, lost;

    /* a member with a gap */
    struct source ask;
    struct timer gap;
    uint64_t ask_after_us, ask_next_us;
};

void ring_init(struct ring *r, struct context *ctx, struct send *send, struct recv *recv,
               struct peers *peers, struct recovery *recovery);
void ring_done(struct ring *r);

/* Moves to the ring of another region view, or to none (NULL). */
void ring_move(struct ring *r, struct view *v);

void ring_receive(struct ring *r, const struct wire_slice *s, uint32_t from);
void ring_receive_ack(struct ring *r, const struct wire_token_ack *a, uint32_t from);

/* Somebody wants a token soon: at the leader only, elsewhere nothing happens. */
void ring_want(struct ring *r);

/* A sender's beacon: the leader tells it again what is proved, or sends a token. */
void ring_beacon(struct ring *r, uint32_t sender);

/* The channel may have a gap, or something to be made stable: arms what is needed. */
void ring_notice(struct ring *r, struct channel_in *ch);

bool ring_leads(const struct ring *r);

/* Nothing that is known is unproved. */
bool ring_idle(struct ring *r);

#endif
