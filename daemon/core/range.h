/* range: a set of packet numbers, kept as sorted disjoint ranges that do not touch. */
#ifndef QSM_RANGE_H
#define QSM_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    uint64_t from, to; /* both included */
};

struct ranges {
    struct range *list; /* owned; sorted, disjoint, not touching */
    size_t count, room;
};

void ranges_init(struct ranges *r);
void ranges_done(struct ranges *r);

/* Adds from..to (from <= to), merging with what is there. */
void ranges_add(struct ranges *r, uint64_t from, uint64_t to);

/* Takes from..to out; numbers that are not in the set do not matter. */
void ranges_remove(struct ranges *r, uint64_t from, uint64_t to);

bool ranges_contain(const struct ranges *r, uint64_t number);

/* Calls back for each maximal gap within from..to, lowest first, until the callback says false. */
void ranges_gaps(const struct ranges *r, uint64_t from, uint64_t to,
                 bool (*gap)(void *ctx, uint64_t from, uint64_t to), void *ctx);

/* The numbers that are in list a, and also in 0..prefix or in list b, which begins above prefix;
 * both sorted and disjoint. Their lowest ranges go into ret, at most max; returns how many. */
uint32_t ranges_common(const struct range *a, size_t a_count, uint64_t prefix,
                       const struct range *b, size_t b_count, struct range *ret, uint32_t max);

#endif
