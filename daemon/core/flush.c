/* flush: the coordinator of view changes (flush.h). */
#include "flush.h"

#include <assert.h>
#include <stdio.h>

#include "cms_core.h"
#include "cms_mem.h"

#define WAIT_FACTOR 10 /* planned changes wait so many times what the flush took */
#define WAIT_MAX_US 5000000
#define VOIDED_WAIT_US 1000000 /* doubles with each flush in a row that cuts messages off */
#define VOIDED_WAIT_MAX_US 30000000
#define START_WAIT_MAX_US 6000000 /* for links: more than the failure detector's graces */
#define SLOW_FACTOR 4             /* times progress_us that one may take to vote without a word */
#define ATTEMPT_MIN_US 500000     /* an attempt younger than this shows nothing about anybody */

/* ---- one attempt */

static void drop_attempt(struct flush *f)
{
    struct flush_at *at, *next;
    HASH_ITER (hh, f->channels, at, next) {
        HASH_DELETE(hh, f->channels, at);
        free(at);
    }
    HASH_ITER (hh, f->numbers, at, next) {
        HASH_DELETE(hh, f->numbers, at);
        free(at);
    }
    for (uint32_t i = 0; i < f->node_count; i++)
        free(f->nodes[i].stuck);
    free(f->nodes);
    f->nodes = NULL;
    f->node_count = 0;
    buf_unref(f->prep);
    buf_unref(f->cut);
    f->prep = f->cut = NULL;
    plan_done(&f->plan);
}

void flush_init(struct flush *f)
{
    *f = (struct flush){0};
}

void flush_done(struct flush *f)
{
    drop_attempt(f);
}

static struct flush_node *find_node(const struct flush *f, uint32_t id)
{
    for (uint32_t i = 0; i < f->node_count; i++) {
        if (f->nodes[i].id == id)
            return &f->nodes[i];
    }
    return NULL;
}

static bool in_list(const struct plan_list *l, uint32_t id)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->list[i] == id)
            return true;
    }
    return false;
}

static void fill_tag(const struct cms *c, Qsm__Tag *tag)
{
    qsm__tag__init(tag);
    tag->term = c->state.term;
    tag->epoch = c->flush.plan.epoch;
    tag->attempt = c->flush.attempt;
}

static bool is_tag(const struct cms *c, const Qsm__Tag *tag)
{
    bool same = tag != NULL && tag->term == c->state.term && tag->epoch == c->flush.plan.epoch;
#ifdef MUTANT_old_attempt_taken
    return same;
#endif
    return same && tag->attempt == c->flush.attempt;
}

static void tell(struct cms *c, uint32_t node, struct buf *frame)
{
    struct cms_node *n = state_node(&c->state, node);
    if (n != NULL && n->link != NULL)
        link_put(&c->links, n->link, frame);
}

static struct buf *encode_prep(const struct cms *c)
{
    const struct cms_plan *p = &c->flush.plan;
    Qsm__Tag tag;
    Qsm__Prep prep = QSM__PREP__INIT;
    fill_tag(c, &tag);
    prep.tag = &tag;
    prep.previous = c->state.epoch;
    prep.n_dead = p->dead.count;
    prep.dead = p->dead.list;
    prep.n_region = p->scope.count;
    prep.region = p->scope.list;
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_PREP;
    m.prep = &prep;
    return link_encode(&m);
}

static void append_install(struct cms *c)
{
    struct flush *f = &c->flush;
    size_t size;
    uint8_t *bytes = log_install(c->state.term, f->plan.epoch, f->attempt, &size);
    f->phase = FLUSH_INSTALL;
    cms_append(c, CMS_INSTALL, bytes, size);
}

/* Answers that are missing, over both phases. */
static uint32_t missing(const struct flush *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->node_count; i++)
        count += (f->nodes[i].reported ? 0 : 1u) + (f->nodes[i].done ? 0 : 1u);
    return count;
}

static void note_progress(struct flush *f, uint64_t now_us)
{
    uint32_t left = missing(f);
    if (left >= f->best)
        return;
    f->best = left;
    f->progress_us = now_us;
    f->retried = false;
}

/* Where dead senders' channels end is told even when nobody holds anything of them. */
static struct flush_at *note_at(struct flush_at **table, uint32_t sender, uint32_t of,
                                uint64_t value, uint32_t holder)
{
    struct flush_at key = {.key = {.sender = sender, .of = of}}, *at;
    HASH_FIND(hh, *table, &key.key, sizeof key.key, at);
    if (at == NULL) {
        at = mem_new(1, sizeof *at);
        at->key = key.key;
        HASH_ADD(hh, *table, key, sizeof at->key, at);
    }
#ifdef MUTANT_cut_minimum
    if (value < at->value || at->holder == 0) {
#else
    if (value > at->value || at->holder == 0) {
#endif
        at->value = value;
#ifdef MUTANT_holder_first
        holder = at->holder != 0 ? at->holder : holder;
#endif
        at->holder = value > 0 ? holder : 0;
    }
    return at;
}

static void begin(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    f->phase = FLUSH_PREP;
    f->starting = f->due = false;
    f->attempt++;
    f->attempt_us = now_us;
    if (f->attempt >= 3)
        cms_mark(c, MARK_third_attempt);
    f->node_count = f->plan.participants.count;
    f->nodes = mem_new(f->node_count, sizeof *f->nodes);
    for (uint32_t i = 0; i < f->node_count; i++)
        f->nodes[i].id = f->plan.participants.list[i];
    for (uint32_t i = 0; i < f->plan.channel_count; i++)
        note_at(&f->channels, f->plan.channels[i].sender, f->plan.channels[i].rid, 0, 0);
    if (f->node_count == 0) {
        append_install(c);
        return;
    }
    f->prep = encode_prep(c);
    for (uint32_t i = 0; i < f->node_count; i++)
        tell(c, f->nodes[i].id, f->prep);
}

/* Whether the log's tail holds nothing that a plan made now would miss. */
static bool is_settled(const struct cms *c)
{
    return !cms_appending(c, CMS_CHANGES) && !cms_appending(c, CMS_EXPEL);
}

/* ---- when to begin */

void flush_planned(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    uint64_t at = now_us + c->config.batch_us;
    if (at < f->planned_us)
        at = f->planned_us;
    if (!f->due || f->due_us > at)
        f->due_us = at;
    f->due = true;
}

void flush_crashed(struct cms *c, uint64_t now_us)
{
    c->flush.due = true;
    c->flush.due_us = now_us;
}

bool flush_holds_changes(const struct cms *c)
{
    return c->flush.phase != FLUSH_IDLE || c->flush.starting;
}

/* A flush that waits for somebody without a link holds up everybody's sending. Who has none is back
 * or expelled soon, and then part of the same flush. */
static bool all_linked(const struct cms *c, const struct cms_plan *p)
{
    for (uint32_t i = 0; i < p->participants.count; i++) {
        const struct cms_node *n = state_node(&c->state, p->participants.list[i]);
        assert(n != NULL);
        if (n->link == NULL)
            return false;
    }
    return true;
}

static void start(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    if (!f->starting)
        f->start_us = now_us;
    f->starting = true;
    if (!is_settled(c))
        return;
    struct cms_plan plan;
    plan_build(&c->state, &plan);
    if (plan.empty) {
        plan_done(&plan);
        f->due = f->starting = false;
        cms_release_held(c);
        return;
    }
    if (!all_linked(c, &plan) && now_us - f->start_us < START_WAIT_MAX_US) {
        plan_done(&plan);
        return;
    }
    f->plan = plan;
    f->began_us = f->progress_us = now_us;
    f->best = UINT32_MAX;
    f->judge_us = 0;
    f->retried = false;
    f->voided = false;
    begin(c, now_us);
}

/* Only deaths and lags of the CMS start another attempt, which takes all that is known. Who gave
 * the CMS up meanwhile is waited for first: who has not voted left the last attempt and sends. */
static void restart(struct cms *c, uint64_t now_us)
{
    if (!is_settled(c))
        return;
    struct cms_plan plan;
    plan_build(&c->state, &plan);
    if (!all_linked(c, &plan) && now_us < c->suspect.return_us) {
        plan_done(&plan);
        return;
    }
    drop_attempt(&c->flush);
    c->flush.plan = plan;
    begin(c, now_us);
}

static bool all_reported(const struct flush *f)
{
    for (uint32_t i = 0; i < f->node_count; i++) {
        if (!f->nodes[i].reported)
            return false;
    }
    return true;
}

static bool all_done(const struct flush *f)
{
    uint32_t awaited = 0;
    for (uint32_t i = 0; i < f->node_count; i++)
        awaited += !f->nodes[i].done;
#ifdef MUTANT_one_vote_missing
    return awaited <= 1;
#endif
    return awaited == 0;
}

static void send_cut(struct cms *c);

void flush_step(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    if (!c->leading)
        return;
    bool due = f->due && f->due_us <= now_us;
    if (f->phase == FLUSH_IDLE && due)
        start(c, now_us);
    else if ((f->phase == FLUSH_PREP || f->phase == FLUSH_CUT) && due)
        restart(c, now_us);
    if (f->phase == FLUSH_PREP && !f->due && all_reported(f))
        send_cut(c);
    /* An expulsion on its way into the log would stand before the install, which took it in. */
    bool expels = cms_appending(c, CMS_EXPEL);
#ifdef MUTANT_expel_not_awaited
    expels = false;
#endif
    if (f->phase == FLUSH_CUT && !f->due && all_done(f) && !expels)
        append_install(c);
}

void flush_installed(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    uint64_t took = now_us - f->began_us;
    uint64_t wait = WAIT_FACTOR * took < WAIT_MAX_US ? WAIT_FACTOR * took : WAIT_MAX_US;
    f->voided_streak = f->voided ? f->voided_streak + 1 : 0;
    if (f->voided) {
        uint32_t shift = f->voided_streak < 6 ? f->voided_streak - 1 : 5;
        uint64_t longer = (uint64_t)VOIDED_WAIT_US << shift;
        longer = longer < VOIDED_WAIT_MAX_US ? longer : VOIDED_WAIT_MAX_US;
        wait = wait > longer ? wait : longer;
    }
    f->planned_us = now_us + wait;
    drop_attempt(f);
    f->phase = FLUSH_IDLE;
    f->attempt = 0;
    if (c->state.expelled_count > 0)
        flush_crashed(c, now_us);
    else if (c->state.pending > 0)
        flush_planned(c, now_us);
    cms_release_held(c);
}

/* ---- the cut */

static int compare_at(const struct flush_at *a, const struct flush_at *b)
{
    if (a->key.sender != b->key.sender)
        return a->key.sender < b->key.sender ? -1 : 1;
    return a->key.of < b->key.of ? -1 : a->key.of > b->key.of;
}

static void fill_channels(struct flush *f, Qsm__Cut *cut, Qsm__ChannelAt *list)
{
    cut->channel = mem_new(HASH_COUNT(f->channels), sizeof *cut->channel);
    HASH_SORT(f->channels, compare_at);
    for (struct flush_at *at = f->channels; at != NULL; at = at->hh.next) {
        Qsm__ChannelAt *m = &list[cut->n_channel];
        qsm__channel_at__init(m);
        m->sender = at->key.sender;
        m->rid = at->key.of;
        m->seq = at->value;
        m->holder = at->holder;
        cut->channel[cut->n_channel++] = m;
    }
}

static void fill_numbers(struct flush *f, Qsm__Cut *cut, Qsm__NumberAt *list)
{
    cut->number = mem_new(HASH_COUNT(f->numbers), sizeof *cut->number);
    HASH_SORT(f->numbers, compare_at);
    for (struct flush_at *at = f->numbers; at != NULL; at = at->hh.next) {
        Qsm__NumberAt *m = &list[cut->n_number];
        qsm__number_at__init(m);
        m->sender = at->key.sender;
        m->group = at->key.of;
        m->number = at->value;
        m->holder = at->holder;
        m->first = at->first;
        cut->number[cut->n_number++] = m;
    }
}

static void send_cut(struct cms *c)
{
    struct flush *f = &c->flush;
    Qsm__Tag tag;
    Qsm__Cut cut = QSM__CUT__INIT;
    Qsm__ChannelAt *channels = mem_new(HASH_COUNT(f->channels), sizeof *channels);
    Qsm__NumberAt *numbers = mem_new(HASH_COUNT(f->numbers), sizeof *numbers);
    fill_tag(c, &tag);
    cut.tag = &tag;
    fill_channels(f, &cut, channels);
    fill_numbers(f, &cut, numbers);
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_CUT;
    m.cut = &cut;
    f->cut = link_encode(&m);
    f->phase = FLUSH_CUT;
    for (uint32_t i = 0; i < f->node_count; i++)
        tell(c, f->nodes[i].id, f->cut);
    free(cut.channel);
    free(cut.number);
    free(channels);
    free(numbers);
}

/* ---- what the nodes say */

/* Of those who hold the highest number one is the holder who has messages of the stream in its
 * present channel: others have nothing to serve, and can't say where the stream begins. */
static void note_number(struct flush *f, const Qsm__NumberAt *m, uint32_t node)
{
    struct flush_at *at = note_at(&f->numbers, m->sender, m->group, m->number, node);
    if (at->value == m->number && (at->holder == node || at->first == 0)) {
        at->holder = node;
        at->first = m->first;
    }
}

void flush_report(struct cms *c, struct cms_node *n, const Qsm__Report *m, uint64_t now_us)
{
    struct flush *f = &c->flush;
    struct flush_node *p = find_node(f, n->id);
    if (f->phase != FLUSH_PREP || p == NULL || p->reported || !is_tag(c, m->tag))
        return;
    for (size_t i = 0; i < m->n_boundary; i++) {
        const Qsm__ChannelAt *at = m->boundary[i];
        if (in_list(&f->plan.scope, at->rid))
            note_at(&f->channels, n->id, at->rid, at->seq, n->id)->holder = n->id;
    }
    for (size_t i = 0; i < m->n_heard; i++) {
        const Qsm__ChannelAt *at = m->heard[i];
        if (in_list(&f->plan.scope, at->rid) && in_list(&f->plan.dead, at->sender))
            note_at(&f->channels, at->sender, at->rid, at->seq, n->id);
    }
    for (size_t i = 0; i < m->n_number; i++) {
        const Qsm__NumberAt *at = m->number[i];
        if (in_list(&f->plan.dead, at->sender) && state_group(&c->state, at->group) != NULL)
            note_number(f, at, n->id);
    }
    f->voided |= m->voided != 0;
    if (m->more)
        return; /* after a link that breaks here all is said again */
    p->reported = true;
    note_progress(f, now_us);
    flush_step(c, now_us);
}

void flush_vote(struct cms *c, struct cms_node *n, const Qsm__Done *m, uint64_t now_us)
{
    struct flush *f = &c->flush;
    struct flush_node *p = find_node(f, n->id);
    if (f->phase != FLUSH_CUT || p == NULL || p->done || !is_tag(c, m->tag))
        return;
    p->done = true;
    note_progress(f, now_us);
    flush_step(c, now_us);
}

/* Its channels go on above what it reported: what was gathered no longer holds. */
void flush_left(struct cms *c, const Qsm__Left *m, uint64_t now_us)
{
    struct flush *f = &c->flush;
    if ((f->phase != FLUSH_PREP && f->phase != FLUSH_CUT) || !is_tag(c, m->tag))
        return;
    f->due = true;
    f->due_us = now_us;
    flush_step(c, now_us);
}

void flush_stuck(struct cms *c, struct cms_node *n, const Qsm__Stuck *m, uint64_t now_us)
{
    struct flush_node *p = find_node(&c->flush, n->id);
    (void)now_us;
    if (p == NULL || !is_tag(c, m->tag))
        return;
    free(p->stuck);
    p->stuck = mem_copy(m->of, m->n_of, sizeof *m->of);
    p->stuck_count = (uint32_t)m->n_of;
}

void flush_linked(struct cms *c, struct cms_node *n, uint64_t now_us)
{
    struct flush *f = &c->flush;
    struct flush_node *p = find_node(f, n->id);
    if (p != NULL && !p->done && f->phase == FLUSH_PREP)
        tell(c, n->id, f->prep);
    if (p != NULL && !p->done && f->phase == FLUSH_CUT) {
        tell(c, n->id, f->prep);
        tell(c, n->id, f->cut);
    }
    flush_step(c, now_us);
}

/* ---- no progress */

/* An edge: a waiter waits for a source. */
struct edge {
    uint32_t waiter, source;
    bool covered;
};

static void cover(struct edge *edges, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (edges[i].waiter == id || edges[i].source == id)
            edges[i].covered = true;
    }
}

/* The node on most edges that are not covered; a source that several wait for goes before a waiter
 * that waits for as many. 0: no edge is left. */
static uint32_t heaviest(const struct edge *edges, size_t count)
{
    uint32_t best = 0, most = 0;
    for (size_t i = 0; i < count; i++) {
        if (edges[i].covered)
            continue;
        uint32_t waits = 0, awaited = 0;
        for (size_t k = 0; k < count; k++) {
            waits += !edges[k].covered && edges[k].waiter == edges[i].waiter;
            awaited += !edges[k].covered && edges[k].source == edges[i].source;
        }
        uint32_t source = awaited > 1 ? 2 * awaited + 1 : 1, waiter = 2 * waits;
        if (source > most) {
            most = source;
            best = edges[i].source;
        }
        if (waiter > most) {
            most = waiter;
            best = edges[i].waiter;
        }
    }
    return best;
}

uint32_t flush_blame(const struct flush_waiter *waiters, uint32_t count, uint32_t *ret,
                     uint32_t max)
{
    size_t edge_count = 0;
    for (uint32_t i = 0; i < count; i++)
        edge_count += waiters[i].count;
    struct edge *edges = mem_new(edge_count, sizeof *edges);
    edge_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < waiters[i].count; k++)
            edges[edge_count++] =
                (struct edge){.waiter = waiters[i].id, .source = waiters[i].of[k]};
    }
    uint32_t blamed = 0;
    for (uint32_t i = 0; i < count && blamed < max; i++) {
        if (waiters[i].count > 0)
            continue;
        ret[blamed++] = waiters[i].id;
        cover(edges, edge_count, waiters[i].id);
    }
    uint32_t id;
    while (blamed < max && (id = heaviest(edges, edge_count)) != 0) {
        ret[blamed++] = id;
        cover(edges, edge_count, id);
    }
    free(edges);
    return blamed;
}

/* What one waits for that is still there to be expelled. */
static struct flush_waiter waiter(const struct cms *c, struct flush_node *p)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->stuck_count; i++) {
        const struct cms_node *n = state_node(&c->state, p->stuck[i]);
        if (n != NULL && !n->expelled && n->id != p->id)
            p->stuck[kept++] = p->stuck[i];
    }
    p->stuck_count = kept;
    return (struct flush_waiter){.id = p->id, .of = p->stuck, .count = kept};
}

static bool is_named(const struct flush *f, uint32_t id)
{
    for (uint32_t i = 0; i < f->node_count; i++) {
        for (uint32_t k = 0; k < f->nodes[i].stuck_count && !f->nodes[i].done; k++) {
            if (f->nodes[i].stuck[k] == id)
                return true;
        }
    }
    return false;
}

/* Those who have not answered. Who has the cut and does not say that it is stuck is still getting
 * on with it, unless others wait for it; it has longer. */
static uint32_t find_waiters(struct cms *c, struct flush_waiter *waiters, uint64_t now_us)
{
    struct flush *f = &c->flush;
    bool late = now_us >= f->progress_us + SLOW_FACTOR * c->config.progress_us;
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->node_count; i++) {
        struct flush_node *p = &f->nodes[i];
        if (f->phase == FLUSH_PREP ? p->reported : p->done)
            continue;
        struct flush_waiter w = waiter(c, p);
        if (w.count > 0 || f->phase == FLUSH_PREP || late || is_named(f, p->id))
            waiters[count++] = w;
    }
    return count;
}

static void judge(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    struct flush_waiter *waiters = mem_new(f->node_count, sizeof *waiters);
    uint32_t waiting = find_waiters(c, waiters, now_us), most = waiting;
    for (uint32_t i = 0; i < waiting; i++)
        most += waiters[i].count;
    uint32_t *blamed = mem_new(most, sizeof *blamed);
    uint32_t count = flush_blame(waiters, waiting, blamed, most);
    for (uint32_t i = 0; i < count; i++) {
        struct cms_node *n = state_node(&c->state, blamed[i]);
        if (n != NULL)
            cms_expel(c, n, "flush");
    }
    f->judge_us = now_us + c->config.progress_us / 4;
    if (count > 0 && most > waiting) /* somebody waits for another */
        cms_mark(c, MARK_stuck_expelled);
    if (count > 0) {
        f->progress_us = now_us;
        f->retried = false;
    }
    free(waiters);
    free(blamed);
}

/* A node that was without the CMS for a second before its vote has left the attempt and never votes
 * for it, alive as it is: before anybody is blamed, all get another attempt at the same. */
static void retry(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    f->retried = true;
    for (uint32_t i = 0; i < f->node_count; i++) {
        struct flush_node *p = &f->nodes[i];
        if ((f->phase == FLUSH_PREP ? p->reported : p->done) || waiter(c, p).count > 0)
            continue;
        f->due = true;
        f->due_us = now_us;
    }
}

/* Members say after progress_us what they lack; they get a quarter of it to be heard. */
static uint64_t judge_us(const struct cms *c)
{
    const struct flush *f = &c->flush;
    uint64_t at = f->progress_us + c->config.progress_us + c->config.progress_us / 4;
    uint64_t young = f->attempt_us + ATTEMPT_MIN_US;
    at = at > young ? at : young;
    at = at > f->judge_us ? at : f->judge_us;
    at = at > c->suspect.return_us ? at : c->suspect.return_us;
    return at > c->suspect.hold_us ? at : c->suspect.hold_us;
}

uint64_t flush_deadline(const struct cms *c)
{
    const struct flush *f = &c->flush;
    if (!c->leading || f->phase == FLUSH_INSTALL)
        return CMS_NEVER;
    if (f->phase != FLUSH_IDLE) {
        uint64_t retry_us = f->progress_us + c->config.progress_us;
        return !f->retried && retry_us < judge_us(c) ? retry_us : judge_us(c);
    }
    if (f->starting)
        return is_settled(c) ? f->start_us + START_WAIT_MAX_US : CMS_NEVER;
    return f->due ? f->due_us : CMS_NEVER;
}

void flush_expire(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    bool waits = f->phase == FLUSH_PREP || f->phase == FLUSH_CUT;
    if (waits && now_us >= judge_us(c))
        judge(c, now_us);
    else if (waits && !f->retried && now_us >= f->progress_us + c->config.progress_us)
        retry(c, now_us);
    flush_step(c, now_us);
}

void flush_lagged(struct cms *c, uint64_t now_us)
{
    struct flush *f = &c->flush;
    f->start_us = now_us;
    f->progress_us = now_us > c->suspect.return_us ? now_us : c->suspect.return_us;
    if (f->phase != FLUSH_PREP && f->phase != FLUSH_CUT)
        return;
    f->due = true; /* who missed the CMS for a second has left the attempt */
    f->due_us = now_us;
}
