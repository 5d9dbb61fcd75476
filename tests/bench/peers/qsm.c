/* qsm: this system in the benchmark beside its peers.
 *   qsm send|recv -u SOCKET -n GROUP …   (run.h) */
#include "run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "qsmclient.h"

#define WAIT_MS 20000

static struct qsm *qsm;

static void check(int result, const char *what)
{
    if (result < 0)
        run_fail(what, qsm && *qsm_error(qsm) ? qsm_error(qsm) : strerror(-result));
}

static void on_message(void *ctx, const struct qsm_message *m)
{
    run_take(ctx, m->data, m->bytes);
}

static void on_end(void *ctx, struct qsm_group *g, const struct qsm_end_event *e)
{
    (void)ctx;
    (void)g;
    if (e->why != QSM_END_LEFT)
        run_fail("recv", e->why == QSM_END_SLOW ? "too slow" : "the subscription has ended");
}

static void receive(struct run *r)
{
    struct qsm_group *group;

    check(qsm_open(qsm, &r->name, 1, QSM_RECV, WAIT_MS, &group), "open");
    run_ready();
    while (!r->last)
        check(qsm_wait(qsm, -1), "recv");
    qsm_close(qsm);
}

static long make(void *ctx, void *buffer, size_t room, size_t *ret_needs)
{
    struct run *r = ctx;

    if (room < r->bytes) {
        *ret_needs = r->bytes;
        return -ENOBUFS;
    }
    return run_next(r, buffer) ? (long)r->bytes : -EAGAIN;
}

/* Each one goes out at once. */
static void send_paced(struct run *r, struct qsm_group *group)
{
    char *message = calloc(1, r->bytes);
    int n = 0;

    if (!message)
        run_fail("send", "no memory");
    while (run_next(r, message)) {
        while ((n = qsm_send(qsm, group, message, r->bytes)) == -EAGAIN)
            check(qsm_wait(qsm, WAIT_MS), "send");
        check(n, "send");
        check(qsm_process(qsm), "send");
    }
    free(message);
}

static void send_all(struct run *r)
{
    struct qsm_group *group;

    check(qsm_open(qsm, &r->name, 1, QSM_SEND, WAIT_MS, &group), "open");
    if (r->rate > 0)
        send_paced(r, group);
    else
        check(qsm_feed(qsm, group, make, r), "feed");
    while (!r->last)
        check(qsm_wait(qsm, WAIT_MS), "send");
    check(qsm_flush(qsm, WAIT_MS), "flush");
    run_stay(r);
}

int main(int argc, char **argv)
{
    struct run r;
    struct qsm_callbacks callbacks = {.ctx = &r, .message = on_message, .end = on_end};

    run_begin(&r, argc, argv);
    check(qsm_connect(r.socket, &callbacks, WAIT_MS, &qsm), "connect");
    if (strcmp(r.role, "send") == 0)
        send_all(&r);
    else
        receive(&r);
    return 0;
}
