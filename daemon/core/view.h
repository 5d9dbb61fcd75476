/* view: region views as a node knows them, and the pure questions about them: partitions, cachers,
 * successors on a ring. A region is its set of groups: the id `rid` stands for one exact set for
 * ever; a region view is the region's members from one epoch on. Both are immutable. */
#ifndef QSM_VIEW_H
#define QSM_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIEW_MEMBERS_MAX 1024
#define VIEW_NO_RANK UINT32_MAX
#define VIEW_LEVELS_MAX 10 /* rings of two over VIEW_MEMBERS_MAX members */

struct view {
    uint32_t refs;
    uint32_t rid;            /* region */
    uint64_t epoch;          /* epoch that installed this view of it */
    uint32_t address;        /* IPv4 multicast address, host byte order */
    uint32_t datagram_bytes; /* least of the members': largest UDP payload that all can take */
    uint64_t rcvbuf_bytes;   /* least receive buffer granted to a member */
    uint32_t ring_size;      /* largest partition */
    uint32_t replicas;       /* cachers of a packet */
    uint32_t ack_ranges;     /* above a gap, of which tokens and ACKs tell at most so many */
    uint32_t member_count;
    uint32_t group_count;
    uint32_t *members; /* node ids, ascending; owned */
    uint32_t *groups;  /* group ids by slot; owned */
};

/* A view with one reference that copies members and groups; the caller fills in the rest. Members
 * must ascend strictly. */
struct view *view_new(uint32_t rid, uint64_t epoch, const uint32_t *members, uint32_t member_count,
                      const uint32_t *groups, uint32_t group_count);
struct view *view_ref(struct view *v);
void view_unref(struct view *v); /* NULL is fine */

/* Rank of a node among the members, or VIEW_NO_RANK. */
uint32_t view_rank(const struct view *v, uint32_t node_id);

/* Number of partitions, each of at most ring_size members, of even size. */
uint32_t view_partitions(const struct view *v);

/* Partition of the member with this rank; partitions are runs of neighbouring ranks. */
uint32_t view_partition(const struct view *v, uint32_t rank);

/* First rank of a partition and, by ret_count, how many members it has. */
uint32_t view_partition_first(const struct view *v, uint32_t partition, uint32_t *ret_count);

/* One ring of a region view. On level 0 the members of a partition form a ring; its first leads.
 * The leaders of a level form the rings of the next, of at most ring_size again, up to a level of
 * one ring, whose leader is the region's first member. */
struct view_ring {
    uint32_t level;
    uint32_t first, count; /* its places are first .. first + count - 1 among those of the level */
    uint32_t index;        /* of the member that was asked for; 0: it leads the ring */
};

/* How many levels of rings there are, at least 1. */
uint32_t view_levels(const struct view *v);

/* The ring of a level that the member with this rank is on; false: it is on none there. */
bool view_ring(const struct view *v, uint32_t level, uint32_t rank, struct view_ring *ret);

/* Rank of the member in place `place` of a level. */
uint32_t view_ring_rank(const struct view *v, uint32_t level, uint32_t place);

/* Whether the member with this rank caches packet seq of the sender with rank sender_rank
 * (VIEW_NO_RANK: not a member). Packet s belongs to partition s mod P; there `replicas` members,
 * chosen by s so that the load is even. The sender never counts as a cacher of its own packets: it
 * keeps them all anyhow and is asked last. */
bool view_caches(const struct view *v, uint32_t rank, uint32_t sender_rank, uint64_t seq);

/* The ranks that cache packet seq, at most max of them; returns how many. */
uint32_t view_cachers(const struct view *v, uint32_t sender_rank, uint64_t seq, uint32_t *ret_ranks,
                      uint32_t max);

#endif
