/* histogram: how long something takes, as counts of values in buckets. A power of two is cut into
 * four buckets, so that a bucket's bound is at most a quarter above any value in it; values below 8
 * have a bucket each. No memory is allocated, and nothing is ever forgotten. */
#ifndef QSM_HISTOGRAM_H
#define QSM_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 104u /* up to 134 s; what takes longer is counted in the last one */

struct histogram {
    uint64_t count, sum, max; /* of all values noted, microseconds */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_note(struct histogram *h, uint64_t value_us);

/* The largest value that belongs into a bucket. */
uint64_t histogram_up_to(uint32_t bucket);

/* A bound that so many percent of the values (1 to 100) do not exceed, at most a quarter too high;
 * 0 when there are none. */
uint64_t histogram_percentile(const struct histogram *h, unsigned percent);

#endif
