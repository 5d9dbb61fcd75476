/* region: nodes with exactly the same set of groups form a region (region.h). */
#include "region.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cms_mem.h"

void regions_init(struct regions *r)
{
    *r = (struct regions){.next_rid = 1};
}

void regions_done(struct regions *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        free(r->list[i].groups);
        free(r->list[i].members);
    }
    free(r->list);
    *r = (struct regions){.next_rid = r->next_rid};
}

const struct region *regions_find(const struct regions *r, uint32_t rid)
{
    uint32_t low = 0, high = r->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (r->list[middle].rid < rid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->count && r->list[low].rid == rid ? &r->list[low] : NULL;
}

bool region_has_group(const struct region *r, uint32_t gid)
{
    uint32_t low = 0, high = r->group_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (r->groups[middle] < gid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->group_count && r->groups[low] == gid;
}

bool region_same_members(const struct region *a, const struct region *b)
{
    return a->member_count == b->member_count &&
           memcmp(a->members, b->members, a->member_count * sizeof(uint32_t)) == 0;
}

uint64_t region_set_number(uint32_t gid)
{
    uint64_t x = gid + 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

uint32_t region_count_sets(const uint64_t *sets, uint32_t count)
{
    if (count == 0)
        return 0;
    uint64_t *sorted = mem_new(count, sizeof *sorted);
    memcpy(sorted, sets, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_u64);
    uint32_t different = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (sorted[i] != 0 && (i == 0 || sorted[i] != sorted[i - 1]))
            different++;
    }
    free(sorted);
    return different;
}

/* Nodes of a set in the assignment; the number of nodes is small enough to count by looking. */
static uint32_t set_users(const uint64_t *sets, uint32_t count, uint64_t set)
{
    uint32_t users = 0;
    for (uint32_t i = 0; i < count; i++)
        users += sets[i] == set;
    return users;
}

void region_fit(const uint64_t *have, const uint64_t *want, uint32_t count, uint32_t max,
                bool *ret_take)
{
    bool all = region_count_sets(want, count) <= max;
    for (uint32_t i = 0; i < count; i++)
        ret_take[i] = all || have[i] == want[i];
    if (all)
        return;
    uint64_t *sets = mem_new(count, sizeof *sets);
    memcpy(sets, have, count * sizeof *sets);
    uint32_t different = region_count_sets(sets, count);
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < count; i++) {
            if (ret_take[i])
                continue;
            bool leaves_last = sets[i] != 0 && set_users(sets, count, sets[i]) == 1;
            bool makes_new = want[i] != 0 && set_users(sets, count, want[i]) == 0;
            uint32_t after = different - leaves_last + makes_new;
            if (makes_new && after > max)
                continue;
            sets[i] = want[i];
            different = after;
            ret_take[i] = moved = true;
        }
    }
    free(sets);
}

/* ---- building */

/* A set of groups while regions are built: an open hash by the set's number. */
struct builder {
    struct region *list;
    uint64_t *numbers; /* of list's regions */
    uint32_t *table;   /* index into list + 1 */
    uint32_t table_mask, count;
};

static uint64_t set_number(const uint32_t *groups, uint32_t count)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < count; i++)
        number += region_set_number(groups[i]);
    return number;
}

static bool same_groups(const struct region *r, const uint32_t *groups, uint32_t count)
{
    return r->group_count == count && memcmp(r->groups, groups, count * sizeof *groups) == 0;
}

/* The region of this set, made when there is none. */
static struct region *builder_region(struct builder *b, const uint32_t *groups, uint32_t count)
{
    uint64_t number = set_number(groups, count);
    uint32_t at = (uint32_t)number & b->table_mask;
    for (; b->table[at] != 0; at = (at + 1) & b->table_mask) {
        uint32_t i = b->table[at] - 1;
        if (b->numbers[i] == number && same_groups(&b->list[i], groups, count))
            return &b->list[i];
    }
    struct region *r = &b->list[b->count];
    *r = (struct region){.group_count = count, .groups = mem_copy(groups, count, sizeof *groups)};
    b->numbers[b->count] = number;
    b->table[at] = ++b->count;
    return r;
}

static void region_add(struct region *r, const struct region_node *n)
{
    assert(r->member_count == 0 || r->members[r->member_count - 1] < n->id);
    r->members = mem_grow(r->members, r->member_count, sizeof *r->members);
    r->members[r->member_count++] = n->id;
    if (r->member_count == 1 || n->datagram_bytes < r->datagram_bytes)
        r->datagram_bytes = n->datagram_bytes;
    if (r->member_count == 1 || n->rcvbuf_bytes < r->rcvbuf_bytes)
        r->rcvbuf_bytes = n->rcvbuf_bytes;
}

static void builder_init(struct builder *b, const struct region_node *nodes, uint32_t count)
{
    uint32_t room = 16;
    while (room < 2 * count)
        room *= 2;
    b->table = mem_new(room, sizeof *b->table);
    b->table_mask = room - 1;
    b->list = mem_new(count + 1, sizeof *b->list);
    b->numbers = mem_new(count + 1, sizeof *b->numbers);
    b->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i].group_count > 0)
            region_add(builder_region(b, nodes[i].groups, nodes[i].group_count), &nodes[i]);
    }
}

/* Sets that were regions before keep rid and address. */
static void builder_keep(struct builder *b, const struct regions *old)
{
    for (uint32_t o = 0; o < old->count; o++) {
        const struct region *was = &old->list[o];
        uint64_t number = set_number(was->groups, was->group_count);
        uint32_t at = (uint32_t)number & b->table_mask;
        for (; b->table[at] != 0; at = (at + 1) & b->table_mask) {
            struct region *r = &b->list[b->table[at] - 1];
            if (same_groups(r, was->groups, was->group_count)) {
                r->rid = was->rid;
                r->address = was->address;
                break;
            }
        }
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* The lowest address of the range that is not in taken (sorted) from *at on; 0: none. */
static uint32_t next_free(const struct region_config *config, const uint32_t *taken, uint32_t count,
                          uint32_t *at)
{
    for (; *at <= config->regions_max; (*at)++) {
        uint32_t address = config->multicast + *at;
        if (bsearch(&address, taken, count, sizeof *taken, compare_u32) == NULL) {
            (*at)++;
            return address;
        }
    }
    return 0;
}

/* New regions get rids in the order in which they were found, and addresses: at first such that
 * were not in use before, so that stragglers of a region that is gone trouble nobody. */
static int builder_assign(struct builder *b, const struct regions *old,
                          const struct region_config *config, uint32_t *next_rid)
{
    uint32_t *taken = mem_new(old->count + b->count + 1, sizeof *taken);
    uint32_t taken_count = 0, at = 1;
    bool reuse = false;
    int result = 0;
    for (uint32_t i = 0; i < old->count; i++)
        taken[taken_count++] = old->list[i].address;
    qsort(taken, taken_count, sizeof *taken, compare_u32);
    for (uint32_t i = 0; i < b->count && result == 0; i++) {
        struct region *r = &b->list[i];
        if (r->rid != 0)
            continue;
        r->rid = (*next_rid)++;
        r->address = next_free(config, taken, taken_count, &at);
        if (r->address == 0 && !reuse) {
            reuse = true;
            taken_count = 0;
            for (uint32_t k = 0; k < b->count; k++) {
                if (b->list[k].address != 0)
                    taken[taken_count++] = b->list[k].address;
            }
            qsort(taken, taken_count, sizeof *taken, compare_u32);
            at = 1;
            r->address = next_free(config, taken, taken_count, &at);
        }
        if (r->address == 0)
            result = -ENOSPC;
    }
    free(taken);
    return result;
}

static int compare_rid(const void *a, const void *b)
{
    uint32_t x = ((const struct region *)a)->rid, y = ((const struct region *)b)->rid;
    return x < y ? -1 : x > y;
}

int regions_build(const struct regions *old, const struct region_node *nodes, uint32_t count,
                  const struct region_config *config, struct regions *ret)
{
    struct builder b;
    builder_init(&b, nodes, count);
    builder_keep(&b, old);
    uint32_t next_rid = old->next_rid;
    int result = builder_assign(&b, old, config, &next_rid);
    free(b.table);
    free(b.numbers);
    *ret = (struct regions){.list = b.list, .count = b.count, .next_rid = next_rid};
    if (result < 0) {
        regions_done(ret);
        ret->next_rid = old->next_rid;
        return result;
    }
    for (uint32_t i = 0; i < ret->count; i++) {
        ret->list[i].ring_size = config->ring_size;
        ret->list[i].cache_replicas = config->cache_replicas;
        ret->list[i].ack_ranges = config->ack_ranges;
    }
    qsort(ret->list, ret->count, sizeof *ret->list, compare_rid);
    return 0;
}
