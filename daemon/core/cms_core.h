/* cms_core: what the modules of the CMS share: the state, the log's tail, the links, the view
 * change under way and the failure detector. cms.h is the outside. */
#ifndef QSM_CMS_CORE_H
#define QSM_CMS_CORE_H

#include <sys/types.h>
#include <bsd/sys/queue.h>

#include "cms.h"
#include "cms.pb-c.h"
#include "cms_link.h"
#include "cms_log.h"
#include "cms_plan.h"
#include "cms_state.h"
#include "flush.h"
#include "suspect.h"

#define CMS_NEVER UINT64_MAX
#define CMS_WIRE_VERSION 1
#define CMS_ENTRY_BYTES (512u << 10)   /* changes of a request are cut into entries of this size */
#define CMS_HELD_BYTES_MAX (64u << 20) /* requests that wait for the end of a view change */

/* The answer to a request, once all its entries are applied. */
struct cms_answer {
    uint32_t node;
    uint64_t request;
    struct cms_refusal *refusals;
    uint32_t refusal_count;
};

/* An entry on its way into the log, or a part of a request that waits for a view change to end. */
struct cms_append {
    TAILQ_ENTRY(cms_append) entry;
    uint64_t index; /* 0: held */
    enum cms_entry kind;
    uint8_t *bytes; /* owned */
    size_t size;
    uint64_t link;        /* CMS_ADMIT: who asked, */
    uint64_t incarnation; /* and for which process */
    uint32_t address;
    struct cms_answer *answer; /* CMS_CHANGES */
    bool last;                 /* of its answer, which it owns */
};
TAILQ_HEAD(cms_appends, cms_append);

/* A node that was told that it is expelled (DESIGN section 4, "repeated within 10 minutes"). */
struct cms_grave {
    char *key;      /* name and address; owned */
    uint32_t node;  /* the last one that was told */
    uint32_t count; /* in a row */
    uint64_t told_us;
    UT_hash_handle hh;
};

struct cms {
    struct cms_config config; /* cluster owned */
    struct cms_upcalls up;
    struct cms_state state;
    uint64_t now_us;  /* as of the last call */
    bool leading;     /* `lead` is durable */

    uint64_t next_index;      /* of the next entry to append; 0: cms_lead was not called */
    uint64_t pulled;          /* entries up to this one were given to the shell */
    struct cms_appends queue; /* not applied yet */
    struct cms_appends held;
    size_t held_bytes;

    struct cms_links links;
    struct cms_grave *graves;
    struct flush flush;
    struct suspect suspect;
    uint64_t marks[MARKS_COUNT];
    struct buf *full; /* the present epoch for a node that sends nothing; NULL: not made yet */
};

void cms_trace(const struct cms *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Counts a rare branch that was taken (mark.h). */
void cms_mark(struct cms *c, enum mark_id mark);

/* Puts an entry into the log's tail; takes the bytes over. */
struct cms_append *cms_append(struct cms *c, enum cms_entry kind, uint8_t *bytes, size_t size);

/* Whether an entry of this kind is on its way into the log. */
bool cms_appending(const struct cms *c, enum cms_entry kind);

/* Puts the node's expulsion into the log, once. */
void cms_expel(struct cms *c, struct cms_node *n, const char *why);

/* Lets the requests that waited for the end of a view change into the log. */
void cms_release_held(struct cms *c);

/* Sends a message to a node that is linked; to others nothing. */
void cms_tell(struct cms *c, struct cms_node *n, const Qsm__CmsToNode *m);

/* One message from a link, checked only as protobuf does. -EPROTO: not acceptable. */
int cms_handle(struct cms *c, struct cms_link *l, const Qsm__NodeToCms *m, uint64_t now_us);

/* ---- cms_hello.c: who comes, and how it is taken up */

void hello_receive(struct cms *c, struct cms_link *l, const Qsm__Hello *m, uint64_t now_us);
/* Answers a Hello that waited for this leader, or for the admission of `node` (0: refused). */
void hello_answer(struct cms *c, struct cms_link *l, uint64_t now_us);
void hello_admitted(struct cms *c, struct cms_link *l, uint32_t node, uint64_t now_us);
/* Tells a node that it is expelled and gives its link up. */
void hello_expelled(struct cms *c, struct cms_link *l, uint32_t node, const char *why,
                    uint64_t now_us);
void hello_done(struct cms *c);

/* ---- cms_install.c: INSTALL messages, to be sent with link_put; NULL: larger than one may be */

struct buf *install_difference(const struct cms_state *s, const struct cms_plan *p);
/* For this node: of the senders only its own groups are named. */
struct buf *install_full(const struct cms_state *s, const struct cms_node *n);
/* Whether install_full names any group that it sends to. */
bool node_sends(const struct cms_node *n);
/* The same difference as lines of the trace. */
void install_trace(const struct cms *c, const struct cms_plan *p);

#endif
