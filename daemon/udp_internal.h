/* udp_internal: what udp.c (the sockets, their address, interface and memberships) and udp_io.c
 * (what goes through them) share. */
#ifndef QSM_UDP_INTERNAL_H
#define QSM_UDP_INTERNAL_H

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "udp.h"

#define UDP_HEADERS_BYTES 28 /* IP and UDP */
#define UDP_OUT_MAX 256      /* datagrams that wait for one socket */

/* Landing buffers: a train that the kernel hands over whole needs 64 KB; a datagram that comes
 * alone one in which a datagram longer than any of ours is seen as such. Of trains
 * few are taken at a time, so that what lands is still in the processor's cache when it is looked
 * at.
 */
#define UDP_TRAINS 32u
#define UDP_TRAINS_FULL 4u /* of them, while they are full */
#define UDP_TRAIN_BYTES 65536u
#define UDP_SINGLE_BYTES 9216u
#define UDP_TRAIN_KEPT 16384u /* a train of less is no reason to keep its 64 KB */
#define UDP_LANDING_BYTES ((size_t)UDP_BATCH * UDP_SINGLE_BYTES)

/* Where each socket belongs. */
struct udp_kind {
    enum net_class net;
    bool group;
    int rcvbuf; /* bytes asked for */
    bool gro;   /* the kernel may hand over trains of datagrams of one size */
};
extern const struct udp_kind udp_kinds[UDP_SOCKETS];

/* A datagram that waits for its socket. */
struct udp_slot {
    uint32_t address; /* host byte order */
    uint32_t head_bytes, body_bytes;
    const uint8_t *head; /* in the batch's heads, or in front of a body that is a part of it then */
    const uint8_t *body;
    struct buf *body_ref; /* ours; NULL: none */
};

/* What one sending socket still has to send: slots first .. count - 1. */
struct udp_batch {
    unsigned first, count;
    bool blocked;
    bool no_trains; /* the kernel can't cut them here */
    struct udp_slot slots[UDP_OUT_MAX];
    size_t heads_bytes;
    uint8_t heads[UDP_OUT_MAX * WIRE_CONTROL_MAX];
};

struct udp_control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int))];
};

struct udp {
    int fd[UDP_SOCKETS];
    int lock; /* an abstract name that says that the address is taken */
    char interface[IF_NAMESIZE];
    int ifindex;
    bool loopback;
    uint32_t address, listening;
    uint32_t mtu, mtu_at_start;
    bool fragments; /* the kernel may make some */
    uint64_t rcvbuf;
    struct udp_config config; /* its strings are gone */
    uint64_t fault_below, random;
    struct udp_counters counters;
    struct udp_batch out[NET_CLASSES];
    /* of one system call */
    struct mmsghdr headers[UDP_OUT_MAX];
    struct sockaddr_in to[UDP_OUT_MAX];
    struct udp_control control[UDP_OUT_MAX];
    unsigned trains[UDP_OUT_MAX]; /* datagrams of each header */
    struct iovec iov[2 * UDP_OUT_MAX];
    uint8_t *buffers;                /* UDP_LANDING_BYTES, for datagrams that come alone; owned */
    struct buf_pool *pool;           /* of landing buffers for trains; owned */
    struct buf *landing[UDP_TRAINS]; /* references; taken anew when somebody keeps one */
    bool full_trains;                /* the last call brought some */
};

/* Whether the kernel may cut datagrams that are larger than the MTU. */
void udp_allow_fragments(struct udp *u, bool allow);

/* Drops what waits. */
void udp_forget(struct udp_batch *b);

#endif
