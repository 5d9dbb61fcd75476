/* ring_visit: what a node puts into a token and takes out of it, and what the leader concludes. */
#ifndef QSM_RING_VISIT_H
#define QSM_RING_VISIT_H

#include "ring.h"

/* The leader fills r->token anew: the channels that are not quiet, what was proved of them, and the
 * ranges that are still missing. */
void ring_make_token(struct ring *r);

/* Whether what a token says of its channels can be: nothing is above the highest packet seen. */
bool ring_believes(const struct token *t);

/* This node's visit: learns from r->token, adds its state, serves repairs. */
void ring_visit(struct ring *r);

/* The leader has r->token back: proofs from a full round, ACKs to the senders, missing ranges
 * carried over. Whether another token is wanted soon. */
bool ring_conclude(struct ring *r, bool full);

/* A sender that beacons and of whose channel all is proved gets its ACK again. False: not proved.
 */
bool ring_repeat_ack(struct ring *r, uint32_t sender);

bool ring_build_ack(void *ctx, struct datagram *ret);
void ring_forget_proofs(struct ring *r);

#endif
