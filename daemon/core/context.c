/* context: what the protocol modules of one node share. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"

void context_init(struct context *c, const struct node_config *config, const struct upcalls *up,
                  uint64_t now_us)
{
    memset(c, 0, sizeof *c);
    c->config = *config;
    c->config.cluster = strdup(config->cluster);
    c->config.name = strdup(config->name);
    assert(c->config.cluster != NULL && c->config.name != NULL);
    c->up = *up;
    c->now_us = now_us;
    c->random = config->seed * 0x9e3779b97f4a7c15u + 1;
    c->cluster = wire_cluster_tag(config->cluster);
    timers_init(&c->timers);
    for (int i = 0; i < OUT_CLASSES; i++) {
        sink_init(&c->sinks[i]);
    }
    c->bodies = buf_pool_new(config->datagram_bytes);
    c->slabs = buf_pool_new(SLAB_BYTES);
}

void context_done(struct context *c)
{
    buf_pool_free(c->bodies);
    buf_pool_free(c->slabs);
    free((char *)(uintptr_t)c->config.cluster);
    free((char *)(uintptr_t)c->config.name);
}

uint64_t context_random(struct context *c)
{
    /* splitmix64 */
    uint64_t z = (c->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

bool context_traced(const struct context *c)
{
    return c->up.trace != NULL;
}

static void say(struct context *c, void (*to)(void *ctx, const char *line), const char *format,
                va_list args)
{
    char line[TRACE_LINE_MAX];
    vsnprintf(line, sizeof line, format, args);
    to(c->up.ctx, line);
}

void context_trace(struct context *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (c->up.trace != NULL) {
        say(c, c->up.trace, format, args);
    }
    va_end(args);
}

void context_detail(struct context *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (c->up.detail != NULL) {
        say(c, c->up.detail, format, args);
    }
    va_end(args);
}

void context_mark(struct context *c, enum mark_id mark)
{
    c->stats.marks[mark]++;
}

uint64_t context_hash(const uint8_t *data, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++) {
        h = (h ^ data[i]) * 0x100000001b3u;
    }
    return h;
}

void source_init(struct source *s, enum out_class out,
                 bool (*build)(void *ctx, struct datagram *ret), void *ctx)
{
    memset(s, 0, sizeof *s);
    s->out = out;
    s->build = build;
    s->ctx = ctx;
}

void source_ready(struct context *c, struct source *s)
{
    feed_ready(&c->sinks[s->out], &s->feed);
}

void source_dry(struct context *c, struct source *s)
{
    feed_dry(&c->sinks[s->out], &s->feed);
}

static enum net_class net_of(enum wire_kind kind)
{
    switch (kind) {
    case WIRE_DATA:
        return NET_DATA;
    case WIRE_REPAIR:
    case WIRE_PROXY:
        return NET_REPAIR;
    default:
        return NET_CONTROL;
    }
}

void datagram_begin(struct context *c, struct datagram *d, struct writer *w, enum wire_kind kind,
                    uint32_t address, bool multicast)
{
    d->net = net_of(kind);
    d->multicast = multicast;
    d->address = address;
    d->body = NULL;
    d->body_ref = NULL;
    d->body_bytes = 0;
    d->head_room = NULL;
    *w = (struct writer){.at = d->head, .end = d->head + sizeof d->head};
    struct wire_outer outer = {
        .kind = (uint8_t)kind, .cluster = c->cluster, .node_id = c->id, .counter = ++c->counter};
    wire_write_outer(w, &outer);
}

void datagram_end(struct datagram *d, const struct writer *w)
{
    assert(!w->bad);
    d->head_bytes = (uint32_t)(w->at - d->head);
}

void *context_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (p == NULL) {
        abort();
    }
    return p;
}

void *context_grow(void *p, size_t count, size_t size)
{
    void *q = reallocarray(p, count ? count : 1, size);
    if (q == NULL) {
        abort();
    }
    return q;
}
