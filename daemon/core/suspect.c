/* suspect: who is faulty (suspect.h). */
#include "suspect.h"

#include "cms_core.h"
#include "cms_mem.h"

#define PING_US 500000
#define PROBE_US 500000         /* time that members have to answer */
#define PROBE_AGAIN_US 1000000  /* after one that said alive */
#define SILENCE_MAX_US 10000000 /* on the link, whatever others hear */
#define TAKEOVER_US 5000000     /* for nodes to find the leader */
#define LAG_LONG_US 1000000     /* nodes may have given the CMS up: its disk may add to this */
#define LOSSES_US 2000000       /* half of the nodes within this time: judge nobody for as long */
#define LAG_HOLD_US 500000
#define MILD_US 10000000    /* expulsions without proof are limited within this time */
#define ACCUSED_US 10000000 /* an accusation counts so long */

static void sooner(struct cms *c, uint64_t at_us)
{
    if (at_us < c->suspect.next_us)
        c->suspect.next_us = at_us;
}

bool suspect_holding(const struct cms *c, uint64_t now_us)
{
    return now_us < c->suspect.hold_us;
}

void suspect_lead(struct cms *c, uint64_t now_us)
{
    c->suspect = (struct suspect){.next_us = now_us,
                                  .ping_us = now_us + PING_US,
                                  .away_us = now_us,
                                  .return_us = now_us + TAKEOVER_US};
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next)
        n->watch = (struct cms_watch){.down_us = now_us};
}

/* Its link takes it up now, unless that went in the meantime. */
void suspect_admitted(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    n->watch = (struct cms_watch){.down_us = now_us};
    sooner(c, now_us + c->config.resume_us);
}

void suspect_linked(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    n->watch = (struct cms_watch){.heard_us = now_us};
    sooner(c, now_us + c->config.silence_us);
}

/* Who sees many vanish at once has rather lost its own network. */
static void count_loss(struct cms *c, struct cms_node *lost, uint64_t now_us)
{
    uint32_t count = 0;
    lost->watch.lost_us = now_us;
    for (const struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next)
        count += !n->expelled && n->watch.lost_us > 0 && now_us - n->watch.lost_us < LOSSES_US;
    if (2 * count > c->state.node_count && c->state.node_count > 1 && !suspect_holding(c, now_us))
        c->suspect.hold_us = now_us + LOSSES_US;
}

void suspect_unlinked(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    n->watch = (struct cms_watch){.down_us = now_us};
    count_loss(c, n, now_us);
    sooner(c, now_us + c->config.resume_us);
}

void suspect_heard(struct cms_node *n, uint64_t now_us)
{
    n->watch.heard_us = now_us;
    n->watch.lost_us = 0;
    if (n->watch.link_silent)
        n->watch.probe = 0; /* it speaks: whatever the members would say */
}

void suspect_lagged(struct cms *c, uint64_t lag_us, uint64_t now_us)
{
    struct suspect *s = &c->suspect;
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        if (n->link != NULL)
            n->watch = (struct cms_watch){.heard_us = now_us};
        else if (n->watch.down_us > s->away_us)
            n->watch.down_us = now_us;
    }
    if (s->hold_us < now_us + LAG_HOLD_US)
        s->hold_us = now_us + LAG_HOLD_US;
    if (lag_us >= LAG_LONG_US) /* that they went may still have to be read */
        s->away_us = s->return_us = now_us + TAKEOVER_US;
    sooner(c, now_us);
}

/* ---- probes */

static const struct region *region_of(const struct cms *c, uint32_t node)
{
    for (uint32_t i = 0; i < c->state.regions.count; i++) {
        const struct region *r = &c->state.regions.list[i];
        for (uint32_t k = 0; k < r->member_count; k++) {
            if (r->members[k] == node)
                return r;
        }
    }
    return NULL;
}

/* Whether it is worth asking. An accuser's word was heard already. */
static bool can_ask(const struct cms_node *n, const struct cms_node *about, uint64_t now_us)
{
    const struct cms_watch *w = &about->watch;
    return n != about && !n->expelled && !n->expelling && n->link != NULL &&
           now_us - n->watch.heard_us < 2 * PING_US && n->id != w->asked[0] &&
           n->id != w->asked[1] && n->id != w->accusers[0] && n->id != w->accusers[1];
}

/* A member to ask: of the same region, if there is one; any node otherwise. Who follows the node in
 * the order of ids is first, so that not the same are asked about everybody. */
static struct cms_node *choose_asked(const struct cms *c, const struct cms_node *about,
                                     uint64_t now_us)
{
    const struct region *r = region_of(c, about->id);
    struct cms_node *best = NULL;
    uint64_t best_rank = UINT64_MAX;
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        if (!can_ask(n, about, now_us))
            continue;
        uint64_t rank = n->id - about->id; /* 32 bits: those behind it wrap to the end */
        rank &= UINT32_MAX;
        bool near = false;
        for (uint32_t k = 0; r != NULL && k < r->member_count && !near; k++)
            near = r->members[k] == n->id;
        if (!near)
            rank += (uint64_t)1 << 32;
        if (rank < best_rank) {
            best_rank = rank;
            best = n;
        }
    }
    return best;
}

/* Asks up to two members whether they hear of the node. False: there is nobody to ask. */
static bool probe(struct cms *c, struct cms_node *about, bool link_silent, uint64_t now_us)
{
    struct cms_watch *w = &about->watch;
    w->asked[0] = w->asked[1] = 0;
    w->answered[0] = w->answered[1] = false;
    w->alive = false;
    w->link_silent = link_silent;
    w->confirming = false;
    Qsm__Probe message = QSM__PROBE__INIT;
    message.probe = ++c->suspect.probe;
    message.node = about->id;
    message.address = about->address;
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_PROBE;
    m.probe = &message;
    for (int i = 0; i < 2; i++) {
        struct cms_node *asked = choose_asked(c, about, now_us);
        w->answered[i] = asked == NULL;
        if (asked == NULL)
            continue;
        w->asked[i] = asked->id;
        cms_tell(c, asked, &m);
    }
    if (w->asked[0] == 0)
        return false;
    w->probe = message.probe;
    w->probed_us = now_us;
    w->probe_us = now_us + PROBE_US;
    sooner(c, w->probe_us);
    return true;
}

void suspect_probed(struct cms *c, uint32_t by, uint64_t number, bool alive, uint64_t now_us)
{
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        struct cms_watch *w = &n->watch;
        if (w->probe == 0 || w->probe != number)
            continue;
        for (int i = 0; i < 2; i++) {
            if (w->asked[i] != by)
                continue;
            w->answered[i] = true;
            w->alive |= alive;
        }
        if (w->alive || (w->answered[0] && w->answered[1]))
            w->probe_us = now_us;
        sooner(c, w->probe_us);
    }
}

void suspect_accused(struct cms *c, uint32_t by, struct cms_node *n, uint64_t now_us)
{
    struct cms_watch *w = &n->watch;
    if (n->expelled || n->expelling || n->id == by)
        return;
    if (now_us - w->accused_us > ACCUSED_US)
        w->accusers[0] = w->accusers[1] = 0;
    w->accused_us = now_us;
    if (w->accusers[0] == 0) {
        w->accusers[0] = by;
    } else if (w->accusers[0] != by && w->accusers[1] == 0) {
        w->accusers[1] = by;
    }
    if (n->link != NULL && w->probe == 0 && now_us >= w->retry_us)
        probe(c, n, now_us - w->heard_us >= c->config.silence_us, now_us);
}

/* ---- verdicts */

/* Without proof at most max(1, 20 %) of a region's members go within MILD_US. */
static bool may_expel_mildly(struct cms *c, const struct cms_node *n, uint64_t now_us)
{
    struct suspect *s = &c->suspect;
    const struct region *r = region_of(c, n->id);
    uint32_t rid = r != NULL ? r->rid : 0, members = r != NULL ? r->member_count : 1;
    uint32_t kept = 0, recent = 0;
    for (uint32_t i = 0; i < s->mild_count; i++) {
        if (now_us - s->mild[i].at_us >= MILD_US)
            continue;
        recent += s->mild[i].rid == rid;
        s->mild[kept++] = s->mild[i];
    }
    s->mild_count = kept;
    if (kept == SUSPECT_MILD_MAX || (recent > 0 && 5 * (recent + 1) > members))
        return false;
    s->mild[s->mild_count].at_us = now_us;
    s->mild[s->mild_count++].rid = rid;
    return true;
}

/* The members' answers are in, or late. */
static void conclude(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    struct cms_watch *w = &n->watch;
    bool silent = now_us - w->heard_us >= c->config.silence_us;
    w->probe = 0;
    if (w->alive && now_us - w->heard_us < SILENCE_MAX_US) {
        w->retry_us = now_us + PROBE_AGAIN_US;
        if (silent)
            cms_mark(c, MARK_probe_saves);
        return;
    }
    if (silent) {
        cms_expel(c, n, "silent");
        return;
    }
    /* Two neighbours and those who probed can't reach it, and yet it spoke while they tried, so
     * that it is no pause: it is of no use to them. */
    bool unreachable =
        w->accusers[1] != 0 && w->answered[0] && w->answered[1] && w->heard_us > w->probed_us;
    if (unreachable && !w->confirming && probe(c, n, false, now_us)) {
        w->confirming = true; /* it may have woken up in the last moment */
        return;
    }
    if (unreachable && may_expel_mildly(c, n, now_us))
        cms_expel(c, n, "unreachable");
    w->retry_us = now_us + PROBE_AGAIN_US;
}

/* When a node without a link is given up. */
static uint64_t down_deadline(const struct cms *c, const struct cms_node *n)
{
    const struct cms_watch *w = &n->watch;
    uint64_t at = w->down_us + c->config.resume_us;
    if (w->down_us <= c->suspect.away_us && at < c->suspect.return_us)
        at = c->suspect.return_us;
    return at;
}

/* Does what is due for a node; returns when something is due next. */
static uint64_t look(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    struct cms_watch *w = &n->watch;
    uint64_t hold = c->suspect.hold_us;
    if (n->expelled || n->expelling)
        return CMS_NEVER;
    if (n->link == NULL) {
        uint64_t at = down_deadline(c, n);
        at = at > hold ? at : hold;
        if (now_us < at)
            return at;
        cms_expel(c, n, "closed");
        return CMS_NEVER;
    }
    if (w->probe != 0) {
        if (now_us >= w->probe_us && now_us >= hold)
            conclude(c, n, now_us);
        if (w->probe != 0)
            return w->probe_us > hold ? w->probe_us : hold;
    }
    uint64_t at = w->heard_us + c->config.silence_us;
    at = at > w->retry_us ? at : w->retry_us;
    if (now_us < at || n->expelling)
        return n->expelling ? CMS_NEVER : at;
    if (w->lost_us == 0)
        count_loss(c, n, now_us);
    if (now_us < c->suspect.hold_us)
        return c->suspect.hold_us;
    if (probe(c, n, true, now_us))
        return w->probe_us;
    cms_expel(c, n, "silent");
    return CMS_NEVER;
}

static void ping_all(struct cms *c, uint64_t now_us)
{
    Qsm__Ping ping = QSM__PING__INIT;
    ping.count = ++c->suspect.ping_count;
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_PING;
    m.ping = &ping;
    struct buf *frame = link_encode(&m);
    for (struct cms_link *l = c->links.all; l != NULL; l = l->hh.next) {
        if (l->node != 0 || l->admitting)
            link_put(&c->links, l, frame);
    }
    buf_unref(frame);
    c->suspect.ping_us = now_us + PING_US;
}

uint64_t suspect_deadline(const struct cms *c)
{
    if (!c->leading)
        return CMS_NEVER;
    return c->suspect.next_us < c->suspect.ping_us ? c->suspect.next_us : c->suspect.ping_us;
}

void suspect_expire(struct cms *c, uint64_t now_us)
{
    if (!c->leading)
        return;
    if (now_us >= c->suspect.ping_us)
        ping_all(c, now_us);
    if (now_us < c->suspect.next_us)
        return;
    uint64_t next = CMS_NEVER;
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        uint64_t at = look(c, n, now_us);
        next = at < next ? at : next;
    }
    c->suspect.next_us = next;
}
