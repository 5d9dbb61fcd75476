/* qsmsim: runs seeds, in a few processes, and sums up. A seed is reproduced by its number alone. */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sim_options.h"

#define SEED_SECONDS_MAX 300 /* of real time, then it counts as hung */

static const char usage[] =
    "usage: qsmsim [--mode MODE] [--seed N] [--seeds M] [--seconds S] [--nodes A-B] [--jobs J]\n"
    "              [--without KIND,...] [--skip NUMBER,...] [--trace FILE] [--shrink] [--twice]\n"
    "              [--marks] [--mutant-expect]\n"
    "Runs the production core for many nodes and the CMS under virtual time, with faults, and\n"
    "checks the promises S1 to S12 and S14 on the trace.\n"
    "  --mode MODE      safety (default): faults, then a calm in which all must converge;\n"
    "                   liveness: only a core is healed, the rest stays broken; storm: view\n"
    "                   changes all the time; small: three hosts, a crash at each event and the\n"
    "                   loss of each datagram, one a run; all: a part of each\n"
    "  --seed N         the first seed (default 1); in mode small the number of the first run\n"
    "  --seeds M        how many of each mode (default 1; small: all runs, or M spread over them)\n"
    "  --seconds S      as many as fit into so long; with --shrink: how long it may take (180)\n"
    "  --nodes A-B      hosts of a seed, chosen by it (default: by the seed, mostly 5-30); A "
    "means\n"
    "                   A-A; at most 1000\n"
    "  --jobs J         processes at work (default 2)\n"
    "  --without K,...  leaves out kinds of fault, by the names of the summary\n"
    "  --skip N,...     leaves out single faults, by their numbers from 0\n"
    "  --trace FILE     writes the trace of the seed (needs --seeds 1); `-`: standard output\n"
    "  --shrink         when the seed fails (needs --seeds 1), looks for fewer nodes and faults\n"
    "                   with which the same promise fails, and says how to run that\n"
    "  --twice          runs each seed twice: the trace's hash must be the same\n"
    "  --marks          a rare branch of the core that was never taken is a failure (mark.h)\n"
    "  --mutant-expect  stops at the first failure and exits 0 then, 1 when there is none\n"
    "A line for each failure, then counts. Over 200 seeds or more a kind of fault, or a source of\n"
    "repairs, that never occurred is a failure, and in mode all a branch that was never taken.\n"
    "Exit code 0: no failure, 1: some, 2: usage.\n";

/* What the processes share. */
struct shared {
    _Atomic uint64_t next; /* the next unit to run */
    _Atomic bool stop;
    double end_at; /* real time, with --seconds */
    _Atomic uint64_t current[JOBS_MAX];
};

/* What a worker tells of a seed; short enough that a pipe takes it in one piece. */
struct told {
    struct unit unit;
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
    uint64_t by_mode[MODES_COUNT];
    uint64_t last_hash;
    struct unit first_failed; /* the first that was found */
};

/* ---- a worker */

static void run_one(const struct options *o, struct unit u, FILE *trace, struct run_result *ret)
{
    struct run_config config = options_run(o, u);
    config.trace = trace;
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

static double real_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work(const struct options *o, struct shared *sh, unsigned slot, int fd)
{
    struct told t;
    memset(&t, 0, sizeof(t));
    while (!sh->stop && !(o->seconds && real_seconds() > sh->end_at)) {
        uint64_t next = sh->next++;
        if (!options_unit(o, next, &t.unit))
            break;
        if (!t.unit.seed)
            continue;
        sh->current[slot] = next;
        alarm(SEED_SECONDS_MAX);
        run_one(o, t.unit, NULL, &t.result);
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
    for (int i = 0; i < FAULTS_COUNT; i++)
        sums->counts.faults[i] += t->result.counts.faults[i];
    for (int i = 0; i < MARKS_COUNT; i++)
        sums->counts.marks[i] += t->result.counts.marks[i];
    sums->counts.node_us += t->result.counts.node_us;
    sums->counts.events += t->result.counts.events;
    sums->seeds++;
    sums->by_mode[t->unit.mode]++;
    sums->lines += t->result.lines;
    sums->virtual_us += t->result.virtual_us;
    sums->healed_us += t->result.healed_us;
    sums->last_hash = t->result.hash;
    if (t->result.healed_us > sums->healed_us_max)
        sums->healed_us_max = t->result.healed_us;
}

static void say_failed(const struct options *o, struct sums *sums, struct unit u, const char *text)
{
    struct run_config config = options_run(o, u);
    printf("%s seed %llu: %s\n    again: ", mode_name(u.mode), (unsigned long long)u.seed, text);
    options_say(&config);
    printf(" --trace FILE\n");
    if (!sums->failed++)
        sums->first_failed = u;
}

static void judge(const struct options *o, struct sums *sums, const struct told *t)
{
    add(sums, t);
    if (!t->result.failed)
        return;
    say_failed(o, sums, t->unit, t->result.failures[0]);
    for (uint64_t i = 1; i < t->result.failure_count && i < 3; i++)
        printf("    also: %s\n", t->result.failures[i]);
    if (t->result.failure_count > 3)
        printf("    and %llu more\n", (unsigned long long)t->result.failure_count - 3);
}

static void say_count(uint64_t count, const char *name, const char *text)
{
    printf("  %12llu %s%s%s\n", (unsigned long long)count, name, *name ? ": " : "", text);
}

/* Says what struck; false: a kind of fault never did, over many seeds. */
static bool faults_struck(const struct options *o, const struct sums *sums)
{
    static const char *const texts[] = {
#define X(name, text) text,
        SIM_FAULTS(X)
#undef X
    };
    bool all = true;
    printf("faults, or seeds with them:\n");
    for (int i = 0; i < FAULTS_COUNT; i++) {
        say_count(sums->counts.faults[i], fault_name((enum sim_fault)i), texts[i]);
        if (sums->counts.faults[i] || !options_many(o))
            continue;
        printf("FAIL: no %s in %llu seeds\n", texts[i], (unsigned long long)sums->seeds);
        all = false;
    }
    return all;
}

/* Says the marks; false: --marks was asked for, and a branch was never taken. */
static bool marks_hit(const struct options *o, const struct sums *sums)
{
    static const char *const texts[][2] = {
#define X(name, text) {#name, text},
        MARKS(X)
#undef X
    };
    bool all = true;
    printf("marks:\n");
    for (int i = 0; i < MARKS_COUNT; i++) {
        say_count(sums->counts.marks[i], texts[i][0], texts[i][1]);
        if (sums->counts.marks[i] || !(o->marks || (o->all && options_many(o))))
            continue;
        printf("FAIL: mark %s was never hit: %s\n", texts[i][0], texts[i][1]);
        all = false;
    }
    return all;
}

static bool summary(const struct options *o, const struct sums *sums, double seconds)
{
    bool zero = false;
    printf("%llu seeds, %llu failed\n", (unsigned long long)sums->seeds,
           (unsigned long long)sums->failed);
    for (int i = 0; i < MODES_COUNT; i++)
        say_count(sums->by_mode[i], "mode", mode_name((enum sim_mode)i));
#define X(name, text)                                                                              \
    say_count(sums->counts.name, "", text);                                                        \
    if (!sums->counts.name && options_many(o)) {                                                   \
        printf("FAIL: no %s in %llu seeds\n", text, (unsigned long long)sums->seeds);              \
        zero = true;                                                                               \
    }
    SIM_COUNTERS(X)
#undef X
    zero |= !faults_struck(o, sums);
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
    struct unit u;
    options_unit(o, sh->current[slot], &u);
    say_failed(o, sums, u, text);
    if (!(o->mutant && sums->failed))
        spawn(o, sh, workers, slot);
}

static void run_all(const struct options *o, struct sums *sums)
{
    struct worker workers[JOBS_MAX] = {{0}};
    struct shared *sh =
        mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(sh != MAP_FAILED);
    sh->end_at = real_seconds() + (double)o->seconds;
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
    struct told t = {.unit = {o->mode, o->seed}};
    FILE *f = strcmp(o->trace, "-") == 0 ? stdout : fopen(o->trace, "w");
    if (!f) {
        fprintf(stderr, "qsmsim: %s: %s\n", o->trace, strerror(errno));
        return 2;
    }
    setvbuf(f, NULL, _IOLBF, 0); /* whole, too, when the core aborts */
    run_one(o, t.unit, f, &t.result);
    if (f != stdout)
        fclose(f);
    judge(o, sums, &t);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o;
    struct sums sums = {0};
    if (!options_parse(argc, argv, &o)) {
        fputs(usage, o.help ? stdout : stderr);
        return o.help ? 0 : 2;
    }
    if (o.shrink)
        return shrink(&o);
    double begun = real_seconds();
    if (o.trace && run_traced(&o, &sums) != 0)
        return 2;
    if (!o.trace)
        run_all(&o, &sums);
    bool good = summary(&o, &sums, real_seconds() - begun);
    if (o.mutant) {
        if (sums.failed)
            printf("found by %s seed %llu, after %llu seeds\n", mode_name(sums.first_failed.mode),
                   (unsigned long long)sums.first_failed.seed, (unsigned long long)sums.seeds);
        else
            printf("not found in %llu seeds\n", (unsigned long long)sums.seeds);
        return sums.failed ? 0 : 1;
    }
    return good && !sums.failed ? 0 : 1;
}
