/* recv: the channels into the region that this node is a member of: one per sender. A packet is
 * taken, kept for repair, and processed in order; its messages are delivered. Nothing here skips:
 * what is missing is reported in tokens (ring) and repaired (recovery). */
#ifndef QSM_RECV_H
#define QSM_RECV_H

#include "context.h"
#include "group.h"
#include "load.h"
#include "range.h"
#include "store.h"
#include "view.h"
#include "wire_data.h"

#define REORDER_SLACK_US 2000
#define HELD_MAX 2048
#define HELD_EPOCHS_MAX 64  /* how far ahead a view to come may be */
#define RECV_SPAN_MAX 65536 /* packets above the last released one that may exist */

/* One sender's messages to one group. */
struct stream {
    uint64_t seen;      /* last number that ended in a packet processed in order */
    uint64_t delivered; /* last number delivered: also by a proxy, in a view change */
    uint64_t first;     /* first number of this channel; 0: none yet */
};

/* The large message that is being put together. */
struct partial {
    struct buf *body; /* grows; NULL: none */
    uint32_t slot, next, count, bytes;
    uint64_t number;
};

struct recv;

struct channel_in {
    UT_hash_handle hh; /* by sender */
    struct recv *recv; /* not owned */
    uint32_t sender;   /* node id */
    uint32_t rank;     /* of the sender, or VIEW_NO_RANK */
    uint64_t known_in; /* epoch in which the sender was last looked up among the peers */
    struct store store;
    struct ranges have; /* taken, above prefix */
    uint64_t prefix;    /* everything up to it is taken and processed */
    uint64_t top;       /* highest packet known to exist */
    uint64_t settled_top, young_top, young_since_us; /* reorder slack: see recv_settled */
    uint64_t share; /* everything up to it that this node caches is taken */
    uint64_t rel;
    uint64_t cached_all; /* all cachers hold their share up to it; bodies below were thinned out */
    uint64_t thinned;
    bool frozen; /* dead sender, in a view change: nothing above `limit` is taken */
    uint64_t limit;
    bool cut;               /* in a view change: it is known where the view ends */
    struct stream *streams; /* by slot */
    struct partial partial;
    bool waits; /* its next packet begins a large message, and there is no room */
};

struct held_packet {
    TAILQ_ENTRY(held_packet) entry;
    uint64_t epoch;
    enum net_class net;
    uint32_t size;
    uint8_t bytes[];
};

struct recv {
    struct context *ctx;    /* not owned */
    struct groups *groups;  /* not owned */
    struct view *view;      /* a reference; NULL: member of nothing */
    uint32_t rank;          /* ours */
    struct group **by_slot; /* not owned */
    struct channel_in *channels;
    struct channel_in *last;                 /* found last; NULL: none */
    TAILQ_HEAD(held_list, held_packet) held; /* of views that are not installed here yet */
    uint32_t held_count;
    struct load load;
    bool room_freed; /* an incomplete message ended: others may have room now */
};

void recv_init(struct recv *r, struct context *ctx, struct groups *groups);
void recv_done(struct recv *r);

/* Moves to another view of the own region, or another region, or none (NULL). Numbers of groups
 * that are in the old and the new one go on; all channels are new. */
void recv_move(struct recv *r, struct view *v);

struct channel_in *recv_find(struct recv *r, uint32_t sender); /* NULL: none */
/* The sender's channel, made when there is none. Only while there is a view. */
struct channel_in *recv_channel(struct recv *r, uint32_t sender);

/* Drops the large message that is being put together, if there is one. */
void recv_drop_partial(struct channel_in *ch);

/* A packet: DATA or REPAIR, its body behind the head. landing: the buf that holds it, NULL: none.
 * from: who sent the datagram. Whether it was new. */
bool recv_packet(struct recv *r, const struct wire_packet *p, const uint8_t *body, size_t bytes,
                 struct buf *landing, uint32_t from, bool repair);

/* Word of a sender's last packet and rel, from a beacon or a token. */
void recv_learn(struct channel_in *ch, uint64_t top, uint64_t rel);
/* Word that all cachers hold their share up to this: others drop their bodies (S10). */
void recv_cached_all(struct channel_in *ch, uint64_t cached_all);

/* Whether the next packet in order would be taken: who has no room asks for none. */
bool recv_wants(const struct channel_in *ch);

/* Packets up to this that are missing are a gap and no reordering: known for REORDER_SLACK_US. */
uint64_t recv_settled(struct channel_in *ch);
/* Whether packet seq was taken. */
static inline bool recv_has(const struct channel_in *ch, uint64_t seq)
{
    return seq <= ch->prefix || (ch->have.count > 0 && ranges_contain(&ch->have, seq));
}
/* The run that number from begins: whether it was taken, and up to where, at most to, that is so.
 */
uint64_t recv_run(const struct channel_in *ch, uint64_t from, uint64_t to, bool *ret_held);
/* Earliest time at which a gap is old enough to report, TIMER_NEVER: there is none. */
uint64_t recv_gap_at(struct recv *r);

/* Keeps a datagram for a view to come. False: too far ahead to be believed. */
bool recv_hold(struct recv *r, uint64_t epoch, enum net_class net, const uint8_t *data,
               size_t bytes);
/* The next held datagram for a view up to epoch, taken off the list; the caller frees it. */
struct held_packet *recv_unhold(struct recv *r, uint64_t epoch);

/* View change. Freezes the channel at what it has: above it nothing is taken until recv_thaw. */
void recv_freeze(struct channel_in *ch);
/* Everything up to seq belongs to the view: may be taken and delivered. */
void recv_cut(struct channel_in *ch, uint64_t seq);
void recv_thaw(struct recv *r);
/* Takes the next piece of a dead sender's message that was fetched from another region, and
 * delivers the message when that was its last. False: not the piece that comes next. */
bool recv_proxy(struct channel_in *ch, uint32_t slot, const struct wire_proxy *p);

/* Nothing missing, kept or half put together. */
bool recv_idle(const struct recv *r);

#endif
