/* sample: how long numbered things take, where it would cost too much to time each: one is out at a
 * time, and the next begins when it is over. Inline, since every message passes by. */
#ifndef QSM_SAMPLE_H
#define QSM_SAMPLE_H

#include <stddef.h>
#include "histogram.h"

struct sample {
    const void *of; /* what the number belongs to, only compared; NULL: none is out */
    uint64_t number, since_us;
};

/* The thing of that number begins: it is the sample when none is out. */
static inline void sample_begin(struct sample *s, const void *of, uint64_t number, uint64_t now_us)
{
    if (s->of == NULL) {
        *s = (struct sample){.of = of, .number = number, .since_us = now_us};
    }
}

/* Things up to that number are over: notes how long the sample took when it is one of them. */
static inline void sample_end(struct sample *s, const void *of, uint64_t number, uint64_t now_us,
                              struct histogram *h)
{
    if (s->of == of && number >= s->number) {
        histogram_note(h, now_us > s->since_us ? now_us - s->since_us : 0);
        s->of = NULL;
    }
}

/* Nothing will be known of how things of this end. */
static inline void sample_forget(struct sample *s, const void *of)
{
    s->of = s->of == of ? NULL : s->of;
}

#endif
