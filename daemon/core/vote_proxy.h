/* vote_proxy: messages of dead senders, by number, for members of other regions. */
#ifndef QSM_VOTE_PROXY_H
#define QSM_VOTE_PROXY_H

#include "vote.h"

/* Builds the next piece, or the next request that is passed on. */
bool vote_build_proxy(void *ctx, struct datagram *ret);
/* Forgets all pieces, kept and on their way, and passed requests. */
void vote_drop_pieces(struct vote *v);

#endif
