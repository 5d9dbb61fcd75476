/* peer: the nodes of the cluster as the installed epoch names them. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "context.h"
#include "peer.h"

void peers_init(struct peers *ps)
{
    ps->by_id = NULL;
}

static void peer_delete(struct peers *ps, struct peer *p)
{
    HASH_DEL(ps->by_id, p);
    free((char *)(uintptr_t)p->info.name);
    free(p);
}

void peers_done(struct peers *ps)
{
    struct peer *p, *next;
    HASH_ITER (hh, ps->by_id, p, next) {
        peer_delete(ps, p);
    }
}

static struct peer *find(const struct peers *ps, uint32_t id)
{
    struct peer *p;
    HASH_FIND(hh, ps->by_id, &id, sizeof id, p);
    return p;
}

void peers_add(struct peers *ps, uint32_t id, const char *name, uint32_t address)
{
    peers_remove(ps, id);
    struct peer *p = context_alloc(1, sizeof *p);
    p->info = (struct node_peer){.id = id, .address = address, .name = strdup(name)};
    assert(p->info.name != NULL);
    HASH_ADD(hh, ps->by_id, info.id, sizeof p->info.id, p);
}

void peers_remove(struct peers *ps, uint32_t id)
{
    struct peer *p = find(ps, id);
    if (p != NULL) {
        peer_delete(ps, p);
    }
}

const struct node_peer *peers_find(const struct peers *ps, uint32_t id)
{
    struct peer *p = find(ps, id);
    return p != NULL ? &p->info : NULL;
}

uint32_t peers_address(const struct peers *ps, uint32_t id)
{
    struct peer *p = find(ps, id);
    return p != NULL ? p->info.address : 0;
}
