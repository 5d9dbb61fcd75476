/* flow: numbered messages through qsmd, and how fast they went, for the benchmarks. The daemon is
 * that of $QSM_SOCKET.
 *   flow send GROUP COUNT BYTES [RATE]  sends COUNT messages of BYTES, as fast as the daemon takes
 *                                       them or RATE a second (COUNT 0: until killed), and waits
 *                                       until all are stable
 *   flow recv GROUP COUNT               receives COUNT messages, which must be complete and in
 *                                       order, and prints how many came in a second, the first one
 *                                       to the last one
 *   flow join GROUP COUNT               joins and leaves COUNT times; a line for each: microseconds
 *                                       from the call to the first view
 * Each ends with 1, and says why, after 60 s without progress. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "qsmclient.h"

#define STUCK_MS 60000
#define BYTES_MIN sizeof(uint64_t) /* a message begins with its index: 0, 1, 2 … */

/* One run of the program. */
struct flow {
    struct qsm *qsm;
    struct qsm_group *group;
    uint64_t count, done;      /* messages, or joins */
    uint64_t number;           /* recv: the daemon's number of the last message */
    size_t bytes;              /* send: of a message */
    int64_t first_us, last_us; /* recv: when the messages came; join: the call and its view */
    bool in_view, ended, broken;
};

static int64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int fail(const struct flow *f, const char *what, int error)
{
    const char *text = f->qsm ? qsm_error(f->qsm) : "";

    fprintf(stderr, "flow: %s: %s (%llu of %llu)\n", what, *text ? text : strerror(-error),
            (unsigned long long)f->done, (unsigned long long)f->count);
    return 1;
}

/* ---- callbacks */

static void on_message(void *ctx, const struct qsm_message *m)
{
    struct flow *f = ctx;
    uint64_t index = UINT64_MAX;

    if (f->done == f->count || f->broken)
        return;
    if (m->bytes >= sizeof(index))
        memcpy(&index, m->data, sizeof(index));
    if (index != f->done || (f->done > 0 && m->number != f->number + 1)) {
        fprintf(stderr, "flow: message %llu has index %llu and number %llu, after number %llu\n",
                (unsigned long long)f->done, (unsigned long long)index,
                (unsigned long long)m->number, (unsigned long long)f->number);
        f->broken = true;
        return;
    }
    f->number = m->number;
    f->done++;
    if (f->done == 1)
        f->first_us = now_us();
    if (f->done == f->count)
        f->last_us = now_us();
}

static void on_view(void *ctx, struct qsm_group *g, const struct qsm_view *v)
{
    struct flow *f = ctx;

    (void)g;
    (void)v;
    if (!f->in_view)
        f->last_us = now_us();
    f->in_view = true;
}

static void on_end(void *ctx, struct qsm_group *g, const struct qsm_end_event *e)
{
    struct flow *f = ctx;

    (void)g;
    f->ended = true;
    if (e->why != QSM_END_LEFT) {
        fprintf(stderr, "flow: the daemon ended the subscription%s\n",
                e->why == QSM_END_SLOW ? ": slow" : "");
        f->broken = true;
    }
}

static void on_opened(void *ctx, struct qsm_group *g, int status, const char *text)
{
    struct flow *f = ctx;

    (void)g;
    if (status < 0) {
        fprintf(stderr, "flow: open: %s\n", *text ? text : strerror(-status));
        f->broken = true;
    }
}

/* ---- send */

static long make(void *ctx, void *buffer, size_t room, size_t *ret_needs)
{
    struct flow *f = ctx;

    if (f->done == f->count)
        return -EAGAIN;
    if (room < f->bytes) {
        *ret_needs = f->bytes;
        return -ENOBUFS;
    }
    memset(buffer, 'x', f->bytes);
    memcpy(buffer, &f->done, sizeof(f->done));
    f->done++;
    return (long)f->bytes;
}

static int send_all(struct flow *f)
{
    int n = qsm_feed(f->qsm, f->group, make, f);

    while (n >= 0 && f->done < f->count) {
        uint64_t before = f->done;
        n = qsm_wait(f->qsm, STUCK_MS);
        if (n == 0 && f->done == before)
            n = -ETIMEDOUT;
    }
    return n < 0 ? n : 0;
}

/* Message i is due i / rate seconds after the first. */
static int send_paced(struct flow *f, char *message, uint64_t rate)
{
    int64_t begin_us = now_us(), moved_us = begin_us;
    int n = 0;

    while (n >= 0 && (f->count == 0 || f->done < f->count)) {
        int64_t due_us = begin_us + (int64_t)(f->done * 1000000 / rate), now = now_us();
        if (now < due_us) {
            n = qsm_wait(f->qsm, (int)((due_us - now + 999) / 1000));
            continue;
        }
        memcpy(message, &f->done, sizeof(f->done));
        n = qsm_send(f->qsm, f->group, message, f->bytes);
        if (n >= 0) {
            f->done++;
            moved_us = now;
        } else if (n == -EAGAIN && now - moved_us < STUCK_MS * 1000LL) {
            n = qsm_wait(f->qsm, 100);
        }
    }
    return n < 0 ? n : 0;
}

static int run_send(struct flow *f, uint64_t rate)
{
    const char *name[] = {qsm_group_name(f->group)};
    char *message = calloc(1, f->bytes);
    int error = message ? 0 : -ENOMEM;

    if (error == 0)
        error = rate > 0 ? send_paced(f, message, rate) : send_all(f);
    free(message);
    if (error < 0)
        return fail(f, name[0], error);
    error = qsm_flush(f->qsm, STUCK_MS);
    return error < 0 ? fail(f, "flush", error) : 0;
}

/* ---- recv, join */

static int run_recv(struct flow *f)
{
    int n = 1;

    while (n > 0 && f->done < f->count && !f->ended && !f->broken)
        n = qsm_wait(f->qsm, STUCK_MS);
    if (f->done < f->count)
        return fail(f, "recv", n < 0 ? n : f->ended || f->broken ? -EPIPE : -ETIMEDOUT);
    double seconds = (double)(f->last_us - f->first_us) / 1e6;
    printf("%.0f messages/s: %llu in %.3f s\n", seconds > 0 ? (double)(f->count - 1) / seconds : 0,
           (unsigned long long)f->count, seconds);
    return 0;
}

/* Waits until something that a callback notes has happened. */
static int wait_until(struct flow *f, const bool *happened)
{
    int n = 1;

    while (n > 0 && !*happened && !f->broken)
        n = qsm_wait(f->qsm, STUCK_MS);
    if (*happened)
        return 0;
    return n < 0 ? n : -ETIMEDOUT;
}

static int run_join(struct flow *f, const char *name)
{
    int error = 0;

    for (; error == 0 && f->done < f->count; f->done++) {
        f->in_view = f->ended = false;
        f->first_us = now_us();
        error = qsm_open_start(f->qsm, &name, 1, QSM_RECV, &f->group);
        if (error == 0)
            error = wait_until(f, &f->in_view);
        if (error < 0)
            return fail(f, "join", error);
        printf("%lld\n", (long long)(f->last_us - f->first_us));
        /* The CMS batches: calls must not fall in step with it. */
        usleep((useconds_t)(f->done * 7919 % 50) * 1000);
        error = qsm_leave(f->qsm, f->group, QSM_RECV);
        if (error == 0)
            error = wait_until(f, &f->ended);
        usleep((useconds_t)(f->done * 104729 % 50) * 1000);
    }
    return error < 0 ? fail(f, "leave", error) : 0;
}

/* ---- main */

static int usage(void)
{
    fprintf(stderr, "usage: flow send GROUP COUNT BYTES [RATE] | recv GROUP COUNT | "
                    "join GROUP COUNT\n");
    return 2;
}

static int run(struct flow *f, int argc, char **argv)
{
    const char *name = argv[2];
    bool sends = strcmp(argv[1], "send") == 0;
    int error = 0;

    if (strcmp(argv[1], "join") == 0)
        return run_join(f, name);
    /* Own echo is of no use to a sender: it opens to send only. */
    error = qsm_open(f->qsm, &name, 1, sends ? QSM_SEND : QSM_RECV, STUCK_MS, &f->group);
    if (error < 0)
        return fail(f, "open", error);
    return sends ? run_send(f, argc > 5 ? strtoull(argv[5], NULL, 10) : 0) : run_recv(f);
}

int main(int argc, char **argv)
{
    struct flow f = {0};
    struct qsm_callbacks callbacks = {
        .ctx = &f, .view = on_view, .end = on_end, .opened = on_opened};
    bool sends = argc > 1 && strcmp(argv[1], "send") == 0;
    bool receives = argc > 1 && strcmp(argv[1], "recv") == 0;

    if (argc < 4 || argc > 6 || (sends ? argc < 5 : argc != 4) ||
        (!sends && !receives && strcmp(argv[1], "join") != 0))
        return usage();
    /* What comes between joins is of no interest. */
    if (receives)
        callbacks.message = on_message;
    f.count = strtoull(argv[3], NULL, 10);
    f.bytes = sends ? strtoul(argv[4], NULL, 10) : 0;
    if (sends && (f.bytes < BYTES_MIN || f.bytes > QSM_MESSAGE_MAX))
        return usage();
    int error = qsm_connect(NULL, &callbacks, STUCK_MS, &f.qsm);
    if (error < 0)
        return fail(&f, "connect", error);
    int status = run(&f, argc, argv);
    qsm_close(f.qsm);
    return status;
}
