/* suspect: who is faulty (DESIGN section 4, "Failure detection"). A closed link that is not resumed
 * is proof; silence on the link is proof when the members that are asked hear nothing either. */
#ifndef QSM_SUSPECT_H
#define QSM_SUSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "cms_state.h"

struct cms;

#define SUSPECT_MILD_MAX 64 /* expulsions without proof that are remembered, for their limit */

struct suspect {
    uint64_t next_us; /* when something may be due */
    uint64_t ping_us; /* next pings */
    uint64_t ping_count;
    uint64_t hold_us; /* judges nobody before */
    /* A node without a link since away_us or before need not be back earlier than return_us. */
    uint64_t away_us, return_us;
    uint64_t probe; /* last probe given out */
    struct {
        uint64_t at_us;
        uint32_t rid;
    } mild[SUSPECT_MILD_MAX];
    uint32_t mild_count;
};

void suspect_lead(struct cms *c, uint64_t now_us);
void suspect_admitted(struct cms *c, struct cms_node *n, uint64_t now_us);
void suspect_linked(struct cms *c, struct cms_node *n, uint64_t now_us);
void suspect_unlinked(struct cms *c, struct cms_node *n, uint64_t now_us);
void suspect_heard(struct cms_node *n, uint64_t now_us);
/* A member answers a probe. */
void suspect_probed(struct cms *c, uint32_t by, uint64_t probe, bool alive, uint64_t now_us);
/* A node says that another does not acknowledge. */
void suspect_accused(struct cms *c, uint32_t by, struct cms_node *n, uint64_t now_us);
/* The CMS's own loop was late by so much: all that was missed meanwhile may be its own fault. */
void suspect_lagged(struct cms *c, uint64_t lag_us, uint64_t now_us);
bool suspect_holding(const struct cms *c, uint64_t now_us);

uint64_t suspect_deadline(const struct cms *c);
void suspect_expire(struct cms *c, uint64_t now_us);

#endif
