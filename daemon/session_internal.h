/* session_internal: what the files of session share. session.c has the connections and the turn;
 * session_group.c what the clients together want of each of the node's groups, and subscriptions;
 * session_feed.c messages on their way to the core and completions; session_grant.c how much of
 * them clients may have here; session_late.c subscriptions that want the latest; session_out.c the
 * output of a client; session_info.c the questions.
 *
 * Upcalls of the core only note: whatever then has to be asked of the node waits on the list of
 * pending groups until a call of the shell that brings the time (session_work). */
#ifndef QSM_SESSION_INTERNAL_H
#define QSM_SESSION_INTERNAL_H

#include <sys/types.h> /* for bsd/sys/tree.h */
#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include "session.h"
#include "core/sample.h"
#include "frame.h"
#include "ipc.pb-c.h"

enum { KIND_TO_DAEMON = 1, KIND_TO_CLIENT = 2, KIND_SUBMIT = 3, KIND_DELIVER = 4 };
enum end_why { END_LEFT = 1, END_SLOW, END_EXPELLED, END_GAP, END_SHUTDOWN };

#define IPC_VERSION 1
#define BATCH_BYTES 65536u
#define COPY_BYTES 4096u     /* payloads from here on are referenced, not copied */
#define IN_PLACE_BYTES 512u  /* a frame whose payloads are referenced together: from this size */
#define IN_PLACE_MESSAGES 8u /* and so many of them */
#define BLOCK_BYTES 73728u   /* a full frame of small messages and its header */
#define GRANT_BYTES 65536u
#define GRANT_BYTES_MAX (1u << 20)  /* of a feed that is emptied before its client can refill it */
#define GRANT_EXTRA_MAX (32u << 20) /* all that is granted above each feed's share */
#define GRANT_LEAST 1024u      /* a share below it is none: every message has to be asked for */
#define GRANT_KEPT_US 1000000u /* a grant for a large message is not taken back before */
#define WATCH_US 5000u         /* how often the trace looks at the gauges */
#define GRANT_RETRY_US 100000u /* waiting feeds are looked at so often though nothing is freed */
#define RUN_BYTES 16384u       /* messages to one group that share a copy */
/* Shorter copies come from pools of sizes so close together that little is left over; the shortest
 * from malloc, which is quick with them. */
#define COPY_POOLED_BYTES 512u
#define COPY_STEP_BYTES 256u
#define COPY_POOLS ((RUN_BYTES / 4 - COPY_POOLED_BYTES) / COPY_STEP_BYTES)
#define QUEUED_SPARE_MAX 4096u          /* entries of queues that are kept for the next */
#define LEAVING_BYTES 1024u    /* a larger message may be in several packets */
#define MESSAGE_COST 16u       /* what a message counts beside its bytes */
#define LINGER_US 60000000u    /* a group stays open to send after its last sender */
#define SUBMIT_ARENA_MAX (256u << 10)
#define CONTROL_ARENA_MAX (16u << 20)
#define SCRATCH_ARENA_MAX (64u << 20)
#define STATE_US_PER_GROUP 100u  /* their memory is not counted more often than this */
#define RECEIVE_QUANTUM_BYTES (1u << 20)
#define IDS_MAX (1u << 20)   /* ids that clients give to groups */
#define PAGE_IDS 64u
#define POSITIONS_MAX 4096u  /* senders remembered per group */
#define NAMES_TOLD_MAX 8192u /* hosts remembered per client as told */
#define NO_HANDLE UINT32_MAX

/* X(name, what it counts): the session's own counters, shown by `stats` after the node's */
#define SESSION_COUNTERS(X)                                                                        \
    X(clients_accepted, "connections taken")                                                       \
    X(clients_refused, "connections over a quota")                                                 \
    X(client_errors, "connections closed for what the client sent")                                \
    X(client_frames, "frames from clients")                                                        \
    X(client_messages_in, "messages accepted from clients")                                        \
    X(client_messages_out, "messages queued for subscriptions")                                    \
    X(client_frames_out, "data frames cut for clients")                                            \
    X(subscriptions_slow, "subscriptions ended since their client did not read")                   \
    X(latest_dropped, "messages dropped by subscriptions that want the latest")                    \
    X(subscriptions_begun, "subscriptions that got their first view")                              \
    X(completions_stable, "messages of clients that completed as stable")                          \
    X(completions_lost, "messages of clients whose end is unknown")                                \
    X(grants_waited, "times a feed had to wait for a grant since a sum was short")                 \
    X(grants_revoked, "unused grants taken back since a sum was short")                            \
    X(submits_stalled, "times a client was not read from, since it used a revoked grant")          \
    X(client_output_bytes_max, "most that ever waited for one client, bytes")

/* X(name, what it shows): values, not counts */
#define SESSION_GAUGES(X)                                                                          \
    X(clients, "connections")                                                                      \
    X(clients_max, "cap on them")                                                                  \
    X(client_groups, "groups that clients have open, each client's counted")                       \
    X(client_output_bytes, "output that waits, all clients together, bytes")                       \
    X(client_output_bytes_cap, "cap on the output of one client: queue_bytes")                     \
    X(client_latest_bytes, "newest messages kept for clients that do not read, bytes")             \
    X(client_granted_extra, "bytes granted above a feed's share, since it was emptied too fast")   \
    X(client_granted_extra_max, "cap on them")                                                     \
    X(client_granted, "bytes that clients have granted or queued")                                 \
    X(client_granted_max, "cap on them: grant_bytes_all")                                          \
    X(client_granted_large, "of them, those beyond the feeds' shares")                             \
    X(client_granted_large_max, "nothing more is granted beyond the shares from here on")          \
    X(client_grants_waiting, "feeds that wait for a grant since a sum is short")                   \
    X(groups_known, "groups that this host is a member of, sends to or asks for")                  \
    X(group_state_bytes, "memory for all of them, messages not counted, bytes")

/* X(name, what takes so long): microseconds */
#define SESSION_HISTOGRAMS(X)                                                                      \
    X(send_to_deliver_us, "from a client's message until the core pulls it, and so delivers it "   \
                          "to members on this host; a sample")

struct session_stats {
#define X(name, text) uint64_t name;
    SESSION_COUNTERS(X)
#undef X
#define X(name, text) struct histogram name;
    SESSION_HISTOGRAMS(X)
#undef X
};

struct session_gauges {
#define X(name, text) uint64_t name;
    SESSION_GAUGES(X)
#undef X
};

#define WATCHED_MAX 7

/* Memory for one unpacked or built message, given back as a whole. */
struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(16) uint8_t bytes[];
};
struct arena {
    struct arena_chunk *chunks; /* the one in use first */
    size_t total, cap;
    bool full; /* something did not fit below the cap */
};

/* A list of node ids shared by the groups that have the same members. */
struct members {
    uint32_t refs, count;
    uint32_t ids[];
};

/* The last message of a sender that was delivered on this host. */
struct position {
    uint32_t sender;
    uint64_t number;
    uint64_t serial; /* of that delivery, counted per group */
};

/* Messages of one size, behind one another, that the core has not pulled yet. */
struct queued {
    STAILQ_ENTRY(queued) next;
    struct buf *body;   /* a reference */
    uint32_t at, bytes; /* where the first is in the body, and of each */
    uint32_t count;
    uint32_t cost; /* what is freed with the last: of the last in its body, that of all in it */
};
STAILQ_HEAD(queued_list, queued);

/* Which half of a sum: what every feed has, or what goes beyond it. */
enum grant_kind { GRANT_SMALL, GRANT_LARGE, GRANT_KINDS };

/* What one client has granted, queued or half given to the core; or all of them. */
struct purse {
    uint64_t used[GRANT_KINDS];
    uint64_t max[GRANT_KINDS];
    uint64_t extra;                 /* sum of the feeds' */
    uint32_t senders;               /* feeds that are open */
    uint64_t short_in[GRANT_KINDS]; /* round of grants_serve in which nothing more was found */
};

/* Consecutive numbers of a group that belong to one client. */
struct run {
    struct use *use;
    uint64_t first, count;
};

/* What a connection sends to a group. What a message touches comes first. */
struct outbox {
    TAILQ_ENTRY(use) ready, dirty;
    struct queued_list queue;
    uint32_t credit;     /* bytes that the client may still send */
    uint32_t untold;     /* of them, those that it does not know of yet */
    uint32_t queue_cost; /* bytes that the queue counts */
    uint32_t leaving;    /* the same of the message that the core has in hand */
    uint32_t limit;      /* credit and queue are renewed up to this: the share and extra */
    uint32_t extra;
    uint32_t need; /* the client waits to send a message that counts so much; 0: none */
    uint32_t counted[GRANT_KINDS];            /* in the purses */
    bool is_ready, is_dirty;                  /* on the lists */
    bool wants : 1, is_large : 1;             /* on theirs */
    bool grant_now : 1;                       /* opened: a grant is due, whatever it comes to */
    bool revoke_now : 1;                      /* the Revoke is not told yet */
    uint64_t accepted, pulled, settled, told; /* messages, from 1, all under this connection */
    uint64_t base;     /* what the client calls its first message is base + 1 */
    uint64_t revoke;   /* serial of the Revoke that is not answered; 0: none */
    uint64_t old;      /* bytes of a revoked grant that it may still use, until it answers */
    uint64_t large_us; /* when it was last granted beyond its limit */
    TAILQ_ENTRY(use) sending, wanting, large_entry;
};

/* What one connection has to do with one group. It outlives the connection, or its own closing,
 * until all that was accepted is settled. */
struct use {
    struct client *client; /* not owned; NULL: gone */
    struct local *local;   /* not owned */
    struct outbox *outbox; /* owned; NULL: it was never opened to send */
    uint32_t id;           /* the client's */
    bool listed;           /* in the pages of the client */
    bool send, refused;    /* refused: what is submitted is lost at once */
    bool latest;
    bool recv, viewed, no_echo; /* viewed: the subscription has begun */
    bool rejoining;             /* the next view begins it again, after an expulsion or a gap */
    bool behind;                /* the run that is being delivered did not fit as a whole */
    TAILQ_ENTRY(use) sub;
    uint64_t last_out;     /* byte of the client's output after its last message */
    uint64_t start_serial; /* deliveries of the group before the subscription began */
    uint64_t conn;         /* number of the connection, for the trace */
    struct late *late;     /* what a subscription with policy latest keeps aside; NULL: nothing */
    TAILQ_ENTRY(use) of_local;
};
TAILQ_HEAD(use_list, use);

/* The uses with PAGE_IDS ids in a row. Ids are dense as a rule; who spreads them pays a page for
 * each. */
struct use_page {
    uint32_t used;
    struct use *use[PAGE_IDS];
};

/* Somebody waits for a mode of a group to come, or for the membership to go. */
enum wait_kind { WAIT_RECV, WAIT_SEND, WAIT_GONE };
struct waiter {
    LIST_ENTRY(waiter) entry;
    struct request *request;
    enum wait_kind kind;
    struct use *use; /* NULL: a hold */
};

/* A request that is not answered yet. */
struct request {
    LIST_ENTRY(request) entry;
    struct client *client; /* NULL: gone */
    uint64_t number;
    uint32_t left; /* waiters */
    bool answered;
};

enum linger { LINGER_NONE, LINGER_ON, LINGER_OVER };

/* A group that this host's clients use, or that the node still leaves. What a message touches comes
 * first. */
struct local {
    struct use_list subs, ready;
    struct position *positions; /* by sender */
    uint32_t position_count, position_room, position_hit;
    uint32_t handle; /* the node's; NO_HANDLE: not open */
    uint64_t serial; /* deliveries so far */
    struct run *runs; /* ring, a power of two */
    uint32_t run_first, run_count, run_room;
    uint32_t senders, receivers;
    uint8_t open; /* modes asked of the node */
    bool leaving; /* NODE_RECV was closed, GROUP_LEFT is to come */
    bool viewed, sendable;
    struct { /* a message that may not be in packets as a whole yet; use NULL: none */
        struct use *use;
        struct buf *body; /* a reference */
        uint64_t number;
    } hand;
    TAILQ_ENTRY(local) pending, leaving_entry;
    bool is_pending;
    bool held;      /* by a Hold */
    uint8_t linger; /* enum linger */
    uint64_t linger_until_us;
    uint64_t epoch;
    struct members *members;
    struct use_list uses;
    LIST_HEAD(, waiter) waiters;
    TAILQ_ENTRY(local) lingering;
    RB_ENTRY(local) of_name;
    char name[];
};
RB_HEAD(local_tree, local);
int local_compare(const struct local *a, const struct local *b);
RB_PROTOTYPE(local_tree, local, of_name, local_compare)

struct segment {
    struct buf *buf; /* a reference */
    const uint8_t *data;
    size_t bytes;
    uint32_t messages; /* of the frame that ends here */
    uint64_t at_us;    /* when it was first seen waiting */
};

/* Bytes that wait for the client to read. */
struct output {
    struct segment *ring; /* a power of two */
    size_t first, count, room;
    size_t stamped; /* leading segments with a time */
    uint64_t bytes; /* waiting, those of the open batch too */
    uint32_t messages;
    uint64_t queued_total, written_total;
    struct buf *block; /* where small pieces are written, behind one another */
    uint32_t block_used;
};

/* Payloads of the open frame that lie behind one another, or a gap apart. */
struct piece {
    struct buf *buf; /* a reference */
    const uint8_t *data;
    size_t bytes;
};

/* The data frame that is being filled. */
struct batch {
    uint32_t count, pieces_count, host_count;
    size_t bytes;
    bool in_place; /* the only piece is where the messages came in */
    uint32_t gap;  /* bytes between two of them there */
    uint32_t group[FRAME_MESSAGES_MAX], size[FRAME_MESSAGES_MAX], sender[FRAME_MESSAGES_MAX];
    uint64_t number[FRAME_MESSAGES_MAX], epoch[FRAME_MESSAGES_MAX];
    struct {
        uint64_t group, size, sender, number, epoch;
    } differ; /* 0: all are as the first, or numbered in turn behind it */
    struct piece pieces[FRAME_MESSAGES_MAX];
    struct {
        uint32_t node;
        char *name; /* owned */
    } hosts[FRAME_MESSAGES_MAX];
};

struct client {
    struct session *s; /* not owned */
    uint64_t number;   /* of the connection: 1, 2, 3 ... */
    uid_t uid;
    pid_t pid;
    void *data;
    bool greeted;
    int error;       /* not 0: closes once the output is written */
    bool is_fresh;   /* session_next will name it */
    bool is_waiting; /* output waits */
    bool aged;       /* its oldest output is older than the cap */
    uint64_t frames;
    struct use_page **pages; /* uses by the client's id; NULL: none there */
    uint32_t page_count, use_count;
    struct output out;
    struct batch batch;
    struct use_list dirty; /* uses with a completion or a grant to tell */
    struct use_list sending;
    TAILQ_HEAD(, late) late; /* subscriptions that keep something aside */
    uint64_t late_bytes;
    struct purse purse;
    uint64_t allowed; /* bytes that it may still send: credit and old of all its uses */
    uint64_t revoked; /* of them, old */
    uint64_t lapsed;  /* what it was allowed in groups that were refused since */
    LIST_HEAD(, request) requests;
    uint32_t *names_told; /* node ids, ascending */
    uint32_t names_count, names_room;
    TAILQ_ENTRY(client) all, fresh, waiting;
};
TAILQ_HEAD(client_list, client);

struct session {
    struct session_config config;
    struct node *node; /* not owned */
    uint64_t now_us;   /* of the last call that brought the time */
    bool stopped;
    bool more;             /* a client has read, and there is more to tell it */
    uint32_t told_node_id; /* clients were told this one */
    uint64_t connections;
    uint32_t client_count, use_count;
    struct purse purse;      /* of all clients, those that are gone too */
    struct use_list wanting; /* a grant, first come first */
    struct use_list large;   /* have a grant beyond their share, the oldest first */
    uint64_t serve_round, retry_us;
    bool freed;   /* since the last round */
    bool stalled; /* a client is not read from */
    bool leaving_look;
    TAILQ_HEAD(, local) leaving;
    struct client_list clients, fresh, waiting;
    uint64_t late_bytes;
    struct local_tree by_name;
    struct local **by_handle;
    uint32_t handle_room;
    TAILQ_HEAD(, local) pending, lingering;
    struct members *last_members;
    struct arena arena;      /* of the frame being looked at */
    struct arena scratch;    /* of the message being built */
    struct buf_pool *blocks; /* for clients' output; owned */
    struct buf_pool *runs;   /* for what clients submit; owned, and so the next */
    struct buf_pool *copies[COPY_POOLS];
    struct queued_list spare; /* entries for their queues; owned */
    uint32_t spare_count;
    struct session_stats stats;
    struct sample sample; /* the message of a use that is timed until it is pulled */
    uint64_t state_bytes, state_groups, state_us; /* of all groups, when it was counted */
    uint64_t watch_us; /* the trace looks at the gauges */
    uint64_t peaks[WATCHED_MAX];
};

/* ---- session.c */
/* One error for the client: names where (in the frame being looked at) and what, and has the
 * connection closed. Returns error. */
int client_fail(struct client *c, int error, const char *what, const char *where, ...)
    __attribute__((format(printf, 4, 5)));
void client_fresh(struct client *c);
void session_trace(struct session *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline bool session_traced(const struct session *s)
{
    return s->config.trace && s->config.trace_line;
}
uint64_t session_hash(const uint8_t *data, size_t bytes); /* FNV-1a 64 */
void *session_alloc(size_t count, size_t size);           /* zeroed; aborts when memory is out */
void *session_grow(void *list, size_t count, size_t size);

void session_arena_reset(struct arena *a, size_t cap);
void *session_arena_alloc(struct arena *a, size_t bytes); /* NULL: cap reached */
void *session_arena_need(struct arena *a, size_t bytes);  /* zeroed; aborts above the cap */
void session_arena_done(struct arena *a);
ProtobufCAllocator session_arena_allocator(struct arena *a);

/* ---- session_request.c */
int request_open(struct client *c, const Qsm__OpenGroups *m);
int request_close(struct client *c, const Qsm__CloseGroups *m);
int request_hold(struct client *c, const Qsm__Hold *m);
/* Ends the waiters of l of one kind; error 0: what they wait for came. */
void waiters_end(struct local *l, enum wait_kind kind, int error, const char *text);
static inline struct use *use_find(const struct client *c, uint32_t id) /* NULL: none */
{
    const struct use_page *p = id / PAGE_IDS < c->page_count ? c->pages[id / PAGE_IDS] : NULL;
    return p ? p->use[id % PAGE_IDS] : NULL;
}
/* The first of the client's uses with an id from *id on, which becomes the one to go on with. */
struct use *use_from(const struct client *c, uint32_t *id);
/* Frees u once it is closed and nothing of it is left. */
void use_release(struct session *s, struct use *u);
/* The connection is gone: ends all that it has to do with groups, telling nobody. */
void client_leave(struct client *c);

/* ---- session_group.c */
void local_event(void *ctx, const struct group_event *e);
static inline struct local *local_of(const struct session *s, uint32_t handle) /* NULL: none */
{
    return handle < s->handle_room ? s->by_handle[handle] : NULL;
}
struct local *local_find(const struct session *s, const char *name); /* NULL: there is none */
struct local *local_get(struct session *s, const char *name); /* made when there is none */
/* Has what the group wants of the node looked at in session_work. */
void local_touch(struct session *s, struct local *l);
/* Memory that the groups take here: tables by group and by client, not what is queued. */
uint64_t locals_bytes(struct session *s);
/* Asks the node for what the pending groups want. */
void session_work(struct session *s);
void locals_expire(struct session *s);
uint64_t locals_deadline(const struct session *s);
struct members *members_ref(struct members *m);
void members_unref(struct members *m); /* NULL is fine */
void locals_stop(struct session *s);
void locals_done(struct session *s);

/* ---- session_sub.c */
/* The node is a member: u is subscribed from here on. */
void subscription_begin(struct use *u);
/* Tells the current view. */
void subscription_view(struct use *u);
/* Ends the subscription of u, if it has begun, and tells why. rejoined: the next view begins it
 * again. */
void subscription_end(struct use *u, enum end_why why, bool rejoined);
/* The same when nobody is there to be told. */
void subscription_drop(struct use *u);
void subscription_deliver(void *ctx, const struct delivery *d);
/* Writes a ViewEvent, which takes about view_bytes. */
void view_tell(struct use *u, const struct members *m, uint64_t epoch);
uint64_t view_bytes(const struct members *m);

/* ---- session_late.c */
void late_message(struct use *u, const struct delivery *d);
void late_view(struct use *u);
void late_tell(struct client *c); /* writes what was kept aside, as far as there is room */
void late_end(struct use *u);     /* what was kept is dropped, and told so */
/* ---- session_grant.c */
/* Counts what u has anew, after its credit, queue or limit has changed. */
void grant_count(struct session *s, struct use *u);
/* u's client is gone, what it has queued is not. */
void grant_orphan(struct use *u);
void grants_open(struct session *s, struct use *u);  /* to send */
void grants_close(struct session *s, struct use *u); /* nothing is granted any more */
/* Whether the client should get more for u; when there is room. */
bool grant_due(const struct use *u);
/* Gives it, or puts u in line. */
void grant_decide(struct session *s, struct use *u);
/* The client could not refill the queue in time: it may send more at once, while there is some. */
void grant_raise(struct session *s, struct use *u);
/* Gives to those in line what has become free. */
void grants_serve(struct session *s);
uint64_t grants_deadline(const struct session *s);
void grants_expire(struct session *s);
void purse_init(struct purse *p, uint64_t bytes);
/* Says what was taken back, before grants that came later. */
void grant_revoke_tell(struct use *u);
int grant_returned(struct client *c, const Qsm__Returned *m);
/* The core has the message in hand, with which cost will be freed; or no more. */
void grant_leaving(struct session *s, struct local *l, struct use *u, const struct message *m,
                   uint32_t cost, uint64_t number);
void grant_left(struct session *s, struct local *l);
/* Whether a frame of messages has to wait: it may use a grant that was taken back, and there is no
 * room for that. */
bool grant_stalls(struct client *c, const struct frame *f);
/* Whether bytes are the start of a frame that is longer than all that the client may send. */
bool grant_too_long(const struct client *c, const uint8_t *bytes, size_t count);

/* ---- session_feed.c */
void feed_dirty(struct use *u); /* there is something to tell of u */
int feed_submit(struct client *c, const struct frame *f);
bool feed_pull(void *ctx, uint32_t group, uint64_t number, uint32_t room, struct message *ret);
void feed_stable(void *ctx, uint32_t group, uint64_t number, bool lost);
/* All that the group's clients submitted has an unknown end: what was pulled, and, with queues,
 * what was not. */
void feed_lose(struct session *s, struct local *l, const char *reason, bool queues);
void feed_begin(struct use *u); /* opened to send: the first grant */
void feed_end(struct use *u);   /* closed to send: what was accepted still goes out */
/* Writes completions and grants that are due. */
void feed_tell(struct client *c);
void feed_done(struct session *s, struct use *u);
void feeds_done(struct session *s); /* after the last feed_done */

/* ---- session_out.c */
void out_control(struct client *c, const Qsm__ToClient *m);
/* The same of a message of two numbers, for less. */
void out_pair(struct client *c, Qsm__ToClient__WhatCase what, uint32_t id, uint64_t value);
/* Queues a message, or a run of them as a whole; false: a cap of the client is reached. */
bool out_message(struct client *c, struct use *u, const struct delivery *d);
bool out_room(const struct client *c, uint64_t bytes, uint32_t messages);
void out_cut(struct client *c);
/* Whether a message is copied to be kept, and not referenced: a small one, or a small part of what
 * would be kept with it. */
static inline bool out_copies(const struct delivery *d)
{
    return d->bytes < COPY_BYTES || d->bytes < d->body->size / 4;
}
void out_stamp(struct client *c, uint64_t now_us);
void out_done(struct client *c);
uint64_t out_oldest_us(const struct client *c); /* UINT64_MAX: nothing waits, 0: not seen yet */
/* The host's name when the client was not told it yet, else "". Good until the scratch is reset. */
char *name_to_tell(struct client *c, uint32_t node);
void out_result(struct client *c, uint64_t request, int error, const char *text);

/* ---- session_info.c */
int info_answer(struct client *c, const Qsm__Ask *m);
void info_hello(struct client *c);
/* Says `full` in the trace when a queue or pool stands higher than ever (S12). */
void info_watch(struct session *s);
#endif
