/* qsmclient: a connection and its loop. See qsmclient_internal.h for the other files. */
#include "qsmclient_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_WRITE_MS 1000
#define CONNECT_RETRY_MS 5
#define SNDBUF_BYTES (1 << 20) /* as much as a daemon grants; the kernel may give less */

/* ---- small things */

int64_t time_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : time_ms() + timeout_ms;
}

static int left_ms(int64_t deadline)
{
    if (deadline == INT64_MAX)
        return -1;
    int64_t left = deadline - time_ms();
    return left < 0 ? 0 : (int)left;
}

void set_error(struct qsm *q, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(q->error, sizeof(q->error), format, list);
    va_end(list);
}

const char *qsm_error(const struct qsm *q)
{
    return q->error;
}

const char *qsm_host(const struct qsm *q)
{
    return q->host;
}

int qsm_admitted(const struct qsm *q)
{
    return q->admitted;
}

int qsm_get_fd(const struct qsm *q)
{
    return q->fd;
}

short qsm_get_events(const struct qsm *q)
{
    return output_pending(q) ? POLLIN | POLLOUT : POLLIN;
}

void qsm_wake(struct qsm *q)
{
    uint64_t one = 1;
    int saved = errno;

    if (write(q->wake_fd, &one, sizeof(one)) < 0)
        errno = saved; /* its counter is full: it wakes anyway */
}

/* ---- the loop */

void connection_lost(struct qsm *q, const char *why)
{
    struct qsm_group *g, *next;
    struct request *r, *next_r;

    if (q->lost)
        return;
    q->lost = true;
    if (!q->error[0] && !q->refused)
        set_error(q, "%s", why);
    HASH_ITER (hh, q->requests, r, next_r) {
        r->error = -ENOTCONN;
        r->done = true;
        if (!r->waited)
            request_free(q, r);
    }
    if (q->ask.request) {
        q->ask.error = -ENOTCONN;
        q->ask.done = true;
    }
    HASH_ITER (hh, q->by_name, g, next) {
        g->closes = g->send_closes = 0;
        if (g->sent > g->done)
            q->unknown = true;
        group_give_up(q, g, -ENOTCONN, "the daemon went away");
        if (g->live)
            event_end_local(q, g, QSM_END_DISCONNECTED);
        if (g->leaving && group_find(q, g->id) == g)
            group_bury(q, g);
    }
}

int qsm_process(struct qsm *q)
{
    unsigned before = q->calls;

    assert(q->depth == 0);
    if (q->lost)
        return q->refused ? q->refused : -ENOTCONN;
    int error = input_read(q);
    if (error == 0) {
        if (q->look_at_starved)
            event_writable(q);
        pull_feeds(q);
        output_cut(q);
        bool was_full = output_full(q);
        (void)output_write(q);
        if (was_full && q->look_at_starved)
            event_writable(q);
    } else {
        connection_lost(q, error == -ENOTCONN ? "the daemon went away" : strerror(-error));
        if (error != -ENOTCONN && !q->refused)
            q->refused = error;
    }
    free_dead(q);
    if (error < 0)
        return q->refused ? q->refused : error;
    return (int)((q->calls - before) & INT32_MAX);
}

/* Sleeps until the socket or a qsm_wake has something. 1: woken by qsm_wake. */
static int sleep_until(struct qsm *q, int64_t deadline)
{
    struct pollfd fds[2] = {{.fd = q->fd, .events = qsm_get_events(q)},
                            {.fd = q->wake_fd, .events = POLLIN}};
    uint64_t count;

    if (poll(fds, 2, left_ms(deadline)) <= 0 || !(fds[1].revents & POLLIN))
        return 0;
    return read(q->wake_fd, &count, sizeof(count)) > 0;
}

int qsm_wait(struct qsm *q, int timeout_ms)
{
    int64_t deadline = deadline_after(timeout_ms);

    for (;;) {
        int n = qsm_process(q);
        if (n != 0)
            return n;
        if (sleep_until(q, deadline))
            return 0;
        if (deadline != INT64_MAX && time_ms() >= deadline)
            return qsm_process(q);
    }
}

int wait_for(struct qsm *q, const bool *done, int64_t deadline)
{
    assert(q->depth == 0);
    for (;;) {
        if (*done)
            return 0;
        int n = qsm_process(q);
        if (*done)
            return 0;
        if (n < 0)
            return n;
        if (deadline != INT64_MAX && time_ms() >= deadline)
            return -ETIMEDOUT;
        (void)sleep_until(q, deadline);
    }
}

/* ---- connect and close */

static int connect_socket(struct qsm *q, int64_t deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sndbuf = SNDBUF_BYTES;

    if (strlen(q->path) >= sizeof(address.sun_path)) {
        set_error(q, "%s: the path is too long for a socket", q->path);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, q->path);
    q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (q->fd < 0)
        return -errno;
    setsockopt(q->fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
    while (connect(q->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        /* EAGAIN: the daemon has not accepted those in front of us yet. */
        if ((errno != EAGAIN && errno != EINTR) || time_ms() >= deadline) {
            int error = errno == EAGAIN ? -ETIMEDOUT : -errno;
            set_error(q, "%s: %s", q->path, strerror(-error));
            return error;
        }
        poll(NULL, 0, CONNECT_RETRY_MS);
    }
    return 0;
}

static int greet(struct qsm *q, int64_t deadline)
{
    Qsm__ClientHello hello = QSM__CLIENT_HELLO__INIT;
    Qsm__ToDaemon message = QSM__TO_DAEMON__INIT;
    char program[] = "libqsmclient";

    hello.version = IPC_VERSION;
    hello.program = program_invocation_short_name ? program_invocation_short_name : program;
    message.what_case = QSM__TO_DAEMON__WHAT_HELLO;
    message.hello = &hello;
    int error = output_control(q, &message);
    return error < 0 ? error : wait_for(q, &q->greeted, deadline);
}

static void disconnect(struct qsm *q)
{
    if (q->fd >= 0)
        close(q->fd);
    q->fd = -1;
    output_reset(q);
    input_reset(q);
    q->greeted = q->admitted = false;
    q->refused = 0;
}

static struct qsm *handle_new(const char *path, const struct qsm_callbacks *callbacks)
{
    struct qsm *q = calloc(1, sizeof(*q));

    if (!q)
        return NULL;
    if (!path)
        path = getenv("QSM_SOCKET");
    if (!path || !*path)
        path = QSM_SOCKET_DEFAULT;
    q->fd = -1;
    q->settled = true;
    q->path = strdup(path);
    q->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TAILQ_INIT(&q->starved);
    TAILQ_INIT(&q->feeds);
    SLIST_INIT(&q->dead);
    output_reset(q);
    if (callbacks)
        q->callbacks = *callbacks;
    return q;
}

static void handle_free(struct qsm *q)
{
    struct qsm_group *g, *next;
    struct request *r, *next_r;
    struct host *h, *next_h;

    HASH_ITER (hh, q->requests, r, next_r)
        request_free(q, r);
    HASH_ITER (hh, q->by_name, g, next)
        group_bury(q, g);
    free_dead(q);
    HASH_ITER (hh, q->hosts, h, next_h) {
        HASH_DEL(q->hosts, h);
        free(h);
    }
    disconnect(q);
    arena_free(&q->arena);
    arena_free(&q->status_arena);
    if (q->wake_fd >= 0)
        close(q->wake_fd);
    free(q->by_id);
    free(q->path);
    free(q);
}

int qsm_connect(const char *path, const struct qsm_callbacks *callbacks, int timeout_ms,
                struct qsm **ret_qsm)
{
    int64_t deadline = deadline_after(timeout_ms);
    struct qsm *q = handle_new(path, callbacks);

    if (!q)
        return -ENOMEM;
    int error = q->path && q->wake_fd >= 0 ? connect_socket(q, deadline) : -ENOMEM;
    if (error == 0)
        error = greet(q, deadline);
    if (error < 0) {
        handle_free(q);
        return error;
    }
    *ret_qsm = q;
    return 0;
}

int qsm_reconnect(struct qsm *q, int timeout_ms)
{
    int64_t deadline = deadline_after(timeout_ms);

    if (q->depth > 0)
        return -EDEADLK;
    connection_lost(q, "the connection was given up");
    free_dead(q);
    disconnect(q);
    q->error[0] = '\0';
    int error = connect_socket(q, deadline);
    if (error < 0)
        return error;
    q->lost = false;
    error = greet(q, deadline);
    return error < 0 ? error : groups_reopen(q, deadline);
}

void qsm_close(struct qsm *q)
{
    if (!q)
        return;
    assert(q->depth == 0);
    int64_t deadline = deadline_after(CLOSE_WRITE_MS);
    output_cut(q);
    while (!q->lost && output_pending(q) && output_write(q) == 0 && output_pending(q)) {
        struct pollfd out = {.fd = q->fd, .events = POLLOUT};
        if (poll(&out, 1, left_ms(deadline)) <= 0)
            break;
    }
    handle_free(q);
}
