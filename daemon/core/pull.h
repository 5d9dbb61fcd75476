/* pull: feeds and sinks (paper, section 4, figures 9 and 10). A feed that has something to send
 * registers its intent with a sink; the sink asks the registered feeds in turn, as late as possible.
 * A feed that ran dry is taken off the list by the sink. */
#ifndef QSM_PULL_H
#define QSM_PULL_H

#include <stdbool.h>
#include <sys/cdefs.h>
#include <bsd/sys/queue.h>

struct feed {
    TAILQ_ENTRY(feed) entry;
    bool ready; /* registered with a sink */
};

struct sink {
    TAILQ_HEAD(feed_list, feed) feeds;
    unsigned ready; /* registered feeds */
};

void sink_init(struct sink *s);

/* Registers f at the end of the round; nothing happens when it is registered already. */
void feed_ready(struct sink *s, struct feed *f);

/* Registers f, which is not registered, as the first of the round. */
void feed_ready_first(struct sink *s, struct feed *f);

/* Takes f off the list; nothing happens when it is not registered. */
void feed_dry(struct sink *s, struct feed *f);

/* The feed whose turn it is, moved to the end of the round, or NULL. */
struct feed *sink_turn(struct sink *s);

/* The same, whose turn goes on until sink_turn; or NULL. */
static inline struct feed *sink_first(const struct sink *s)
{
    return TAILQ_FIRST(&s->feeds);
}

#endif
