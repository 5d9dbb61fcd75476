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

/* Fields of which it is known that their bytes are there. */
static inline uint16_t get_u16(const uint8_t *at)
{
    uint16_t v;

    memcpy(&v, at, sizeof v);
    return le16toh(v);
}

static inline uint32_t get_u32(const uint8_t *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof v);
    return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof v);
    return le64toh(v);
}

static inline uint8_t read_u8(struct reader *r)
{
    const uint8_t *at = read_bytes(r, sizeof(uint8_t));

    return at != NULL ? *at : 0;
}

static inline uint16_t read_u16(struct reader *r)
{
    const uint8_t *at = read_bytes(r, sizeof(uint16_t));

    return at != NULL ? get_u16(at) : 0;
}

static inline uint32_t read_u32(struct reader *r)
{
    const uint8_t *at = read_bytes(r, sizeof(uint32_t));

    return at != NULL ? get_u32(at) : 0;
}

static inline uint64_t read_u64(struct reader *r)
{
    const uint8_t *at = read_bytes(r, sizeof(uint64_t));

    return at != NULL ? get_u64(at) : 0;
}

/* ---- writing */

static inline size_t writer_left(const struct writer *w)
{
    return w->bad ? 0 : (size_t)(w->end - w->at);
}

/* Room for the next n bytes; NULL when bad. */
static inline uint8_t *write_room(struct writer *w, size_t n)
{
    uint8_t *at = w->at;

    if (w->bad || n > writer_left(w)) {
        w->bad = true;
        return NULL;
    }
    w->at += n;
    return at;
}

static inline void write_bytes(struct writer *w, const void *p, size_t n)
{
    uint8_t *at = write_room(w, n);

    if (at != NULL && n > 0)
        memcpy(at, p, n);
}

/* Fields for which room was taken. */
static inline void put_u16(uint8_t *at, uint16_t v)
{
    v = htole16(v);
    memcpy(at, &v, sizeof v);
}

static inline void put_u32(uint8_t *at, uint32_t v)
{
    v = htole32(v);
    memcpy(at, &v, sizeof v);
}

static inline void put_u64(uint8_t *at, uint64_t v)
{
    v = htole64(v);
    memcpy(at, &v, sizeof v);
}

static inline void write_u8(struct writer *w, uint8_t v)
{
    write_bytes(w, &v, sizeof v);
}

static inline void write_u16(struct writer *w, uint16_t v)
{
    uint8_t *at = write_room(w, sizeof v);

    if (at != NULL)
        put_u16(at, v);
}

static inline void write_u32(struct writer *w, uint32_t v)
{
    uint8_t *at = write_room(w, sizeof v);

    if (at != NULL)
        put_u32(at, v);
}

static inline void write_u64(struct writer *w, uint64_t v)
{
    uint8_t *at = write_room(w, sizeof v);

    if (at != NULL)
        put_u64(at, v);
}

#endif
