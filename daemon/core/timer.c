/* timer: see timer.h. The tree's order is (time, order of arming), so it has no equal keys. */
#include "timer.h"
#include <assert.h>
#include <stddef.h>

static int timer_compare(const struct timer *a, const struct timer *b)
{
    if (a->at_us != b->at_us)
        return a->at_us < b->at_us ? -1 : 1;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* what of the tree is not called here */
SPLAY_PROTOTYPE(timer_tree, timer, entry, timer_compare)
SPLAY_GENERATE(timer_tree, timer, entry, timer_compare)
#pragma GCC diagnostic pop

void timers_init(struct timers *ts)
{
    SPLAY_INIT(&ts->tree);
    ts->armed = 0;
}

void timer_init(struct timer *t, void (*fire)(void *ctx, uint64_t now_us), void *ctx)
{
    assert(fire != NULL);
    *t = (struct timer){.at_us = TIMER_NEVER, .fire = fire, .ctx = ctx};
}

bool timer_armed(const struct timer *t)
{
    return t->at_us != TIMER_NEVER;
}

void timer_cancel(struct timers *ts, struct timer *t)
{
    if (!timer_armed(t))
        return;
    SPLAY_REMOVE(timer_tree, &ts->tree, t);
    t->at_us = TIMER_NEVER;
}

void timer_arm(struct timers *ts, struct timer *t, uint64_t at_us)
{
    timer_cancel(ts, t);
    if (at_us == TIMER_NEVER)
        return;
    t->at_us = at_us;
    t->order = ++ts->armed;
    SPLAY_INSERT(timer_tree, &ts->tree, t);
}

void timer_arm_sooner(struct timers *ts, struct timer *t, uint64_t at_us)
{
    if (at_us < t->at_us)
        timer_arm(ts, t, at_us);
}

uint64_t timers_next(struct timers *ts)
{
    const struct timer *first = SPLAY_MIN(timer_tree, &ts->tree);

    return first != NULL ? first->at_us : TIMER_NEVER;
}

/* The earliest due timer among those armed no later than the limit-th call of timer_arm. */
static struct timer *next_due(struct timers *ts, uint64_t limit, uint64_t now_us)
{
    struct timer *t = SPLAY_MIN(timer_tree, &ts->tree);

    while (t != NULL && t->at_us <= now_us && t->order > limit)
        t = SPLAY_NEXT(timer_tree, &ts->tree, t);
    return t != NULL && t->at_us <= now_us ? t : NULL;
}

unsigned timers_expire(struct timers *ts, uint64_t now_us, unsigned most)
{
    uint64_t limit = ts->armed;
    unsigned fired = 0;
    struct timer *t;

    while (fired < most && (t = next_due(ts, limit, now_us)) != NULL) {
        timer_cancel(ts, t);
        t->fire(t->ctx, now_us);
        fired++;
    }
    return fired;
}
