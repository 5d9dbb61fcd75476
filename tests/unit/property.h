/* property: random numbers for property loops. A loop prints its seed; QSM_SEED=N runs it again. */
#ifndef QSM_PROPERTY_H
#define QSM_PROPERTY_H

#include <check.h>
#include <stdint.h>

/* The seed of a loop, printed with its name. */
uint64_t property_seed(const char *name);

/* The next random number; state starts as the seed. */
uint64_t property_next(uint64_t *state);

/* A random number below n (n > 0). */
uint64_t property_below(uint64_t *state, uint64_t n);

/* A ck_assert for the inside of loops: check notes each of its own in a file, whether it holds or
 * not. */
#define PROPERTY(condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            ck_abort_msg("%s", #condition);                                                        \
    } while (0)

#endif
