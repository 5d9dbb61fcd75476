/* property: see property.h. The generator is splitmix64. */
#include "property.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

uint64_t property_seed(const char *name)
{
    const char *given = getenv("QSM_SEED");
    uint64_t seed = 0;

    if (given != NULL)
        seed = strtoull(given, NULL, 0);
    else if (getrandom(&seed, 4, 0) != 4)
        abort();
    printf("%s: QSM_SEED=%" PRIu64 "\n", name, seed);
    fflush(stdout);
    return seed;
}

uint64_t property_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t property_below(uint64_t *state, uint64_t n)
{
    return property_next(state) % n;
}
