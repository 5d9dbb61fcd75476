/* group: what a node knows of a group: where it maps to (places), who is in it, and for groups that
 * are open here their modes, the feed and the numbers of this node's messages. Messages are
 * numbered per group across views. A message, or each fragment of a large one, is a unit; units are
 * counted likewise and are what becomes stable. */
#ifndef QSM_GROUP_H
#define QSM_GROUP_H

#include <uthash.h>
#include "context.h"
#include "view.h"

struct channel_out;

/* A region that the group maps to. */
struct place {
    struct view *view; /* a reference */
    uint32_t slot;
    bool paused;                 /* in the scope of a view change: nothing is sent to the group */
    struct channel_out *channel; /* not owned; NULL: not sent to yet, or nobody else is there */
    uint64_t unit_stable;        /* units stable in this region; counts while channel is set */
};

/* A message of more units than one, or behind some that were void. */
struct wide {
    uint64_t number, last_unit;
};

/* What a message touches comes first, and together. */
struct group {
    uint32_t gid;      /* 0: the CMS has not said */
    uint32_t handle;   /* GROUP_NO_HANDLE: not open here */
    uint64_t epoch;    /* group view installed */
    uint8_t want;      /* modes that the shell asked for */
    uint8_t asked;     /* modes that the CMS was told */
    uint8_t installed; /* modes in the view */
    uint8_t named;     /* while a full state is installed: it names the group, and us as a sender */
    uint8_t tell;      /* bits TELL_*: events that an open or close made due */
    bool refused;
    bool leaving; /* closed for receiving while a member: until GROUP_LEFT */
    bool noted;   /* on the list of those that want another look: modes to tell the CMS, events */
    bool waits;   /* passed over: waits for room under a ticket */
    bool dry;     /* the feed said so; node_ready makes it false */
    bool voided;  /* cut off by a boundary once */
    uint32_t place_count;
    struct place *places; /* one, when there are no more */
    struct place one;

    struct feed feed;
    struct message pending; /* pulled, not wholly sent; body NULL: none */
    uint32_t index, count;  /* next fragment of pending; count 1: not fragmented */
    uint32_t fragment_bytes;
    uint64_t sent, stable;           /* numbers of messages: fully sent, and told stable */
    uint64_t unit_sent, unit_stable; /* units */
    uint64_t sent_to, stable_to;     /* the last unit of message `sent`, and of `stable` */
    /* Those of the messages between the two that do not end one unit behind the one before, by
     * number: a ring. */
    struct wide *wide;
    uint32_t wide_first, wide_count, wide_room; /* room: a power of two, or 0 */

    uint32_t member_count;
    const uint32_t *members; /* node ids, ascending: of members_of, or owned when that is NULL */
    struct view *members_of; /* a reference: the only region that the group maps to, or NULL */
    TAILQ_ENTRY(group) waiting, note;
    struct group *next_gid; /* in its list of groups.by_gid */
    UT_hash_handle by_name;
    char name[];
};

#define GROUP_NO_HANDLE UINT32_MAX

/* Closed before it was ever a member; opened while still a member, or a sender. */
enum { TELL_LEFT = 1, TELL_VIEW = 2, TELL_SENDABLE = 4 };

TAILQ_HEAD(group_notes, group);

struct groups {
    struct context *ctx; /* not owned */
    struct group *by_name;
    struct group **by_gid; /* lists, by the gid modulo gid_room, a power of two or 0 */
    uint32_t gid_room, gid_count;
    struct group_notes noted;
    struct group **handles; /* by handle, NULL: free */
    uint32_t handle_count, handle_room;
    uint32_t open;
};

void groups_init(struct groups *gs, struct context *ctx);
void groups_done(struct groups *gs);

struct group *groups_by_name(struct groups *gs, const char *name);
struct group *groups_by_gid(struct groups *gs, uint32_t gid);
struct group *groups_by_handle(struct groups *gs, uint32_t handle); /* NULL: no such */

/* The group of that name, made when it is not known. */
struct group *groups_add(struct groups *gs, const char *name);
/* Gives the group its id from the CMS. */
void groups_set_gid(struct groups *gs, struct group *g, uint32_t gid);
/* Takes a handle for the group. -ENOSPC: NODE_GROUPS_MAX. */
int groups_take_handle(struct groups *gs, struct group *g);
/* Gives the handle back. The group itself stays while it has a gid or numbers. */
void groups_drop_handle(struct groups *gs, struct group *g);
/* The CMS no longer knows the group: forgets its id, and the group when nothing here needs it. */
void groups_forget(struct groups *gs, struct group *g);
/* Forgets every id, place and number: this node starts anew under another id. */
void groups_reset(struct groups *gs);

/* Memory that all groups take, in bytes, without messages that are queued. */
uint64_t groups_bytes(const struct groups *gs);

/* Puts a group on the list of those noted, once, and takes it off. */
void groups_note(struct groups *gs, struct group *g);
void groups_unnote(struct groups *gs, struct group *g);

void group_add_place(struct group *g, struct view *v, uint32_t slot);
void group_remove_place(struct group *g, uint32_t rid);
/* Members anew from the places. */
void group_refresh_members(struct group *g);
bool group_has_member(const struct group *g, uint32_t node_id);

/* Whether the shell still wants deliveries: it is a member's, or waits for GROUP_LEFT. */
bool group_listens(const struct group *g);

/* The message with the next number is wholly sent, and so are `more` behind it that have a unit
 * each, the last g->unit_sent: sent counts up. */
void group_sent(struct group *g, uint32_t more);
/* Units up to this are stable in all regions: counts messages that are stable by that. Returns
 * whether g->stable moved. */
bool group_units_stable(struct group *g, uint64_t unit);
/* Least unit that is stable in all the regions that the group was sent to. */
uint64_t group_least_stable(const struct group *g);

#endif
