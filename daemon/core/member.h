/* member: the CMS client on every node: the link, admission, what this node wants of groups, and
 * the epochs that the CMS installs. Applying an INSTALL is in member_install.c. */
#ifndef QSM_MEMBER_H
#define QSM_MEMBER_H

#include "context.h"
#include "group.h"
#include "parts.h"
#include "peer.h"
#include "recv.h"
#include "rings.h"
#include "send.h"
#include "vote.h"

#define LINK_PING_US 500000
#define LINK_SILENT_US 3000000   /* without a byte from the CMS: connects anew */
#define LINK_LEAVE_US 1000000    /* without the CMS: leaves an attempt before the vote */
#define LINK_OUT_MAX (64u << 20) /* bytes waiting for the link */
#define CHANGES_PER_REQUEST 8192 /* of at most 264 bytes each: fits a frame */
#define PROBES_MAX 16
#define PROBE_TRIES 4
#define PROBE_EVERY_US 100000
#define STOP_PATIENCE_US 800000 /* for own messages to become stable */
#define STOP_MAX_US 1000000

/* A region as installed. */
struct region {
    UT_hash_handle hh; /* by rid */
    uint32_t rid;
    struct view *view; /* a reference */
};

/* A node that the CMS has asked about. */
struct probe {
    uint64_t id; /* the CMS's; 0: free */
    uint32_t node, address, tries;
    uint64_t at_us;
};

struct member {
    struct context *ctx; /* not owned, and so the next seven */
    struct groups *groups;
    struct peers *peers;
    struct send *send;
    struct recv *recv;
    struct rings *rings;
    struct vote *vote;
    struct recovery *recovery;

    struct region *regions;
    bool up, welcome, reset, stopping, said_bye;
    bool expelled;     /* and not admitted again */
    char refusal[128]; /* what the CMS said when it refused or expelled this node; "": it did not */
    uint64_t term;
    uint64_t incarnation, requests;
    uint8_t *in, *out;  /* bytes of the link */
    struct parts parts; /* of a message that came only in part */
    size_t in_used, in_room, out_used, out_room, out_sent;
    uint64_t heard_us, down_us, stop_us;
    struct timer ping, watch, probe_timer, stop, tell;
    struct probe probes[PROBES_MAX];
    struct source probe_source, probe_ack_source;
    uint32_t probe_acks[PROBES_MAX]; /* node ids to be answered */
    uint32_t probe_ack_count;
    uint64_t suspect_us; /* when the last suspicion was told */
    bool dirty;          /* some group that is noted wants what the CMS was not told */
};

void member_init(struct member *m, struct context *ctx);
void member_done(struct member *m);

void member_link_up(struct member *m);
void member_link_down(struct member *m);
int member_link_receive(struct member *m, const uint8_t *bytes, size_t count);
size_t member_link_pull(struct member *m, uint8_t *out, size_t room);

/* Modes that the shell wants of a group, and no longer wants. */
void member_open(struct member *m, struct group *g, unsigned mode);
void member_close(struct member *m, struct group *g, unsigned mode);
/* Gives the group's handle back when nothing more is to be told of it. */
void member_drop_unused(struct member *m, struct group *g);
/* What the group wants may have to be told to the CMS. */
void member_note(struct member *m, struct group *g);
/* Tells the shell an event of a group, when it still listens. */
void member_tell(struct member *m, const struct group *g, enum group_event_kind kind);

void member_stop(struct member *m);
bool member_stopped(const struct member *m);

/* Another node did not answer on the ring. */
void member_suspect(void *member, uint32_t node_id);
/* Another node probes this one: an answer goes out. */
void member_answer_probe(struct member *m, uint32_t from);
/* The answer to a probe by this node. */
void member_probe_ack(struct member *m, uint32_t from);

/* Queues a message to the CMS. */
void member_say(void *member, const Qsm__NodeToCms *m);

/* member_install.c: applies an epoch, or a full state. False: it does not fit what is installed. */
bool member_install(struct member *m, const Qsm__Install *in);
/* This node was expelled: forgets all but what clients want. */
void member_expelled(struct member *m);
void member_forget_regions(struct member *m);

#endif
