/* recovery: what a token's contents mean for repair, as locally as possible: inside the partition
 * first, by cachers or by whoever holds what they lack; then by cachers in the packet's caching
 * partition, by FETCH; at last by the sender. Repairs wait in one bounded queue and are built when
 * the repair socket can take them. */
#ifndef QSM_RECOVERY_H
#define QSM_RECOVERY_H

#include "context.h"
#include "peer.h"
#include "recv.h"
#include "send.h"
#include "wire_token.h"

#define REPAIR_QUEUE_MAX 8192
#define REPAIR_QUEUE_ONE_MAX 2048 /* of these, for one requester */
#define REPAIR_VISIT_MAX 2048     /* packets looked at in one visit of a token */
#define REPAIR_REQUESTER_MAX 256  /* packets for one requester in one visit: its budget */
#define REPAIR_MULTICAST_FROM 3   /* requesters */
#define REPAIR_AGE_CACHERS 1      /* rounds after which cachers elsewhere are asked */
#define REPAIR_AGE_SENDER 2   /* rounds after which the sender is asked, by the caching partition */
#define REPAIR_AGE_ANYBODY 6  /* and by any other */
#define REPAIR_JOIN_MAX 32    /* of those, how many are looked at to add one more packet */
#define REPAIR_ASKED_MAX 1024 /* FETCH datagrams that wait to be sent */
#define REPAIR_REMEMBERED_MAX 4096 /* packets asked for that are not here yet */
#define SEEK_AGAIN_US                                                                              \
    10000                    /* cachers elsewhere are asked for a packet again at most this often  \
                              */
#define RESEND_AGAIN_US 4000 /* the sender sends a packet again at most this often */

struct repair {
    TAILQ_ENTRY(repair) entry;
    struct channel_id channel;
    uint64_t seq;
    uint32_t address;
    bool multicast;
};

/* What was asked of cachers in other partitions, of one channel, since a while. */
struct seeking {
    struct ranges asked;
    uint64_t since_us;
};

/* A packet that somebody asked this node for and that is not here yet: served on arrival. */
struct remembered {
    UT_hash_handle hh;
    struct {
        uint32_t sender;
        uint64_t seq;
    } key;
    uint32_t requester; /* node id; 0: several, so the region */
};

/* Repairs in the queue for one node, so that one bad receiver can't drown the rest. */
struct requester {
    UT_hash_handle hh;
    uint32_t address;
    uint32_t queued; /* never 0 */
};

struct recovery {
    struct context *ctx; /* not owned, and so the next three */
    struct send *send;
    struct recv *recv;
    struct peers *peers;
    TAILQ_HEAD(repair_list, repair) queue, spare;
    uint32_t queued;
    struct requester *requesters;
    struct source source;
    TAILQ_HEAD(asked_list, asked) asked; /* requests to cachers */
    uint32_t asked_count;
    struct source ask_source;
    struct remembered *remembered; /* of the present region view */
    /* for one visit of a token */
    struct token_range *ranges; /* owned */
    uint32_t given[VIEW_MEMBERS_MAX];
    struct ranges resent; /* of resent_rid, since resent_since_us */
    uint32_t resent_rid;
    uint64_t resent_since_us;
};

void recovery_init(struct recovery *rc, struct context *ctx, struct send *send, struct recv *recv,
                   struct peers *peers);
void recovery_done(struct recovery *rc);

/* Serves what this node should of the ranges in a token, and marks in it what was served. */
void recovery_act(struct recovery *rc, struct token *t, const struct view_ring *at);

/* What a round on this partition's ring left missing: asks cachers elsewhere, and adds to an ACK
 * what the sender has to send again. */
void recovery_seek(struct recovery *rc, uint32_t sender, const struct view_ring *at,
                   const struct token_range *range, struct seeking *seeking, struct wire_ack *ack);

/* No token comes by: asks cachers for what this node lacks. */
void recovery_help_yourself(struct recovery *rc);

/* A packet arrived that others may have asked for meanwhile. */
void recovery_arrived(struct recovery *rc, uint32_t sender, uint64_t seq);

/* The region view is over. */
void recovery_forget(struct recovery *rc);

/* The sender's part: sends again what an ACK says that a region lacks. */
void recovery_resend(struct recovery *rc, const struct wire_ack *a);

/* Serves packets to whoever asks, or to the region. A cacher remembers what it lacks itself; who is
 * none and has freed a body passes the request on to the cachers: once, when it comes from the
 * requester itself. */
void recovery_fetch(struct recovery *rc, const struct wire_fetch *f, uint32_t from);

/* Queues one packet for a node, or for the region. False: the queue is full, or this node's share
 * of it. */
bool recovery_queue(struct recovery *rc, const struct channel_id *channel, uint64_t seq,
                    uint32_t address, bool multicast);

#endif
