/* qsmsim: runs seeds, in a few processes, and sums up. A seed is reproduced by its number alone. */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sim.h"

#define JOBS_MAX 64
#define SEED_SECONDS_MAX 300 /* of real time, then it counts as hung */
#define ALL_FAULTS_FROM 200  /* seeds from which on a zero count is a failure */

static const char usage[] =
    "usage: qsmsim [--seed N] [--seeds M] [--nodes A-B] [--jobs J] [--trace FILE]\n"
    "              [--twice] [--mutant-expect] [--marks]\n"
    "Runs the production core for many nodes and the CMS under virtual time, with faults, and\n"
    "checks the promises S1 to S12 and S14 on the trace.\n"
    "  --seed N         the first seed (default 1)\n"
    "  --seeds M        how many (default 1)\n"
    "  --nodes A-B      hosts of a seed, chosen by it (default 5-30); A alone means A-A\n"
    "  --jobs J         processes at work (default 2)\n"
    "  --trace FILE     writes the trace of the seed (needs --seeds 1); `-`: standard output\n"
    "  --twice          runs each seed twice: the trace's hash must be the same\n"
    "  --mutant-expect  stops at the first failure and exits 0 then, 1 when there is none\n"
    "  --marks          a rare branch of the core that was never taken is a failure (mark.h)\n"
    "A line for each failure, then counts. Over 200 seeds or more a kind of fault, or a source of\n"
    "repairs, that never occurred is a failure. Exit code 0: none, 1: some, 2: usage.\n";

struct options {
    uint64_t seed, seeds;
    uint32_t nodes_min, nodes_max;
    unsigned jobs;
    const char *trace;
    bool twice, mutant, marks;
};

/* What the processes share. */
struct shared {
    _Atomic uint64_t next; /* the next seed to run */
    _Atomic bool stop;
    _Atomic uint64_t current[JOBS_MAX];
};

/* What a worker tells of a seed; short enough that a pipe takes it in one piece. */
struct told {
    uint64_t seed;
    struct run_result result;
};
static_assert(sizeof(struct told) <= 4096, "a pipe must take it whole");

struct worker {
    pid_t pid; /* 0: none */
    int fd;
};

struct sums {
    struct sim_counts counts;
    uint64_t seeds, failed, lines, virtual_us, healed_us, healed_us_max;
    uint64_t first_failed, last_hash;
    uint64_t views_with_faults;
};

/* ---- a worker */

static void run_one(const struct options *o, uint64_t seed, FILE *trace, struct run_result *ret)
{
    struct run_config config = {seed, o->nodes_min, o->nodes_max, trace};
    run_seed(&config, ret);
    if (!o->twice)
        return;
    struct run_result again;
    config.trace = NULL;
    run_seed(&config, &again);
    if (again.hash == ret->hash)
        return;
    ret->failed = true;
    snprintf(ret->failures[ret->failure_count++ % 3], sizeof(ret->failures[0]),
             "TWICE: the second run has another trace: %llx and %llx",
             (unsigned long long)ret->hash, (unsigned long long)again.hash);
}

static void work(const struct options *o, struct shared *sh, unsigned slot, int fd)
{
    struct told t;
    memset(&t, 0, sizeof(t));
    while (!sh->stop && (t.seed = sh->next++) < o->seed + o->seeds) {
        sh->current[slot] = t.seed;
        alarm(SEED_SECONDS_MAX);
        run_one(o, t.seed, NULL, &t.result);
        alarm(0);
        if (write(fd, &t, sizeof(t)) != sizeof(t))
            exit(1);
    }
}

static void spawn(const struct options *o, struct shared *sh, struct worker *workers, unsigned slot)
{
    int ends[2];
    fflush(stdout);
    if (pipe(ends) < 0 || (workers[slot].pid = fork()) < 0) {
        perror("qsmsim");
        exit(2);
    }
    if (workers[slot].pid == 0) {
        close(ends[0]);
        work(o, sh, slot, ends[1]);
        exit(0);
    }
    close(ends[1]);
    workers[slot].fd = ends[0];
}

/* ---- summing up */

static void add(struct sums *sums, const struct told *t)
{
#define X(name, text) sums->counts.name += t->result.counts.name;
    SIM_COUNTERS(X)
#undef X
    for (int i = 0; i < MARKS_COUNT; i++)
        sums->counts.marks[i] += t->result.counts.marks[i];
    sums->counts.node_us += t->result.counts.node_us;
    sums->counts.events += t->result.counts.events;
    sums->seeds++;
    sums->lines += t->result.lines;
    sums->virtual_us += t->result.virtual_us;
    sums->healed_us += t->result.healed_us;
    sums->last_hash = t->result.hash;
    if (t->result.healed_us > sums->healed_us_max)
        sums->healed_us_max = t->result.healed_us;
}

static void say_failed(const struct options *o, struct sums *sums, uint64_t seed, const char *text)
{
    printf("seed %llu: %s\n", (unsigned long long)seed, text);
    printf("    again: qsmsim --seed %llu --nodes %u-%u --trace FILE\n", (unsigned long long)seed,
           o->nodes_min, o->nodes_max);
    sums->failed++;
    if (!sums->first_failed || seed < sums->first_failed)
        sums->first_failed = seed;
}

static void judge(const struct options *o, struct sums *sums, const struct told *t)
{
    add(sums, t);
    if (!t->result.failed)
        return;
    say_failed(o, sums, t->seed, t->result.failures[0]);
    for (uint64_t i = 1; i < t->result.failure_count && i < 3; i++)
        printf("    also: %s\n", t->result.failures[i]);
    if (t->result.failure_count > 3)
        printf("    and %llu more\n", (unsigned long long)t->result.failure_count - 3);
}

/* Says the marks; false: --marks was asked for, and a branch was never taken. */
static bool marks_hit(const struct options *o, const struct sums *sums)
{
    static const char *const texts[] = {
#define X(name, text) #name ": " text,
        MARKS(X)
#undef X
    };
    bool all = true;
    printf("marks:\n");
    for (int i = 0; i < MARKS_COUNT; i++) {
        printf("  %12llu %s\n", (unsigned long long)sums->counts.marks[i], texts[i]);
        if (sums->counts.marks[i] || !o->marks)
            continue;
        printf("FAIL: mark %s was never hit\n", texts[i]);
        all = false;
    }
    return all;
}

static bool summary(const struct options *o, const struct sums *sums, double seconds)
{
    bool zero = false;
    printf("%llu seeds, %llu failed\n", (unsigned long long)sums->seeds,
           (unsigned long long)sums->failed);
#define X(name, text)                                                                              \
    printf("  %12llu %s\n", (unsigned long long)sums->counts.name, text);                          \
    if (!sums->counts.name && o->seeds >= ALL_FAULTS_FROM && !o->mutant) {                         \
        printf("FAIL: no %s in %llu seeds\n", text, (unsigned long long)sums->seeds);              \
        zero = true;                                                                               \
    }
    SIM_COUNTERS(X)
#undef X
    zero |= !marks_hit(o, sums);
    double node_seconds = (double)sums->counts.node_us / 1e6;
    printf("  healed after %.2f s on average, %.2f s at most\n",
           sums->seeds ? (double)sums->healed_us / 1e6 / (double)sums->seeds : 0,
           (double)sums->healed_us_max / 1e6);
    printf("  %llu trace lines, %.0f virtual node-seconds in %.1f s: %.0f per second\n",
           (unsigned long long)sums->lines, node_seconds, seconds,
           seconds > 0 ? node_seconds / seconds : 0);
    if (sums->seeds == 1)
        printf("  trace hash %016llx\n", (unsigned long long)sums->last_hash);
    return !zero;
}

static double real_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- running */

/* A worker that closed its pipe ended; when it died, its seed failed and another goes on. */
static void bury(const struct options *o, struct shared *sh, struct worker *workers, unsigned slot,
                 struct sums *sums)
{
    int status;
    char text[100];
    close(workers[slot].fd);
    waitpid(workers[slot].pid, &status, 0);
    workers[slot].pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(text, sizeof(text), "HUNG: more than %d s", SEED_SECONDS_MAX);
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof(text), "DIED: %s", strsignal(WTERMSIG(status)));
    else
        snprintf(text, sizeof(text), "DIED: exit code %d", WEXITSTATUS(status));
    sums->seeds++;
    say_failed(o, sums, sh->current[slot], text);
    if (!(o->mutant && sums->failed))
        spawn(o, sh, workers, slot);
}

static void run_all(const struct options *o, struct sums *sums)
{
    struct worker workers[JOBS_MAX] = {{0}};
    struct shared *sh =
        mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(sh != MAP_FAILED);
    sh->next = o->seed;
    for (unsigned i = 0; i < o->jobs; i++)
        spawn(o, sh, workers, i);
    for (;;) {
        struct pollfd fds[JOBS_MAX];
        unsigned slots[JOBS_MAX], n = 0;
        for (unsigned i = 0; i < o->jobs; i++) {
            if (!workers[i].pid)
                continue;
            slots[n] = i;
            fds[n++] = (struct pollfd){.fd = workers[i].fd, .events = POLLIN};
        }
        if (!n)
            break;
        if (poll(fds, n, -1) < 0 && errno != EINTR)
            break;
        for (unsigned i = 0; i < n; i++) {
            struct told t;
            if (!fds[i].revents)
                continue;
            if (read(fds[i].fd, &t, sizeof(t)) == sizeof(t))
                judge(o, sums, &t);
            else
                bury(o, sh, workers, slots[i], sums);
        }
        if (o->mutant && sums->failed)
            sh->stop = true;
        fflush(stdout);
    }
    munmap(sh, sizeof(*sh));
}

/* One seed with its trace, in this process. */
static int run_traced(const struct options *o, struct sums *sums)
{
    struct told t = {.seed = o->seed};
    FILE *f = strcmp(o->trace, "-") == 0 ? stdout : fopen(o->trace, "w");
    if (!f) {
        fprintf(stderr, "qsmsim: %s: %s\n", o->trace, strerror(errno));
        return 2;
    }
    setvbuf(f, NULL, _IOLBF, 0); /* whole, too, when the core aborts */
    run_one(o, o->seed, f, &t.result);
    if (f != stdout)
        fclose(f);
    judge(o, sums, &t);
    return 0;
}

static bool parse_nodes(const char *text, struct options *o)
{
    char *end;
    o->nodes_min = o->nodes_max = (uint32_t)strtoul(text, &end, 10);
    if (*end == '-')
        o->nodes_max = (uint32_t)strtoul(end + 1, &end, 10);
    return *end == '\0' && o->nodes_min >= 1 && o->nodes_min <= o->nodes_max &&
           o->nodes_max <= SIM_HOSTS_MAX;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"seed", required_argument, NULL, 's'},  {"seeds", required_argument, NULL, 'm'},
        {"nodes", required_argument, NULL, 'n'}, {"jobs", required_argument, NULL, 'j'},
        {"trace", required_argument, NULL, 't'}, {"twice", no_argument, NULL, '2'},
        {"help", no_argument, NULL, 'h'},        {"mutant-expect", no_argument, NULL, 'x'},
        {"marks", no_argument, NULL, 'M'},       {NULL, 0, NULL, 0},
    };
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 's')
            o->seed = strtoull(optarg, NULL, 10);
        else if (c == 'm')
            o->seeds = strtoull(optarg, NULL, 10);
        else if (c == 'n')
            good = good && parse_nodes(optarg, o);
        else if (c == 'j')
            o->jobs = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 't')
            o->trace = optarg;
        else if (c == '2')
            o->twice = true;
        else if (c == 'M')
            o->marks = true;
        else if (c == 'x')
            o->mutant = true;
        else if (c == 'h') {
            fputs(usage, stdout);
            exit(0);
        } else
            good = false;
    }
    return good && optind == argc && o->seeds && o->jobs && o->jobs <= JOBS_MAX &&
           (!o->trace || o->seeds == 1);
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .seeds = 1, .nodes_min = 5, .nodes_max = 30, .jobs = 2};
    struct sums sums = {0};
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    double begun = real_seconds();
    if (o.trace && run_traced(&o, &sums) != 0)
        return 2;
    if (!o.trace)
        run_all(&o, &sums);
    bool good = summary(&o, &sums, real_seconds() - begun);
    if (o.mutant) {
        if (sums.failed)
            printf("found in seed %llu, after %llu seeds\n", (unsigned long long)sums.first_failed,
                   (unsigned long long)sums.seeds);
        else
            printf("not found in %llu seeds\n", (unsigned long long)sums.seeds);
        return sums.failed ? 0 : 1;
    }
    return good && !sums.failed ? 0 : 1;
}
