/* cms_plan: what the next epoch would be, computed from the state alone: its regions, what a view
 * change towards it has in scope, and who takes part in that (DESIGN section 4, "Scope"). */
#ifndef QSM_CMS_PLAN_H
#define QSM_CMS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "cms_state.h"

struct plan_list {
    uint32_t *list; /* owned */
    uint32_t count;
};

struct plan_channel {
    uint32_t sender, rid;
};

struct plan_sender {
    uint32_t gid, node;
    bool on;
};

struct cms_plan {
    bool empty;             /* nothing would change */
    uint64_t epoch;         /* that it would be */
    struct regions next;    /* its regions; those in scope have `epoch` as theirs */
    struct plan_list scope; /* rids of the present epoch in scope */
    struct plan_list dead;  /* expelled nodes that it leaves out */
    struct plan_list participants;
    struct plan_channel *channels; /* of the dead, into regions in scope; by sender, rid */
    uint32_t channel_count;
    bool *take; /* per node not expelled: it gets the set that it wants */

    /* The difference that was made; plan_carry_out fills it in. */
    struct plan_list peers, gone;           /* node ids */
    struct plan_list regions, regions_gone; /* rids: views that are new, and gone */
    struct plan_list groups, groups_gone;   /* gids, likewise */
    struct plan_sender *senders;
    uint32_t sender_count;
};

/* Takes all that the state holds; only scratch marks of groups are touched. */
void plan_build(const struct cms_state *s, struct cms_plan *ret);

/* Makes the planned epoch the present one, except for the numbers that the log's entry gives. The
 * plan must have been built from this very state. */
void plan_carry_out(struct cms_state *s, struct cms_plan *p);

void plan_done(struct cms_plan *p);

#endif
