/* cms_link: the links between the CMS and the nodes: frames in and out, no meaning. */
#ifndef QSM_CMS_LINK_H
#define QSM_CMS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <bsd/sys/queue.h>
#include <uthash.h>

#include "buf.h"
#include "cms.pb-c.h"

#define LINK_OUT_BYTES_MAX (128u << 20) /* a node that lets more pile up loses its link */

struct cms;

struct link_chunk;
STAILQ_HEAD(link_chunks, link_chunk);

struct cms_link {
    uint64_t id;         /* the shell's */
    uint32_t node;       /* 0: not known yet */
    const char *closing; /* why; nothing is taken from it any more, it is closed once drained */
    bool admitting;      /* its Hello waits for an entry of the log */
    Qsm__Hello *hello;   /* the last one; owned; NULL: none yet */
    uint8_t *in;         /* what arrived and is no whole frame yet; owned */
    size_t in_count, in_room;
    struct link_chunks out;
    size_t out_bytes;
    bool ready; /* on the list of those that have something for the shell */
    TAILQ_ENTRY(cms_link) ready_entry;
    UT_hash_handle hh;
};

struct cms_links {
    struct cms_link *all; /* uthash */
    TAILQ_HEAD(link_list, cms_link) ready;
};

void links_init(struct cms_links *ls);
void links_done(struct cms_links *ls);

struct cms_link *link_add(struct cms_links *ls, uint64_t id);
struct cms_link *link_find(const struct cms_links *ls, uint64_t id); /* or NULL */
void link_drop(struct cms_links *ls, struct cms_link *l);

/* Takes bytes in and hands over each message that they complete. -EPROTO: malformed. */
int link_receive(struct cms *c, struct cms_link *l, const uint8_t *bytes, size_t count,
                 uint64_t now_us);

/* A message as its frames (parts.h): one reference, for any number of link_put. NULL: it is larger
 * than a message may be. */
struct buf *link_encode(const Qsm__CmsToNode *m);
/* Queues a message; takes a reference of its own. NULL, or too much in the queue: closes the link.
 */
void link_put(struct cms_links *ls, struct cms_link *l, struct buf *frames);
void link_send(struct cms_links *ls, struct cms_link *l, const Qsm__CmsToNode *m);
/* Has the shell close it when all is out; why is a literal, the first one counts. */
void link_close(struct cms_links *ls, struct cms_link *l, const char *why);

size_t link_pull(struct cms_links *ls, struct cms_link *l, uint8_t *out, size_t room);

#endif
