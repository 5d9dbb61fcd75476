/* sim_shrink: a seed that fails is made smaller, as long as the same promise fails: fewer kinds of
 * fault, fewer hosts (then other seeds are tried as well, since another number of hosts is another
 * story), fewer single faults. Every try is a process of its own, since the core may abort. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sim_options.h"

#define TRY_SECONDS 60
#define SEEDS_TRIED 40

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
};

/* Takes a smaller run for the best one when the same promise fails in it. */
static bool same(struct shrinking *sh, const struct run_config *config)
{
    struct outcome out = attempt(config);
    sh->tries++;
    if (strcmp(out.promise, sh->out.promise) != 0)
        return false;
    sh->best = *config;
    sh->out = out;
    return true;
}

static void fewer_kinds(struct shrinking *sh)
{
    for (int i = 0; i < FAULTS_COUNT; i++) {
        struct run_config c = sh->best;
        bool has = !(c.without.kinds >> i & 1);
        c.without.kinds |= UINT64_C(1) << i;
        if (has)
            same(sh, &c);
    }
}

static bool fewer_hosts(struct shrinking *sh)
{
    static const uint32_t sizes[] = {3, 4, 5, 6, 8, 10, 13, 17, 25, 50, 100};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct run_config c = sh->best;
        uint32_t now = c.nodes_max ? c.nodes_max : sh->out.result.nodes;
        if (now && sizes[i] >= now)
            return false;
        c.nodes_min = c.nodes_max = sizes[i];
        for (int k = 0; k < SEEDS_TRIED; k++, c.seed++) {
            if (same(sh, &c))
                return true;
        }
    }
    return false;
}

static void fewer_faults(struct shrinking *sh)
{
    uint32_t planned = sh->out.result.planned; /* not known of one that died */
    for (unsigned i = 0; i < (planned ? planned : 32); i++) {
        struct run_config c = sh->best;
        c.without.planned[i / 8] = (uint8_t)(c.without.planned[i / 8] | 1u << i % 8);
        same(sh, &c);
    }
}

/* Whether two tries were the same run: what is left out then was not in it anyhow. */
static bool equal(const struct outcome *a, const struct outcome *b)
{
    return strcmp(a->promise, b->promise) == 0 && a->result.hash == b->result.hash &&
           a->result.hash != 0;
}

static void say_less(struct shrinking *sh)
{
    for (int i = 0; i < FAULTS_COUNT + SIM_PLANNED_MAX; i++) {
        struct run_config c = sh->best;
        if (i < FAULTS_COUNT)
            c.without.kinds &= ~(UINT64_C(1) << i);
        else
            c.without.planned[(i - FAULTS_COUNT) / 8] &= (uint8_t) ~(1u << (i - FAULTS_COUNT) % 8);
        if (memcmp(&c.without, &sh->best.without, sizeof(c.without)) == 0)
            continue;
        struct outcome out = attempt(&c);
        sh->tries++;
        if (equal(&out, &sh->out))
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
    if (!sh.out.promise[0]) {
        printf("seed %llu does not fail\n", (unsigned long long)o->seed);
        return 0;
    }
    printf("fails: %s\n", sh.out.result.failed ? sh.out.result.failures[0] : sh.out.promise);
    if (o->mode != MODE_small) { /* a run of that is as small as it gets */
        fewer_kinds(&sh);
        while (fewer_hosts(&sh))
            fewer_kinds(&sh);
        fewer_faults(&sh);
        say_less(&sh);
    }
    say_found(&sh);
    return 1;
}
