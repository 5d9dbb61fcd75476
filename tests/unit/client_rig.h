/* client_rig: what the tests of libqsmclient talk to: a small daemon in a thread, which echoes what
 * is sent, grants as much again as left, and can be told to misbehave. */
#ifndef QSM_CLIENT_RIG_H
#define QSM_CLIENT_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAIT_MS 10000

struct daemon {
    char dir[64], path[96];
    int listener, fd;
    pthread_t thread;
    uint8_t *in;
    size_t have, room;
    uint64_t sent; /* by the client, to its one group */
    uint64_t k;    /* the same since it was opened to send */
    uint64_t credit;
    bool end_on_close;   /* a close to send is followed by an end of the subscription */
    bool no_first_grant; /* an opening grants nothing: everything has to be asked for */
    unsigned revokes;    /* grants to take back, one for each frame of messages */
    uint64_t revoked;    /* bytes of the grant that the client may use until it answers */
    uint64_t serial;     /* of the last Revoke */
    unsigned returned;
    uint32_t frame_messages_max, frames;
    uint32_t gap;                             /* bytes between the messages that it echoes */
    bool refuse_open, stop_after_hello, mute; /* mute: takes messages, says nothing of them */
    const uint8_t *say;                       /* raw, once the client is greeted */
    size_t say_bytes;
    uint64_t drop_after; /* closes the connection after so many messages */
};

/* Serves one connection after another at d->path until daemon_stop. What the flags say may be set
 * before or, between connections, after. */
void daemon_start(struct daemon *d);
void daemon_stop(struct daemon *d);

#endif
