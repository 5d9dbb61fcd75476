/* cms: the configuration management service (cms.h): the log's tail, what its entries set off, and
 * the dispatch of what nodes say. */
#include "cms.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "cms_core.h"
#include "cms_mem.h"

#define REFUSALS_PER_ANSWER 1024
#define LAG_US 500000 /* later than this against its own deadline the CMS doubts itself */

void cms_mark(struct cms *c, enum mark_id mark)
{
    c->marks[mark]++;
}

const uint64_t *cms_marks(const struct cms *c)
{
    return c->marks;
}

void cms_trace(const struct cms *c, const char *format, ...)
{
    if (c->up.trace == NULL)
        return;
    char *line = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0)
        abort();
    c->up.trace(c->up.ctx, line);
    free(line);
}

struct cms *cms_new(const struct cms_config *config, const struct cms_upcalls *upcalls,
                    uint64_t now_us)
{
    struct cms *c = mem_new(1, sizeof *c);
    c->now_us = now_us;
    c->config = *config;
    c->config.cluster = mem_string(config->cluster);
    c->up = *upcalls;
    state_init(&c->state);
    TAILQ_INIT(&c->queue);
    TAILQ_INIT(&c->held);
    links_init(&c->links);
    flush_init(&c->flush);
    return c;
}

/* The time of what is done next. */
static void set_now(struct cms *c, uint64_t now_us)
{
    assert(now_us >= c->now_us); /* a node's silence would become an eternity */
    c->now_us = now_us;
    uint64_t deadline = cms_deadline(c);
    if (deadline != CMS_NEVER && now_us > deadline + LAG_US) {
        suspect_lagged(c, now_us - deadline, now_us);
        flush_lagged(c, now_us);
    }
}

static void free_answer(struct cms_answer *answer)
{
    refusals_free(answer->refusals, answer->refusal_count);
    free(answer);
}

static void free_append(struct cms_append *a)
{
    if (a->answer != NULL && a->last)
        free_answer(a->answer);
    free(a->bytes);
    free(a);
}

static void free_appends(struct cms_appends *list)
{
    struct cms_append *a;
    while ((a = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, a, entry);
        free_append(a);
    }
}

void cms_free(struct cms *c)
{
    if (c == NULL)
        return;
    free_appends(&c->queue);
    free_appends(&c->held);
    flush_done(&c->flush);
    hello_done(c);
    links_done(&c->links);
    state_done(&c->state);
    buf_unref(c->full);
    free((char *)(uintptr_t)c->config.cluster);
    free(c);
}

/* ---- the log */

int cms_restore(struct cms *c, uint64_t index, const uint8_t *snapshot, size_t bytes)
{
    assert(c->state.index == 0 && c->next_index == 0);
    int result = log_restore(&c->state, snapshot, bytes);
    return result == 0 && c->state.index != index ? -EPROTO : result;
}

/* A name as a value of the trace, which holds no spaces; the caller frees. */
static char *trace_word(const char *name)
{
    char *word = mem_string(*name != '\0' ? name : "-");
    for (char *at = word; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || *at == '=')
            *at = '_';
    }
    return word;
}

static void trace_effect(const struct cms *c, const struct cms_effect *e)
{
    if (c->up.trace == NULL)
        return;
    if (e->kind == CMS_LEAD)
        cms_trace(c, "lead term=%llu", (unsigned long long)c->state.term);
    if (e->kind == CMS_ADMIT && e->fresh) {
        char *word = trace_word(state_node(&c->state, e->node)->name);
        cms_trace(c, "admit id=%u name=%s", e->node, word);
        free(word);
    }
    if (e->kind == CMS_EXPEL && e->node != 0) {
        char *word = trace_word(e->why);
        cms_trace(c, "expel id=%u why=%s", e->node, word);
        free(word);
    }
    if (e->kind == CMS_INSTALL)
        install_trace(c, e->plan);
}

int cms_replay(struct cms *c, uint64_t index, const uint8_t *entry, size_t bytes)
{
    assert(c->next_index == 0);
    struct cms_effect e;
    int result = state_apply(&c->state, index, entry, bytes, &e);
    if (result == 0 && c->up.trace_replay_from != 0 && index >= c->up.trace_replay_from)
        trace_effect(c, &e);
    effect_done(&e);
    return result;
}

uint8_t *cms_snapshot(const struct cms *c, uint64_t *ret_index, size_t *ret_bytes)
{
    *ret_index = c->state.index;
    return log_snapshot(&c->state, ret_bytes);
}

static void enqueue(struct cms *c, struct cms_append *a)
{
    a->index = c->next_index++;
    TAILQ_INSERT_TAIL(&c->queue, a, entry);
}

struct cms_append *cms_append(struct cms *c, enum cms_entry kind, uint8_t *bytes, size_t size)
{
    struct cms_append *a = mem_new(1, sizeof *a);
    a->kind = kind;
    a->bytes = bytes;
    a->size = size;
    enqueue(c, a);
    return a;
}

bool cms_appending(const struct cms *c, enum cms_entry kind)
{
    const struct cms_append *a;
    TAILQ_FOREACH (a, &c->queue, entry) {
        if (a->kind == kind)
            return true;
    }
    return false;
}

void cms_lead(struct cms *c, uint64_t now_us)
{
    set_now(c, now_us);
    assert(c->next_index == 0);
    c->next_index = c->state.index + 1;
    c->pulled = c->state.index;
    struct region_config config = {.multicast = c->config.multicast,
                                   .regions_max = c->config.regions_max,
                                   .ring_size = c->config.ring_size,
                                   .cache_replicas = c->config.cache_replicas,
                                   .ack_ranges = c->config.ack_ranges};
    size_t size;
    uint8_t *bytes = log_lead(&config, &size);
    cms_append(c, CMS_LEAD, bytes, size);
}

bool cms_append_pull(struct cms *c, uint64_t *ret_index, const uint8_t **ret_entry,
                     size_t *ret_bytes)
{
    const struct cms_append *a;
    TAILQ_FOREACH (a, &c->queue, entry) {
        if (a->index <= c->pulled)
            continue;
        c->pulled = a->index;
        *ret_index = a->index;
        *ret_entry = a->bytes;
        *ret_bytes = a->size;
        return true;
    }
    return false;
}

/* ---- what a durable entry sets off */

static void led(struct cms *c, uint64_t now_us)
{
    c->leading = true;
    suspect_lead(c, now_us);
    if (c->state.expelled_count > 0)
        flush_crashed(c, now_us);
    else if (c->state.pending > 0)
        flush_planned(c, now_us);
    struct cms_link *l, *next;
    HASH_ITER (hh, c->links.all, l, next) {
        if (l->hello != NULL && l->closing == NULL)
            hello_answer(c, l, now_us);
    }
}

static void admitted(struct cms *c, const struct cms_append *a, const struct cms_effect *e,
                     uint64_t now_us)
{
    struct cms_link *l = link_find(&c->links, a->link);
    struct cms_node *n = state_node(&c->state, e->node);
    if (n != NULL && e->fresh)
        suspect_admitted(c, n, now_us);
    if (l != NULL && l->admitting)
        hello_admitted(c, l, e->node, now_us);
}

/* Tells some of the refusals; returns how many. */
static uint32_t send_refusals(struct cms *c, struct cms_node *n, const struct cms_answer *answer,
                              uint32_t from)
{
    Qsm__Refusal list[REFUSALS_PER_ANSWER], *refused[REFUSALS_PER_ANSWER];
    Qsm__Answer message = QSM__ANSWER__INIT;
    message.request = answer->request;
    message.refused = refused;
    while (message.n_refused < REFUSALS_PER_ANSWER &&
           from + message.n_refused < answer->refusal_count) {
        const struct cms_refusal *why = &answer->refusals[from + message.n_refused];
        Qsm__Refusal *m = &list[message.n_refused];
        qsm__refusal__init(m);
        m->name = why->name;
        m->reason = why->reason;
        refused[message.n_refused++] = m;
    }
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_ANSWER;
    m.answer = &message;
    cms_tell(c, n, &m);
    return (uint32_t)message.n_refused;
}

static void send_answer(struct cms *c, const struct cms_answer *answer)
{
    struct cms_node *n = state_node(&c->state, answer->node);
    if (n == NULL || n->link == NULL)
        return;
    uint32_t told = 0;
    do {
        told += send_refusals(c, n, answer, told);
    } while (told < answer->refusal_count);
}

static void changed(struct cms *c, struct cms_append *a, const struct cms_effect *e,
                    uint64_t now_us)
{
    for (uint32_t i = 0; i < e->refusal_count; i++)
        refusal_add(&a->answer->refusals, &a->answer->refusal_count, e->refusals[i].name,
                    e->refusals[i].reason);
    if (a->last)
        send_answer(c, a->answer);
    if (c->state.pending > 0)
        flush_planned(c, now_us);
}

static void expelled(struct cms *c, const struct cms_effect *e, uint64_t now_us)
{
    if (e->node == 0)
        return;
    struct cms_node *n = state_node(&c->state, e->node);
    if (n != NULL)
        n->link = NULL;
    struct cms_link *l, *next;
    HASH_ITER (hh, c->links.all, l, next) {
        if (l->closing != NULL || l->hello == NULL ||
            (l->node != e->node && (l->node != 0 || l->hello->node_id != e->node)))
            continue;
        if (strcmp(e->why, "bye") != 0)
            hello_expelled(c, l, e->node, e->why, now_us);
        l->node = 0;
        link_close(&c->links, l, "the node is expelled");
    }
    if (n != NULL)
        flush_crashed(c, now_us);
}

static void installed(struct cms *c, const struct cms_effect *e, uint64_t now_us)
{
    struct buf *install = install_difference(&c->state, e->plan);
    buf_unref(c->full);
    c->full = NULL;
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        if (n->link != NULL)
            link_put(&c->links, n->link, install);
    }
    buf_unref(install);
    flush_installed(c, now_us);
}

static void apply(struct cms *c, struct cms_append *a, uint64_t now_us)
{
    struct cms_effect e;
    int result = state_apply(&c->state, a->index, a->bytes, a->size, &e);
    assert(result == 0); /* our own entry */
    trace_effect(c, &e);
    switch (e.kind) {
    case CMS_LEAD:
        led(c, now_us);
        break;
    case CMS_ADMIT:
        admitted(c, a, &e, now_us);
        break;
    case CMS_CHANGES:
        changed(c, a, &e, now_us);
        break;
    case CMS_EXPEL:
        expelled(c, &e, now_us);
        break;
    case CMS_INSTALL:
        installed(c, &e, now_us);
        break;
    }
    effect_done(&e);
}

void cms_appended(struct cms *c, uint64_t index, uint64_t now_us)
{
    assert(index <= c->pulled);
    set_now(c, now_us);
    struct cms_append *a;
    while ((a = TAILQ_FIRST(&c->queue)) != NULL && a->index <= index) {
        TAILQ_REMOVE(&c->queue, a, entry);
        apply(c, a, now_us);
        free_append(a);
    }
    flush_step(c, now_us);
}

void cms_expel(struct cms *c, struct cms_node *n, const char *why)
{
    if (n->expelled || n->expelling)
        return;
    n->expelling = true;
    size_t size;
    uint8_t *bytes = log_expel(n->id, why, &size);
    cms_append(c, CMS_EXPEL, bytes, size);
}

/* ---- requests */

void cms_release_held(struct cms *c)
{
    struct cms_append *a;
    while ((a = TAILQ_FIRST(&c->held)) != NULL) {
        TAILQ_REMOVE(&c->held, a, entry);
        c->held_bytes -= a->size;
        enqueue(c, a);
    }
}

/* Changes of a view change's groups would be part of the entries that its install takes in, but not
 * of its plan: they wait for its end. */
static void add_changes(struct cms *c, struct cms_answer *answer, Qsm__LogChange **list,
                        size_t count, bool last)
{
    struct cms_append *a = mem_new(1, sizeof *a);
    a->kind = CMS_CHANGES;
    a->bytes = log_changes(answer->node, list, count, &a->size);
    a->answer = answer;
    a->last = last;
    bool holds = flush_holds_changes(c);
#ifdef MUTANT_changes_not_held
    holds = false;
#endif
    if (!holds) {
        enqueue(c, a);
        return;
    }
    TAILQ_INSERT_TAIL(&c->held, a, entry);
    c->held_bytes += a->size;
}

/* Whether the state says just this, so that a repetition costs the log nothing. */
static bool is_known(const struct cms *c, const struct cms_node *n, const Qsm__Change *change)
{
    unsigned mode = (change->recv ? CMS_RECV : 0u) | (change->send ? CMS_SEND : 0u);
    const struct cms_group *g = state_group_named(&c->state, change->name);
    const struct cms_row *row = g != NULL ? node_row(n, g) : NULL;
    return mode == (row != NULL ? row->want : 0u);
}

/* Whether changes of the node are not applied yet. */
static bool is_changing(const struct cms *c, uint32_t node)
{
    const struct cms_append *a;
    TAILQ_FOREACH (a, &c->queue, entry) {
        if (a->answer != NULL && a->answer->node == node)
            return true;
    }
    TAILQ_FOREACH (a, &c->held, entry) {
        if (a->answer->node == node)
            return true;
    }
    return false;
}

static int handle_changes(struct cms *c, struct cms_node *n, const Qsm__Changes *m)
{
    if (c->held_bytes > CMS_HELD_BYTES_MAX)
        return -EPROTO;
    struct cms_answer *answer = mem_new(1, sizeof *answer);
    answer->node = n->id;
    answer->request = m->request;
    Qsm__LogChange *changes = mem_new(m->n_change, sizeof *changes);
    Qsm__LogChange **list = mem_new(m->n_change, sizeof *list);
    size_t count = 0, bytes = 0;
    bool changing = is_changing(c, n->id);
    for (size_t i = 0; i < m->n_change; i++) {
        const Qsm__Change *change = m->change[i];
        if (!changing && is_known(c, n, change))
            continue;
        const char *bad = state_bad_name(change->name);
        if (bad != NULL) {
            refusal_add(&answer->refusals, &answer->refusal_count, change->name, bad);
            continue;
        }
        if (bytes > CMS_ENTRY_BYTES) {
            add_changes(c, answer, list, count, false);
            count = bytes = 0;
        }
        changing = true; /* the same group may come again in this request */
        qsm__log_change__init(&changes[i]);
        changes[i].name = change->name;
        changes[i].mode = (change->recv ? CMS_RECV : 0u) | (change->send ? CMS_SEND : 0u);
        list[count++] = &changes[i];
        bytes += strlen(change->name) + 16;
    }
    if (count > 0) {
        add_changes(c, answer, list, count, true);
    } else {
        send_answer(c, answer);
        free_answer(answer);
    }
    free(changes);
    free(list);
    return 0;
}

/* ---- what nodes say */

void cms_tell(struct cms *c, struct cms_node *n, const Qsm__CmsToNode *m)
{
    if (n->link != NULL)
        link_send(&c->links, n->link, m);
}

static void handle_suspect(struct cms *c, struct cms_node *by, const Qsm__Suspect *m,
                           uint64_t now_us)
{
    struct cms_node *n = state_node(&c->state, m->node);
    if (n != NULL)
        suspect_accused(c, by->id, n, now_us);
}

int cms_handle(struct cms *c, struct cms_link *l, const Qsm__NodeToCms *m, uint64_t now_us)
{
    if (m->what_case == QSM__NODE_TO_CMS__WHAT_HELLO) {
        hello_receive(c, l, m->hello, now_us);
        return 0;
    }
    struct cms_node *n = l->node != 0 ? state_node(&c->state, l->node) : NULL;
    if (n == NULL || n->expelling || n->expelled)
        return l->hello != NULL ? 0 : -EPROTO;
    switch (m->what_case) {
    case QSM__NODE_TO_CMS__WHAT_CHANGES:
        return handle_changes(c, n, m->changes);
    case QSM__NODE_TO_CMS__WHAT_REPORT:
        flush_report(c, n, m->report, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_DONE:
        flush_vote(c, n, m->done, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_STUCK:
        flush_stuck(c, n, m->stuck, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_LEFT:
        flush_left(c, m->left, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_PROBE_RESULT:
        suspect_probed(c, n->id, m->probe_result->probe, m->probe_result->alive, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_SUSPECT:
        handle_suspect(c, n, m->suspect, now_us);
        return 0;
    case QSM__NODE_TO_CMS__WHAT_BYE:
        cms_expel(c, n, "bye");
        return 0;
    case QSM__NODE_TO_CMS__WHAT_PING:
    default: /* what a newer version says is no error */
        return 0;
    }
}

/* ---- links */

void cms_link_up(struct cms *c, uint64_t link, uint64_t now_us)
{
    set_now(c, now_us);
    link_add(&c->links, link);
}

int cms_link_receive(struct cms *c, uint64_t link, const uint8_t *bytes, size_t count,
                     uint64_t now_us)
{
    set_now(c, now_us);
    struct cms_link *l = link_find(&c->links, link);
    assert(l != NULL);
#ifdef MUTANT_not_durable
    cms_appended(c, c->pulled, now_us);
#endif
    struct cms_node *n = l->node != 0 ? state_node(&c->state, l->node) : NULL;
    if (n != NULL && count > 0)
        suspect_heard(n, now_us);
    return link_receive(c, l, bytes, count, now_us);
}

void cms_link_down(struct cms *c, uint64_t link, uint64_t now_us)
{
    set_now(c, now_us);
    struct cms_link *l = link_find(&c->links, link);
    assert(l != NULL);
    struct cms_node *n = l->node != 0 ? state_node(&c->state, l->node) : NULL;
    if (n != NULL && n->link == l) {
        n->link = NULL;
        suspect_unlinked(c, n, now_us);
    }
    link_drop(&c->links, l);
}

size_t cms_link_pull(struct cms *c, uint64_t link, uint8_t *out, size_t room)
{
    struct cms_link *l = link_find(&c->links, link);
    assert(l != NULL);
    return link_pull(&c->links, l, out, room);
}

bool cms_link_next(struct cms *c, uint64_t *ret_link, const char **ret_close)
{
    struct cms_link *l = TAILQ_FIRST(&c->links.ready);
    if (l == NULL)
        return false;
    TAILQ_REMOVE(&c->links.ready, l, ready_entry);
    l->ready = false;
    *ret_link = l->id;
    *ret_close = l->closing;
    return true;
}

/* ---- time */

uint64_t cms_deadline(struct cms *c)
{
    uint64_t a = flush_deadline(c), b = suspect_deadline(c);
    return a < b ? a : b;
}

void cms_expire(struct cms *c, uint64_t now_us)
{
    set_now(c, now_us);
    suspect_expire(c, now_us);
    flush_expire(c, now_us);
}

/* ---- looking in */

uint64_t cms_epoch(const struct cms *c)
{
    return c->state.epoch;
}

uint64_t cms_term(const struct cms *c)
{
    return c->state.term;
}
