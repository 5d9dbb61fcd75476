/* roundtrip: see roundtrip.h. */
#include "roundtrip.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "property.h"

static uint8_t original[ROUNDTRIP_BYTES], copy[ROUNDTRIP_BYTES];

/* Gives the first n bytes of original to the reader; returns whether it took them. */
static bool taken(const struct roundtrip *f, size_t n)
{
    uint8_t *exact = malloc(n > 0 ? n : 1);
    size_t back;

    PROPERTY(exact != NULL);
    memcpy(exact, original, n);
    /* An empty block has no byte that may be read. */
    back = f->again(n > 0 ? exact : exact + 1, n, copy, sizeof copy);
    free(exact);
    if (back == 0)
        return false;
    PROPERTY(back == n);
    PROPERTY(memcmp(copy, original, n) == 0);
    return true;
}

void roundtrip_examples(const struct roundtrip *f)
{
    uint64_t random = property_seed(f->name);

    for (int i = 0; i < 300; i++)
        PROPERTY(taken(f, f->example(&random, original, sizeof original)));
}

void roundtrip_truncated(const struct roundtrip *f)
{
    uint64_t random = property_seed(f->name);

    for (int i = 0; i < 5; i++) {
        size_t n = f->example(&random, original, sizeof original - 1);
        size_t step = n > 1000 ? 1 + property_below(&random, 50) : 1; /* of long ones a sample */

        for (size_t left = 0; left < n; left += step)
            PROPERTY(!taken(f, left));
        original[n] = (uint8_t)property_next(&random);
        PROPERTY(!taken(f, n + 1));
    }
}

void roundtrip_flipped(const struct roundtrip *f)
{
    uint64_t random = property_seed(f->name);
    size_t n = f->example(&random, original, sizeof original);
    bool all = n <= 1000; /* of long examples one value of each byte */

    for (size_t at = 0; at < n; at++) {
        uint8_t was = original[at];

        for (unsigned i = 1; i < (all ? 256 : 2); i++) {
            unsigned change = all ? i : 1 + (unsigned)property_below(&random, 255);

            original[at] = (uint8_t)(was ^ change);
            taken(f, n);
        }
        original[at] = was;
    }
    PROPERTY(taken(f, n));
}

void roundtrip_noise(const struct roundtrip *f)
{
    uint64_t random = property_seed(f->name);

    for (int i = 0; i < 2000; i++) {
        size_t n = property_below(&random, 200);
        uint64_t mask = i % 2 == 0 ? 0xff : 0x03; /* small numbers pass more checks */

        for (size_t at = 0; at < n; at++)
            original[at] = (uint8_t)(property_next(&random) & mask);
        taken(f, n);
    }
}
