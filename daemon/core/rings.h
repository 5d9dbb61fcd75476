/* rings: the rings of a region view that this node is on (DESIGN section 5, "rings of rings"): the
 * one of its partition, and as a leader one on each level above. Tokens circulate on all of them
 * independently. Demand goes up: a member with an old gap asks its partition's leader, a sender
 * asks all leaders, and a leader whose round proved something asks the leader of the next level.
 * Only counters are aggregated upwards: what is missing is sought by the partition itself
 * (recovery). */
#ifndef QSM_RINGS_H
#define QSM_RINGS_H

#include "context.h"
#include "peer.h"
#include "recovery.h"
#include "recv.h"
#include "relay.h"
#include "ring.h"
#include "send.h"

#define FETCH_AFTER_US                                                                             \
    80000 /* no token came for so long after an ask: its leader may be silent                      \
           */

struct rings {
    struct context *ctx; /* not owned, and so the next five */
    struct send *send;
    struct recv *recv;
    struct peers *peers;
    struct recovery *recovery;
    struct relay *relay;
    void (*suspect)(void *ctx, uint32_t node_id); /* a silent successor was skipped */
    void *suspect_ctx;

    struct view *view; /* a reference; NULL: on no ring */
    uint32_t count;    /* levels on which this node has a place, from 0 */
    struct ring *level[VIEW_LEVELS_MAX];

    struct source ask;
    uint32_t asks_due; /* levels to ask for, as bits */
    struct timer gap;
    uint64_t ask_after_us, ask_next_us;
};

void rings_init(struct rings *rs, struct context *ctx, struct send *send, struct recv *recv,
                struct peers *peers, struct recovery *recovery, struct relay *relay);
void rings_done(struct rings *rs);

/* Moves to the rings of another region view, or to none (NULL). */
void rings_move(struct rings *rs, struct view *v);

void rings_receive(struct rings *rs, const struct wire_slice *s, uint32_t from);
void rings_receive_ack(struct rings *rs, const struct wire_token_ack *a, uint32_t from);
void rings_receive_ask(struct rings *rs, const struct wire_ask *a, uint32_t from);

/* Tokens are wanted soon on every ring that this node leads. Whether nobody else needs to be asked
 * for those of view v. */
bool rings_want(struct rings *rs, const struct view *v);

/* Asks the leader of this node's ring on a level for a token. */
void rings_ask(struct rings *rs, uint32_t level);

/* A sender's beacon: leaders tell it again what is proved, or send tokens; by way of node `via`,
 * unless that is 0. */
void rings_beacon(struct rings *rs, uint32_t sender, uint32_t via);

/* The channel may have a gap, or something to be made stable: arms what is needed. */
void rings_notice(struct rings *rs, struct channel_in *ch);

/* A token came by on level 0: who had asked for it need not ask again at once. */
void rings_visited(struct rings *rs);

#endif
