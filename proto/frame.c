/* frame: see frame.h. Both ends of both streams parse with this code, so a check here is a check
 * everywhere: nothing behind a frame_parse that succeeded needs to doubt the lengths again. */
#include "frame.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LENGTH_BYTES 4 /* the length field, which does not count itself */
#define REST_BYTES (FRAME_HEAD_BYTES - LENGTH_BYTES) /* the rest of the head, which it counts */

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Checks a head of which all bytes are there. Returns 0 or a negative errno. */
static int check_head(const uint8_t *head, size_t *ret_size)
{
    uint32_t length = get_u32(head);
    if (head[4] != FRAME_VERSION)
        return -EPROTONOSUPPORT;
    if (length < REST_BYTES)
        return -EPROTO;
    uint32_t body = length - REST_BYTES;
    uint16_t header_bytes = get_u16(head + 6);
    if (body > FRAME_BODY_MAX || header_bytes > body)
        return -EPROTO;
    if (header_bytes == 0 && body > FRAME_CONTROL_MAX)
        return -EPROTO;
    *ret_size = (size_t)length + LENGTH_BYTES;
    return 0;
}

long frame_parse(const uint8_t *bytes, size_t count, struct frame *ret)
{
    if (count < FRAME_HEAD_BYTES)
        return 0;
    size_t size;
    int error = check_head(bytes, &size);
    if (error)
        return error;
    if (count < size)
        return 0;
    ret->kind = bytes[5];
    ret->header_bytes = get_u16(bytes + 6);
    ret->header = ret->header_bytes > 0 ? bytes + FRAME_HEAD_BYTES : NULL;
    ret->payload = bytes + FRAME_HEAD_BYTES + ret->header_bytes;
    ret->payload_bytes = size - FRAME_HEAD_BYTES - ret->header_bytes;
    return (long)size;
}

size_t frame_wants(const uint8_t *bytes, size_t count)
{
    if (count < FRAME_HEAD_BYTES)
        return FRAME_HEAD_BYTES;
    size_t size;
    if (check_head(bytes, &size) || size <= count)
        return count + 1;
    return size;
}

void frame_write_head(uint8_t out[FRAME_HEAD_BYTES], uint8_t kind, size_t header_bytes,
                      size_t payload_bytes)
{
    assert(header_bytes <= UINT16_MAX);
    assert(payload_bytes <= FRAME_BODY_MAX);
    assert(header_bytes + payload_bytes <= FRAME_BODY_MAX);
    uint32_t length = (uint32_t)(REST_BYTES + header_bytes + payload_bytes);
    for (int i = 0; i < LENGTH_BYTES; i++)
        out[i] = (uint8_t)(length >> (8 * i));
    out[4] = FRAME_VERSION;
    out[5] = kind;
    out[6] = (uint8_t)header_bytes;
    out[7] = (uint8_t)(header_bytes >> 8);
}

/* ---- pairs */

enum { TAG_ID = 1 << 3, TAG_VALUE = 2 << 3, TYPE_MESSAGE = 2, VARINT_BYTES = 10 };

/* Fields that are 0 are not written. */
static uint8_t *put_number(uint8_t *at, uint8_t tag, uint64_t number)
{
    if (number == 0)
        return at;
    *at++ = tag;
    for (; number >= 0x80; number >>= 7)
        *at++ = (uint8_t)(number | 0x80);
    *at++ = (uint8_t)number;
    return at;
}

/* Returns what is behind the field, or NULL: malformed. */
static const uint8_t *get_number(const uint8_t *at, const uint8_t *end, uint8_t tag,
                                 uint64_t *ret_number)
{
    *ret_number = 0;
    if (at == end || *at != tag)
        return at;
    at++;
    for (unsigned i = 0; i < VARINT_BYTES && at < end; i++) {
        uint8_t byte = *at++;
        *ret_number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return i < VARINT_BYTES - 1 || byte <= 1 ? at : NULL;
    }
    return NULL;
}

size_t frame_write_pair(uint8_t out[FRAME_PAIR_BYTES], const struct frame_pair *pair)
{
    uint8_t *at = out + 2;

    assert(pair->field < 16);
    at = put_number(at, TAG_ID, pair->id);
    at = put_number(at, TAG_VALUE, pair->value);
    out[0] = (uint8_t)(pair->field << 3 | TYPE_MESSAGE);
    out[1] = (uint8_t)(at - out - 2);
    return (size_t)(at - out);
}

bool frame_read_pair(const uint8_t *bytes, size_t count, struct frame_pair *ret)
{
    const uint8_t *at = bytes + 2, *end = bytes + count;
    uint64_t id;

    if (count < 2 || count > FRAME_PAIR_BYTES || bytes[1] != count - 2 || bytes[0] >= 0x80 ||
        (bytes[0] & 7) != TYPE_MESSAGE)
        return false;
    at = get_number(at, end, TAG_ID, &id);
    if (!at || id > UINT32_MAX)
        return false;
    at = get_number(at, end, TAG_VALUE, &ret->value);
    ret->field = bytes[0] >> 3;
    ret->id = (uint32_t)id;
    return at == end;
}
