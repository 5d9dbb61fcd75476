/* session: the clients of one daemon and what they want of its node: subscriptions, feeds, grants,
 * completions, held memberships, questions. It has no I/O: bytes of a connection come in and go out
 * as in proto/frame and proto/ipc.proto; ipc.c owns the sockets, the simulator can drive it too.
 * Not thread safe. Times are microseconds of the node's clock. */
#ifndef QSM_SESSION_H
#define QSM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "core/node.h"

struct session;
struct client;

struct session_config {
    uint64_t queue_bytes; /* cap on a client's output */
    uint32_t queue_messages;
    uint64_t queue_age_us; /* oldest message that may wait for a client that does not read */
    uint32_t clients_max;
    uint32_t connections_per_uid;
    uint32_t groups_per_client;
    uint32_t grant_bytes;     /* what one client may have granted or queued, half of it large */
    uint64_t grant_bytes_all; /* what all clients together may */
    const char *version;      /* not owned */
    const char *host;         /* name of this host, not owned; NULL: as the CMS knows it */
    bool trace;               /* the shell's trace upcall is on */
    /* Counters, histograms and facts of the shell for `status` and `stats`: calls emit for each. */
    void (*shell_counters)(void *ctx, void (*emit)(void *to, const char *name, uint64_t value),
                           void *to);
    void (*shell_histograms)(void *ctx,
                             void (*emit)(void *to, const char *name, const struct histogram *h),
                             void *to);
    void (*shell_facts)(void *ctx, void (*emit)(void *to, const char *name, const char *value),
                        void *to);
    void (*trace_line)(void *ctx, const char *line); /* the session's and the core's; NULL: none */
    void *ctx;                                       /* not owned */
};

struct session *session_new(const struct session_config *config);
void session_free(struct session *s); /* NULL is fine; clients must be gone */

/* The upcalls to create the node with; then session_attach. */
struct upcalls session_upcalls(struct session *s);
void session_attach(struct session *s, struct node *node); /* not owned */

/* A new connection. NULL and *ret_error (-EUSERS: clients_max, -EDQUOT: connections_per_uid). */
struct client *session_connect(struct session *s, uid_t uid, pid_t pid, uint64_t now_us,
                               int *ret_error);
/* What is written to a connection that was refused with such an error, before it is closed; its
 * length. */
#define SESSION_REFUSAL_BYTES 128
size_t session_refusal(const struct session *s, int error, uint8_t *out, size_t room);
/* The connection is gone: subscriptions end, feeds' accepted messages still go out. Frees c. */
void session_disconnect(struct session *s, struct client *c, uint64_t now_us);

/* Bytes from the client, from the start of what is not consumed yet. Returns how many were consumed
 * (whole frames), at most what a request quantum allows, or a negative errno: an error that names
 * what and where is in the output; the shell writes what it can and then disconnects. */
long session_receive(struct client *c, const uint8_t *bytes, size_t count, uint64_t now_us);
/* Bytes that must be there before session_receive can consume more. */
size_t session_wants(const struct client *c, const uint8_t *bytes, size_t count);

/* Output of a client, to be written in one writev: fills at most max iovecs, returns how many. They
 * are good until session_wrote or session_disconnect. */
int session_output(struct client *c, struct iovec *iov, int max);
void session_wrote(struct client *c, size_t bytes, uint64_t now_us);

/* The next client with something new to write, or that must be closed once its output is written
 * (*ret_close). Each is named once per turn; NULL: none. Frames are cut here, so call it at the end
 * of a turn. */
struct client *session_next(struct session *s, bool *ret_close);

/* The shell's pointer for a client. */
void client_set_data(struct client *c, void *data);
void *client_data(const struct client *c);

/* Frees memory of what passed through that was not needed since the last call. */
void session_trim(struct session *s);

uint64_t session_deadline(const struct session *s);
void session_expire(struct session *s, uint64_t now_us);

/* The daemon stops: every subscription ends with `shutdown`, every open completion as unknown. */
void session_stop(struct session *s, uint64_t now_us);

#endif
