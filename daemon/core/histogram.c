/* histogram: see histogram.h. */
#include "histogram.h"
#include <assert.h>

#define PARTS_BITS 2u /* of a power of two */
#define PARTS (1u << PARTS_BITS)

static uint32_t bucket_of(uint64_t value)
{
    if (value < PARTS) {
        return (uint32_t)value;
    }
    uint32_t power = 63 - (uint32_t)__builtin_clzll(value);
    uint32_t part = (uint32_t)(value >> (power - PARTS_BITS)) % PARTS;
    uint32_t bucket = (power - PARTS_BITS + 1) * PARTS + part;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

void histogram_note(struct histogram *h, uint64_t value_us)
{
    h->count++;
    h->sum += value_us;
    h->max = value_us > h->max ? value_us : h->max;
    h->buckets[bucket_of(value_us)]++;
}

uint64_t histogram_up_to(uint32_t bucket)
{
    assert(bucket < HISTOGRAM_BUCKETS);
    if (bucket < PARTS) {
        return bucket;
    }
    uint32_t shift = bucket / PARTS - 1;
    return ((uint64_t)(PARTS + bucket % PARTS + 1) << shift) - 1;
}

uint64_t histogram_percentile(const struct histogram *h, unsigned percent)
{
    uint64_t below = 0;
    assert(percent >= 1 && percent <= 100);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += h->buckets[i];
        if (below == h->count) { /* the last one that is not empty */
            return h->max;
        }
        if (below * 100 >= h->count * percent) {
            return histogram_up_to(i);
        }
    }
    return h->max;
}
