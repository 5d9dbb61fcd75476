/* qsmclient_ask: questions about the node. One at a time; each waits for its answer. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int ask(struct qsm *q, Qsm__Question question, const char *name, int timeout_ms)
{
    int64_t deadline = deadline_after(timeout_ms);
    Qsm__Ask what = QSM__ASK__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;

    q->error[0] = '\0';
    q->ask.request = ++q->next_request;
    q->ask.done = false;
    q->ask.error = 0;
    what.request = q->ask.request;
    what.question = question;
    what.name = (char *)(uintptr_t)(name ? name : ""); /* only read */
    message.what_case = QSM__TO_DAEMON__WHAT_ASK;
    message.ask = &what;
    int error = output_control(q, &message);
    if (error == 0)
        error = wait_for(q, &q->ask.done, deadline);
    if (error == 0)
        error = q->ask.error;
    memset(&q->ask, 0, sizeof(q->ask));
    return error;
}

static bool answers(const struct qsm *q, uint64_t request)
{
    return q->ask.request && q->ask.request == request && !q->ask.done;
}

/* ---- status */

static const char *keep(struct arena *a, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = arena_alloc(a, bytes);

    return copy ? memcpy(copy, text, bytes) : "";
}

void ask_status(struct qsm *q, const Qsm__NodeStatus *s)
{
    struct arena *a = &q->status_arena;

    if (!answers(q, s->request))
        return;
    q->ask.done = true;
    if (!q->ask.keep_status)
        return;
    arena_reset(a, CONTROL_ARENA_MAX);
    struct qsm_fact *facts = arena_alloc(a, (s->n_fact + 1) * sizeof(*facts));
    for (size_t i = 0; facts && i < s->n_fact; i++) {
        facts[i].name = keep(a, s->fact[i]->name);
        facts[i].value = keep(a, s->fact[i]->value);
    }
    struct qsm_status status = {.host = keep(a, s->host),
                                .version = keep(a, s->version),
                                .node_id = s->node_id,
                                .epoch = s->epoch,
                                .linked = s->linked,
                                .nodes = s->nodes,
                                .groups = s->groups,
                                .regions = s->regions,
                                .clients = s->clients,
                                .facts = facts,
                                .fact_count = facts ? s->n_fact : 0};
    q->status = status;
}

int qsm_status(struct qsm *q, int timeout_ms, const struct qsm_status **ret_status)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.keep_status = true;
    int error = ask(q, QSM__QUESTION__STATUS, NULL, timeout_ms);
    if (error == 0)
        *ret_status = &q->status;
    return error;
}

/* The stream is ordered: when a question is answered, all in front of it was taken. */
int qsm_drain(struct qsm *q, int timeout_ms)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.keep_status = false;
    return ask(q, QSM__QUESTION__STATUS, NULL, timeout_ms);
}

/* ---- lists */

static const struct qsm_member *members_of(struct qsm *q, Qsm__Member **list, size_t count)
{
    struct qsm_member *members = arena_alloc(&q->arena, (count + 1) * sizeof(*members));

    learn_members(q, list, count);
    for (size_t i = 0; members && i < count; i++) {
        members[i].node = list[i]->node;
        members[i].host = host_name(q, list[i]->node);
    }
    if (!members)
        q->ask.error = -ENOMEM;
    return members;
}

void ask_groups(struct qsm *q, const Qsm__GroupList *l)
{
    if (!answers(q, l->request))
        return;
    q->depth++;
    for (size_t i = 0; i < l->n_group && q->ask.group; i++) {
        const Qsm__GroupInfo *g = l->group[i];
        struct qsm_group_info info = {.name = g->name,
                                      .gid = g->gid,
                                      .epoch = g->epoch,
                                      .recv = g->recv,
                                      .send = g->send,
                                      .held = g->held,
                                      .member_count = g->n_member,
                                      .regions = g->regions,
                                      .sent = g->sent,
                                      .stable = g->stable};
        info.members = members_of(q, g->member, g->n_member);
        if (!info.members)
            break;
        q->ask.group(q->ask.ctx, &info);
    }
    q->depth--;
    q->ask.done = !l->more;
}

void ask_regions(struct qsm *q, const Qsm__RegionList *l)
{
    if (!answers(q, l->request))
        return;
    q->depth++;
    for (size_t i = 0; i < l->n_region && q->ask.region; i++) {
        const Qsm__RegionInfo *r = l->region[i];
        struct qsm_region_info info = {.rid = r->rid,
                                       .epoch = r->epoch,
                                       .address = r->address,
                                       .member_count = r->n_member,
                                       .groups = r->groups,
                                       .ours = r->ours,
                                       .sent = r->sent,
                                       .stable = r->stable,
                                       .released = r->rel,
                                       .inflight_bytes = r->inflight_bytes,
                                       .window_bytes = r->window_bytes,
                                       .rate = r->rate,
                                       .slowest = r->slowest};
        info.members = members_of(q, r->member, r->n_member);
        if (!info.members)
            break;
        q->ask.region(q->ask.ctx, &info);
    }
    q->depth--;
    q->ask.done = !l->more;
}

static const struct qsm_bucket *buckets_of(struct qsm *q, const Qsm__Histogram *h)
{
    struct qsm_bucket *buckets = arena_alloc(&q->arena, (h->n_up_to + 1) * sizeof(*buckets));

    if (!buckets || h->n_up_to != h->n_counts) {
        q->ask.error = buckets ? -EPROTO : -ENOMEM;
        return NULL;
    }
    for (size_t i = 0; i < h->n_up_to; i++)
        buckets[i] = (struct qsm_bucket){h->up_to[i], h->counts[i]};
    return buckets;
}

void ask_stats(struct qsm *q, const Qsm__StatsList *l)
{
    if (!answers(q, l->request))
        return;
    q->depth++;
    for (size_t i = 0; i < l->n_counter && q->ask.counter; i++) {
        struct qsm_counter counter = {l->counter[i]->name, l->counter[i]->value};
        q->ask.counter(q->ask.ctx, &counter);
    }
    for (size_t i = 0; i < l->n_histogram && q->ask.histogram; i++) {
        const Qsm__Histogram *h = l->histogram[i];
        struct qsm_histogram histogram = {.name = h->name,
                                          .count = h->count,
                                          .sum = h->sum,
                                          .max = h->max,
                                          .buckets = buckets_of(q, h),
                                          .bucket_count = h->n_up_to};
        if (!histogram.buckets)
            break;
        q->ask.histogram(q->ask.ctx, &histogram);
    }
    q->depth--;
    q->ask.done = true;
}

int qsm_each_group(struct qsm *q, const char *name, int timeout_ms,
                   void (*f)(void *ctx, const struct qsm_group_info *), void *ctx)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.group = f;
    q->ask.ctx = ctx;
    return ask(q, QSM__QUESTION__GROUPS, name, timeout_ms);
}

int qsm_each_region(struct qsm *q, int timeout_ms,
                    void (*f)(void *ctx, const struct qsm_region_info *), void *ctx)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.region = f;
    q->ask.ctx = ctx;
    return ask(q, QSM__QUESTION__REGIONS, NULL, timeout_ms);
}

int qsm_each_counter(struct qsm *q, int timeout_ms,
                     void (*f)(void *ctx, const struct qsm_counter *), void *ctx)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.counter = f;
    q->ask.ctx = ctx;
    return ask(q, QSM__QUESTION__STATS, NULL, timeout_ms);
}

int qsm_each_histogram(struct qsm *q, int timeout_ms,
                       void (*f)(void *ctx, const struct qsm_histogram *), void *ctx)
{
    if (q->depth > 0)
        return -EDEADLK;
    q->ask.histogram = f;
    q->ask.ctx = ctx;
    return ask(q, QSM__QUESTION__STATS, NULL, timeout_ms);
}
