/* range: see range.h. A sorted array with binary search: sets of missing or received packets have
 * few ranges, and most additions touch the last one. */
#include "range.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

void ranges_init(struct ranges *r)
{
    *r = (struct ranges){0};
}

void ranges_done(struct ranges *r)
{
    free(r->list);
    ranges_init(r);
}

/* Index of the first range that ends at number or above. */
static size_t first_reaching(const struct ranges *r, uint64_t number)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (r->list[middle].to < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert_at(struct ranges *r, size_t i, struct range range)
{
    if (r->count == r->room) {
        size_t room = r->room > 0 ? r->room * 2 : 8;

        r->list = reallocarray(r->list, room, sizeof r->list[0]);
        assert(r->list != NULL);
        r->room = room;
    }
    memmove(&r->list[i + 1], &r->list[i], (r->count - i) * sizeof r->list[0]);
    r->list[i] = range;
    r->count++;
}

/* Takes out the ranges i..j-1. */
static void delete_between(struct ranges *r, size_t i, size_t j)
{
    if (i == j)
        return;
    memmove(&r->list[i], &r->list[j], (r->count - j) * sizeof r->list[0]);
    r->count -= j - i;
}

void ranges_add(struct ranges *r, uint64_t from, uint64_t to)
{
    size_t i, j;

    assert(from <= to);
    /* Those that overlap from..to or touch it become one: i..j-1. */
    i = first_reaching(r, from > 0 ? from - 1 : 0);
    for (j = i; j < r->count && (to == UINT64_MAX || r->list[j].from <= to + 1); j++)
        ;
    if (i == j) {
        insert_at(r, i, (struct range){from, to});
        return;
    }
    if (from < r->list[i].from)
        r->list[i].from = from;
    r->list[i].to = to > r->list[j - 1].to ? to : r->list[j - 1].to;
    delete_between(r, i + 1, j);
}

void ranges_remove(struct ranges *r, uint64_t from, uint64_t to)
{
    size_t i, j;

    assert(from <= to);
    i = first_reaching(r, from);
    if (i < r->count && r->list[i].from < from) {
        struct range head = {r->list[i].from, from - 1};

        if (r->list[i].to > to) {
            r->list[i].from = to + 1;
            insert_at(r, i, head);
            return;
        }
        r->list[i++] = head;
    }
    for (j = i; j < r->count && r->list[j].to <= to; j++)
        ;
    if (j < r->count && r->list[j].from <= to)
        r->list[j].from = to + 1;
    delete_between(r, i, j);
}

bool ranges_contain(const struct ranges *r, uint64_t number)
{
    size_t i = first_reaching(r, number);

    return i < r->count && r->list[i].from <= number;
}

void ranges_gaps(const struct ranges *r, uint64_t from, uint64_t to,
                 bool (*gap)(void *ctx, uint64_t from, uint64_t to), void *ctx)
{
    if (from > to)
        return;
    for (size_t i = first_reaching(r, from); i < r->count && r->list[i].from <= to; i++) {
        if (r->list[i].from > from && !gap(ctx, from, r->list[i].from - 1))
            return;
        if (r->list[i].to >= to)
            return;
        from = r->list[i].to + 1;
    }
    gap(ctx, from, to);
}

uint32_t ranges_common(const struct range *a, size_t a_count, uint64_t prefix,
                       const struct range *b, size_t b_count, struct range *ret, uint32_t max)
{
    struct range other = {0, prefix};
    uint32_t n = 0;
    size_t i = 0, j = 0;

    while (i < a_count && n < max) {
        uint64_t from = a[i].from > other.from ? a[i].from : other.from;
        uint64_t to = a[i].to < other.to ? a[i].to : other.to;

        if (from <= to)
            ret[n++] = (struct range){from, to};
        if (a[i].to <= other.to)
            i++;
        else if (j < b_count)
            other = b[j++];
        else
            break;
    }
    return n;
}
