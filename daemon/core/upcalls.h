/* upcalls: what the core asks of its shell and tells it, besides return values and pull. No upcall
 * may call back into the core. Pointers passed are good during the call only, unless said. */
#ifndef QSM_UPCALLS_H
#define QSM_UPCALLS_H

#include <stdbool.h>
#include <stdint.h>
#include "buf.h"

#define MESSAGE_MAX (16u << 20)

/* A message that a client submitted, or several of one size behind one another. */
struct message {
    struct buf *body;    /* the core takes over this reference */
    const uint8_t *data; /* inside body */
    uint32_t bytes;      /* of each: 0 to MESSAGE_MAX */
    uint32_t more;       /* messages behind the first */
    bool last;           /* the feed is dry behind it */
};

/* A message delivered on this host, or several of one size behind one another. */
struct delivery {
    uint32_t group;      /* handle from node_open */
    uint32_t sender;     /* node id */
    uint64_t number;     /* per sender and group: 1, 2, 3 ... across views */
    uint64_t epoch;      /* group view */
    struct buf *body;    /* not given away: buf_ref to keep it */
    const uint8_t *data; /* inside body */
    uint32_t bytes;      /* of each */
    uint32_t more;       /* messages behind the first, numbered in turn */
    /* Heads of the protocol before data: so many bytes lie between it and the end of the message
     * delivered before it when both are of the same train. 0: not known. */
    uint32_t lead;
};

enum group_event_kind {
    GROUP_VIEW,     /* a view of a group this node is a member of, its first one included */
    GROUP_SENDABLE, /* this node may send now: its open-to-send is in the view */
    GROUP_LEFT, /* this node is no longer a member, as it asked, or never became one. Opening the
                 * group to receive again before it comes cancels it: then GROUP_VIEW comes */
    GROUP_EXPELLED, /* the CMS expelled this node: all of the group is over (it stands for
                     * GROUP_LEFT, too, where that was to come); what is still wanted the core opens
                     * again under a new node id, and GROUP_VIEW and GROUP_SENDABLE come anew */
    GROUP_GAP, /* an earlier leave took effect though the group is open to receive again, and its
                * view was told: this node misses messages until the next GROUP_VIEW */
    GROUP_REFUSED, /* the CMS refused the open; the handle stays until node_close */
};

struct group_event {
    enum group_event_kind kind;
    uint32_t group;              /* handle */
    uint64_t epoch;              /* group view */
    const uint32_t *members;     /* GROUP_VIEW: node ids, ascending */
    uint32_t member_count;
    const char *reason;          /* GROUP_REFUSED: a sentence */
};

struct upcalls {
    void *ctx; /* passed as the first argument of each */

    /* The next message of a group's feed. number is what it will be sent under. Messages of one
     * size may come together as long as they take at most so many bytes (room). False, or with the
     * message that is the last: the feed is dry; it is asked again after node_ready. */
    bool (*pull)(void *ctx, uint32_t group, uint64_t number, uint32_t room, struct message *ret);

    void (*deliver)(void *ctx, const struct delivery *d);
    void (*group)(void *ctx, const struct group_event *e);

    /* All messages of this node to the group up to and including number are stable. Each number
     * that was pulled is covered once, unless `lost` says that what is above the last stable number
     * and up to `number` has an unknown end, since this node was expelled. */
    void (*stable)(void *ctx, uint32_t group, uint64_t number, bool lost);

    /* One line of the trace, without time and node (tests/sim/TRACE.md). NULL: no trace. */
    void (*trace)(void *ctx, const char *line);
    /* Lines for readers, of which the checker needs none. NULL: none. */
    void (*detail)(void *ctx, const char *line);
};

#endif
