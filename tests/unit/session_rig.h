/* session_rig: what the tests of daemon/session share: a node that is a few arrays, clients that
 * write frames, and what they heard. One session at a time. */
#ifndef QSM_SESSION_RIG_H
#define QSM_SESSION_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/node.h"
#include "ipc.pb-c.h"
#include "session.h"

#define RIG_GROUPS_MAX 9000
#define RIG_FRAME_BYTES (40u << 20)
#define SECOND 1000000u
#define WHAT(name) QSM__TO_CLIENT__WHAT_##name

enum { RECV = 1, SEND = 2, NO_ECHO = 4, LATEST = 8 };

/* The node that the session calls. */
struct rig_group {
    char name[300];
    unsigned mode;
};
struct node {
    struct rig_group groups[RIG_GROUPS_MAX];
    uint32_t count, id;
    unsigned opens, closes, readies;
    unsigned installed; /* modes of every group */    int open_error;     /* of the next node_open, 0: none */
    uint64_t store_bytes;
};

/* A frame that a client heard: a control frame, or messages. */
struct told {
    struct client *client;
    Qsm__ToClient *control;
    Qsm__Deliver *deliver;
    uint8_t *payload; /* of all messages, without the gaps between them */
};

/* What the header of a data frame says of one message. */
struct told_message {
    uint32_t group, bytes, sender;
    uint64_t number, epoch;
};

extern struct node rig_node;
extern struct upcalls rig_up;
extern struct session *rig_session;
extern uint64_t rig_now;
extern bool rig_closes;                    /* a client was to be closed in the last turn */
extern char rig_trace[8192];               /* lines of the trace */
extern uint8_t rig_frame[RIG_FRAME_BYTES]; /* the last frame that a client wrote */

/* ---- a session with a node of id 1, and its end with up to two clients */
struct session_config config_default(void);
void rig_begin(void);
void rig_begin_with(const struct session_config *config);
void rig_end(struct client *a, struct client *b);
struct client *connect_client(void); /* greeted */
/* A client with the group open under id 1, of which the node is a member or sender. */
struct client *client_in(const char *name, int mode);

/* ---- the end of a turn: what was heard before is forgotten; the sleeper does not read */
void rig_turn(const struct client *sleeper);
void rig_take(struct client *c); /* one client reads all there is */
void rig_forget(void);
void rig_parse(struct client *c, const uint8_t *bytes, size_t count);
/* The i-th control message of a kind (WHAT(_NOT_SET): of any), or data frame, that c heard; NULL:
 * none. */
Qsm__ToClient *heard(const struct client *c, Qsm__ToClient__WhatCase what, unsigned i);
const struct told *heard_any(const struct client *c, unsigned i); /* of both */
const struct told *delivered(const struct client *c, unsigned i);
struct told_message told_message(const Qsm__Deliver *d, size_t i);
const char *error_of(const struct client *c); /* "where: what" of an IpcError, or "" */

/* ---- clients write; what session_receive returned is returned */
long rig_say(struct client *c, const uint8_t *bytes, size_t count);
size_t rig_control(uint8_t *out, const Qsm__ToDaemon *m); /* makes a frame */
long say_control(struct client *c, Qsm__ToDaemon__WhatCase what, void *message);
long say_hello(struct client *c);
long say_open(struct client *c, uint64_t request, uint32_t id, const char *name, int mode);
long say_close(struct client *c, uint64_t request, uint32_t id, int mode);
long say_hold(struct client *c, uint64_t request, const char *join, const char *leave);
long say_ask(struct client *c, uint64_t request, Qsm__Question question, const char *name);
/* A frame of messages whose header is m and whose payload is payload times the byte. */
long say_messages(struct client *c, const Qsm__Submit *m, size_t payload, int byte);
/* count messages of the same size and byte in one frame. */
long say_submit(struct client *c, uint32_t id, unsigned count, uint32_t bytes, int byte);
long say_need(struct client *c, uint32_t id, uint64_t bytes);

/* ---- the core speaks */
uint32_t rig_handle(const char *name); /* UINT32_MAX: never opened */
/* The members of a view are 1 and 2; peers 1 to 9 are called host1 to host9. */
void core_event(const char *name, enum group_event_kind kind, uint64_t epoch);
void core_delivers(const char *name, uint32_t sender, uint64_t number, const void *data,
                   uint32_t bytes);
/* Pulls one message; returns its first byte, 0 when it is empty, -1 when the feed is dry. */
int core_pulls(const char *name, uint64_t number);
void core_stable(const char *name, uint64_t number, bool lost);

#endif
