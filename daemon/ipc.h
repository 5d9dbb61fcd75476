/* ipc: the Unix stream socket on which clients reach the daemon. It moves bytes between connections
 * and session.c, which knows what they mean; a client that does not read, or whose requests the
 * session does not take now, is not read from. One thread. */
#ifndef QSM_IPC_H
#define QSM_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct ipc;
struct session;

/* X(name, what it counts) */
#define IPC_COUNTERS(X)                                                                            \
    X(accepted, "connections of clients")                                                          \
    X(refused, "connections refused over a limit")                                                 \
    X(recv_calls, "system calls to read from clients")                                             \
    X(send_calls, "system calls to write to clients")                                              \
    X(bytes_in, "bytes from clients")                                                              \
    X(bytes_out, "bytes to clients")                                                               \
    X(stalls, "times the session took no more from a client")                                      \
    X(full, "times a client's socket was full")                                                    \
    X(malformed, "connections ended for an error in what they sent")

struct ipc_counters {
#define X(name, text) uint64_t name;
    IPC_COUNTERS(X)
#undef X
};

/* Listens at path, mode 0660. A socket left behind by a daemon that is gone is replaced;
 * -EADDRINUSE when one answers there. Negative errno otherwise, and error says what is wrong. base
 * and session are not owned. */
int ipc_open(struct ipc **ret, struct event_base *base, struct session *session, const char *path,
             char *error, size_t error_bytes);

/* Disconnects the clients and removes the socket. NULL is fine. */
void ipc_close(struct ipc *ipc, uint64_t now_us);

/* Takes new connections and what clients sent, in turn, until dry, until end_us or until *work, to
 * which the bytes taken are added, comes to so many. True: more is there. */
bool ipc_receive(struct ipc *ipc, uint64_t end_us, uint64_t bytes, uint64_t *work);

/* Writes what the session has for its clients, one call for each. True: more is there that the
 * sockets may take. */
bool ipc_flush(struct ipc *ipc, uint64_t now_us);

/* No new clients from now on. */
void ipc_refuse(struct ipc *ipc);

/* Whether a client's output waits for its socket. */
bool ipc_pending(const struct ipc *ipc);

const struct ipc_counters *ipc_counters(const struct ipc *ipc);

#endif
