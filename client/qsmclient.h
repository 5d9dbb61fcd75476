/* libqsmclient: applications' access to QSM, reliable multicast to groups, through the qsmd of their
 * host. A handle is one connection. It fits any event loop (qsm_get_fd, qsm_get_events,
 * qsm_process) or blocks (qsm_wait).
 *
 * Threads: a handle is used by one thread at a time; different handles are independent. Only
 * qsm_wake may be called from any thread. Errors: functions return 0 or more, or a negative errno;
 * -ENOTCONN means that the daemon went away. Callbacks run inside qsm_process and qsm_wait, and may
 * call anything of the library on the same handle but qsm_process, qsm_wait, qsm_close and functions
 * that wait (-EDEADLK). Memory: what the library passes to a callback is good during the call only.
 */
#ifndef QSMCLIENT_H
#define QSMCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QSM_GROUP_NAME_MAX 255          /* bytes of printable UTF-8 without spaces */
#define QSM_MESSAGE_MAX (16u << 20)     /* bytes; a message may be empty */
#define QSM_SOCKET_DEFAULT "/run/qsm/qsmd.sock"

struct qsm;       /* a connection */
struct qsm_group; /* a group opened on a connection; owned by it */

enum qsm_mode {
    QSM_RECV = 1,
    QSM_SEND = 2,
    QSM_NO_ECHO = 4, /* not what this connection sent */
    QSM_LATEST = 8,  /* who does not read in time misses messages instead of losing the subscription */
};

enum qsm_end { QSM_END_LEFT = 1, QSM_END_SLOW, QSM_END_EXPELLED, QSM_END_GAP, QSM_END_SHUTDOWN,
               QSM_END_DISCONNECTED };

struct qsm_member { uint32_t node; const char *host; };

/* A received message. */
struct qsm_message {
    struct qsm_group *group;
    const void *data;
    size_t bytes;
    uint32_t sender;      /* node id: one run of a host's daemon */
    const char *host;     /* its name */
    uint64_t number;      /* per sender and group: 1, 2, 3 ..., gap-free while the subscription lasts,
                           * but for what `dropped` tells */
    uint64_t epoch;       /* view in which it was sent */
};

struct qsm_view { uint64_t epoch; const struct qsm_member *members; size_t count; };

struct qsm_position { uint32_t sender; const char *host; uint64_t number; };

/* A subscription is over: nothing after the positions was delivered. rejoined: the daemon has joined
 * again by itself and what comes next is a new subscription. */
struct qsm_end_event {
    enum qsm_end why;
    const struct qsm_position *positions; /* last number delivered per sender */
    size_t count;
    int rejoined;
};

struct qsm_callbacks {
    void *ctx;
    void (*message)(void *ctx, const struct qsm_message *m);
    void (*view)(void *ctx, struct qsm_group *g, const struct qsm_view *v);
    void (*end)(void *ctx, struct qsm_group *g, const struct qsm_end_event *e);
    /* The group can take messages again after -EAGAIN. */
    void (*writable)(void *ctx, struct qsm_group *g);
    /* A message sent with a token ended: stable (0), or unknown (negative errno) with a reason. */
    void (*complete)(void *ctx, struct qsm_group *g, uint64_t token, int status, const char *reason);
    /* An open or close that was begun with a _start function ended. */
    void (*opened)(void *ctx, struct qsm_group *g, int status, const char *text);
    /* Of a subscription with QSM_LATEST so many messages were dropped, between the last and the next. */
    void (*dropped)(void *ctx, struct qsm_group *g, uint64_t messages);
};

/* Connects to the daemon at path (NULL: $QSM_SOCKET, else QSM_SOCKET_DEFAULT) and greets it within
 * timeout_ms. Callbacks are copied; any may be NULL. -ECONNREFUSED or -ENOENT: no daemon there; -EDQUOT or
 * -EUSERS: it has connections_per_uid or clients_max connections already. */
int qsm_connect(const char *path, const struct qsm_callbacks *callbacks, int timeout_ms,
                struct qsm **ret_qsm);
/* Closes and frees; messages accepted by qsm_send that did not reach the daemon are written first,
 * for at most a second. NULL is fine. */
void qsm_close(struct qsm *q);
/* After -ENOTCONN: connects again to the same path and opens the groups that were open, waiting at
 * most timeout_ms. Handles of groups stay good, every subscription begins anew, qsm_get_fd may
 * change. Errors as of qsm_connect and qsm_open; it may be called again. */
int qsm_reconnect(struct qsm *q, int timeout_ms);

/* The last error of the connection in words ("" when there is none); good until the next call. */
const char *qsm_error(const struct qsm *q);
const char *qsm_host(const struct qsm *q);
/* Whether a CMS has admitted the host, as the daemon said last. */
int qsm_admitted(const struct qsm *q);

/* ---- loops */
int qsm_get_fd(const struct qsm *q);
short qsm_get_events(const struct qsm *q);       /* POLLIN, POLLOUT */
/* Reads, calls back, writes what is due; never blocks. Returns the number of callbacks made. */
int qsm_process(struct qsm *q);
/* Waits until something was processed, at most timeout_ms (-1: for ever). 0: time is up, or
 * qsm_wake was called. */
int qsm_wait(struct qsm *q, int timeout_ms);
/* Makes a qsm_wait of another thread return. Async-signal-safe. */
void qsm_wake(struct qsm *q);

/* ---- groups */
/* Opens groups for mode and waits until all are open, at most timeout_ms. ret_groups: count handles.
 * -EINVAL: a bad name; -ETIMEDOUT: no CMS answered (the request stays with the daemon until
 * qsm_leave); other errors: refused, qsm_error says why. Callbacks run while it waits. */
int qsm_open(struct qsm *q, const char *const *names, size_t count, unsigned mode, int timeout_ms,
             struct qsm_group **ret_groups);
/* The same without waiting: `opened` is called for each group. */
int qsm_open_start(struct qsm *q, const char *const *names, size_t count, unsigned mode,
                   struct qsm_group **ret_groups);
/* Gives mode up and, when none is left, frees the handle after `end` (QSM_END_LEFT) was called, or
 * at once when the group was only sent to. */
int qsm_leave(struct qsm *q, struct qsm_group *g, unsigned mode);
const char *qsm_group_name(const struct qsm_group *g);
void qsm_group_set_data(struct qsm_group *g, void *data);
void *qsm_group_data(const struct qsm_group *g);

/* ---- sending */
/* Queues one message; it is copied. -EAGAIN: the daemon has enough, `writable` will be called;
 * -EMSGSIZE: above QSM_MESSAGE_MAX; -EBADF: not open for sending. */
int qsm_send(struct qsm *q, struct qsm_group *g, const void *data, size_t bytes);
/* The same, and `complete` is called with the token once it is stable. */
int qsm_send_complete(struct qsm *q, struct qsm_group *g, const void *data, size_t bytes,
                      uint64_t token);
/* Sends a message at the latest moment: `make` is called inside qsm_process while the daemon can
 * take messages. It fills at most room bytes and returns the length; -EAGAIN: nothing now, the feed
 * is taken off until the next qsm_feed; -ENOBUFS: the message needs *ret_needs bytes, call again
 * with as much. make NULL: takes the feed off. `make` must not call the library. */
typedef long qsm_make(void *ctx, void *buffer, size_t room, size_t *ret_needs);
int qsm_feed(struct qsm *q, struct qsm_group *g, qsm_make *make, void *ctx);
/* Waits until all that was sent on this connection is stable. -ETIMEDOUT; -EIO: the end of some is
 * unknown. */
int qsm_flush(struct qsm *q, int timeout_ms);
/* Waits until the daemon has taken all that was sent on this connection: from then on it goes out
 * without us. */
int qsm_drain(struct qsm *q, int timeout_ms);

/* ---- the node (what qsmctl shows): blocking questions */
struct qsm_fact { const char *name; const char *value; };
struct qsm_counter { const char *name; uint64_t value; };
/* So many values are at most up_to and at least four fifths of it. */
struct qsm_bucket {
    uint64_t up_to, count;
};
/* Times that the daemon has noted since its start, in microseconds as names that end with _us say.
 */
struct qsm_histogram {
    const char *name;
    uint64_t count, sum, max;
    const struct qsm_bucket *buckets; /* not empty, ascending; what is longer than 134 s is in the
                                       * bucket up to that */
    size_t bucket_count;
};
struct qsm_status {
    const char *host, *version;
    uint32_t node_id;             /* 0: not admitted */
    uint64_t epoch;
    int linked;                   /* a CMS answers */
    uint32_t nodes, groups, regions, clients;
    const struct qsm_fact *facts;
    size_t fact_count;
};
struct qsm_group_info {
    const char *name;
    uint32_t gid;
    uint64_t epoch;               /* of its view; 0: none */
    int recv, send, held;         /* this host's; held: by qsmctl join */
    const struct qsm_member *members;
    size_t member_count;
    uint32_t regions;
    uint64_t sent, stable;        /* messages of this host */
};
struct qsm_region_info {
    uint32_t rid;
    uint64_t epoch;
    const char *address;
    const struct qsm_member *members;
    size_t member_count;
    uint32_t groups;
    int ours;
    uint64_t sent, stable, released;  /* packets of this host's channel */
    uint64_t inflight_bytes, window_bytes;
    uint64_t rate;                    /* bytes/s that its slowest member can take; 0: no limit */
    const char *slowest;              /* that member's host, or whose lags most; "": unknown */
};
/* *ret_status and what it points to are good until the next question on this handle. */
int qsm_status(struct qsm *q, int timeout_ms, const struct qsm_status **ret_status);
int qsm_each_group(struct qsm *q, const char *name, int timeout_ms,
                   void (*f)(void *ctx, const struct qsm_group_info *), void *ctx);
int qsm_each_region(struct qsm *q, int timeout_ms,
                    void (*f)(void *ctx, const struct qsm_region_info *), void *ctx);
int qsm_each_counter(struct qsm *q, int timeout_ms,
                     void (*f)(void *ctx, const struct qsm_counter *), void *ctx);
int qsm_each_histogram(struct qsm *q, int timeout_ms,
                       void (*f)(void *ctx, const struct qsm_histogram *), void *ctx);
/* Memberships that the node holds beyond this connection; -ETIMEDOUT, or refused: qsm_error. */
int qsm_hold(struct qsm *q, const char *const *names, size_t count, int timeout_ms);
int qsm_release(struct qsm *q, const char *const *names, size_t count, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
