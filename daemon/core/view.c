/* view: see view.h. */
#include "view.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint32_t *copy_ids(const uint32_t *ids, uint32_t count)
{
    uint32_t *copy = calloc(count > 0 ? count : 1, sizeof copy[0]);

    assert(copy != NULL);
    if (count > 0)
        memcpy(copy, ids, count * sizeof copy[0]);
    return copy;
}

struct view *view_new(uint32_t rid, uint64_t epoch, const uint32_t *members, uint32_t member_count,
                      const uint32_t *groups, uint32_t group_count)
{
    struct view *v = calloc(1, sizeof *v);

    assert(v != NULL);
    assert(member_count <= VIEW_MEMBERS_MAX);
    for (uint32_t i = 1; i < member_count; i++)
        assert(members[i - 1] < members[i]);
    v->refs = 1;
    v->rid = rid;
    v->epoch = epoch;
    v->member_count = member_count;
    v->group_count = group_count;
    v->members = copy_ids(members, member_count);
    v->groups = copy_ids(groups, group_count);
    return v;
}

struct view *view_ref(struct view *v)
{
    assert(v->refs > 0);
    assert(v->refs < UINT32_MAX);
    v->refs++;
    return v;
}

void view_unref(struct view *v)
{
    if (v == NULL)
        return;
    assert(v->refs > 0);
    if (--v->refs > 0)
        return;
    free(v->members);
    free(v->groups);
    free(v);
}

uint32_t view_rank(const struct view *v, uint32_t node_id)
{
    uint32_t low = 0, high = v->member_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (v->members[middle] < node_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->member_count && v->members[low] == node_id ? low : VIEW_NO_RANK;
}

/* How many rings of at most ring_size it takes for so many. */
static uint32_t rings_for(const struct view *v, uint32_t places)
{
    assert(v->ring_size > 1);
    if (places <= v->ring_size)
        return places > 0;
    return places / v->ring_size + (places % v->ring_size > 0);
}

uint32_t view_partitions(const struct view *v)
{
    return rings_for(v, v->member_count);
}

/* First rank of a partition. Sizes differ by one at most, since n members are cut at multiples of
 * n / partitions. */
static uint32_t first_rank(const struct view *v, uint32_t partition)
{
    return (uint32_t)((uint64_t)partition * v->member_count / view_partitions(v));
}

uint32_t view_partition(const struct view *v, uint32_t rank)
{
    assert(rank < v->member_count);
    /* The largest p with first_rank(p) <= rank, which is p * n < (rank + 1) * partitions. */
    return (uint32_t)(((uint64_t)(rank + 1) * view_partitions(v) - 1) / v->member_count);
}

uint32_t view_partition_first(const struct view *v, uint32_t partition, uint32_t *ret_count)
{
    uint32_t first = first_rank(v, partition);

    assert(partition < view_partitions(v));
    *ret_count = first_rank(v, partition + 1) - first;
    return first;
}

/* Places of a level: members on level 0, above it the rings of the level below. */
static uint32_t places(const struct view *v, uint32_t level)
{
    uint32_t count = v->member_count;

    for (uint32_t l = 0; l < level; l++)
        count = rings_for(v, count);
    return count;
}

/* First place of ring number `ring` on a level; places are shared out like members. */
static uint32_t first_place(const struct view *v, uint32_t level, uint32_t ring)
{
    uint32_t count = places(v, level);

    return (uint32_t)((uint64_t)ring * count / rings_for(v, count));
}

uint32_t view_levels(const struct view *v)
{
    uint32_t levels = 1;

    for (uint32_t rings = view_partitions(v); rings > 1; rings = rings_for(v, rings))
        levels++;
    assert(levels <= VIEW_LEVELS_MAX);
    return levels;
}

uint32_t view_ring_rank(const struct view *v, uint32_t level, uint32_t place)
{
    while (level > 0)
        place = first_place(v, --level, place);
    return place;
}

bool view_ring(const struct view *v, uint32_t level, uint32_t rank, struct view_ring *ret)
{
    uint32_t place = rank, count = v->member_count;

    assert(rank < v->member_count);
    for (uint32_t l = 0;; l++) {
        uint32_t rings = rings_for(v, count);
        /* The largest r with first_place(r) <= place, as in view_partition. */
        uint32_t ring = (uint32_t)(((uint64_t)(place + 1) * rings - 1) / count);

        ret->level = l;
        ret->first = first_place(v, l, ring);
        ret->count = first_place(v, l, ring + 1) - ret->first;
        ret->index = place - ret->first;
        if (l == level)
            return true;
        if (ret->index != 0 || rings == 1)
            return false; /* only leaders are on the next level, and above one ring is nothing */
        place = ring;
        count = rings;
    }
}

/* Who may cache one packet, the members of its partition without the sender, and who of them does:
 * `count` in a row, wrapping (start_of). The runs of consecutive packets of a partition
 * follow each other, so that the load is even. */
struct choice {
    uint32_t first, end; /* ranks of the partition */
    uint32_t sender;     /* rank, or VIEW_NO_RANK when it is not in the partition */
    uint32_t candidates;
    uint32_t count;
};

static struct choice choose(const struct view *v, uint32_t sender_rank, uint64_t seq)
{
    uint32_t partitions = view_partitions(v);
    struct choice c = {.sender = VIEW_NO_RANK};
    uint32_t members;

    if (partitions == 0)
        return c;
    members = v->member_count;
    if (partitions > 1)
        c.first = view_partition_first(v, (uint32_t)(seq % partitions), &members);
    c.end = c.first + members;
    c.candidates = members;
    if (sender_rank >= c.first && sender_rank < c.end) {
        c.sender = sender_rank;
        c.candidates--;
    }
    if (c.candidates == 0)
        return c;
    c.count = v->replicas < c.candidates ? v->replicas : c.candidates;
    return c;
}

/* Where the run of cachers of one packet starts. */
static uint32_t start_of(const struct view *v, const struct choice *c, uint64_t seq)
{
    return (uint32_t)(seq / view_partitions(v) % c->candidates * c->count % c->candidates);
}

bool view_caches(const struct view *v, uint32_t rank, uint32_t sender_rank, uint64_t seq)
{
    struct choice c = choose(v, sender_rank, seq);
    uint32_t index;

    if (rank < c.first || rank >= c.end || rank == c.sender || c.candidates == 0)
        return false;
    if (c.count == c.candidates)
        return true;
    index = rank - c.first - (c.sender < rank);
    return (index + c.candidates - start_of(v, &c, seq)) % c.candidates < c.count;
}

uint32_t view_cachers(const struct view *v, uint32_t sender_rank, uint64_t seq, uint32_t *ret_ranks,
                      uint32_t max)
{
    struct choice c = choose(v, sender_rank, seq);
    uint32_t count = c.count < max ? c.count : max;
    uint32_t start = count > 0 ? start_of(v, &c, seq) : 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t rank = c.first + (start + i) % c.candidates;

        ret_ranks[i] = rank + (rank >= c.sender);
    }
    return count;
}
