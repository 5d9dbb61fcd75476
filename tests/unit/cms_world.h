/* cms_world: a CMS with scripted nodes and a journal in memory, for the tests of cms, flush and
 * suspect. Nodes answer PREP and CUT by themselves unless told otherwise. */
#ifndef QSM_CMS_WORLD_H
#define QSM_CMS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cms.h"
#include "cms.pb-c.h"
#include "parts.h"

#define WORLD_PEERS_MAX 64

struct world_entry {
    uint8_t *bytes;
    size_t size;
};

#define WORLD_NOES_MAX 8
#define WORLD_NO_US 400000 /* a member that hears nothing tries for so long */

struct world_peer {
    char name[32];
    uint32_t address;
    uint64_t incarnation;
    uint64_t link; /* 0: none */
    uint32_t id;
    uint64_t epoch, term;
    bool silent; /* says nothing, not even pings */
    bool no_report, no_vote;
    uint32_t left; /* an attempt that it has left */
    bool voided;
    int probes; /* 1: says alive, -1: says dead after a while, 0: does not answer */
    struct {
        uint64_t probe, at_us; /* probe 0: free */
    } noes[WORLD_NOES_MAX];    /* to be said */
    uint32_t stuck_of;         /* 0: not stuck; else says so with each ping */
    uint64_t boundary;         /* of its channel into every region in scope */
    uint64_t heard;            /* of every dead sender's channel */
    bool half;                 /* of its reports only the first part comes */
    uint8_t *in;
    size_t in_count, in_room;
    struct parts parts;
    size_t largest_frame; /* in bytes */

    bool closed;                                                        /* by the CMS */
    Qsm__CmsToNode *refused, *expelled, *answer, *prep, *cut, *install; /* the last of each */
    uint32_t prep_count, install_count, full_count, probe_count, answer_count;
};

struct world {
    struct cms *cms;
    struct cms_config config;
    uint64_t now_us, ping_us;
    struct world_entry *log;
    size_t log_count;
    bool journal_stuck; /* entries stay on their way */
    struct world_peer peers[WORLD_PEERS_MAX];
    int peer_count;
    uint64_t next_link;
    char *trace; /* lines with \n */
    size_t trace_bytes, trace_room;
};

struct world *world_new(void); /* a CMS that leads */
struct world *world_new_sized(uint32_t regions_max);
void world_free(struct world *w);

/* A node that links up and asks for admission. */
struct world_peer *world_add(struct world *w);
void world_link(struct world *w, struct world_peer *p);
void world_cut(struct world *w, struct world_peer *p);

void world_say(struct world *w, struct world_peer *p, const Qsm__NodeToCms *m);
/* A request for groups named in a string, such as "a b c"; mode 1 receive, 2 send. */
void world_want(struct world *w, struct world_peer *p, uint64_t request, const char *names,
                unsigned mode);

/* Moves bytes and entries until nothing happens. */
void world_settle(struct world *w);
/* Lets so much time pass. */
void world_run(struct world *w, uint64_t us);

/* The CMS dies; another one replays the log, from a snapshot if asked, and leads. Links are gone.
 */
void world_restart(struct world *w, bool snapshot);
/* The state after replaying the first `entries` of the log: the caller frees. */
char *world_replay_dump(const struct world *w, size_t entries, size_t snapshot_at);

/* The region of the last INSTALL that this peer is a member of, or NULL. */
const Qsm__Region *world_region(const struct world_peer *p);
bool world_traced(const struct world *w, const char *line);

#endif
