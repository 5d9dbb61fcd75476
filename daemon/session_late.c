/* session_late: subscriptions that want the latest (policy `latest`). When the client does not
 * read, the newest messages are kept aside, as few as fit in one frame, and older ones are dropped.
 * Once there is room again the client is told how many it missed, and then gets what was kept.
 * Views keep their place between the messages (S5); one in which no message is left is not told. */
#include "session_internal.h"

#include <stdlib.h>

/* A message, or a view before the messages sent in it. */
struct late_item {
    TAILQ_ENTRY(late_item) entry;
    struct members *members; /* a reference; NULL: a message */
    uint64_t epoch, number;
    uint32_t sender, bytes;
    struct buf *body; /* a reference */
    const uint8_t *data;
};

struct late {
    struct use *use; /* not owned */
    TAILQ_ENTRY(late) entry;
    TAILQ_HEAD(late_items, late_item) items;
    uint32_t messages;
    uint64_t bytes, dropped;
};

/* Only a part of the client's queue is for these, so that what it reads is not old. */
static bool room(const struct client *c, uint64_t bytes)
{
    const struct session_config *config = &c->s->config;
    uint64_t waiting = c->out.bytes + c->batch.bytes;
    return out_room(c, bytes, 1) &&
           (waiting == 0 || (waiting + bytes <= config->queue_bytes / 4 &&
                             c->out.messages < config->queue_messages / 4));
}

static struct late *late_get(struct use *u)
{
    struct client *c = u->client;
    if (!u->late) {
        u->late = session_alloc(1, sizeof(*u->late));
        u->late->use = u;
        TAILQ_INIT(&u->late->items);
        TAILQ_INSERT_TAIL(&c->late, u->late, entry);
        client_fresh(c);
    }
    return u->late;
}

static void item_free(struct use *u, struct late_item *i)
{
    struct late *late = u->late;
    TAILQ_REMOVE(&late->items, i, entry);
    if (i->members) {
        members_unref(i->members);
    } else {
        late->messages--;
        late->bytes -= i->bytes;
        u->client->late_bytes -= i->bytes;
        u->client->s->late_bytes -= i->bytes;
        buf_unref(i->body);
    }
    free(i);
}

/* Drops the oldest message, and a view before it when nothing is left of that. */
static void drop_oldest(struct use *u)
{
    struct late *late = u->late;
    struct late_item *i, *view = NULL, *next;

    TAILQ_FOREACH (i, &late->items, entry) {
        if (!i->members)
            break;
        view = i;
    }
    next = TAILQ_NEXT(i, entry);
    item_free(u, i);
    late->dropped++;
    u->client->s->stats.latest_dropped++;
    if (view && next && next->members)
        item_free(u, view);
}

void late_message(struct use *u, const struct delivery *d)
{
    struct client *c = u->client;

    if (!u->late && room(c, d->bytes)) {
        out_message(c, u, d);
        return;
    }
    struct late *late = late_get(u);
    struct late_item *i = session_alloc(1, sizeof(*i));
    i->epoch = d->epoch;
    i->number = d->number;
    i->sender = d->sender;
    i->bytes = d->bytes;
    bool copied = out_copies(d);
    i->body = copied ? buf_copy(d->data, d->bytes) : buf_ref(d->body);
    i->data = copied ? i->body->data : d->data;
    TAILQ_INSERT_TAIL(&late->items, i, entry);
    late->messages++;
    late->bytes += d->bytes;
    c->late_bytes += d->bytes;
    c->s->late_bytes += d->bytes;
    while (late->messages > 1 && (late->messages > FRAME_MESSAGES_MAX || late->bytes > BATCH_BYTES))
        drop_oldest(u);
    while (late->messages > 0 && c->late_bytes > c->s->config.queue_bytes)
        drop_oldest(u);
}

void late_view(struct use *u)
{
    const struct local *l = u->local;

    if (!u->late && room(u->client, view_bytes(l->members))) {
        view_tell(u, l->members, l->epoch);
        return;
    }
    struct late *late = late_get(u);
    struct late_item *last = TAILQ_LAST(&late->items, late_items), *i;
    if (last && last->members)
        item_free(u, last); /* no message was sent in it */
    i = session_alloc(1, sizeof(*i));
    i->epoch = l->epoch;
    i->members = members_ref(l->members);
    TAILQ_INSERT_TAIL(&late->items, i, entry);
}

static void dropped_tell(struct use *u)
{
    struct late *late = u->late;
    if (late->dropped == 0)
        return;
    Qsm__Dropped d = QSM__DROPPED__INIT;
    d.id = u->id;
    d.messages = late->dropped;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    m.what_case = QSM__TO_CLIENT__WHAT_DROPPED;
    m.dropped = &d;
    out_control(u->client, &m);
    late->dropped = 0;
}

static void late_done(struct use *u)
{
    TAILQ_REMOVE(&u->client->late, u->late, entry);
    free(u->late);
    u->late = NULL;
}

/* Writes what was kept, as far as there is room. */
static void catch_up(struct use *u)
{
    struct late_item *i;

    while ((i = TAILQ_FIRST(&u->late->items))) {
        if (!room(u->client, i->members ? view_bytes(i->members) : i->bytes))
            return;
        dropped_tell(u);
        if (i->members) {
            view_tell(u, i->members, i->epoch);
        } else {
            struct delivery d = {.group = u->local->handle,
                                 .sender = i->sender,
                                 .number = i->number,
                                 .epoch = i->epoch,
                                 .body = i->body,
                                 .data = i->data,
                                 .bytes = i->bytes};
            out_message(u->client, u, &d);
        }
        item_free(u, i);
    }
    dropped_tell(u);
    late_done(u);
}

void late_tell(struct client *c)
{
    struct late *late, *next;
    TAILQ_FOREACH_SAFE (late, &c->late, entry, next)
        catch_up(late->use);
}

void late_end(struct use *u)
{
    struct late_item *i;

    if (!u->late)
        return;
    u->late->dropped += u->late->messages;
    while ((i = TAILQ_FIRST(&u->late->items)))
        item_free(u, i);
    dropped_tell(u);
    late_done(u);
}
