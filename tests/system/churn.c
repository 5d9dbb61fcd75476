/* churn: a client that joins N groups one by one and leaves them again, a request each, as fast as
 * the daemon takes them. For the system tests. `churn SOCKET N` */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "qsmclient.h"

#define WAIT_MS 20000

static size_t opened, ended;

static void on_opened(void *ctx, struct qsm_group *g, int status, const char *text)
{
    (void)ctx;
    if (status < 0)
        fprintf(stderr, "churn: %s: %s\n", qsm_group_name(g), *text ? text : strerror(-status));
    opened++;
}

static void on_end(void *ctx, struct qsm_group *g, const struct qsm_end_event *e)
{
    (void)ctx;
    (void)g;
    (void)e;
    ended++;
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "churn: %s: %s\n", what, strerror(-error));
    return 1;
}

/* Lets the daemon take the request before the next one is made. */
static int step(struct qsm *q)
{
    int n = qsm_drain(q, WAIT_MS);
    return n < 0 ? n : 0;
}

int main(int argc, char **argv)
{
    struct qsm_callbacks callbacks = {.opened = on_opened, .end = on_end};
    struct qsm *q;

    if (argc != 3) {
        fprintf(stderr, "usage: churn SOCKET N\n");
        return 2;
    }
    size_t count = strtoul(argv[2], NULL, 10);
    struct qsm_group **groups = calloc(count + 1, sizeof(struct qsm_group *));
    int error = groups ? qsm_connect(argv[1], &callbacks, WAIT_MS, &q) : -ENOMEM;
    if (error < 0)
        return fail("connect", error);
    for (size_t i = 0; i < count && error == 0; i++) {
        char name[32];
        const char *names[] = {name};
        snprintf(name, sizeof(name), "churn-%zu", i);
        error = qsm_open_start(q, names, 1, QSM_RECV, &groups[i]);
        if (error == 0)
            error = step(q);
    }
    while (error >= 0 && opened < count)
        error = qsm_wait(q, WAIT_MS);
    for (size_t i = 0; i < count && error >= 0; i++) {
        error = qsm_leave(q, groups[i], QSM_RECV);
        if (error == 0)
            error = step(q);
    }
    while (error >= 0 && ended < count)
        error = qsm_wait(q, WAIT_MS);
    qsm_close(q);
    free(groups);
    return error < 0 ? fail("lost the daemon", error) : 0;
}
