/* link: the TCP connection of one node to a CMS server. It tries the servers in turn until one
 * takes the connection, moves bytes between the socket and the core, and connects anew when the
 * core or the network ends it. One thread. */
#ifndef QSM_LINK_H
#define QSM_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include "conf.h"
#include "core/node.h"

struct event_base;
struct link;

/* X(name, what it counts) */
#define LINK_COUNTERS(X)                                                                           \
    X(connects, "attempts to connect to a CMS server")                                             \
    X(connected, "connections that a CMS server took")                                             \
    X(bytes_in, "bytes from the CMS")                                                              \
    X(bytes_out, "bytes to the CMS")                                                               \
    X(malformed, "connections ended since the CMS sent what does not parse")

struct link_counters {
#define X(name, text) uint64_t name;
    LINK_COUNTERS(X)
#undef X
};

/* Nothing is connected before the first turn. base, node and servers are not owned. bind_address,
 * when it is not 0, is where the connection comes from. Aborts when memory is out. */
struct link *link_new(struct event_base *base, struct node *node,
                      const struct conf_servers *servers, uint32_t bind_address);
void link_free(struct link *l); /* NULL is fine; the node is not told */

/* The two halves of a turn: takes what arrived; connects, and sends what the core has. */
void link_receive(struct link *l, uint64_t now_us);
void link_send(struct link *l, uint64_t now_us);

/* When link_send must be called again though nothing arrives; UINT64_MAX: never. */
uint64_t link_deadline(const struct link *l);

/* The server that is connected, or tried now: "10.0.0.1:4813". Good until the next turn. */
const char *link_server(struct link *l);
bool link_connected(const struct link *l);

/* Whether bytes wait for the socket. */
bool link_pending(const struct link *l);

const struct link_counters *link_counters(const struct link *l);

#endif
