/* send: one channel out per region that this node sends into. Groups' feeds are pulled when the
 * data socket can take a datagram: a message, or each fragment of a large one, enters the packets
 * of all its regions at once or not at all (DESIGN section 4, "Whole messages"). Packets are kept
 * until `rel`: until all their messages are stable in all regions of their groups. */
#ifndef QSM_SEND_H
#define QSM_SEND_H

#include "context.h"
#include "flight.h"
#include "group.h"
#include "pace.h"
#include "peer.h"
#include "range.h"
#include "sample.h"
#include "store.h"
#include "view.h"
#include "wire_data.h"

#define SEND_PACKETS_MAX                                                                           \
    32768 /* packets of a channel that are not released: half of RECV_SPAN_MAX */
#define PACKET_HEAD_BYTES (WIRE_OUTER_BYTES + WIRE_PACKET_BYTES) /* room in front of the records   \
                                                                  */
#define BEACON_FIRST_US 10000
#define BEACON_MAX_US 500000
#define ASK_FIRST_US 10000
#define ASK_MAX_US 320000

struct send;

struct channel_out {
    UT_hash_handle hh; /* by rid */
    struct send *send; /* not owned */
    struct view *view; /* a reference */
    uint32_t rid;
    struct store store;
    uint64_t last; /* last packet built */
    uint64_t tx;   /* next packet to transmit */
    uint64_t stable, rel, rel_known;
    uint64_t ack_round;
    uint64_t rate;            /* bytes/s that the slowest member can take; 0: no limit */
    uint32_t slowest, behind; /* node ids: of that member, of who lags; 0: none */
    struct pace pace;         /* this sender's share of the rate */
    struct timer pace_timer;
    uint32_t active;     /* senders that share the region, as told; 0: not told yet */
    struct ranges ahead; /* above stable, and all members have them: in flight no more */
    uint64_t inflight_bytes, unreleased_bytes;
    uint64_t inflight_max, unreleased_max; /* see send_channel_limit */
    uint32_t datagram_bytes;               /* the largest that all members can take */
    struct flight flight;                  /* what may be in flight, as the ACKs teach it */
    bool paused;           /* in the scope of a view change: nothing more is built */
    bool wanted;           /* some group goes on to send into it (member, while it tells the CMS) */
    bool claimed;          /* a feed with a lower ticket waits for room here */
    struct group *busy;    /* whose large message is unfinished here; NULL: none */
    struct group **groups; /* by slot, filled as they are sent to */
    uint8_t *started;      /* by slot, bits: its number was carried */
    struct feed tx_feed;

    struct buf *slab; /* where packets are built, behind one another; a reference; NULL: none */
    uint32_t slab_used;
    uint8_t *open; /* records of the packet that is being built, inside slab; NULL: none */
    uint32_t open_used;
    uint16_t open_records;
    struct packet draft; /* its marks */

    struct source beacon, ask;
    struct timer beacon_timer;
    uint64_t beacon_from_us; /* not before: packets left since it was armed */
    uint64_t beacon_after_us, ask_after_us, ask_next_us;
    uint32_t via;      /* node id of who collects its ACKs; 0: they come straight */
    uint64_t asked_us; /* when its ACK was first asked for, by way of that node; 0: it came */
    uint64_t direct_until_us; /* until then no collector is named */
};

struct send {
    struct context *ctx; /* not owned, and so the next two */
    struct groups *groups;
    struct peers *peers;
    struct channel_out *channels;            /* hash by rid, in its order */
    struct sink feeds;                       /* groups with something to send */
    uint32_t turn_bytes;                     /* that the first of them has sent in its turn */
    struct sink tx;                          /* channels with packets to transmit */
    TAILQ_HEAD(waiting_list, group) waiting; /* passed over, lowest ticket first */
    bool reconsider;                         /* room may have opened for those who wait */
    struct sample sample; /* the message of a group that is timed until it is stable */
    struct source data;
    uint64_t collectors_at_us; /* when who collects ACKs is to be looked at again */
    /* Asks the leader of the channel's region for a token when that is this node itself; false: it
     * is another node. */
    bool (*ask_self)(void *ctx, const struct view *v);
    void *ask_ctx;
};

void send_init(struct send *s, struct context *ctx, struct groups *groups, struct peers *peers);
/* Drops all channels; may be used again. */
void send_done(struct send *s);

struct channel_out *send_find(const struct send *s, uint32_t rid);

/* Timer: the rate of a channel allows more. */
void send_pace_due(void *ctx, uint64_t now_us);

/* The group's feed may have something. */
void send_ready(struct send *s, struct group *g);
/* The group is no longer sent to: takes it off every list. */
void send_forget(struct send *s, struct group *g);

/* Gives each place of a group its channel, made where needed, from what is installed now. All that
 * the group sent before must be settled. */
void send_link(struct send *s, struct group *g);
/* All that the group sent is stable: an INSTALL proved it. Tells the shell. */
void send_settle(struct send *s, struct group *g);
/* The region's view is over: drops the channel into it, and unlinks the groups. */
void send_close(struct send *s, uint32_t rid);

/* Bytes that may be in flight into the channel's region at most. */
uint64_t send_window(const struct channel_out *ch);

/* What a leader says of a channel. */
void send_ack(struct send *s, const struct wire_ack *a);

/* View change. Pausing marks the boundary: what is built is wholly part of the old view. */
void send_pause(struct send *s, uint32_t rid);
void send_resume(struct send *s); /* all channels */
/* Whether all units of groups that map to a paused and to another region are stable in the others.
 */
bool send_partial_stable(const struct send *s);
/* Asks for tokens in the regions outside the scope that such groups wait for. */
void send_hurry_partial(struct send *s);

/* The members of the regions that such groups wait for, into ret_members (NULL: only counts;
 * some may come twice): somebody among them holds the stability back. */
size_t send_partial_members(const struct send *s, uint32_t *ret_members);

/* Nothing unstable, unreleased or unfinished. */
bool send_idle(const struct send *s);

#endif
