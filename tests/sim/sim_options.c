/* sim_options: see sim_options.h. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "sim_options.h"

#define MANY_SEEDS 200   /* from which on a zero count is a failure */
#define ALL_SEEDS 2000   /* of mode all, from which on the small mode runs whole */
#define SMALL_SHARE 8    /* runs of the small mode for each seed of the others */
#define SMALL_PRIME 7919 /* with --seconds they come in an order without a pattern */

const char *mode_name(enum sim_mode mode)
{
    static const char *const names[] = {
#define X(name, text) #name,
        SIM_MODES(X)
#undef X
    };
    return names[mode];
}

/* ---- which runs there are */

/* The n-th run of the small mode: all of them in turn, or as many as are wanted, spread. */
static uint64_t small_seed(const struct options *o, uint64_t n)
{
    static uint64_t runs; /* found out once */
    if (!runs)
        runs = small_runs();
    uint64_t want = o->all ? o->seeds * SMALL_SHARE : o->seeds;
    if (o->all ? o->seeds >= ALL_SEEDS : !o->seeds_set)
        want = runs;
    if (o->seconds)
        return 1 + (o->seed + n) * SMALL_PRIME % runs;
    if (n >= want)
        return 0;
    return want < runs && want > 1 ? 1 + n * runs / want : o->seed + n;
}

bool options_unit(const struct options *o, uint64_t n, struct unit *ret)
{
    enum { TURNS = MODE_small + SMALL_SHARE }; /* in mode all: a seed of each, a few small ones */
    uint64_t round = n / TURNS, turn = n % TURNS;
    if (!o->all) {
        ret->mode = o->mode;
        ret->seed = o->mode == MODE_small ? small_seed(o, n) : o->seed + n;
        return o->seconds || (o->mode == MODE_small ? ret->seed > 0 : n < o->seeds);
    }
    bool small = turn >= MODE_small;
    ret->mode = small ? MODE_small : (enum sim_mode)turn;
    ret->seed = o->seed + round;
    if (small)
        ret->seed = small_seed(o, round * SMALL_SHARE + turn - MODE_small);
    else if (round >= o->seeds && !o->seconds)
        ret->seed = 0;
    /* The small mode may have more runs than that, which follow. */
    return o->seconds || round < o->seeds || small_seed(o, round * SMALL_SHARE) > 0;
}

bool options_many(const struct options *o)
{
    return (o->all || o->mode == MODE_safety) && o->seeds >= MANY_SEEDS && !o->mutant;
}

struct run_config options_run(const struct options *o, struct unit u)
{
    return (struct run_config){.mode = u.mode,
                               .seed = u.seed,
                               .nodes_min = o->nodes_min,
                               .nodes_max = o->nodes_max,
                               .without = o->without};
}

/* ---- a run as a command line */

void options_say(const struct run_config *c)
{
    const char *before = " --without ";
    printf("qsmsim --mode %s --seed %llu", mode_name(c->mode), (unsigned long long)c->seed);
    if (c->nodes_max && c->nodes_min == c->nodes_max)
        printf(" --nodes %u", c->nodes_min);
    else if (c->nodes_max)
        printf(" --nodes %u-%u", c->nodes_min, c->nodes_max);
    for (int i = 0; i < FAULTS_COUNT; i++) {
        if (!(c->without.kinds >> i & 1))
            continue;
        printf("%s%s", before, fault_name((enum sim_fault)i));
        before = ",";
    }
    before = " --skip ";
    for (unsigned i = 0; i < SIM_PLANNED_MAX; i++) {
        if (!(c->without.planned[i / 8] >> i % 8 & 1))
            continue;
        printf("%s%u", before, i);
        before = ",";
    }
}

/* ---- parsing */

static bool parse_mode(const char *text, struct options *o)
{
    o->all = strcmp(text, "all") == 0;
    for (int i = 0; i < MODES_COUNT; i++) {
        if (strcmp(text, mode_name((enum sim_mode)i)) != 0)
            continue;
        o->mode = (enum sim_mode)i;
        return true;
    }
    return o->all;
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

static bool parse_without(char *text, struct options *o)
{
    char *save;
    for (char *name = strtok_r(text, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        int i = 0;
        while (i < FAULTS_COUNT && strcmp(name, fault_name((enum sim_fault)i)) != 0)
            i++;
        if (i == FAULTS_COUNT)
            return false;
        o->without.kinds |= UINT64_C(1) << i;
    }
    return true;
}

static bool parse_skip(char *text, struct options *o)
{
    char *save, *end;
    for (char *one = strtok_r(text, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        unsigned long n = strtoul(one, &end, 10);
        if (*end || n >= SIM_PLANNED_MAX)
            return false;
        o->without.planned[n / 8] = (uint8_t)(o->without.planned[n / 8] | 1u << n % 8);
    }
    return true;
}

static bool take(int c, struct options *o)
{
    switch (c) {
    case 'o':
        return parse_mode(optarg, o);
    case 's':
        o->seed = strtoull(optarg, NULL, 10);
        return o->seed > 0;
    case 'm':
        o->seeds = strtoull(optarg, NULL, 10);
        o->seeds_set = true;
        return o->seeds > 0;
    case 'S':
        o->seconds = strtoull(optarg, NULL, 10);
        return o->seconds > 0;
    case 'n':
        return parse_nodes(optarg, o);
    case 'j':
        o->jobs = (unsigned)strtoul(optarg, NULL, 10);
        return o->jobs > 0 && o->jobs <= JOBS_MAX;
    case 't':
        o->trace = optarg;
        return true;
    case 'w':
        return parse_without(optarg, o);
    case 'k':
        return parse_skip(optarg, o);
    default:
        return c == 0; /* a flag, which is set */
    }
}

bool options_parse(int argc, char **argv, struct options *o)
{
    int twice = 0, mutant = 0, marks = 0, shrinks = 0, help = 0;
    const struct option longs[] = {
        {"mode", required_argument, NULL, 'o'},
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'm'},
        {"seconds", required_argument, NULL, 'S'},
        {"nodes", required_argument, NULL, 'n'},
        {"jobs", required_argument, NULL, 'j'},
        {"trace", required_argument, NULL, 't'},
        {"without", required_argument, NULL, 'w'},
        {"skip", required_argument, NULL, 'k'},
        {"twice", no_argument, &twice, 1},
        {"mutant-expect", no_argument, &mutant, 1},
        {"marks", no_argument, &marks, 1},
        {"shrink", no_argument, &shrinks, 1},
        {"help", no_argument, &help, 1},
        {NULL, 0, NULL, 0},
    };
    *o = (struct options){.seed = 1, .seeds = 1, .jobs = 2};
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
        good = good && take(c, o);
    o->twice = twice;
    o->mutant = mutant;
    o->marks = marks;
    o->shrink = shrinks;
    o->help = help;
    bool single = !o->all && o->seeds == 1 && (!o->seconds || o->shrink);
    return good && !help && optind == argc && (single || (!o->trace && !o->shrink));
}
