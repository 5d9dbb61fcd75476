/* peer: the nodes of the cluster as the installed epoch names them. */
#ifndef QSM_PEER_H
#define QSM_PEER_H

#include <uthash.h>
#include "node.h"

struct peer {
    struct node_peer info; /* name owned */
    UT_hash_handle hh;
};

struct peers {
    struct peer *by_id;
};

void peers_init(struct peers *ps);
void peers_done(struct peers *ps); /* forgets all; may be used again */
void peers_add(struct peers *ps, uint32_t id, const char *name, uint32_t address);
void peers_remove(struct peers *ps, uint32_t id);
const struct node_peer *peers_find(const struct peers *ps, uint32_t id); /* NULL: unknown */
uint32_t peers_address(const struct peers *ps, uint32_t id);             /* 0: unknown */

#endif
