/* node: one QSM node, the protocol without any I/O. The shell feeds it datagrams, bytes of the link
 * to the CMS, the time and requests, and pulls datagrams and link bytes out of it. All times are
 * microseconds of one monotonic clock: no call is told an earlier one than the call before. Not
 * thread safe: one thread at a time per node. */
#ifndef QSM_NODE_H
#define QSM_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "stats.h"
#include "upcalls.h"
#include "wire_data.h"

struct node;

enum { NODE_RECV = 1, NODE_SEND = 2 }; /* modes of a group */

enum net_class {
    NET_CONTROL,
    NET_REPAIR,
    NET_DATA,
    NET_CLASSES
}; /* the three ports, in order of rank */

struct node_config {
    const char *cluster;       /* copied */
    const char *name;          /* host name, copied */
    uint32_t address;          /* IPv4, host byte order */
    uint32_t datagram_bytes;   /* MTU - 28; at most WIRE_DATAGRAM_MAX */
    uint64_t rcvbuf_bytes;     /* receive buffer granted to the data socket */
    uint64_t window_bytes;     /* unreleased bytes per channel */
    uint64_t rate_max;         /* bytes/s into each region; 0: no limit */
    uint64_t pool_bytes;       /* bodies of others' packets held, all channels */
    uint64_t reassembly_bytes; /* incomplete messages */
    uint32_t token_rate_mhz;   /* periodic tokens per 1000 s: 1000 is one a second */
    uint32_t token_min_interval_us;
    uint64_t seed;         /* of the node's random numbers */
    bool no_sender_repair; /* debug: the sender never repairs */
};

/* A datagram on its way out: head, then body. */
struct datagram {
    enum net_class net; /* port and socket */
    bool multicast;
    uint32_t address; /* IPv4, host byte order */
    uint32_t head_bytes;
    uint32_t body_bytes;  /* 0: none */
    const uint8_t *body;  /* inside body_ref */
    struct buf *body_ref; /* a reference that the caller gives back with buf_unref; NULL: none */
    uint8_t *head_room;   /* in front of body: head_bytes for the head, if the caller likes to have
                           * all of it in one piece; NULL: there is no room */
    uint8_t head[WIRE_CONTROL_MAX];
};

/* A node that is not linked to a CMS yet. config strings are copied, upcalls too; ctx not owned. */
struct node *node_new(const struct node_config *config, const struct upcalls *upcalls,
                      uint64_t now_us);
void node_free(struct node *n); /* NULL is fine */

/* ---- the network */

/* A datagram that arrived on one of the ports. landing: a buf that holds it, to which references
 * are taken where the datagram is kept; NULL: it is copied then. Never fails: bad ones are counted
 * in the stats by reason. */
void node_receive(struct node *n, enum net_class net, const uint8_t *data, size_t bytes,
                  struct buf *landing, uint64_t now_us);

/* The next datagram that should leave, of the given class or of one that ranks above: false when
 * there is none. A shell asks for NET_DATA while all sockets can take, and for less when only the
 * sockets of higher classes can. What a datagram says is decided here, not before. */
bool node_pull(struct node *n, enum net_class lowest, struct datagram *ret, uint64_t now_us);

/* The multicast address to listen to now (host byte order), 0: none. Ask after every turn. */
uint32_t node_listen_address(const struct node *n);

/* The state of the socket for data, every 100 ms or so while data comes: datagrams that it dropped
 * since it was made, and how many thousandths of its receive buffer are in use. */
void node_load(struct node *n, uint64_t drops, uint32_t backlog_permille);

/* Frees memory of packets that was not needed since the last call. To be called now and then. */
void node_trim(struct node *n);

/* ---- time */

uint64_t node_deadline(struct node *n);            /* TIMER_NEVER: none */
/* Runs some of what is due; true: there is more. */
bool node_expire(struct node *n, uint64_t now_us);

/* ---- the ordered byte stream to the CMS */

void node_link_up(struct node *n, uint64_t now_us);
void node_link_down(struct node *n, uint64_t now_us);
/* Bytes from the CMS, cut anywhere. -EPROTO: malformed, -EMSGSIZE: a message of more than 64 MiB;
 * the shell closes the link. */
int node_link_receive(struct node *n, const uint8_t *bytes, size_t count, uint64_t now_us);
/* Bytes for the CMS, at most room; 0: nothing to send. */
size_t node_link_pull(struct node *n, uint8_t *out, size_t room, uint64_t now_us);
/* Whether the core wants the shell to drop the link and connect anew (silent for too long, or this
 * node was expelled). True once; the shell then calls node_link_down. */
bool node_link_reset(struct node *n);
/* Why the CMS refused or expelled this node, in its words, until it is welcome; "": it did not. */
const char *node_refusal(const struct node *n);

/* ---- groups */

/* Opens a group for mode (NODE_RECV, NODE_SEND or both, added to what is open). Any number of opens
 * before the next node_link_pull travel in one request. *ret_group is a small index, stable while
 * the group is open. -EINVAL: bad name; -ENOSPC: NODE_GROUPS_MAX reached. The outcome comes by the
 * group upcall. */
int node_open(struct node *n, const char *name, unsigned mode, uint64_t now_us,
              uint32_t *ret_group);

/* Gives mode up. A group closed for sending leaves the view when all it sent is stable. The handle
 * is gone when no mode is left and GROUP_LEFT came (for a sender: at once). */
void node_close(struct node *n, uint32_t group, unsigned mode, uint64_t now_us);

/* The group's feed has something to pull. */
void node_ready(struct node *n, uint32_t group, uint64_t now_us);

/* How many groups are known here, and the memory that all of them take, in bytes: their own and
 * what channels keep of each, but no messages. The latter goes through all of them. */
uint64_t node_group_count(const struct node *n);
uint64_t node_group_bytes(const struct node *n);

/* The modes of an open group that are in the view. Who closes a group for sending and opens it
 * again before the close took effect can send still: no GROUP_SENDABLE comes. */
unsigned node_installed(const struct node *n, uint32_t group);

/* Leaves everything and tells the CMS; node_stopped says when it is told, or 1 s later. */
void node_stop(struct node *n, uint64_t now_us);
bool node_stopped(const struct node *n);

#define NODE_GROUPS_MAX 100000

/* ---- looking in */

struct node_peer {
    uint32_t id;
    uint32_t address;
    const char *name;
};

struct node_region_info {
    uint32_t rid;
    uint64_t epoch;
    uint32_t address;
    const uint32_t *members;
    uint32_t member_count, group_count;
    bool ours;                  /* this node is a member */
    uint64_t sent, stable, rel; /* our channel into it; 0 when we never sent */
    uint64_t inflight_bytes, window_bytes;
    uint64_t rate;    /* bytes/s: the least that a member can take; 0: no limit */
    uint32_t slowest; /* node id of that member, or of who lags most; 0: nobody, or unknown */
};

struct node_group_info {
    const char *name;
    uint32_t gid;
    uint64_t epoch; /* group view, 0: none yet */
    unsigned mode;  /* installed for this node */
    const uint32_t *members;
    uint32_t member_count, region_count;
    uint64_t sent; /* messages of this node */
    uint64_t stable;
};

uint32_t node_id(const struct node *n); /* 0: not admitted */
uint64_t node_epoch(const struct node *n);
uint64_t node_now(const struct node *n); /* the time that the last call brought */
bool node_linked(const struct node *n); /* the CMS answered on this link */
const struct node_peer *node_find_peer(const struct node *n, uint32_t id); /* NULL: unknown */
const struct node_stats *node_stats(struct node *n);
/* Calls back for each region, or group known to this node (all of the cluster's). members point
 * into the node. */
void node_each_region(struct node *n, void (*f)(void *ctx, const struct node_region_info *),
                      void *ctx);
void node_each_group(struct node *n, void (*f)(void *ctx, const struct node_group_info *),
                     void *ctx);
/* Whether all is quiet: no unstable or unreleased packet, no partial message, empty stores (for the
 * simulator's convergence check). */
bool node_idle(const struct node *n);

#endif
