/* send_channel: one channel out, as send.c uses it. */
#ifndef QSM_SEND_CHANNEL_H
#define QSM_SEND_CHANNEL_H

#include "send.h"

#define PACE_BURSTS 50    /* a second: what is saved up is worth 20 ms */
#define COLLECTORS_FROM 3 /* channels with unreleased data: below, each ACK comes by itself */
#define COLLECTORS_AGAIN_US 10000 /* which they are is looked at so often */
#define COLLECTOR_SILENT_US 20000 /* for so long without an ACK that was asked for */
#define DIRECT_FOR_US 2000000     /* by then a dead node is expelled */

struct channel_out *send_channel_new(struct send *s, struct view *v);
void send_channel_free(struct send *s, struct channel_out *ch);

/* Computes the limits of the channel anew: the senders that share the region have changed, or what
 * may be in flight. */
void send_channel_limit(struct channel_out *ch);
/* Bytes of records that a packet of the channel takes. */
uint32_t send_channel_room(const struct channel_out *ch);
/* Whether one more datagram may be built, by both limits of flow and the rate. */
bool send_channel_has_room(const struct channel_out *ch);

/* Puts one record of a message of the group into the packet that is open, or into a new one when it
 * does not fit. */
void send_channel_put(struct channel_out *ch, const struct place *place, struct group *g,
                      uint64_t number, struct record rec);
/* Ends the packet that is open, if there is one: it gets its number and waits to be transmitted. */
void send_channel_seal(struct channel_out *ch);

/* Names no collector of its ACKs for a while. */
void send_channel_hear_directly(struct channel_out *ch);
/* Asks the region's leader for a token: at most once per ACK, again after 10 ms, doubling. */
void send_channel_want_token(struct channel_out *ch);
/* Somebody waits for room: asks for a token, or waits for the rate. */
void send_channel_wait(struct channel_out *ch);
/* Takes what an ACK says that all members have above a gap out of the bytes in flight: the window
 * opens before the gap is mended. It stays unreleased, and nothing is stable by it. */
void send_channel_ahead(struct channel_out *ch, const struct wire_ack *a);
/* Follows the rate that was told, and rate_max. */
void send_channel_pace(struct channel_out *ch);
void send_channel_arm_beacon(struct channel_out *ch, uint64_t after_us);

#endif
