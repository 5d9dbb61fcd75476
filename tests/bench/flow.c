/* flow: numbered messages through qsmd, and how fast they went, for the benchmarks. The daemon is
 * that of $QSM_SOCKET.
 *   flow send GROUP COUNT BYTES [RATE]  sends COUNT messages of BYTES, as fast as the daemon takes
 *                                       them or RATE a second (COUNT 0: until killed), and waits
 *                                       until all are stable
 *   flow recv GROUP COUNT [FILE]        receives COUNT messages, all senders together, which must
 *                                       be complete and in order of each, and prints how many came
 *                                       in a second, the first one to the last one, and of the
 *                                       second half. When they were sent at a RATE FILE gets their
 *                                       latencies from when they were due, a line for each class:
 *                                       microseconds (at most), messages, and how many of them did
 *                                       not come on the heels of the one before
 *   flow watch GROUP                    receives until killed, and prints every 0.1 s when that is,
 *                                       in us since 1970, and how many have come by then
 *   flow join GROUP COUNT               joins and leaves COUNT times; a line for each: microseconds
 *                                       from the call to the first view
 * Each ends with 1, and says why, after 60 s without progress. GROUP:N is N groups, GROUP.0 to
 * GROUP.N-1, opened in one request; messages go to one after the other, while they take some.
 *   flow live SEED RATE BYTES GROUP…    receives all the groups and sends RATE messages a second to
 *                                       one or another of them, of up to BYTES, some 200 times as
 *                                       long; goes on when the daemon dies and comes back. SIGUSR1:
 *                                       sends no more, and says `flushed` when none is unsettled.
 *                                       Until SIGTERM. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "qsmclient.h"

#define STUCK_MS 60000
#define RECONNECT_MS 2000
#define WATCH_US 100000
#define SENDERS_MAX 8u   /* of what one receives */
#define LARGE_OF 64u     /* live: one of so many messages is large, */
#define LARGE_TIMES 200u /* by this factor */

/* What a message begins with. */
struct head {
    uint64_t index; /* 0, 1, 2 … */
    int64_t due_us; /* 0: none; at a rate only */
};
#define BYTES_MIN sizeof(struct head)

/* Latencies by powers of two, each cut into equal classes. */
#define CLASS_BITS 4u
#define CLASSES (1u << CLASS_BITS)
#define POWERS 32u
struct histogram {
    uint64_t count[POWERS * CLASSES];
    uint64_t heads[POWERS * CLASSES]; /* those that waited for nothing but themselves */
};

/* What goes to a group next, or comes of a sender in it. */
struct place {
    struct flow *flow; /* not owned */
    const struct qsm_group *group;
    uint64_t index;
    uint64_t number; /* the daemon's, of the last message */
    uint32_t sender; /* 0: none yet */
};

/* One run of the program. */
struct flow {
    struct qsm *qsm;
    struct qsm_group *group;   /* join */
    struct qsm_group **groups; /* those of GROUP:N */
    struct place *places;      /* SENDERS_MAX for each of them */
    size_t group_count;
    uint64_t count, done;      /* messages, or joins */
    size_t bytes;              /* send: of a message */
    int64_t first_us, last_us; /* recv: when the messages came; join: the call and its view */
    int64_t half_us;           /* recv: when the first half of them had come */
    struct histogram latency;  /* recv, as are: */
    int64_t came_us, due_us;   /* of the last message */
    uint64_t random;           /* live: of a generator */
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

/* ---- latencies */

static size_t class_of(uint64_t us)
{
    unsigned power = 0;

    while (us >> power >= 2 * CLASSES)
        power++;
    size_t class = power * CLASSES + (us >> power);
    return class < POWERS * CLASSES ? class : POWERS * CLASSES - 1;
}

/* The greatest value of a class. */
static uint64_t class_max(size_t class)
{
    unsigned power = class < 2 * CLASSES ? 0 : (unsigned)(class / CLASSES - 1);

    return ((class - power * CLASSES + 1) << power) - 1;
}

static void note_latency(struct flow *f, int64_t due_us)
{
    int64_t now = now_us(), us = now - due_us;
    size_t class = class_of(us > 0 ? (uint64_t)us : 0);

    f->latency.count[class]++;
    /* What is lost holds up those behind it, and all come at once. */
    f->latency.heads[class] += now - f->came_us >= (due_us - f->due_us) / 2;
    f->came_us = now;
    f->due_us = due_us;
}

static int write_latencies(const struct histogram *h, const char *path)
{
    FILE *out = fopen(path, "w");

    if (!out)
        return -errno;
    for (size_t i = 0; i < POWERS * CLASSES; i++) {
        if (h->count[i] > 0)
            fprintf(out, "%llu %llu %llu\n", (unsigned long long)class_max(i),
                    (unsigned long long)h->count[i], (unsigned long long)h->heads[i]);
    }
    return fclose(out) == 0 ? 0 : -errno;
}

/* ---- callbacks */

/* The place of a message's sender in its group; NULL: there are too many senders. */
static struct place *place_of(struct flow *f, const struct qsm_message *m, uint64_t index)
{
    struct place *p = &f->places[index % f->group_count * SENDERS_MAX];

    for (size_t i = 0; i < SENDERS_MAX; i++) {
        if (p[i].sender == 0)
            p[i].sender = m->sender;
        if (p[i].sender == m->sender)
            return p + i;
    }
    return NULL;
}

/* Whether it is the next one there. */
static bool in_place(struct place *p, const struct qsm_message *m, uint64_t index)
{
    if (index != p->index || (p->group && (p->group != m->group || m->number != p->number + 1)))
        return false;
    p->group = m->group;
    p->index += p->flow->group_count;
    p->number = m->number;
    return true;
}

static void on_message(void *ctx, const struct qsm_message *m)
{
    struct flow *f = ctx;
    struct head head = {UINT64_MAX, 0};

    if (f->done == f->count || f->broken)
        return;
    if (m->bytes >= sizeof(head))
        memcpy(&head, m->data, sizeof(head));
    struct place *p = place_of(f, m, head.index);
    if (!p || !in_place(p, m, head.index)) {
        fprintf(stderr,
                "flow: message %llu, of %s, has index %llu and number %llu, after number %llu\n",
                (unsigned long long)f->done, m->host, (unsigned long long)head.index,
                (unsigned long long)m->number, (unsigned long long)(p ? p->number : 0));
        f->broken = true;
        return;
    }
    f->done++;
    if (f->done == 1)
        f->first_us = now_us();
    if (f->done == f->count / 2)
        f->half_us = now_us();
    if (f->done == f->count)
        f->last_us = now_us();
    if (head.due_us > 0)
        note_latency(f, head.due_us);
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
    struct place *p = ctx;
    struct flow *f = p->flow;

    if (f->done == f->count)
        return -EAGAIN;
    if (room < f->bytes) {
        *ret_needs = f->bytes;
        return -ENOBUFS;
    }
    struct head head = {p->index, 0};
    p->index += f->group_count;
    memset(buffer, 'x', f->bytes);
    memcpy(buffer, &head, sizeof(head));
    f->done++;
    return (long)f->bytes;
}

static int send_all(struct flow *f)
{
    int n = 0;

    for (size_t i = 0; i < f->group_count && n >= 0; i++)
        n = qsm_feed(f->qsm, f->groups[i], make, &f->places[i * SENDERS_MAX]);
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
            /* qsm_wait knows milliseconds only. */
            if (due_us - now < 1000)
                usleep((useconds_t)(due_us - now));
            n = qsm_wait(f->qsm, (int)((due_us - now) / 1000));
            continue;
        }
        struct head head = {f->done, due_us};
        memcpy(message, &head, sizeof(head));
        n = qsm_send(f->qsm, f->groups[f->done % f->group_count], message, f->bytes);
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
    const char *name[] = {qsm_group_name(f->groups[0])};
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

static int run_recv(struct flow *f, const char *file)
{
    int n = 1;

    while (n > 0 && f->done < f->count && !f->ended && !f->broken)
        n = qsm_wait(f->qsm, STUCK_MS);
    if (f->done < f->count)
        return fail(f, "recv", n < 0 ? n : f->ended || f->broken ? -EPIPE : -ETIMEDOUT);
    double seconds = (double)(f->last_us - f->first_us) / 1e6;
    double later = f->half_us > 0 ? (double)(f->last_us - f->half_us) / 1e6 : 0;
    printf("%.0f messages/s: %llu in %.3f s, the second half %.0f messages/s\n",
           seconds > 0 ? (double)(f->count - 1) / seconds : 0, (unsigned long long)f->count,
           seconds, later > 0 ? (double)(f->count - f->count / 2) / later : 0);
    int error = file ? write_latencies(&f->latency, file) : 0;
    return error < 0 ? fail(f, file, error) : 0;
}

static int run_watch(struct flow *f)
{
    int64_t due_us = now_us();
    int n = 0;

    while (n >= 0 && !f->ended && !f->broken) {
        if (now_us() >= due_us) {
            struct timespec t;
            clock_gettime(CLOCK_REALTIME, &t);
            printf("%lld %llu\n", (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000,
                   (unsigned long long)f->done);
            fflush(stdout);
            due_us += WATCH_US;
        }
        n = qsm_wait(f->qsm, WATCH_US / 1000);
    }
    return fail(f, "watch", n < 0 ? n : -EPIPE);
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

/* ---- live */

static volatile sig_atomic_t quiet, over;

static void on_signal(int number)
{
    if (number == SIGTERM)
        over = 1;
    else
        quiet = 1;
}

static void hear(void *ctx, const struct qsm_message *m)
{
    struct flow *f = ctx;

    (void)m;
    f->count++;
}

static uint64_t next_random(struct flow *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random;
}

/* The daemon may not be there yet, or not any more. */
static int come_back(struct flow *f)
{
    int error = qsm_reconnect(f->qsm, RECONNECT_MS);

    if (error < 0)
        usleep(50000);
    return error;
}

static int send_some(struct flow *f, struct qsm_group **groups, size_t count, char *bytes)
{
    size_t length = next_random(f) % (f->bytes + 1);

    if (next_random(f) % LARGE_OF == 0)
        length *= LARGE_TIMES;
    /* A cheap pattern: what is mixed up shows in the hash. */
    for (size_t i = 0; i + sizeof(uint64_t) <= length; i += 4096)
        memcpy(bytes + i, &f->random, sizeof(uint64_t));
    return qsm_send(f->qsm, groups[next_random(f) % count], bytes, length);
}

static int live_turn(struct flow *f, struct qsm_group **groups, size_t count, char *bytes,
                     uint64_t rate)
{
    int64_t gap_us = rate > 0 ? 1000000 / (int64_t)rate : 0, now = now_us();
    int n = 0;

    if (quiet) {
        /* After a crash the end of some is unknown, which is settled, too. */
        n = f->ended ? 0 : qsm_flush(f->qsm, RECONNECT_MS);
        if (!f->ended && (n == 0 || n == -EIO)) {
            printf("flushed, %llu received, %llu sent\n", (unsigned long long)f->count,
                   (unsigned long long)f->done);
            fflush(stdout);
            f->ended = true;
        }
        n = n == -ETIMEDOUT || n == -EIO ? 0 : n;
    } else if (rate > 0 && now >= f->last_us) {
        n = send_some(f, groups, count, bytes);
        f->done += n >= 0;
        /* What was missed while the daemon was away is not made up for. */
        f->last_us = now - f->last_us > 10 * gap_us ? now + gap_us : f->last_us + gap_us;
        n = n == -EAGAIN || n == -EBADF ? 0 : n;
    }
    if (n < 0)
        return n;
    return qsm_wait(f->qsm, rate > 0 && !quiet ? (int)(gap_us / 2000 + 1) : 100);
}

static int run_live(int argc, char **argv)
{
    static struct flow f;
    struct qsm_callbacks callbacks = {.ctx = &f, .message = hear};
    struct sigaction act = {.sa_handler = on_signal};
    uint64_t rate = strtoull(argv[3], NULL, 10);
    size_t count = (size_t)argc - 5;
    int error;

    f.random = (strtoull(argv[2], NULL, 10) + 1) * 0x9e3779b97f4a7c15u;
    f.bytes = strtoul(argv[4], NULL, 10);
    char *bytes = calloc(LARGE_TIMES, f.bytes + 1);
    struct qsm_group **groups = calloc(count, sizeof(struct qsm_group *));
    if (!bytes || !groups)
        return fail(&f, "live", -ENOMEM);
    sigaction(SIGUSR1, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    while ((error = qsm_connect(NULL, &callbacks, RECONNECT_MS, &f.qsm)) < 0 && !over)
        usleep(50000);
    if (error == 0)
        error = qsm_open_start(f.qsm, (const char *const *)argv + 5, count, QSM_RECV | QSM_SEND,
                               groups);
    while (!over) {
        error = error < 0 ? come_back(&f) : live_turn(&f, groups, count, bytes, rate);
        if (error == -EINTR)
            error = 0;
    }
    qsm_close(f.qsm);
    free(groups);
    free(bytes);
    return 0;
}

/* ---- main */

static int usage(void)
{
    fprintf(stderr, "usage: flow send GROUP[:N] COUNT BYTES [RATE] | recv GROUP[:N] COUNT [FILE] | "
                    "watch GROUP[:N] | join GROUP COUNT | live SEED RATE BYTES GROUP...\n");
    return 2;
}

/* The names of GROUP or GROUP:N, one behind the other; ret_names takes where each begins. */
static int name_groups(struct flow *f, const char *text, char ***ret_names)
{
    const char *colon = strrchr(text, ':');
    size_t room = strlen(text) + 21, length = colon ? (size_t)(colon - text) : room;

    f->group_count = colon ? strtoul(colon + 1, NULL, 10) : 1;
    char **names = calloc(f->group_count, sizeof(*names) + room);
    if (!names || f->group_count == 0) {
        free(names);
        return names ? -EINVAL : -ENOMEM;
    }
    char *name = (char *)(names + f->group_count);
    for (size_t i = 0; i < f->group_count; i++, name += room) {
        names[i] = name;
        if (colon)
            snprintf(name, room, "%.*s.%zu", (int)length, text, i);
        else
            memcpy(name, text, strlen(text) + 1);
    }
    *ret_names = names;
    return 0;
}

/* Own echo is of no use to a sender: it opens to send only. */
static int open_groups(struct flow *f, const char *text, unsigned mode)
{
    char **names;
    int error = name_groups(f, text, &names);

    if (error < 0)
        return error;
    f->groups = calloc(f->group_count, sizeof(struct qsm_group *));
    f->places = calloc(f->group_count * SENDERS_MAX, sizeof(*f->places));
    error = f->groups && f->places ? 0 : -ENOMEM;
    for (size_t i = 0; i < f->group_count * SENDERS_MAX && error == 0; i++)
        f->places[i] = (struct place){.flow = f, .index = i / SENDERS_MAX};
    if (error == 0)
        error =
            qsm_open(f->qsm, (const char *const *)names, f->group_count, mode, STUCK_MS, f->groups);
    free(names);
    return error;
}

static int run(struct flow *f, int argc, char **argv)
{
    bool sends = strcmp(argv[1], "send") == 0;

    if (strcmp(argv[1], "join") == 0)
        return run_join(f, argv[2]);
    int error = open_groups(f, argv[2], sends ? QSM_SEND : QSM_RECV);
    if (error < 0)
        return fail(f, "open", error);
    if (strcmp(argv[1], "watch") == 0)
        return run_watch(f);
    return sends ? run_send(f, argc > 5 ? strtoull(argv[5], NULL, 10) : 0)
                 : run_recv(f, argc > 4 ? argv[4] : NULL);
}

/* Whether there are as many arguments as the command wants. */
static bool arguments_good(int argc, char **argv)
{
    static const struct {
        const char *command;
        int least, most;
    } commands[] = {{"send", 5, 6}, {"recv", 4, 5}, {"watch", 3, 3}, {"join", 4, 4}};

    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].command) == 0)
            return argc >= commands[i].least && argc <= commands[i].most;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct flow f = {0};
    struct qsm_callbacks callbacks = {
        .ctx = &f, .view = on_view, .end = on_end, .opened = on_opened};

    if (argc > 5 && strcmp(argv[1], "live") == 0)
        return run_live(argc, argv);
    if (!arguments_good(argc, argv))
        return usage();
    bool sends = strcmp(argv[1], "send") == 0;
    /* What comes between joins is of no interest. */
    if (!sends && strcmp(argv[1], "join") != 0)
        callbacks.message = on_message;
    f.count = argc > 3 ? strtoull(argv[3], NULL, 10) : UINT64_MAX;
    f.bytes = sends ? strtoul(argv[4], NULL, 10) : 0;
    if (sends && (f.bytes < BYTES_MIN || f.bytes > QSM_MESSAGE_MAX))
        return usage();
    int error = qsm_connect(NULL, &callbacks, STUCK_MS, &f.qsm);
    if (error < 0)
        return fail(&f, "connect", error);
    int status = run(&f, argc, argv);
    qsm_close(f.qsm);
    free(f.groups);
    free(f.places);
    return status;
}
