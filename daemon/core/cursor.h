/* cursor: reads and writes the fields of a datagram: little endian, fixed widths, a checked bound
 * each. A reader that runs over its end, or a writer that runs out of room, turns bad and stays so;
 * reads then give 0. Inline, since every datagram goes through them. */
#ifndef QSM_CURSOR_H
#define QSM_CURSOR_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

struct writer {
    uint8_t *at, *end;
    bool bad;
};

/* ---- reading */

static inline size_t reader_left(const struct reader *r)
{
    return r->bad ? 0 : (size_t)(r->end - r->at);
}

/* The next n bytes where they are; NULL when bad. */
static inline const uint8_t *read_bytes(struct reader *r, size_t n)
{
    const uint8_t *at = r->at;

    if (n > reader_left(r) || r->bad) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    return at;
}

/* Copies the next n bytes to out; zeros when they are not there. */
static inline void read_into(struct reader *r, void *out, size_t n)
{
    const uint8_t *at = read_bytes(r, n);

    if (at != NULL)
        memcpy(out, at, n);
    else
        memset(out, 0, n);
}

static inline uint8_t read_u8(struct reader *r)
{
    uint8_t v;

    read_into(r, &v, sizeof v);
    return v;
}

static inline uint16_t read_u16(struct reader *r)
{
    uint16_t v;

    read_into(r, &v, sizeof v);
    return le16toh(v);
}

static inline uint32_t read_u32(struct reader *r)
{
    uint32_t v;

    read_into(r, &v, sizeof v);
    return le32toh(v);
}

static inline uint64_t read_u64(struct reader *r)
{
    uint64_t v;

    read_into(r, &v, sizeof v);
    return le64toh(v);
}

/* ---- writing */

static inline size_t writer_left(const struct writer *w)
{
    return w->bad ? 0 : (size_t)(w->end - w->at);
}

static inline void write_bytes(struct writer *w, const void *p, size_t n)
{
    if (w->bad || n > writer_left(w)) {
        w->bad = true;
        return;
    }
    if (n > 0)
        memcpy(w->at, p, n);
    w->at += n;
}

static inline void write_u8(struct writer *w, uint8_t v)
{
    write_bytes(w, &v, sizeof v);
}

static inline void write_u16(struct writer *w, uint16_t v)
{
    uint16_t little = htole16(v);

    write_bytes(w, &little, sizeof little);
}

static inline void write_u32(struct writer *w, uint32_t v)
{
    uint32_t little = htole32(v);

    write_bytes(w, &little, sizeof little);
}

static inline void write_u64(struct writer *w, uint64_t v)
{
    uint64_t little = htole64(v);

    write_bytes(w, &little, sizeof little);
}

#endif
