/* context: what the protocol modules of one node share: its settings, time, alarms, counters,
 * trace, and the sinks from which node_pull takes datagrams. */
#ifndef QSM_CONTEXT_H
#define QSM_CONTEXT_H

#include <assert.h>
#include "node.h"
#include "pull.h"
#include "timer.h"

/* Classes of datagrams, highest rank first (DESIGN section 3, "The turn"). */
enum out_class { OUT_TOKEN, OUT_FLUSH, OUT_BEACON, OUT_REPAIR, OUT_DATA, OUT_CLASSES };

/* A feed of datagrams: registers when it has something, is asked to build one when a socket can
 * take it, and answers false when it is dry. */
struct source {
    struct feed feed;
    enum out_class out;
    bool (*build)(void *ctx, struct datagram *ret);
    void *ctx; /* not owned */
};

/* The longest line of a trace: the members of a view. */
#define TRACE_LINE_MAX 16384

#define SLAB_BYTES 65536u /* as many as leave in one train */

struct context {
    struct node_config config; /* strings owned */
    struct upcalls up;
    struct timers timers;
    struct node_stats stats;
    struct sink sinks[OUT_CLASSES];
    struct buf_pool *bodies; /* of packets that come or go alone; owned */
    struct buf_pool *slabs;  /* in which a channel's packets are built behind one another; owned */
    uint64_t now_us;
    uint64_t random;  /* state of the generator */
    uint64_t counter; /* datagrams sent */
    uint32_t cluster; /* tag */
    uint32_t id;      /* node id, 0: not admitted */
    uint64_t epoch;   /* installed, 0: none */
};

void context_init(struct context *c, const struct node_config *config, const struct upcalls *up,
                  uint64_t now_us);
void context_done(struct context *c);

/* The time of what is done next. */
static inline void context_now(struct context *c, uint64_t now_us)
{
    assert(now_us >= c->now_us); /* differences of times would become eternities */
    c->now_us = now_us;
}

uint64_t context_random(struct context *c);

/* One line of the trace; nothing when it is off. */
void context_trace(struct context *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool context_traced(const struct context *c);
/* The same for a line of which the checker has no use. */
void context_detail(struct context *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Counts a rare branch that was taken (mark.h). */
void context_mark(struct context *c, enum mark_id mark);

/* FNV-1a 64 of a payload, as traces show it. */
uint64_t context_hash(const uint8_t *data, size_t bytes);

void source_init(struct source *s, enum out_class out,
                 bool (*build)(void *ctx, struct datagram *ret), void *ctx);
void source_ready(struct context *c, struct source *s);
void source_dry(struct context *c, struct source *s);

/* Begins a datagram: outer header of the kind, where to; the writer stands behind it. */
void datagram_begin(struct context *c, struct datagram *d, struct writer *w, enum wire_kind kind,
                    uint32_t address, bool multicast);
/* Ends it: the head is what was written. Asserts that it fitted. */
void datagram_end(struct datagram *d, const struct writer *w);

/* calloc that aborts when memory is out: a node that can't hold its state is no use. */
void *context_alloc(size_t count, size_t size);
void *context_grow(void *p, size_t count, size_t size);

#endif
