/* recv_hold: packets of views to come, kept until their INSTALL. */
#include <stdlib.h>
#include <string.h>
#include "recv.h"

bool recv_hold(struct recv *r, uint64_t epoch, enum net_class net, const uint8_t *data,
               size_t bytes)
{
    if (epoch > r->ctx->epoch + HELD_EPOCHS_MAX) {
        r->ctx->stats.packets_dropped_unknown++;
        return false;
    }
    if (r->held_count >= HELD_MAX) { /* the oldest goes */
        r->ctx->stats.packets_dropped_full++;
        free(recv_unhold(r, UINT64_MAX));
    }
    struct held_packet *h = context_alloc(1, sizeof *h + bytes);
    h->epoch = epoch;
    h->net = net;
    h->size = (uint32_t)bytes;
    memcpy(h->bytes, data, bytes);
    TAILQ_INSERT_TAIL(&r->held, h, entry);
    r->ctx->stats.held_packets = ++r->held_count;
    r->ctx->stats.packets_held++;
    return true;
}

struct held_packet *recv_unhold(struct recv *r, uint64_t epoch)
{
    struct held_packet *h;
    TAILQ_FOREACH (h, &r->held, entry) {
        if (h->epoch <= epoch) {
            TAILQ_REMOVE(&r->held, h, entry);
            r->ctx->stats.held_packets = --r->held_count;
            return h;
        }
    }
    return NULL;
}
