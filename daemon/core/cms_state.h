/* cms_state: the replicated state of the CMS: who is admitted, what every node wants of every
 * group, and what the last epoch gave it. Fed by the log's entries only; the same entries give the
 * same state everywhere. What the leader of the day keeps beside a node (link, watch) never shows
 * in it. */
#ifndef QSM_CMS_STATE_H
#define QSM_CMS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "region.h"

enum { CMS_RECV = 1, CMS_SEND = 2 };

#define CMS_NODES_MAX 1000    /* nodes_max, and */
#define CMS_GROUPS_MAX 100000 /* groups_max of qsm-cmsd(8) */

struct cms_link;
struct cms_plan;

struct cms_group {
    uint32_t gid;   /* never used again */
    char *name;     /* owned */
    uint64_t epoch; /* of its group view; 0: in no epoch yet */
    uint32_t rows;  /* of all nodes; none: the group is gone */
    uint32_t marks; /* scratch of a plan */
    UT_hash_handle by_name, by_gid;
};

/* What one node wants of a group, and what it has since the last epoch. */
struct cms_row {
    struct cms_group *group;
    uint8_t want, have; /* modes; not both 0 */
};

/* What the failure detector knows of a node (suspect.h); not part of the state. */
struct cms_watch {
    uint64_t heard_us;  /* last byte on the link */
    uint64_t down_us;   /* when the link went, or when this leader began; 0: linked */
    uint64_t lost_us;   /* when it was last counted as lost; 0: never */
    uint64_t retry_us;  /* probe again from then on */
    uint64_t probe;     /* under way; 0: none */
    uint64_t probed_us; /* when the last one began */
    uint64_t probe_us;  /* when it ends */
    uint32_t asked[2];  /* members asked */
    bool answered[2];
    bool alive;           /* one of them said so */
    bool link_silent;     /* the probe is because of silence, not because of a suspicion */
    bool confirming;      /* the second probe in a row that finds it unreachable */
    uint32_t accusers[2]; /* distinct nodes that suspect it */
    uint64_t accused_us;  /* last */
};

struct cms_node {
    uint32_t id; /* index of its admission */
    char *name;  /* owned */
    uint32_t address;
    uint32_t datagram_bytes;
    uint64_t rcvbuf_bytes;
    uint64_t incarnation;
    uint32_t wire_min, wire_max;
    bool announced;       /* an epoch told the others of it */
    bool expelled;        /* it is gone with the next epoch */
    struct cms_row *rows; /* by gid, ascending; owned */
    uint32_t row_count, row_room;
    uint64_t want_set; /* region_set_number of what it wants to receive */
    UT_hash_handle hh;

    /* not part of the state */
    bool expelling;        /* its expulsion is in the log or on the way there */
    struct cms_link *link; /* NULL: none; not owned */
    struct cms_watch watch;
};

struct cms_state {
    uint64_t index; /* last entry applied */
    uint64_t term, epoch;
    uint64_t install_term; /* of the attempt that made the epoch */
    uint32_t install_attempt;
    uint32_t next_gid;
    struct region_config config;
    struct regions regions;             /* of the epoch */
    struct cms_node *nodes;             /* uthash, in the order of ids */
    struct cms_group *by_name, *by_gid; /* uthash, in the order of gids */
    uint32_t node_count;                /* not expelled */
    uint32_t expelled_count;            /* still in the table */
    uint64_t pending; /* rows of nodes not expelled whose want differs from have */
};

/* What applying an entry meant, for whoever acts on it. */
struct cms_refusal {
    char *name;
    char *reason;
};
enum cms_entry { CMS_LEAD, CMS_ADMIT, CMS_CHANGES, CMS_EXPEL, CMS_INSTALL };
struct cms_effect {
    enum cms_entry kind;
    uint32_t node; /* ADMIT: the node, also when it was there already; CHANGES; EXPEL:
                      0 when there was nobody to expel */
    char *why;     /* EXPEL */
    bool fresh;    /* ADMIT: not a repetition */
    struct cms_refusal *refusals; /* CHANGES */
    uint32_t refusal_count;
    struct cms_plan *plan; /* INSTALL: what was done */
};

void state_init(struct cms_state *s);
void state_done(struct cms_state *s);

/* Applies the entry with the index after the last. -EPROTO: malformed, or it does not fit. */
int state_apply(struct cms_state *s, uint64_t index, const uint8_t *entry, size_t bytes,
                struct cms_effect *ret);
void effect_done(struct cms_effect *e);

struct cms_node *state_node(const struct cms_state *s, uint32_t id);              /* or NULL */
struct cms_group *state_group(const struct cms_state *s, uint32_t gid);           /* or NULL */
struct cms_group *state_group_named(const struct cms_state *s, const char *name); /* or NULL */
/* The node that was admitted with this very Hello and is not expelled, or NULL. */
struct cms_node *state_incarnation(const struct cms_state *s, const char *name, uint32_t address,
                                   uint64_t incarnation);
const struct cms_row *node_row(const struct cms_node *n, const struct cms_group *g); /* or NULL */

/* NULL, or a sentence about what is wrong with the name of a group. */
const char *state_bad_name(const char *name);

/* Building blocks for a snapshot and for a plan that is carried out. */
struct cms_node *state_add_node(struct cms_state *s, uint32_t id, const char *name);
struct cms_group *state_add_group(struct cms_state *s, uint32_t gid, const char *name);
void state_drop_group(struct cms_state *s, struct cms_group *g);
void state_drop_node(struct cms_state *s, struct cms_node *n); /* and its rows */
/* Appends a row with the highest gid. */
void state_add_row(struct cms_state *s, struct cms_node *n, struct cms_group *g, uint8_t want,
                   uint8_t have);
/* Takes out the rows that have become empty; a group without rows goes, unless an epoch has it. */
void state_sweep_rows(struct cms_state *s, struct cms_node *n);

void refusal_add(struct cms_refusal **list, uint32_t *count, const char *name, const char *reason);
void refusals_free(struct cms_refusal *list, uint32_t count);

#endif
