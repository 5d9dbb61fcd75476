/* udp: the six datagram sockets of one node: a unicast and a multicast one for control and for
 * repair, a multicast one for data, in order of rank. The core fills and reads the datagrams; here
 * they only come and go. IPv4 addresses are in host byte order. One thread. */
#ifndef QSM_UDP_H
#define QSM_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/node.h"

struct udp;

/* The sockets. Data has no unicast one to receive from: its second socket only sends. */
enum udp_socket {
    UDP_CONTROL,       /* unicast control; sends all control */
    UDP_CONTROL_GROUP, /* multicast control */
    UDP_REPAIR,        /* unicast repair; sends all repairs */
    UDP_REPAIR_GROUP,
    UDP_DATA,       /* sends data */
    UDP_DATA_GROUP, /* receives data */
    UDP_SOCKETS
};

struct udp_config {
    const char *interface; /* empty: the one that has address, or that of the default route, or of
                            * the route to 224.0.0.0/4 */
    uint32_t address;      /* 0: the first of the interface */
    uint16_t port;         /* control; repair is the next, data the one after */
    uint8_t ttl;
    double fault_drop; /* share of arriving datagrams to drop */
    uint64_t seed;     /* of fault_drop */
};

/* X(name, what it counts) */
#define UDP_COUNTERS(X)                                                                            \
    X(recv_calls, "system calls to receive datagrams")                                             \
    X(send_calls, "system calls to send datagrams")                                                \
    X(in_control, "control datagrams received")                                                    \
    X(in_repair, "repair datagrams received")                                                      \
    X(in_data, "data datagrams received")                                                          \
    X(out_control, "control datagrams sent")                                                       \
    X(out_repair, "repair datagrams sent")                                                         \
    X(out_data, "data datagrams sent")                                                             \
    X(out_trains, "messages to the kernel that held several datagrams")                            \
    X(drop_control, "control datagrams that the kernel dropped, since the buffer was full")        \
    X(drop_repair, "repair datagrams that the kernel dropped, since the buffer was full")          \
    X(drop_data, "data datagrams that the kernel dropped, since the buffer was full")              \
    X(drop_fault, "datagrams dropped by debug fault_drop")                                         \
    X(landing_allocated, "memory allocated for datagrams to land in, as none was spare")           \
    X(drop_long, "datagrams longer than any of ours")                                              \
    X(send_full, "times a socket could take no more")                                              \
    X(send_fragmented, "datagrams sent in fragments, since the MTU has fallen")                    \
    X(send_too_big, "datagrams not sent, since they are larger than the MTU")                      \
    X(send_errors, "datagrams not sent for another reason")                                        \
    X(recv_errors, "failed calls to receive")

struct udp_counters {
#define X(name, text) uint64_t name;
    UDP_COUNTERS(X)
#undef X
};

/* Opens and binds everything. Negative errno otherwise, and error says what failed. */
int udp_open(struct udp **ret, const struct udp_config *config, char *error, size_t error_bytes);
void udp_close(struct udp *u); /* NULL is fine */

uint32_t udp_address(const struct udp *u);
const char *udp_interface(const struct udp *u);
uint32_t udp_mtu(const struct udp *u); /* as last read */
/* Reads the MTU anew. Datagrams are cut to fit the MTU of the start; while it is less, larger ones
 * go out in fragments, which the log says. To be called now and then; a failed send does so, too.
 */
void udp_look_at_mtu(struct udp *u);

/* Frees memory for what lands that was not needed since the last call. */
void udp_trim(struct udp *u);
uint64_t udp_rcvbuf(const struct udp *u); /* bytes of payload that the data socket was granted */
int udp_descriptor(const struct udp *u, enum udp_socket socket);

/* Listens to a region's address (0: to none) instead of the one before, on all classes; the new one
 * is joined before the old one is left. Negative errno when the kernel refuses; the old one stays.
 */
int udp_listen(struct udp *u, uint32_t address);
uint32_t udp_listening(const struct udp *u); /* 0: to none */

/* One call for what is there, up to UDP_BATCH datagrams, or 32 trains of up to 64 KB where the
 * kernel hands over what came in one piece (4 while they are long); `each` gets those that are not
 * dropped here, and may use their bytes until it returns, or for as long as it has a reference to
 * landing (NULL: none), in which they lie. Returns how many arrived; *ret_more: the socket may have
 * more. */
#define UDP_BATCH 64
typedef void udp_each(void *ctx, enum net_class net, const uint8_t *data, size_t bytes,
                      struct buf *landing);
unsigned udp_receive(struct udp *u, enum udp_socket socket, udp_each *each, void *ctx,
                     bool *ret_more);

/* The lowest class that udp_put can take now, with all that rank above it; -1: not even control. */
int udp_room(const struct udp *u);

/* Takes a datagram, of a class that has room, with its reference; sends when a batch is full. True:
 * it did, and room may be another. */
bool udp_put(struct udp *u, struct datagram *d);

/* Sends what was put; what the sockets can't take stays for the next time. */
void udp_flush(struct udp *u);

/* Whether the sending socket of a class was full at the last flush. */
bool udp_blocked(const struct udp *u, enum net_class net);

/* The sending socket of a class. */
enum udp_socket udp_sender(enum net_class net);

/* Thousandths of the receive buffer for data that are in use, and what the kernel dropped there. */
uint32_t udp_backlog(struct udp *u, uint64_t *ret_drops);

/* Counters since the start; the kernel's drops are read anew. */
const struct udp_counters *udp_counters(struct udp *u);

#endif
