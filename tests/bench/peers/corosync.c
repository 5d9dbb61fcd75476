/* corosync: a closed process group of Corosync in the benchmark beside the peers. The sender is a
 * member, too, and has to take what it sent.
 *   corosync send|recv …   (run.h) */
#include "run.h"
#include <corosync/cpg.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMES 200
#define AGAIN_US 50000
#define MEMBERS_MS 15000
#define TAKE_EVERY 32u /* messages sent between two looks at what came back */

static struct run r;
static cpg_handle_t handle;
static size_t members;

static void check(cs_error_t error, const char *what)
{
    char why[32];

    snprintf(why, sizeof(why), "error %d of corosync", (int)error);
    if (error != CS_OK)
        run_fail(what, why);
}

static void deliver(cpg_handle_t from, const struct cpg_name *group, uint32_t node,
                    uint32_t process, void *message, size_t bytes)
{
    (void)from;
    (void)group;
    (void)node;
    (void)process;
    if (r.role[0] == 'r')
        run_take(&r, message, bytes);
}

static void change(cpg_handle_t from, const struct cpg_name *group, const struct cpg_address *now,
                   size_t now_count, const struct cpg_address *left, size_t left_count,
                   const struct cpg_address *joined, size_t joined_count)
{
    (void)from;
    (void)group;
    (void)now;
    (void)left;
    (void)left_count;
    (void)joined;
    (void)joined_count;
    members = now_count;
}

/* Takes what there is, after waiting for it so long. */
static bool take(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (poll(&p, 1, timeout_ms) <= 0)
        return false;
    check(cpg_dispatch(handle, CS_DISPATCH_ALL), "cpg_dispatch");
    return true;
}

static int join(void)
{
    cpg_callbacks_t callbacks = {.cpg_deliver_fn = deliver, .cpg_confchg_fn = change};
    struct cpg_name group = {.length = (uint32_t)strlen(r.name)};
    cs_error_t error = CS_OK;
    int fd = -1;

    memcpy(group.value, r.name, group.length);
    for (int i = 0; i < TIMES && (error = cpg_initialize(&handle, &callbacks)) != CS_OK; i++)
        usleep(AGAIN_US);
    check(error, "cpg_initialize");
    for (int i = 0; i < TIMES && (error = cpg_join(handle, &group)) == CS_ERR_TRY_AGAIN; i++)
        usleep(AGAIN_US);
    check(error, "cpg_join");
    check(cpg_fd_get(handle, &fd), "cpg_fd_get");
    return fd;
}

static void send_all(int fd)
{
    char *message = calloc(1, r.bytes);
    struct iovec v = {message, r.bytes};
    int64_t until = run_now_ns() + MEMBERS_MS * 1000000LL;

    if (!message)
        run_fail("send", "no memory");
    while (members < r.receivers + 1) {
        take(fd, 100);
        if (run_now_ns() > until)
            run_fail("send", "not all are members");
    }
    while (run_next(&r, message)) {
        cs_error_t error;
        while ((error = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &v, 1)) == CS_ERR_TRY_AGAIN)
            take(fd, 1);
        check(error, "cpg_mcast_joined");
        if (r.rate > 0 || r.count % TAKE_EVERY == 0)
            take(fd, 0);
    }
    run_sent(&r);
    for (;;)
        take(fd, -1);
}

int main(int argc, char **argv)
{
    run_begin(&r, argc, argv);
    int fd = join();
    if (r.role[0] == 's')
        send_all(fd);
    run_ready();
    while (!r.last)
        take(fd, -1);
    cpg_finalize(handle);
    return 0;
}
