/* qsmclient_send: messages on their way to the daemon. A message is copied once, into the open data
 * frame; the daemon's grants say how much of a group it can take. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FEED_ROOM_BYTES 4096u /* a feed is offered at least so much when it is granted */

void outstanding_take(struct qsm *q, uint64_t count)
{
    q->outstanding -= count;
    q->settled = q->outstanding == 0;
}

void feed_look(struct qsm *q, struct qsm_group *g)
{
    if (!g->feeding || g->feed_listed)
        return;
    g->feed_listed = true;
    TAILQ_INSERT_TAIL(&q->feeds, g, feed_next);
}

static void feed_unlist(struct qsm *q, struct qsm_group *g)
{
    if (g->feed_listed)
        TAILQ_REMOVE(&q->feeds, g, feed_next);
    g->feed_listed = false;
}

void group_stop_sending(struct qsm *q, struct qsm_group *g)
{
    if (g->starved)
        TAILQ_REMOVE(&q->starved, g, starved_next);
    feed_unlist(q, g);
    g->starved = g->feeding = false;
    g->granted = false;
    g->grant = g->needed = 0;
    outstanding_take(q, g->sent - g->done);
    g->sent = g->done = 0; /* the next opening counts from 1 */
}

void group_give_up(struct qsm *q, struct qsm_group *g, int status, const char *reason)
{
    event_complete(q, g, UINT64_MAX, status, reason);
    group_stop_sending(q, g);
}

/* How much the daemon renews by itself is its own affair: it is always told, and once. */
bool need_grant(struct qsm *q, struct qsm_group *g, size_t cost)
{
    if (cost <= g->needed)
        return true;
    if (output_need(q, g->id, cost) < 0)
        return false;
    g->needed = cost;
    return true;
}

static int starve(struct qsm *q, struct qsm_group *g, size_t cost)
{
    g->starved_cost = cost;
    if (!g->starved) {
        g->starved = true;
        TAILQ_INSERT_TAIL(&q->starved, g, starved_next);
    }
    return -EAGAIN;
}

static int token_add(struct qsm_group *g, uint64_t token)
{
    if (g->token_count == g->token_size) {
        size_t size = g->token_size ? 2 * g->token_size : 64;
        struct token *ring = malloc(size * sizeof(*ring));
        if (!ring)
            return -ENOMEM;
        for (size_t i = 0; i < g->token_count; i++)
            ring[i] = g->tokens[(g->token_first + i) % g->token_size];
        free(g->tokens);
        g->tokens = ring;
        g->token_size = size;
        g->token_first = 0;
    }
    struct token *t = &g->tokens[(g->token_first + g->token_count) % g->token_size];
    t->k = g->sent + 1;
    t->token = token;
    g->token_count++;
    return 0;
}

/* A message was written to the room for it. */
static void message_add(struct qsm *q, struct qsm_group *g, size_t bytes)
{
    output_add(q, g->id, bytes);
    g->grant -= bytes + MESSAGE_COST;
    g->sent++;
    q->outstanding++;
    q->settled = false;
}

static int send_message(struct qsm *q, struct qsm_group *g, const void *data, size_t bytes,
                        const uint64_t *token)
{
    if (q->lost)
        return -ENOTCONN;
    if (!(g->mode & QSM_SEND))
        return -EBADF;
    if (bytes > QSM_MESSAGE_MAX)
        return -EMSGSIZE;
    size_t cost = bytes + MESSAGE_COST;
    if (!g->granted || output_full(q))
        return starve(q, g, cost);
    if (cost > g->grant) {
        (void)need_grant(q, g, cost);
        return starve(q, g, cost);
    }
    size_t room;
    uint8_t *buffer = output_room(q, bytes, &room);
    if (!buffer || (token && token_add(g, *token) < 0))
        return -ENOMEM;
    if (bytes > 0)
        memcpy(buffer, data, bytes);
    message_add(q, g, bytes);
    return 0;
}

int qsm_send(struct qsm *q, struct qsm_group *g, const void *data, size_t bytes)
{
    return send_message(q, g, data, bytes, NULL);
}

int qsm_send_complete(struct qsm *q, struct qsm_group *g, const void *data, size_t bytes,
                      uint64_t token)
{
    return send_message(q, g, data, bytes, &token);
}

int qsm_feed(struct qsm *q, struct qsm_group *g, qsm_make *make, void *ctx)
{
    if (make && !(g->mode & QSM_SEND))
        return -EBADF;
    g->make = make;
    g->make_ctx = ctx;
    g->feeding = make != NULL;
    if (make)
        feed_look(q, g);
    else
        feed_unlist(q, g);
    return 0;
}

/* What a feed that was looked at does next. */
enum feed_turn { FEED_AGAIN, FEED_WAITS, FEED_DRY, FEED_NO_MEMORY };

static enum feed_turn feed_wait(struct qsm *q, struct qsm_group *g, size_t cost)
{
    return need_grant(q, g, cost) ? FEED_WAITS : FEED_NO_MEMORY;
}

/* Offers the feed room for one message. */
static enum feed_turn feed_once(struct qsm *q, struct qsm_group *g)
{
    size_t grant = (size_t)g->grant - MESSAGE_COST;
    size_t wants = g->starved_cost ? g->starved_cost - MESSAGE_COST : FEED_ROOM_BYTES;
    size_t room = 0, needs = 0;
    uint8_t *buffer = output_room(q, wants < grant ? wants : grant, &room);

    if (!buffer)
        return FEED_NO_MEMORY;
    if (room > grant)
        room = grant;
    q->depth++;
    q->calls++;
    long n = g->make(g->make_ctx, buffer, room, &needs);
    q->depth--;
    if (n >= 0) {
        assert((size_t)n <= room);
        message_add(q, g, (size_t)n);
        g->starved_cost = 0;
        return FEED_AGAIN;
    }
    if (n != -ENOBUFS || needs > QSM_MESSAGE_MAX || needs <= room)
        return FEED_DRY;
    g->starved_cost = needs + MESSAGE_COST;
    return needs <= grant ? FEED_AGAIN : feed_wait(q, g, g->starved_cost);
}

static enum feed_turn feed_turn(struct qsm *q, struct qsm_group *g)
{
    if (!g->granted)
        return FEED_WAITS;
    if (g->grant <= MESSAGE_COST || g->grant < g->starved_cost)
        return feed_wait(q, g, g->starved_cost ? g->starved_cost : FEED_ROOM_BYTES + MESSAGE_COST);
    return feed_once(q, g);
}

/* Whoever waits for a grant is off the list until there is word of it: a turn must not cost more
 * the more groups there are. */
void pull_feeds(struct qsm *q)
{
    struct qsm_group *g;
    enum feed_turn turn = FEED_AGAIN;

    while (turn != FEED_NO_MEMORY && !output_full(q) && (g = TAILQ_FIRST(&q->feeds))) {
        feed_unlist(q, g);
        do
            turn = feed_turn(q, g);
        while (turn == FEED_AGAIN && g->feeding && TAILQ_EMPTY(&q->feeds) && !output_full(q));
        if (turn == FEED_DRY) {
            feed_unlist(q, g);
            g->feeding = false;
        }
        if (turn == FEED_AGAIN || turn == FEED_NO_MEMORY)
            feed_look(q, g);
    }
}

int qsm_flush(struct qsm *q, int timeout_ms)
{
    int64_t deadline = deadline_after(timeout_ms);

    if (q->depth > 0)
        return -EDEADLK;
    int error = wait_for(q, &q->settled, deadline);
    if (error == -ETIMEDOUT)
        return error;
    if (q->unknown) {
        q->unknown = false;
        return error == -ENOTCONN ? error : -EIO;
    }
    return error;
}
