/* recovery: what a token's contents mean for repair, as locally as possible: cachers first, then
 * anybody who holds what all cachers lack, then the sender. Repairs wait in one bounded queue and
 * are built when the repair socket can take them. */
#ifndef QSM_RECOVERY_H
#define QSM_RECOVERY_H

#include "context.h"
#include "peer.h"
#include "recv.h"
#include "send.h"
#include "wire_token.h"

#define REPAIR_QUEUE_MAX 8192
#define REPAIR_VISIT_MAX 2048    /* packets looked at in one visit of a token */
#define REPAIR_REQUESTER_MAX 256 /* packets for one requester in one visit: its budget */
#define REPAIR_MULTICAST_FROM 3  /* requesters */
#define REPAIR_AGE_SENDER 2      /* complete rounds after which the sender is asked */
#define REPAIR_PASSED_MAX 1024   /* requests to pass on */
#define RESEND_AGAIN_US 4000     /* the sender sends a packet again at most this often */

struct repair {
    TAILQ_ENTRY(repair) entry;
    struct channel_id channel;
    uint64_t seq;
    uint32_t address;
    bool multicast;
};

struct recovery {
    struct context *ctx; /* not owned, and so the next three */
    struct send *send;
    struct recv *recv;
    struct peers *peers;
    TAILQ_HEAD(repair_list, repair) queue, spare;
    uint32_t queued;
    struct source source;
    TAILQ_HEAD(passed_list, passed) passed; /* requests to pass on to cachers */
    uint32_t passed_count;
    struct source pass_source;
    struct ranges resent; /* of resent_rid, since resent_since_us */
    uint32_t resent_rid;
    uint64_t resent_since_us;
};

void recovery_init(struct recovery *rc, struct context *ctx, struct send *send, struct recv *recv,
                   struct peers *peers);
void recovery_done(struct recovery *rc);

/* Serves what this node should of the ranges in a token, and marks in it what was served. */
void recovery_act(struct recovery *rc, struct token *t, uint32_t rank);

/* The sender's part: sends again what an ACK says that a region lacks. */
void recovery_resend(struct recovery *rc, const struct wire_ack *a);

/* View change: serves packets to whoever asks, or passes the request on to the cachers when the
 * bodies are gone here: once, when it comes from the requester itself. */
void recovery_fetch(struct recovery *rc, const struct wire_fetch *f, uint32_t from);

/* Queues one packet for a node. False: the queue is full. */
bool recovery_queue(struct recovery *rc, const struct channel_id *channel, uint64_t seq,
                    uint32_t address, bool multicast);

#endif
