/* run: see run.h */
#include "run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LATENCIES_EXTRA_S 2
#define LOOK_EVERY 16u     /* messages between two looks at the clock */
#define PROGRESS_STRIDE 8u /* a cache line for every receiver */
#define PROGRESS_BYTES 65536u
#define ROOM_POLL_NS 50000
#define ROOM_STUCK_NS 1000000000

/* What a message begins with. */
struct head {
    uint64_t number; /* 0, 1, 2 … */
    int64_t sent_ns; /* at a rate only */
    uint64_t last;
};

/* The run that SIGTERM reports. */
static struct run *reported;

int64_t run_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void run_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* ---- reports */

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* The least latency that so many percent do not exceed. */
static uint32_t percentile(const struct run *r, size_t percent)
{
    size_t rank = (r->latencies * percent + 99) / 100;

    return rank > 0 ? r->latency_ns[rank - 1] : 0;
}

/* Safe in a signal handler. */
static void report(const struct run *r, uint32_t p50, uint32_t p99)
{
    char line[160];
    int length = snprintf(line, sizeof(line), "received %llu %lld %llu %llu %d %u %u\n",
                          (unsigned long long)r->count, (long long)(r->last_ns - r->first_ns),
                          (unsigned long long)r->missing, (unsigned long long)r->disorder, r->last,
                          p50, p99);

    if (write(STDOUT_FILENO, line, (size_t)length) < 0)
        _exit(1);
}

static void on_term(int number)
{
    (void)number;
    if (!reported->last)
        report(reported, 0, 0);
    _exit(1);
}

/* ---- arguments */

static void map_progress(struct run *r, const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, PROGRESS_BYTES) < 0)
        run_fail(path, strerror(errno));
    void *memory = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        run_fail(path, strerror(errno));
    close(fd);
    r->progress = (uint64_t *)memory;
}

static bool take_option(struct run *r, int option, const char *value)
{
    switch (option) {
    case 'a':
        r->address = value;
        return true;
    case 'b':
        r->bytes = strtoul(value, NULL, 10);
        return r->bytes >= sizeof(struct head);
    case 'c':
        r->receivers = (unsigned)strtoul(value, NULL, 10);
        return r->receivers > 0 && r->receivers < PROGRESS_BYTES / 64;
    case 'i':
        r->id = (unsigned)strtoul(value, NULL, 10);
        return r->id < PROGRESS_BYTES / 64;
    case 'm':
        r->mode = value;
        return true;
    case 'n':
        r->name = value;
        return true;
    case 'p':
        map_progress(r, value);
        return true;
    case 'r':
        r->rate = strtoull(value, NULL, 10);
        return true;
    case 't':
        r->length_ns = strtoll(value, NULL, 10) * 1000000;
        return r->length_ns > 0;
    case 'u':
        r->socket = value;
        return true;
    case 'w':
        r->window = strtoull(value, NULL, 10);
        return r->window > 0;
    default:
        return false;
    }
}

static void usage(const char *program)
{
    fprintf(stderr,
            "usage: %s send|recv [-a address] [-b bytes] [-c receivers] [-i id] [-m mode] "
            "[-n name] [-p progress] [-r rate] [-t milliseconds] [-u socket] [-w window]\n",
            program);
    exit(2);
}

void run_begin(struct run *r, int argc, char **argv)
{
    struct sigaction act;
    int option;

    memset(r, 0, sizeof(*r));
    r->address = "127.0.0.1";
    r->name = "bench";
    r->mode = "";
    r->id = 1;
    r->receivers = 1;
    r->bytes = 1000;
    r->window = 8192;
    r->length_ns = 1000000000;
    if (argc < 2)
        usage(argv[0]);
    r->role = argv[1];
    while ((option = getopt(argc - 1, argv + 1, "a:b:c:i:m:n:p:r:t:u:w:")) != -1) {
        if (!take_option(r, option, optarg))
            usage(argv[0]);
    }
    r->latencies_max = (size_t)r->rate * (size_t)(r->length_ns / 1000000000 + LATENCIES_EXTRA_S);
    if (r->rate > 0)
        r->latency_ns = (uint32_t *)calloc(r->latencies_max, sizeof(uint32_t));
    reported = r;
    memset(&act, 0, sizeof(act));
    act.sa_handler = on_term;
    if (strcmp(r->role, "recv") == 0)
        sigaction(SIGTERM, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- senders */

static int64_t wait_until_due(const struct run *r)
{
    int64_t due = r->begin_ns + (int64_t)(r->count * 1000000000 / r->rate);
    struct timespec t = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
    return run_now_ns();
}

bool run_next(struct run *r, void *message)
{
    struct head head = {r->count, 0, 0};

    if (r->last)
        return false;
    if (r->count == 0)
        r->begin_ns = run_now_ns();
    if (r->rate > 0)
        head.sent_ns = wait_until_due(r);
    if (r->rate > 0 || r->count % LOOK_EVERY == LOOK_EVERY - 1)
        r->last = run_now_ns() - r->begin_ns >= r->length_ns;
    head.last = r->last;
    memcpy(message, &head, sizeof(head));
    r->count++;
    return true;
}

static uint64_t slowest(const struct run *r)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 1; i <= r->receivers; i++) {
        uint64_t n = __atomic_load_n(&r->progress[i * PROGRESS_STRIDE], __ATOMIC_ACQUIRE);
        least = n < least ? n : least;
    }
    return least;
}

bool run_full(struct run *r, unsigned more)
{
    if (!r->progress || r->count + more <= r->slowest + r->window)
        return false;
    r->slowest = slowest(r);
    return r->count + more > r->slowest + r->window;
}

void run_room(struct run *r, unsigned more)
{
    struct timespec pause = {0, ROOM_POLL_NS};

    if (!run_full(r, more))
        return;
    uint64_t before = r->slowest;
    int64_t moved_ns = run_now_ns();
    /* Half of it, so that a wakeup is worth its while. */
    while (r->count + more > r->slowest + r->window / 2) {
        nanosleep(&pause, NULL);
        r->slowest = slowest(r);
        if (r->slowest != before) {
            before = r->slowest;
            moved_ns = run_now_ns();
        } else if (run_now_ns() - moved_ns > ROOM_STUCK_NS) {
            return;
        }
    }
}

void run_sent(const struct run *r)
{
    printf("sent %llu\n", (unsigned long long)r->count);
    fflush(stdout);
}

void run_stay(const struct run *r)
{
    run_sent(r);
    for (;;)
        pause();
}

/* ---- receivers */

void run_ready(void)
{
    puts("ready");
    fflush(stdout);
}

uint64_t run_number(const void *message)
{
    struct head head;

    memcpy(&head, message, sizeof(head));
    return head.number;
}

static void note_latency(struct run *r, int64_t ns)
{
    if (r->latencies < r->latencies_max)
        r->latency_ns[r->latencies++] = ns < UINT32_MAX ? (uint32_t)(ns > 0 ? ns : 0) : UINT32_MAX;
}

static void finish(struct run *r)
{
    uint32_t p50 = 0, p99 = 0;

    r->last_ns = run_now_ns();
    if (r->latencies > 0) {
        qsort(r->latency_ns, r->latencies, sizeof(uint32_t), compare);
        p50 = percentile(r, 50);
        p99 = percentile(r, 99);
    }
    r->last = true;
    report(r, p50, p99);
}

bool run_take(struct run *r, const void *message, size_t bytes)
{
    struct head head;

    if (r->last)
        return true;
    if (bytes != r->bytes) {
        r->disorder++;
        return false;
    }
    memcpy(&head, message, sizeof(head));
    if (head.number < r->expected) {
        r->disorder++;
        return false;
    }
    r->missing += head.number - r->expected;
    r->expected = head.number + 1;
    if (r->count++ == 0)
        r->first_ns = run_now_ns();
    if (r->latency_ns)
        note_latency(r, run_now_ns() - head.sent_ns);
    if (head.last)
        finish(r);
    return r->last;
}

void run_post(const struct run *r, uint64_t expected)
{
    if (r->progress)
        __atomic_store_n(&r->progress[r->id * PROGRESS_STRIDE], expected, __ATOMIC_RELEASE);
}
