/* flight: how many bytes a sender may have unacknowledged, as the ACKs teach it. It begins small,
 * doubles with each round that answers in time, and is halved by one that does not: what receivers
 * can't take at once waits at the sender, and not in front of the tokens and pings that they have
 * to answer. A window full of data at once for two hundred receivers on busy processors kept them
 * from the CMS for so long that they were expelled. A pause of one receiver is one late answer and
 * costs nothing that the next rounds do not give back. */
#ifndef QSM_FLIGHT_H
#define QSM_FLIGHT_H

#include <stdint.h>

#define FLIGHT_FIRST_BYTES (128u << 10) /* the least, too */
#define FLIGHT_LATE_US 400000 /* from a packet to its ACK: more than a round and its repairs */

struct flight {
    uint64_t window;          /* bytes */
    uint64_t probe, probe_us; /* the packet whose ACK is awaited, and when it left; 0: none */
    uint64_t acked_bytes;     /* since the probe left */
};

void flight_init(struct flight *f);

/* Packet seq leaves. */
void flight_sent(struct flight *f, uint64_t seq, uint64_t now_us);

/* Everything up to seq is acknowledged, of it so many bytes now. max: the window's other limits,
 * above which it does not grow. */
void flight_acked(struct flight *f, uint64_t seq, uint64_t bytes, uint64_t max, uint64_t now_us);

#endif
