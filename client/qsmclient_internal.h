/* qsmclient_internal: what the files of libqsmclient share. qsmclient.c has the connection and its
 * loop; qsmclient_group.c groups and requests; qsmclient_send.c sending; qsmclient_io.c the bytes
 * in and out and the open data frame; qsmclient_event.c what the daemon says; qsmclient_ask.c the
 * questions. Nothing here is exported (qsmclient.map). */
#ifndef QSM_CLIENT_INTERNAL_H
#define QSM_CLIENT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bsd/sys/queue.h>
/* Out of memory in a table leaves the table as it was; callers look at the element's handle. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include "qsmclient.h"
#include "frame.h"
#include "ipc.pb-c.h"

enum { KIND_TO_DAEMON = 1, KIND_TO_CLIENT = 2, KIND_SUBMIT = 3, KIND_DELIVER = 4 };

#define IPC_VERSION 1
#define FRAME_NEEDS_MAX 16
#define FRAME_PAYLOAD_BYTES 65536u
/* In front of the payloads of an open frame: the head and the largest Submit header of 64 messages
 * and 16 needs. */
#define FRAME_RESERVE_BYTES 1024u
#define OUTPUT_BLOCKS_MAX 16      /* data frames that wait for the socket: 1 MB */
#define OUTPUT_EAGER_BYTES 32768u /* written without waiting for qsm_process */
#define INPUT_BYTES (256u << 10)
#define MESSAGE_COST 16u /* what a message counts of a grant beside its bytes */
#define MODES (QSM_RECV | QSM_SEND)
#define FLAGS (QSM_NO_ECHO | QSM_LATEST)
#define HOSTS_MAX 16384               /* names remembered */
#define POSITIONS_MAX 16384           /* senders remembered per group */
#define CONTROL_ARENA_MAX (96u << 20) /* a control frame of 4 MiB of small groups, unpacked */
#define DATA_ARENA_MAX (8u << 20)     /* a header of 64 KB, unpacked */

/* A frame or what is left of it, on its way out. */
struct block {
    STAILQ_ENTRY(block) next;
    size_t start, end, size;
    bool data; /* counts against OUTPUT_BLOCKS_MAX */
    uint8_t bytes[];
};

/* Memory for one unpacked message, given back as a whole. */
struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) uint8_t bytes[];
};

struct arena {
    struct arena_chunk *first;
    size_t total, cap;
};

struct need {
    uint32_t id;
    uint64_t bytes;
};

struct output {
    STAILQ_HEAD(, block) queue;
    STAILQ_HEAD(, block) spare; /* of the standard size */
    unsigned data_blocks, spare_blocks;
    size_t queued_bytes;
    struct block *open; /* the data frame being filled; not in queue yet */
    uint32_t count, need_count;
    uint32_t group[FRAME_MESSAGES_MAX];
    uint32_t bytes[FRAME_MESSAGES_MAX];
    uint32_t groups_differ, bytes_differ; /* 0: all are as the first */
    struct need need[FRAME_NEEDS_MAX];
};

struct input {
    uint8_t *bytes;
    size_t start, end, size;
};

struct host {
    uint32_t node;
    UT_hash_handle hh;
    char name[];
};

/* The last number delivered of a sender. */
struct position {
    uint32_t sender;
    uint64_t number;
    UT_hash_handle hh;
};

/* A message whose sender waits for its completion. */
struct token {
    uint64_t k, token;
};

struct qsm_group {
    struct qsm *qsm; /* not owned */
    uint32_t id;
    unsigned mode;  /* what the application wants */
    unsigned flags; /* of the mode: QSM_NO_ECHO, QSM_LATEST */
    bool live;      /* a subscription runs: an `end` is due */
    bool granted;   /* the daemon has opened it for sending */
    bool leaving;   /* freed when `end` came and the daemon has answered */
    bool starved;   /* qsm_send said -EAGAIN */
    bool feeding;   /* has a feed that is not dry */
    bool feed_listed; /* pull_feeds is to look at it: it may have a grant, or has to ask for one */
    unsigned closes;      /* requests to close that are not answered */
    unsigned send_closes; /* of them, to send: until then all word is of the earlier opening */
    size_t starved_cost;  /* of the message that was refused; 0: any will do */
    uint64_t grant;
    uint64_t needed;      /* said in a NeedGrant that is not answered */
    uint64_t sent, done;  /* messages submitted on this connection, completed */
    struct token *tokens; /* ring of token_size, token_count from token_first */
    size_t token_first, token_count, token_size;
    struct position *positions, *last_position;
    qsm_make *make;
    void *make_ctx;
    void *data;
    TAILQ_ENTRY(qsm_group) starved_next, feed_next;
    SLIST_ENTRY(qsm_group) dead_next;
    UT_hash_handle hh;
    char name[];
};

enum request_kind { REQUEST_OPEN, REQUEST_CLOSE, REQUEST_HOLD };

struct request {
    uint64_t id;
    enum request_kind kind;
    bool waited; /* somebody waits for it and frees it */
    bool done;
    int error;
    unsigned mode;
    uint32_t *groups; /* ids */
    size_t count;
    UT_hash_handle hh;
};

/* The one question that may be open. */
struct ask {
    uint64_t request; /* 0: none */
    bool done;
    int error;
    void (*group)(void *ctx, const struct qsm_group_info *info);
    void (*region)(void *ctx, const struct qsm_region_info *info);
    void (*counter)(void *ctx, const struct qsm_counter *counter);
    void (*histogram)(void *ctx, const struct qsm_histogram *histogram);
    void *ctx;
    bool keep_status;
};

struct qsm {
    int fd, wake_fd;
    char *path;
    struct qsm_callbacks callbacks;
    char error[512];
    char host[256];
    bool greeted, admitted;
    bool lost;      /* the connection is over */
    int refused;    /* error of the daemon's IpcError */
    unsigned depth; /* > 0 inside a callback */
    unsigned calls; /* callbacks made */
    bool look_at_starved;
    bool unknown;         /* the end of a message is unknown since the last qsm_flush */
    uint64_t outstanding; /* messages submitted and not completed, all groups */
    bool settled;         /* there are none */
    uint64_t next_request;
    struct input in;
    struct output out;
    struct arena arena;        /* of the frame being looked at */
    struct arena status_arena; /* of the last qsm_status */
    struct qsm_status status;
    struct ask ask;
    struct qsm_group **by_id;
    uint32_t id_count;
    struct qsm_group *by_name;
    TAILQ_HEAD(, qsm_group) starved, feeds;
    SLIST_HEAD(, qsm_group) dead; /* freed when no callback runs */
    struct request *requests;
    struct host *hosts;
    uint32_t last_node; /* whose name is last_host; 0: none */
    const char *last_host;
};

/* ---- qsmclient.c */
int64_t time_ms(void);
/* The moment timeout_ms from now; -1: never. */
int64_t deadline_after(int timeout_ms);
void set_error(struct qsm *q, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Everything that waits learns that the connection is over: ends, completions, requests. */
void connection_lost(struct qsm *q, const char *why);
/* Processes until *done, the deadline (-ETIMEDOUT) or the end of the connection (-ENOTCONN). */
int wait_for(struct qsm *q, const bool *done, int64_t deadline);

/* ---- qsmclient_group.c */
/* Asks to close g in modes. 0, or as output_control. */
int group_close(struct qsm *q, struct qsm_group *g, unsigned mode);
struct qsm_group *group_find(struct qsm *q, uint32_t id);
void group_bury(struct qsm *q, struct qsm_group *g); /* frees it as soon as no callback runs */
void free_dead(struct qsm *q);
void request_free(struct qsm *q, struct request *r);
/* Opens what was open, on a new connection, and waits for it. */
int groups_reopen(struct qsm *q, int64_t deadline);

/* ---- qsmclient_send.c */
void outstanding_take(struct qsm *q, uint64_t count); /* messages that completed */
void group_stop_sending(struct qsm *q, struct qsm_group *g);
/* Nothing more is heard of what was sent to g: it completes with status. */
void group_give_up(struct qsm *q, struct qsm_group *g, int status, const char *reason);
/* Calls the feeds round robin until all are dry, without grant, or the output is full. */
void pull_feeds(struct qsm *q);
/* The grant of g has changed: its feed, if it has one, is to be looked at. */
void feed_look(struct qsm *q, struct qsm_group *g);
/* Says that a message waits which counts more than is left of the grant. False: out of memory. */
bool need_grant(struct qsm *q, struct qsm_group *g, size_t cost);
/* ---- qsmclient_io.c */
/* Queues a control frame. -ENOMEM, -EMSGSIZE (above FRAME_CONTROL_MAX), -ENOTCONN. */
int output_control(struct qsm *q, const Qsm__ToDaemon *message);
static inline bool output_full(const struct qsm *q)
{
    return q->out.data_blocks >= OUTPUT_BLOCKS_MAX;
}
/* Room for a message of bytes or more, as many as are left, in the open frame, which is made if
 * need be; NULL: out of memory. */
uint8_t *output_room(struct qsm *q, size_t bytes, size_t *ret_room);
/* The message that was written to output_room is part of the frame. */
void output_add(struct qsm *q, uint32_t group, size_t bytes);
int output_need(struct qsm *q, uint32_t group, uint64_t bytes);
/* Closes the open frame, so that it can be written. */
void output_cut(struct qsm *q);
/* Writes what the socket takes. 0, or -ENOTCONN. */
int output_write(struct qsm *q);
bool output_pending(const struct qsm *q);
void output_reset(struct qsm *q);
/* One read and all the whole frames of it. 0, or a negative errno that ends the connection. */
int input_read(struct qsm *q);
void input_reset(struct qsm *q);

void *arena_alloc(struct arena *a, size_t bytes); /* NULL: cap reached or out of memory */
void arena_reset(struct arena *a, size_t cap);    /* forgets all, keeps one small chunk */
void arena_free(struct arena *a);
ProtobufCAllocator arena_allocator(struct arena *a);

/* ---- qsmclient_event.c */
/* Acts on one frame. A negative errno: it is malformed, q->error says what. */
int event_frame(struct qsm *q, const struct frame *f);
/* Ends the subscription with the last numbers delivered. */
void event_end_local(struct qsm *q, struct qsm_group *g, enum qsm_end why);
/* Completes the waiting messages of g up to number k, all for UINT64_MAX. */
void event_complete(struct qsm *q, struct qsm_group *g, uint64_t k, int status, const char *reason);
void positions_free(struct qsm_group *g);
/* The daemon names a host once: remembers the names that are new. */
void learn_members(struct qsm *q, Qsm__Member **members, size_t count);
const char *host_name(struct qsm *q, uint32_t node); /* "": not known */
/* Tells starved groups that can send again. */
void event_writable(struct qsm *q);

/* ---- qsmclient_ask.c */
void ask_status(struct qsm *q, const Qsm__NodeStatus *s);
void ask_groups(struct qsm *q, const Qsm__GroupList *l);
void ask_regions(struct qsm *q, const Qsm__RegionList *l);
void ask_stats(struct qsm *q, const Qsm__StatsList *l);

#endif
