/* pull: see pull.h. */
#include "pull.h"
#include <assert.h>
#include <stddef.h>

void sink_init(struct sink *s)
{
    TAILQ_INIT(&s->feeds);
    s->ready = 0;
}

void feed_ready(struct sink *s, struct feed *f)
{
    if (f->ready)
        return;
    TAILQ_INSERT_TAIL(&s->feeds, f, entry);
    f->ready = true;
    s->ready++;
}

void feed_ready_first(struct sink *s, struct feed *f)
{
    TAILQ_INSERT_HEAD(&s->feeds, f, entry);
    f->ready = true;
    s->ready++;
}

void feed_dry(struct sink *s, struct feed *f)
{
    if (!f->ready)
        return;
    assert(s->ready > 0);
    TAILQ_REMOVE(&s->feeds, f, entry);
    f->ready = false;
    s->ready--;
}

struct feed *sink_turn(struct sink *s)
{
    struct feed *f = TAILQ_FIRST(&s->feeds);

    if (f == NULL || s->ready == 1)
        return f;
    TAILQ_REMOVE(&s->feeds, f, entry);
    TAILQ_INSERT_TAIL(&s->feeds, f, entry);
    return f;
}
