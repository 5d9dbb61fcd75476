/* run: one run of a sender or a receiver of the benchmark beside the peers (tests/bench/peers.sh):
 * its arguments, the numbers in the messages, the check of them, the closed window and the report.
 * Times are of the clock that all processes of a machine share.
 *   PROGRAM send|recv… [-a ADDRESS] [-b BYTES] [-c RECEIVERS] [-i ID] [-m MODE] [-n NAME]
 *                      [-p PROGRESS] [-r RATE] [-t MILLISECONDS] [-u SOCKET] [-w MESSAGES]
 * A receiver says `ready`, and once the last message has come or SIGTERM does:
 *   received MESSAGES NANOSECONDS MISSING DISORDER DONE P50 P99
 * from the first message to the last; missing and out of order (or double); whether the last one
 * came; latencies in nanoseconds, at a rate only. A sender says `sent MESSAGES` when it has handed
 * over the last, and stays until SIGTERM. */
#ifndef RUN_H
#define RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct run {
    const char *role;
    const char *address; /* of the server, or our own */
    const char *name;    /* of the group */
    const char *mode;    /* what the program says it is */
    const char *socket;  /* path of a Unix socket; or NULL */
    unsigned id;         /* of a receiver: 1, 2 … */
    unsigned receivers;  /* of all of them */
    size_t bytes;        /* of a message */
    uint64_t rate;       /* messages/s; 0: as fast as they are taken */
    uint64_t window;     /* messages that may be on their way, where the progress is known */
    int64_t length_ns;   /* how long messages are made */
    int64_t begin_ns;    /* sender: of the first message */
    uint64_t count;      /* messages made or received */
    uint64_t expected;   /* receiver: the number of the next message */
    uint64_t missing, disorder;
    int64_t first_ns, last_ns;
    bool last;            /* the last message was made, or came */
    uint64_t *progress;   /* in shared memory, what receivers expect; NULL: no closed window */
    uint64_t slowest;     /* sender: the least of them when it looked last */
    uint32_t *latency_ns; /* receiver, at a rate: of every message */
    size_t latencies, latencies_max;
};

/* Takes the arguments; does not return when they are wrong. */
void run_begin(struct run *r, int argc, char **argv);
int64_t run_now_ns(void);
/* Says what went wrong and ends the program. */
void run_fail(const char *what, const char *why) __attribute__((noreturn));

/* ---- senders */
/* Makes the next message: waits until it is due, and puts its number in front of r->bytes. False:
 * the last one was made before. */
bool run_next(struct run *r, void *message);
/* Whether so many more messages do not fit into the closed window, */
bool run_full(struct run *r, unsigned more);
/* and a wait until they do. It is given up when nobody makes progress any more: what is lost must
 * not hold the rest. Without a closed window there is always room. */
void run_room(struct run *r, unsigned more);
/* Says that all is sent, */
void run_sent(const struct run *r);
/* and waits for SIGTERM, for those that have nothing else to do. */
void run_stay(const struct run *r) __attribute__((noreturn));

/* ---- receivers */
/* From now on nothing that is sent may be missed. */
void run_ready(void);
/* Checks a message that came. True, and reported, when it was the last one; what comes then is not
 * looked at. */
bool run_take(struct run *r, const void *message, size_t bytes);
/* The number of a message. */
uint64_t run_number(const void *message);
/* Tells the sender that all numbers below this one came. */
void run_post(const struct run *r, uint64_t expected);

#ifdef __cplusplus
}
#endif
#endif
