/* vote: a node's part in a view change (DESIGN section 4): freeze and report at PREP, fetch what it
 * lacks up to the CUT, vote. An attempt ends with the INSTALL, or void: when a new leader of the
 * CMS says so, or when this node leaves before its vote for want of a CMS. */
#ifndef QSM_VOTE_H
#define QSM_VOTE_H

#include "context.h"
#include "group.h"
#include "peer.h"
#include "recovery.h"
#include "recv.h"
#include "send.h"
#include "cms.pb-c.h"

#define NUMBERS_PER_REPORT 8192 /* of at most 44 bytes each */
#define FETCH_FIRST_US 4000
#define FETCH_MAX_US 64000
#define PROXY_QUEUE_MAX 4096
#define FETCH_NUMBERS_MAX 1024 /* messages asked for at once */
#define STUCK_US 1500000       /* without progress: says so */

struct vote_tag {
    uint64_t term, epoch;
    uint32_t attempt;
};

/* A channel into the own region and up to where it belongs to the view. */
struct cut_channel {
    uint32_t sender, holder;
    uint64_t seq;
};

/* A dead sender's messages to a group of several regions. */
struct cut_number {
    uint32_t sender, holder, group, slot;
    uint64_t number;
    uint64_t first; /* the holder's first one in this view */
    uint64_t asked; /* up to here it was asked for */
};

/* What names a piece of a message. */
struct piece_key {
    uint64_t number;
    uint32_t sender, group, index, zero;
};

/* A piece of a message for another region: kept, or on its way. */
struct piece {
    UT_hash_handle hh; /* kept: by key */
    struct piece_key key;
    TAILQ_ENTRY(piece) entry;
    struct wire_proxy proxy; /* payload inside body */
    struct buf *body;        /* a reference */
    uint32_t address;        /* on its way: where to */
};

TAILQ_HEAD(pieces, piece);

struct fetch_num {
    TAILQ_ENTRY(fetch_num) entry;
    struct wire_fetch_num fetch;
    uint32_t address;
};

struct vote {
    struct context *ctx; /* not owned, and so the next five */
    struct groups *groups;
    struct send *send;
    struct recv *recv;
    struct peers *peers;
    struct recovery *recovery;
    void (*say)(void *ctx, const Qsm__NodeToCms *m); /* to the CMS */
    void *say_ctx;

    bool active, cut_known, done;
    bool left; /* this attempt: never vote for it */
    struct vote_tag tag;
    struct cut_channel *cuts;
    uint32_t cut_count;
    struct cut_number *numbers;
    uint32_t number_count;
    uint32_t next_cut, next_number; /* which to ask for next */
    uint64_t fetch_after_us, progress_us, missing;
    struct timer fetch_timer;
    struct source fetch_source, proxy_source;
    struct piece *kept; /* came by proxy in this view: to be delivered, and others may ask */
    struct pieces out;
    uint32_t out_count;
    TAILQ_HEAD(passed_nums, fetch_num) passed;
    uint32_t passed_count;
};

void vote_init(struct vote *v, struct context *ctx, struct groups *groups, struct send *send,
               struct recv *recv, struct peers *peers, struct recovery *recovery);
void vote_done(struct vote *v);

void vote_prep(struct vote *v, const Qsm__Prep *m);
void vote_cut(struct vote *v, const Qsm__Cut *m);

/* Something changed: votes when everything up to the cut is there. */
void vote_check(struct vote *v);

/* The attempt is void: goes on in the old view. */
void vote_void(struct vote *v);
/* Leaves the attempt before the vote: goes on in the old view and never votes for it. */
void vote_leave(struct vote *v);
/* Tells the CMS so, when it was: on a link that is there again. */
void vote_say_left(struct vote *v);
/* The epoch is being installed: forgets the attempt, and the pieces kept for others. */
void vote_install(struct vote *v);

/* Another region's member asks for messages of a dead sender; it gets what this node holds.
 * A request that comes from the requester itself is passed on where bodies are gone. */
void vote_fetch_num(struct vote *v, const struct wire_fetch_num *f, uint32_t from);
void vote_proxy(struct vote *v, const struct wire_proxy *p);

#endif
