/* trace: see trace.h. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "log.h"

#define GATHER_BYTES (256 * 1024)
#define HEAD_BYTES 24 /* time and a space */

struct trace {
    int fd; /* -1: given up */
    char *who;
    size_t used;
    char bytes[GATHER_BYTES];
};

int trace_open(struct trace **ret, const char *path, const char *who)
{
    struct trace *t = malloc(sizeof(*t));

    *ret = NULL;
    if (!t || !(t->who = strdup(who))) {
        free(t);
        return -ENOMEM;
    }
    t->used = 0;
    t->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (t->fd < 0) {
        int error = -errno;

        free(t->who);
        free(t);
        return error;
    }
    *ret = t;
    trace_line(t, "boot");
    return 0;
}

void trace_line(struct trace *t, const char *line)
{
    struct timespec now;
    size_t needed;
    int n;

    if (!t || t->fd < 0)
        return;
    needed = HEAD_BYTES + strlen(t->who) + 1 + strlen(line) + 1;
    if (needed > sizeof(t->bytes) - t->used)
        trace_flush(t);
    if (needed > sizeof(t->bytes))
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    n = snprintf(t->bytes + t->used, sizeof(t->bytes) - t->used, "%" PRIu64 " %s %s\n",
                 (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000, t->who, line);
    t->used += (size_t)n;
}

void trace_flush(struct trace *t)
{
    size_t written = 0;

    while (t && t->fd >= 0 && written < t->used) {
        ssize_t n = write(t->fd, t->bytes + written, t->used - written);

        if (n >= 0) {
            written += (size_t)n;
        } else if (errno != EINTR) {
            log_error("the trace ends here: %s", strerror(errno));
            close(t->fd);
            t->fd = -1;
        }
    }
    if (t)
        t->used = 0;
}

void trace_close(struct trace *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t->who);
    free(t);
}
