/* frame: how messages are cut on a stream, on the Unix socket of qsmd and on the link to the CMS:
 * u32 length | u8 version | u8 kind | u16 header length | header | payloads, little endian. The
 * length excludes itself. A control frame has header length 0: all of its body is one protobuf-c
 * message. A data frame has a protobuf-c header and then raw payloads, back to back or as far apart
 * as the header says. */
#ifndef QSM_FRAME_H
#define QSM_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEAD_BYTES 8
#define FRAME_VERSION 1
#define FRAME_CONTROL_MAX (4u << 20)  /* body of a control frame */
#define FRAME_BODY_MAX ((16u << 20) + 65536u) /* body of any frame: one message and its header */
#define FRAME_MESSAGES_MAX 64u                /* of a data frame on the Unix socket */

struct frame {
    uint8_t kind;
    uint16_t header_bytes;
    const uint8_t *header;  /* header_bytes of it; a control frame: NULL */
    const uint8_t *payload; /* what follows the header; a control frame: its whole body */
    size_t payload_bytes;
};

/* Looks for a frame at the start of what has arrived. Returns its whole size in bytes and fills
 * *ret, 0 when more bytes are needed, or -EPROTO (length below the head's rest or above the maximum,
 * header longer than the body), -EPROTONOSUPPORT (another version). */
long frame_parse(const uint8_t *bytes, size_t count, struct frame *ret);

/* Bytes that must have arrived before frame_parse can say more: at least count + 1. */
size_t frame_wants(const uint8_t *bytes, size_t count);

/* Writes the eight bytes in front of a body of header_bytes + payload_bytes. */
void frame_write_head(uint8_t out[FRAME_HEAD_BYTES], uint8_t kind, size_t header_bytes,
                      size_t payload_bytes);

/* A control message that holds one message of two numbers, `id` in field 1 and `value` in field 2:
 * a Grant or a Completion. Each group has its own, so that they are as many as the messages when
 * there are many groups, and by the tables of protobuf-c they cost more than those. The bytes are
 * the same. */
struct frame_pair {
    uint8_t field; /* of the message inside, below 16 */
    uint32_t id;
    uint64_t value;
};
#define FRAME_PAIR_BYTES 19 /* at most */

/* Returns how many bytes it wrote. */
size_t frame_write_pair(uint8_t out[FRAME_PAIR_BYTES], const struct frame_pair *pair);
/* False: it is another message, or this one written in another way than above. */
bool frame_read_pair(const uint8_t *bytes, size_t count, struct frame_pair *ret);

/* Lists in the header of a data frame of count messages have an entry for each, or one for all. */
static inline bool frame_list_fits(size_t entries, uint32_t count)
{
    return entries == count || (entries == 1 && count > 0);
}

/* Where the entry of the i-th message is. */
static inline size_t frame_list_at(size_t entries, size_t i)
{
    return entries == 1 ? 0 : i;
}

#endif
