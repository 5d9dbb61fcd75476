/* roundtrip: what must hold for every format on the wire. Whatever the reader takes, the writer
 * gives back byte for byte; and no input, however damaged, makes the reader leave its buffer (each
 * input lies in a block of exactly its size, for the sanitizers). */
#ifndef QSM_ROUNDTRIP_H
#define QSM_ROUNDTRIP_H

#include <stddef.h>
#include <stdint.h>

#define ROUNDTRIP_BYTES 16384

struct roundtrip {
    const char *name;
    /* Writes a random well-formed example; returns its bytes. */
    size_t (*example)(uint64_t *random, uint8_t *out, size_t room);
    /* Reads bytes and writes what was read; returns its bytes, 0 when they are malformed. */
    size_t (*again)(const uint8_t *bytes, size_t n, uint8_t *out, size_t room);
};

/* Random examples are taken and come back the same. */
void roundtrip_examples(const struct roundtrip *f);

/* No proper prefix of an example is taken, nor an example with a byte more. */
void roundtrip_truncated(const struct roundtrip *f);

/* An example with any one byte changed is refused or comes back the same. */
void roundtrip_flipped(const struct roundtrip *f);

/* Random bytes are refused or come back the same. */
void roundtrip_noise(const struct roundtrip *f);

#endif
