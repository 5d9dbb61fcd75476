/* relay: ACKs of several regions for one sender, combined (DESIGN section 5, "To the sender"). A
 * sender into many regions names a collector for each run of them, the leader of one of its
 * regions; the other leaders send it their ACKs, and it sends them on together. It changes nothing
 * in them and merges none: of one channel the newest counts. What asks for repairs does not come
 * this way: it is urgent, and a newer ACK must not take its place. */
#ifndef QSM_RELAY_H
#define QSM_RELAY_H

#include "context.h"
#include "peer.h"

#define RELAY_ACKS_MAX 4096       /* ACKs that wait */
#define RELAY_SENDER_ACKS_MAX 256 /* of these, for one sender */

struct relay {
    struct context *ctx;       /* not owned */
    const struct peers *peers; /* not owned */
    struct relay_sender *senders;
};

void relay_init(struct relay *re, struct context *ctx, const struct peers *peers);
void relay_done(struct relay *re);

/* Whether an ACK may go by way of a collector. */
bool relay_may(const struct wire_ack *a);

/* An ACK for another node, to be sent on within a quarter of token_min_interval. What nobody could
 * have sent here in good faith is dropped and counted. */
void relay_take(struct relay *re, const struct wire_ack *a);

#endif
