/* parts: a message of the CMS to a node that is larger than one frame should be. Its bytes go as
 * frames of kind PARTS_KIND and a last one of the message's own kind, with nothing in between, so
 * that it is whole or not there: the stream ends in the middle of it, or it does not. */
#ifndef QSM_PARTS_H
#define QSM_PARTS_H

#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define PARTS_KIND 3
#define PARTS_PIECE_BYTES (256u << 10) /* of the message in one frame */
#define PARTS_MESSAGE_MAX (64u << 20)  /* bytes of a message; proto/cms.proto says what fits */

/* Bytes of all frames of a message of so many bytes. */
size_t parts_bytes(size_t message_bytes);

/* Cuts the message, which lies at the end of the parts_bytes bytes at out, into its frames. */
void parts_cut(uint8_t *out, uint8_t kind, size_t message_bytes);

/* A message that is being gathered. All zero: none has begun. */
struct parts {
    uint8_t *bytes; /* owned */
    size_t count, room;
};

/* Takes a frame of either kind. 1: a message is whole, *ret has its bytes until the frame goes or
 * the next call; 0: more is to come; -EPROTO: an empty piece, a frame that is no control frame;
 * -EMSGSIZE: more than PARTS_MESSAGE_MAX. */
int parts_take(struct parts *p, const struct frame *f, const uint8_t **ret, size_t *ret_bytes);

/* Forgets what was gathered. */
void parts_reset(struct parts *p);

#endif
