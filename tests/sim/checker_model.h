/* checker_model: what the checker remembers of a trace, shared by its parts: checker.c (lines,
 * lives), checker_app.c (clients), checker_view.c (views and deliveries), checker_packet.c
 * (packets). */
#ifndef QSM_CHECKER_MODEL_H
#define QSM_CHECKER_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include "checker.h"

/* ---- a line */

struct at {
    const char *source; /* NULL: the only one */
    uint64_t line;
};

#define FIELDS_MAX 16

struct line {
    struct at at;
    const char *who, *event;
    size_t fields;
    const char *keys[FIELDS_MAX], *values[FIELDS_MAX];
    bool bad; /* a key that the event needs is missing or no number */
};

const char *line_text(struct line *l, const char *key); /* "" and bad when it is missing */
uint64_t line_number(struct line *l, const char *key);
uint32_t line_id(struct line *l, const char *key);
uint64_t line_hex(struct line *l, const char *key);

/* Sorted list of ids from "1,2,3" or "-". */
struct ids {
    uint32_t *list; /* owned */
    size_t count;
};
struct ids line_ids(struct line *l, const char *key);
bool ids_have(const struct ids *ids, uint32_t id);
bool ids_equal(const struct ids *a, const struct ids *b);

static inline uint64_t pair(uint64_t a, uint64_t b)
{
    return a << 32 | b;
}

/* ---- clients */

struct accepted {
    uint64_t h;
    uint32_t l;
    bool ask, completed;
    uint32_t node;   /* id it was pulled under, 0: not pulled */
    uint32_t gid;    /* likewise */
    uint64_t number; /* n */
    struct at at;
};

/* What a connection has to do with a group. */
struct interest {
    UT_hash_handle hh;
    char *key; /* "c group" */
    uint64_t conn;
    char *group;               /* name */
    struct accepted *accepted; /* by k - 1 */
    size_t accepted_count, accepted_room;
    uint64_t pulled; /* highest k pulled */
    bool subscribed, closed;
    struct position *positions; /* of the subscription, by sender */
    struct at at;
};

struct position {
    UT_hash_handle hh;
    uint32_t sender;
    uint64_t start, last; /* start: last delivered on the host when the subscription began */
    bool any;
};

/* What a process knows a group as: a group that was gone and came back has another id. */
struct named {
    UT_hash_handle hh;
    char *name;
    uint32_t gid;
};

struct process {
    UT_hash_handle hh;
    char *who;
    bool alive;
    uint32_t node; /* present id, 0: none */
    struct interest *interests;
    struct named *names;
};

/* ---- nodes, groups, views */

/* What a node delivered of one sender in one group. */
struct stream {
    UT_hash_handle hh;
    uint32_t sender;
    uint64_t first, last;           /* since it joined; last 0: nothing yet */
    uint64_t h;                     /* of the last */
    uint64_t view_first, view_last; /* in the present view; 0: nothing */
    uint64_t base;                  /* said before the first delivery */
    bool based;
};

struct membership {
    UT_hash_handle hh;
    uint32_t gid;
    uint64_t epoch, joined; /* present view, first view; 0: not a member */
    struct stream *streams;
};

struct cnode {
    UT_hash_handle hh;
    uint32_t id;
    struct process *process;       /* not owned; NULL: never seen at work */
    bool admitted, expelled, gone; /* gone: crashed or replaced by a new id */
    uint64_t expelled_after;       /* last epoch when it was expelled */
    struct membership *memberships;
};

struct packed {
    uint64_t channel_view; /* pair(r, v) */
    uint64_t seq;
};

struct sent {
    uint64_t h, epoch;
    uint32_t l;
    uint32_t packed_count;
    struct packed *packed; /* owned */
    struct at at;
};

struct origin {
    UT_hash_handle hh;
    uint32_t sender;
    uint64_t skip;     /* numbers used under an earlier id of the group: it was gone meanwhile */
    struct sent *sent; /* by n - 1 - skip */
    size_t count, room;
    uint64_t stable, unknown;
};

/* What a member delivered of one sender in one view, for S7. */
struct span {
    uint32_t sender;
    uint64_t first, last;
};

struct gview {
    uint64_t epoch;
    struct ids members;
    bool by_cms;
    struct reference *reference; /* of the first member that went on; owned, or NULL */
    struct span *firsts;         /* first delivery of each sender in this view; last: which node */
    size_t firsts_count;
};

/* A member that lacked a message when its sender was told `stable`. */
struct owed {
    uint64_t epoch, number;
    uint32_t sender, member;
    struct at at;
};

struct join_point {
    UT_hash_handle hh;
    struct {
        uint64_t epoch;
        uint64_t sender;
    } key;
    uint64_t base;
    struct at at;
};

struct cgroup {
    UT_hash_handle hh;
    uint32_t gid;
    char *name; /* NULL: not told yet */
    struct origin *origins;
    struct gview **views; /* ascending; owned */
    size_t view_count;
    struct owed *owed;
    size_t owed_count, owed_room;
    struct join_point *join_points;
};

/* ---- packets */

struct bits {
    uint64_t *words; /* owned */
    size_t count;
};
bool bits_have(const struct bits *b, uint64_t i);
void bits_set(struct bits *b, uint64_t i);
void bits_clear(struct bits *b, uint64_t i);

/* What one node has of one channel. */
struct holding {
    uint32_t node;
    uint64_t next;   /* processed in order up to here */
    uint64_t prefix; /* taken without a gap up to here */
    struct bits taken, dropped, displaced;
};

struct ending {
    uint64_t seq, number;
    uint32_t gid;
};

struct channel {
    UT_hash_handle hh;
    uint32_t sender;
    struct holding *holdings;
    size_t holding_count, holding_room;
    uint32_t *by_node; /* 1 + index of the holding of each node id; owned */
    uint32_t by_node_count;
    struct ending *endings; /* ascending by seq */
    size_t ending_count, ending_room;
    struct bits released; /* packets already found to be stable everywhere */
};

struct rview {
    UT_hash_handle hh;
    uint64_t key; /* pair(r, v) */
    struct ids members;
    bool known; /* the CMS told the members */
    struct channel *channels;
};

/* ---- all */

struct checker {
    struct checker_config config;
    struct checker_counts counts;
    char *failures[CHECKER_FAILURES_MAX];
    size_t failure_count;
    struct process *processes;
    struct cnode *nodes;
    struct cgroup *groups;
    struct rview *rviews;
    uint64_t epoch; /* last that the CMS installed */
    bool cms_seen, finished;
};

/* Notes that promise id is broken at line l. */
void violated(struct checker *c, const char *id, const struct line *l, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* "line 12" or "FILE:12", in one of a few buffers that are used again. */
const char *at_text(struct at at);

void *checker_grow(void *list, size_t count, size_t *room, size_t size);
struct process *process_find(struct checker *c, const char *who);
struct cnode *cnode_find(struct checker *c, uint32_t id); /* made when it is not there */
/* The node that says line l, or NULL (noted as a failure). */
struct cnode *line_node(struct checker *c, struct line *l);
struct cgroup *cgroup_find(struct checker *c, uint32_t gid);
/* The group as the process knows it now; NULL: it has not said `name`. */
struct cgroup *cgroup_by_name(struct checker *c, struct process *p, const char *name);
bool cnode_lives(const struct cnode *n); /* neither expelled nor gone */

/* checker_app.c */
void on_accept(struct checker *c, struct line *l);
void on_close(struct checker *c, struct line *l);
void on_sub(struct checker *c, struct line *l);
void on_pull(struct checker *c, struct line *l);
void on_end(struct checker *c, struct line *l);
void on_recv(struct checker *c, struct line *l);
void on_complete(struct checker *c, struct line *l);
void finish_clients(struct checker *c, struct line *l);
void process_reset(struct process *p);   /* the process is gone */
void process_renewed(struct process *p); /* it has another node id: streams begin anew */
/* A group that it knew by the id `from` is now called `to`. */
void process_carries(struct checker *c, struct process *p, uint32_t from, uint32_t to);
void process_left(struct process *p, const char *group); /* its node is no longer a member */

/* checker_view.c */
void on_send(struct checker *c, struct line *l);
void on_deliver(struct checker *c, struct line *l);
void on_base(struct checker *c, struct line *l);
void on_view(struct checker *c, struct line *l);
void on_left(struct checker *c, struct line *l);
void on_gview(struct checker *c, struct line *l);
void on_stable(struct checker *c, struct line *l);
void on_unknown(struct checker *c, struct line *l);
void finish_views(struct checker *c, struct line *l);
void free_views(struct checker *c);
struct sent *sent_find(struct checker *c, uint32_t gid, uint32_t sender,
                       uint64_t number); /* or NULL */
bool cnode_delivered(const struct cnode *n, uint32_t gid, uint32_t sender, uint64_t number);
struct membership *membership_find(struct cnode *n, uint32_t gid, bool make);
struct origin *origin_find(struct cgroup *g, uint32_t sender, bool make);

/* checker_packet.c */
void on_rview(struct checker *c, struct line *l);
void on_pack(struct checker *c, struct line *l);
void on_take(struct checker *c, struct line *l);
void on_next(struct checker *c, struct line *l);
void on_drop(struct checker *c, struct line *l);
void on_ahead(struct checker *c, struct line *l);
void free_packets(struct checker *c);
/* Whether a node took all packets of a message. */
bool cnode_took(struct checker *c, const struct cnode *n, uint32_t sender, const struct sent *m);

#endif
