/* ring_visit: what a node puts into a token and takes out of it, and what the leader concludes. On
 * level 0 a member says what it holds; above, a leader says what complete rounds of the ring below
 * proved. Both only grow, so an old word is a safe one. */
#ifndef QSM_RING_VISIT_H
#define QSM_RING_VISIT_H

#include "ring.h"

/* The leader fills r->token anew: the channels that are not quiet, what is known of them from
 * above, and the ranges that are still missing. */
void ring_make_token(struct ring *r);

/* Whether what a token says of its channels can be: nothing is above the highest packet seen. */
bool ring_believes(const struct token *t);

/* This node's visit: learns from r->token, adds its state, serves repairs. */
void ring_visit(struct ring *r);

struct conclusion {
    bool again; /* another token is wanted soon */
    bool news;  /* something was proved */
};

/* The leader has r->token back: proofs from a full round, ACKs to the senders, requests for what is
 * missing. */
struct conclusion ring_conclude(struct ring *r, bool full);

/* Nothing that is known is unproved. */
bool ring_idle(struct ring *r);

/* A sender that beacons: its ACK is repeated when this is the top ring and all is proved. False:
 * not all is proved here. */
bool ring_repeat_ack(struct ring *r, uint32_t sender);

/* A sender names the node that collects its ACKs, 0: nobody. */
void ring_send_acks_via(struct ring *r, uint32_t sender, uint32_t via);

bool ring_build_ack(void *ctx, struct datagram *ret);
void ring_forget_proofs(struct ring *r);

#endif
