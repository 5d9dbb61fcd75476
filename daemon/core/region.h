/* region: from the groups of each node to regions (paper, section 3): nodes with exactly the same
 * set of groups form a region, which has a multicast address of its own. Pure: the same input gives
 * the same regions on every CMS. */
#ifndef QSM_REGION_H
#define QSM_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region {
    uint32_t rid;            /* stands for this exact set of groups while the region lives */
    uint64_t epoch;          /* of its present view; 0 as regions_build makes it */
    uint32_t address;        /* IPv4 multicast, host byte order */
    uint32_t datagram_bytes; /* least of the members' */
    uint64_t rcvbuf_bytes;   /* least of the members' */
    uint32_t ring_size;
    uint32_t cache_replicas;
    uint32_t ack_ranges;
    uint32_t group_count, member_count;
    uint32_t *groups;  /* gids ascending; owned */
    uint32_t *members; /* node ids ascending; owned */
};

struct regions {
    struct region *list; /* by rid, ascending; owned */
    uint32_t count;
    uint32_t next_rid; /* never given out before; starts at 1 */
};

/* What a node is to receive. */
struct region_node {
    uint32_t id;
    uint32_t datagram_bytes;
    uint64_t rcvbuf_bytes;
    uint32_t group_count;   /* 0: in no region */
    const uint32_t *groups; /* gids ascending; not owned */
};

struct region_config {
    uint32_t multicast; /* addresses are multicast + 1 .. multicast + regions_max */
    uint32_t regions_max;
    uint32_t ring_size, cache_replicas, ack_ranges;
};

void regions_init(struct regions *r);
void regions_done(struct regions *r);

/* The regions of these nodes, whose ids ascend. A set of groups that was a region in `old` keeps
 * rid and address; others get new rids and the lowest address that is neither in use nor was in
 * `old`, or, for want of one, the lowest that is not in use. -ENOSPC: there are too few addresses;
 * *ret is empty then. */
int regions_build(const struct regions *old, const struct region_node *nodes, uint32_t count,
                  const struct region_config *config, struct regions *ret);

/* A region by rid, or NULL. */
const struct region *regions_find(const struct regions *r, uint32_t rid);

bool region_has_group(const struct region *r, uint32_t gid);
bool region_same_members(const struct region *a, const struct region *b);

/* A number for a set of groups: the sum of these; the empty set is 0. Used to count sets, never to
 * tell that two regions are the same. */
uint64_t region_set_number(uint32_t gid);

/* How many different sets there are, without 0. */
uint32_t region_count_sets(const uint64_t *sets, uint32_t count);

/* Which nodes may go from the set that they have to the one they want when there are only max
 * addresses: all, when that fits, otherwise one after the other, as long as each step fits. A step
 * into a set that exists, or out of all sets, always does. */
void region_fit(const uint64_t *have, const uint64_t *want, uint32_t count, uint32_t max,
                bool *ret_take);

#endif
