/* send: groups of which a view change has some regions in its scope and others not. Those others
 * have to come to a rest by themselves before this node votes. */
#include <string.h>
#include "send.h"
#include "send_channel.h"

/* Groups partly in scope: calls back for their places out of scope that are not stable yet. */
static bool partial_wait(const struct send *s, void (*f)(struct channel_out *, void *ctx),
                         void *ctx)
{
    bool waits = false;
    struct group *g, *next;
    HASH_ITER (by_name, s->groups->by_name, g, next) {
        bool paused = false;
        for (uint32_t i = 0; i < g->place_count; i++) {
            paused |= g->places[i].paused;
        }
        for (uint32_t i = 0; paused && i < g->place_count; i++) {
            struct channel_out *ch = g->places[i].channel;
            if (ch != NULL && !g->places[i].paused && g->places[i].unit_stable < g->unit_sent) {
                waits = true;
                if (f != NULL) {
                    f(ch, ctx);
                }
            }
        }
    }
    return waits;
}

bool send_partial_stable(const struct send *s)
{
#ifdef MUTANT_partial_not_awaited
    return true;
#endif
    return !partial_wait(s, NULL, NULL);
}

static void hurry(struct channel_out *ch, void *ctx)
{
    (void)ctx;
    send_channel_hear_directly(ch); /* no view change waits for a collector, least for a dead one */
    send_channel_want_token(ch);
}

void send_hurry_partial(struct send *s)
{
    partial_wait(s, hurry, NULL);
}

struct gathering {
    uint32_t *members; /* NULL: only counts */
    size_t count;
    const struct channel_out *last;
};

static void gather(struct channel_out *ch, void *ctx)
{
    struct gathering *in = ctx;
    const struct view *v = ch->view;
    if (ch == in->last) {
        return; /* groups in one region come one after another */
    }
    in->last = ch;
    if (in->members != NULL) {
        memcpy(in->members + in->count, v->members, v->member_count * sizeof v->members[0]);
    }
    in->count += v->member_count;
}

size_t send_partial_members(const struct send *s, uint32_t *ret_members)
{
    struct gathering in = {.members = ret_members};
    partial_wait(s, gather, &in);
    return in.count;
}
