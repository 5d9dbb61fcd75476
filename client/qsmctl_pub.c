/* qsmctl_pub: sends messages: arguments, lines of standard input, or a file. Standard input is read
 * in large pieces, and each line goes from there into the library's frame. */
#include "qsmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)

struct pub {
    struct ctl *ctl;
    struct qsm_group *group;
    bool lines, wait;
    const char *file;
    uint64_t sent; /* messages */
};

/* Queues one message, waiting while the daemon has enough. A negative errno. */
static int send_one(struct pub *p, const void *data, size_t bytes)
{
    struct qsm *q = p->ctl->qsm;

    for (;;) {
        int error = qsm_send(q, p->group, data, bytes);
        if (error != -EAGAIN) {
            p->sent += error == 0;
            return error;
        }
        if (ctl_late(p->ctl))
            return -ETIMEDOUT;
        error = qsm_wait(q, ctl_left_ms(p->ctl, -1));
        if (error < 0)
            return error;
    }
}

static int fail(struct pub *p, int error)
{
    char subject[300];

    if (error == -EMSGSIZE) {
        fprintf(stderr, "qsmctl: message %llu: longer than %u bytes\n",
                (unsigned long long)p->sent + 1, QSM_MESSAGE_MAX);
        return EXIT_ERROR;
    }
    snprintf(subject, sizeof(subject), "%s: after %llu messages", qsm_group_name(p->group),
             (unsigned long long)p->sent);
    return ctl_fail(p->ctl, subject, error);
}

/* ---- input */

struct reader {
    int fd;
    char *bytes;
    size_t start, end, size;
    bool eof;
};

/* Reads more behind what is there. Meanwhile the connection lives: grants arrive, and the end of
 * the daemon is noticed. */
static int read_more(struct pub *p, struct reader *r)
{
    if (r->start > 0) {
        memmove(r->bytes, r->bytes + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    if (r->size - r->end < READ_BYTES) {
        size_t size = r->size * 2 > READ_BYTES * 2 ? r->size * 2 : READ_BYTES * 2;
        char *bytes = realloc(r->bytes, size);
        if (!bytes)
            return -ENOMEM;
        r->bytes = bytes;
        r->size = size;
    }
    for (;;) {
        struct pollfd fds[2] = {
            {.fd = r->fd, .events = POLLIN},
            {.fd = qsm_get_fd(p->ctl->qsm), .events = qsm_get_events(p->ctl->qsm)}};
        if (ctl_late(p->ctl))
            return -ETIMEDOUT;
        if (poll(fds, 2, ctl_left_ms(p->ctl, -1)) < 0 && errno != EINTR)
            return -errno;
        int error = fds[1].revents ? qsm_process(p->ctl->qsm) : 0;
        if (error < 0)
            return error;
        if (!fds[0].revents)
            continue;
        ssize_t n = read(r->fd, r->bytes + r->end, r->size - r->end);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return -errno;
        r->eof = n == 0;
        r->end += (size_t)n;
        return 0;
    }
}

static int send_lines(struct pub *p, struct reader *r)
{
    size_t looked = 0; /* bytes of the last line that hold no newline */

    for (;;) {
        const char *line = r->bytes + r->start;
        const char *stop = r->end - r->start > looked
                               ? memchr(line + looked, '\n', r->end - r->start - looked)
                               : NULL;
        int error = 0;
        if (stop) {
            error = send_one(p, line, (size_t)(stop - line));
            r->start += (size_t)(stop - line) + 1;
            looked = 0;
        } else if (r->eof) {
            return r->end > r->start ? send_one(p, line, r->end - r->start) : 0;
        } else {
            looked = r->end - r->start;
            if (looked > QSM_MESSAGE_MAX)
                return -EMSGSIZE;
            /* What is complete leaves before we wait for more. */
            error = qsm_process(p->ctl->qsm);
            if (error >= 0)
                error = read_more(p, r);
        }
        if (error < 0)
            return error;
    }
}

static int send_whole(struct pub *p, struct reader *r)
{
    while (!r->eof) {
        int error = read_more(p, r);
        if (error < 0)
            return error;
        if (r->end > QSM_MESSAGE_MAX)
            return -EMSGSIZE;
    }
    return send_one(p, r->bytes, r->end);
}

static int send_input(struct pub *p)
{
    struct reader r = {.fd = STDIN_FILENO};

    if (p->file && strcmp(p->file, "-") != 0) {
        r.fd = open(p->file, O_RDONLY | O_CLOEXEC);
        if (r.fd < 0) {
            fprintf(stderr, "qsmctl: %s: %s\n", p->file, strerror(errno));
            return EXIT_ERROR;
        }
    }
    r.bytes = malloc(READ_BYTES);
    r.size = r.bytes ? READ_BYTES : 0;
    int error = !r.bytes ? -ENOMEM : p->lines ? send_lines(p, &r) : send_whole(p, &r);
    free(r.bytes);
    if (r.fd != STDIN_FILENO)
        close(r.fd);
    return error < 0 ? fail(p, error) : EXIT_OK;
}

/* ---- the command */

static int run(struct pub *p, int count, char **texts)
{
    struct ctl *ctl = p->ctl;
    int error = 0;

    for (int i = 0; i < count && error == 0; i++)
        error = send_one(p, texts[i], strlen(texts[i]));
    if (error < 0)
        return fail(p, error);
    if (count == 0) {
        int code = send_input(p);
        if (code != EXIT_OK)
            return code;
    }
    if (p->wait)
        error = qsm_flush(ctl->qsm, ctl_left_ms(ctl, -1));
    else
        error = qsm_drain(ctl->qsm, ctl_left_ms(ctl, -1));
    if (error == -EIO) {
        fprintf(stderr, "qsmctl: %s: whether all members got all messages is unknown\n",
                qsm_group_name(p->group));
        return EXIT_ERROR;
    }
    return error < 0 ? fail(p, error) : EXIT_OK;
}

int command_pub(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"wait", no_argument, NULL, 'w'}, {NULL, 0, NULL, 0}};
    struct pub p = {.ctl = ctl};
    int option;

    while ((option = getopt_long(argc, argv, "lf:W:", options, NULL)) != -1) {
        switch (option) {
        case 'l':
            p.lines = true;
            break;
        case 'f':
            p.file = optarg;
            break;
        case 'w':
            p.wait = true;
            break;
        case 'W':
            if (!ctl_parse_deadline(ctl, optarg))
                return EXIT_USAGE;
            break;
        default:
            return ctl_usage(ctl, "wrong option");
        }
    }
    if (optind == argc)
        return ctl_usage(ctl, "no group");
    int texts = argc - optind - 1;
    if ((texts > 0) + p.lines + (p.file != NULL) > 1)
        return ctl_usage(ctl, "TEXT, -l and -f exclude each other");
    int code = ctl_connect(ctl, NULL);
    if (code != EXIT_OK)
        return code;
    const char *name = argv[optind];
    int error = qsm_open(ctl->qsm, &name, 1, QSM_SEND, ctl_left_ms(ctl, ANSWER_MS), &p.group);
    if (error < 0)
        return ctl_fail(ctl, name, error);
    return run(&p, texts, argv + optind + 1);
}
