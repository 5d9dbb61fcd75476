/* sim_shrink: a seed that fails is made smaller, as long as the same promise fails: fewer kinds of
 * fault, fewer hosts (then other seeds are tried as well, since another number of hosts is another
 * story), fewer single faults. Every try is a process of its own, since the core may abort. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sim_options.h"

#define TRY_SECONDS 60
#define SEEDS_TRIED 30
#define SHRINK_SECONDS 180 /* in all, unless --seconds says otherwise */

struct outcome {
    char promise[32]; /* S7, LIVE, DIED ...; empty: did not fail */
    struct run_result result;
};

static void name_promise(struct outcome *out, const char *text)
{
    size_t n = strcspn(text, ":");
    snprintf(out->promise, sizeof(out->promise), "%.*s", (int)(n < 31 ? n : 31), text);
}

static void run_child(const struct run_config *config, int fd)
{
    struct run_result result;
    if (!freopen("/dev/null", "w", stderr))
        exit(1);
    alarm(TRY_SECONDS);
    run_seed(config, &result);
    exit(write(fd, &result, sizeof(result)) != sizeof(result));
}

static struct outcome attempt(const struct run_config *config)
{
    struct outcome out;
    int ends[2], status;
    memset(&out, 0, sizeof(out));
    fflush(stdout);
    pid_t pid = pipe(ends) < 0 ? -1 : fork();
    if (pid < 0) {
        perror("qsmsim");
        exit(2);
    }
    if (pid == 0)
        run_child(config, ends[1]);
    close(ends[1]);
    bool told = read(ends[0], &out.result, sizeof(out.result)) == sizeof(out.result);
    close(ends[0]);
    waitpid(pid, &status, 0);
    if (told && out.result.failed)
        name_promise(&out, out.result.failures[0]);
    else if (!told && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        name_promise(&out, "HUNG");
    else if (!told)
        name_promise(&out, "DIED");
    return out;
}

struct shrinking {
    struct run_config best;
    struct outcome out; /* of it */
    unsigned tries;
    time_t end; /* real time: no more tries */
};

/* Takes a smaller run for the best one when the same promise fails in it. */
static bool same(struct shrinking *sh, const struct run_config *config)
{
    if (time(NULL) >= sh->end)
        return false;
    struct outcome out = attempt(config);
    sh->tries++;
    if (strcmp(out.promise, sh->out.promise) != 0)
        return false;
    sh->best = *config;
    sh->out = out;
    return true;
}

/* The smallest number of hosts with which it fails, in this seed or one of the next. */
static void fewer_hosts(struct shrinking *sh)
{
    static const uint32_t sizes[] = {3, 4, 5, 6, 8, 10, 13, 17, 25, 50, 100};
    uint32_t now = sh->best.nodes_max ? sh->best.nodes_max : sh->out.result.nodes;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct run_config c = sh->best;
        if (now && sizes[i] >= now)
            return;
        c.nodes_min = c.nodes_max = sizes[i];
        for (int k = 0; k < SEEDS_TRIED; k++, c.seed++) {
            if (same(sh, &c))
                return;
        }
    }
}

/* Leaves out a set of things: kinds of fault, then single faults. */
static bool leave_out(struct run_config *c, int thing)
{
    if (thing < FAULTS_COUNT) {
        uint64_t bit = UINT64_C(1) << thing;
        bool has = !(c->without.kinds & bit);
        c->without.kinds |= bit;
        return has;
    }
    uint8_t *byte = &c->without.planned[(thing - FAULTS_COUNT) / 8];
    uint8_t bit = (uint8_t)(1u << (thing - FAULTS_COUNT) % 8);
    bool has = !(*byte & bit);
    *byte |= bit;
    return has;
}

/* Leaves out first..first+count-1, or, where that is too much, what can be of each half. */
static void fewer(struct shrinking *sh, int first, int count)
{
    struct run_config c = sh->best;
    bool any = false;
    for (int i = first; i < first + count; i++)
        any |= leave_out(&c, i);
    if (!any || same(sh, &c) || count == 1)
        return;
    fewer(sh, first, count / 2);
    fewer(sh, first + count / 2, count - count / 2);
}

static void fewer_faults(struct shrinking *sh)
{
    uint32_t planned = sh->out.result.planned; /* not known of one that died */
    fewer(sh, 0, FAULTS_COUNT);
    fewer(sh, FAULTS_COUNT, planned ? (int)planned : 32);
}

/* What is left out without being part of the run need not be named. */
static void say_less(struct shrinking *sh)
{
    for (int i = 0; i < FAULTS_COUNT + SIM_PLANNED_MAX; i++) {
        struct run_config less = sh->best, c = sh->best;
        if (leave_out(&less, i))
            continue;
        if (i < FAULTS_COUNT)
            c.without.kinds &= ~(UINT64_C(1) << i);
        else
            c.without.planned[(i - FAULTS_COUNT) / 8] &= (uint8_t) ~(1u << (i - FAULTS_COUNT) % 8);
        struct outcome out = attempt(&c);
        sh->tries++;
        if (out.result.hash && out.result.hash == sh->out.result.hash)
            sh->best = c;
    }
}

static void say_found(const struct shrinking *sh)
{
    const struct run_result *r = &sh->out.result;
    printf("shrunk: %s\n", r->failed ? r->failures[0] : sh->out.promise);
    printf("    %u hosts, %.3f s, after %u tries; faults:", r->nodes, (double)r->virtual_us / 1e6,
           sh->tries);
    for (int i = 0; i < FAULTS_COUNT; i++) {
        if (r->counts.faults[i])
            printf(" %s", fault_name((enum sim_fault)i));
    }
    printf("\n    again: ");
    options_say(&sh->best);
    printf(" --trace FILE\n");
}

int shrink(const struct options *o)
{
    struct shrinking sh = {.best = options_run(o, (struct unit){o->mode, o->seed})};
    sh.out = attempt(&sh.best);
    sh.tries = 1;
    sh.end = time(NULL) + (time_t)(o->seconds ? o->seconds : SHRINK_SECONDS);
    if (!sh.out.promise[0]) {
        printf("seed %llu does not fail\n", (unsigned long long)o->seed);
        return 0;
    }
    printf("fails: %s\n", sh.out.result.failed ? sh.out.result.failures[0] : sh.out.promise);
    if (o->mode != MODE_small) { /* a run of that is as small as it gets */
        fewer_hosts(&sh);        /* first, since that makes the tries short */
        fewer_faults(&sh);
        fewer_hosts(&sh);
        fewer_faults(&sh);
        if (time(NULL) < sh.end)
            say_less(&sh);
    }
    say_found(&sh);
    return 1;
}
