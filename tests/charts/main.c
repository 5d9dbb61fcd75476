/* main: qsmfigures prints what the charts in docs/ show, as CSV, for regions of the sizes that it
 * is given. charts.sh runs it in parts, check.sh judges the figures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "trial.h"

#define RING_SIZE 25
#define RING_OF_ALL 1024 /* the paper's linear design: one serial token */
#define MESSAGE_BYTES 1000
#define S UINT64_C(1000000)

static const char *design(uint32_t ring_size)
{
    return ring_size == RING_OF_ALL ? "linear" : "rings";
}

/* ---- scale: what aggregation costs as the region grows */

#define SCALE_RATE 8000 /* the paper's, with 192 receivers */

static void scale_one(uint32_t nodes, uint32_t ring_size)
{
    struct trial t = {.nodes = nodes,
                      .ring_size = ring_size,
                      .rate = SCALE_RATE,
                      .message_bytes = MESSAGE_BYTES,
                      .us = 1 * S};
    struct trial_result r;
    trial_run(&t, &r);
    printf("%s,%u,%u,%.0f,%.0f,%.0f,%u,%.0f,%u,%d,%.1f\n", design(ring_size), nodes, r.levels,
           r.path_us, r.longest_us, samples_mean(&r.stable_us),
           samples_quantile(&r.stable_us, 0.99), samples_mean(&r.unacked_bytes),
           samples_quantile(&r.unacked_bytes, 0.99), SCALE_RATE, r.worst_throughput);
    fflush(stdout);
    trial_result_done(&r);
}

static void scale(uint32_t nodes)
{
    scale_one(nodes, RING_SIZE);
}

static void scale_linear(uint32_t nodes)
{
    scale_one(nodes, RING_OF_ALL);
}

/* ---- perturb: what one receiver's trouble costs the others */

#define PERTURB_US (20 * S)
#define PERTURB_SEEDS 2 /* each moves the perturbations to other moments */

/* Half the window fits into the 0.5 s of a sleep: the window is a quarter of the receive buffer. */
#define PERTURB_RATE 256

struct cost {
    double before, after, least; /* messages per second of the others */
    uint32_t p99_before, p99_after, max_us, unacked_max;
    double stable_us;
    uint64_t window, expelled;
};

static double cost_percent(const struct cost *c)
{
    return 100 * (1 - c->after / c->before);
}

/* The same with another seed: the worse of the two stays. */
static void worse(struct cost *c, const struct cost *other)
{
    if (c->before == 0 || cost_percent(other) > cost_percent(c)) {
        c->before = other->before;
        c->after = other->after;
    }
    c->least = c->least == 0 || other->least < c->least ? other->least : c->least;
    c->p99_before = other->p99_before;
    c->p99_after = other->p99_after > c->p99_after ? other->p99_after : c->p99_after;
    c->max_us = other->max_us > c->max_us ? other->max_us : c->max_us;
    c->unacked_max = other->unacked_max > c->unacked_max ? other->unacked_max : c->unacked_max;
    c->stable_us = other->stable_us > c->stable_us ? other->stable_us : c->stable_us;
    c->window = other->window;
    c->expelled += other->expelled;
}

static bool perturb_once(const struct trial *t, struct trial_result *base, struct cost *ret)
{
    struct trial_result r;
    if (!trial_run(t, &r))
        return false;
    *ret = (struct cost){.before = base->throughput,
                         .after = r.throughput,
                         .least = r.worst_throughput,
                         .p99_before = samples_quantile(&base->latency_us, 0.99),
                         .p99_after = samples_quantile(&r.latency_us, 0.99),
                         .max_us = samples_quantile(&r.latency_us, 1),
                         .unacked_max = samples_quantile(&r.unacked_bytes, 1),
                         .stable_us = samples_mean(&r.stable_us),
                         .window = r.window_bytes,
                         .expelled = r.expelled};
    trial_result_done(&r);
    return true;
}

static void perturb_row(struct trial t, struct trial_result *base, uint64_t seeds)
{
    struct cost c = {0};
    for (t.seed = 1; t.seed <= seeds; t.seed++) {
        struct cost once;
        if (!perturb_once(&t, base, &once))
            return;
        worse(&c, &once);
    }
    printf("%s,%u,%s,%s,%u,%.1f,%.1f,%.1f,%.2f,%u,%u,%.2f,%u,%.0f,%u,%llu,%llu\n",
           design(t.ring_size), t.nodes, t.perturbation == ASLEEP ? "sleep" : "loss",
           victim_name(t.victim), t.rate, c.before, c.after, c.least, cost_percent(&c),
           c.p99_before, c.p99_after, (double)c.p99_after / c.p99_before, c.max_us, c.stable_us,
           c.unacked_max, (unsigned long long)c.window, (unsigned long long)c.expelled);
    fflush(stdout);
}

static void perturb_crowd(uint32_t nodes, uint32_t ring_size, uint64_t seeds)
{
    struct trial t = {.seed = 1,
                      .nodes = nodes,
                      .ring_size = ring_size,
                      .rate = PERTURB_RATE,
                      .message_bytes = MESSAGE_BYTES,
                      .us = PERTURB_US};
    struct trial_result base;
    trial_run(&t, &base);
    for (int who = 0; who < VICTIMS; who++) {
        t.victim = (enum victim)who;
        t.perturbation = ASLEEP;
        perturb_row(t, &base, seeds);
        t.perturbation = DEAF;
        perturb_row(t, &base, seeds);
    }
    trial_result_done(&base);
}

static void perturb(uint32_t nodes)
{
    perturb_crowd(nodes, RING_SIZE, PERTURB_SEEDS);
}

static void perturb_linear(uint32_t nodes)
{
    perturb_crowd(nodes, RING_OF_ALL, 1);
}

/* ---- above: what a stream does that is faster than the window allows while somebody sleeps */

#define ABOVE_US (20 * S)
#define ABOVE_FREE_US (5 * S) /* nobody is perturbed for so long, to compare with */

/* Streams with a rate of their own, whose messages wait during a sleep and go at once after it, and
 * such as fill a slow wire or all that the window allows. */
static const struct above {
    uint32_t rate, wire; /* messages per second, 0: as many as are taken; bytes per microsecond */
    uint32_t nodes_max;  /* simulated with at most so many: it has 85,000 messages a second */
} streams[] = {
    {2 * PERTURB_RATE, 125, UINT32_MAX},
    {4 * PERTURB_RATE, 125, UINT32_MAX},
    {8 * PERTURB_RATE, 125, UINT32_MAX},
    {0, 4, UINT32_MAX},
    {0, 125, 8},
};
#define STREAMS (sizeof(streams) / sizeof(streams[0]))

struct spread {
    double sum, squares;
    uint32_t count;
};

static void spread_add(struct spread *s, double value)
{
    s->sum += value;
    s->squares += value * value;
    s->count++;
}

static double spread_mean(const struct spread *s)
{
    return s->count ? s->sum / s->count : 0;
}

/* Coefficient of variation. */
static double spread_cv(const struct spread *s)
{
    double mean = spread_mean(s);
    double variance = s->count ? s->squares / s->count - mean * mean : 0;
    return mean > 0 ? sqrt(variance > 0 ? variance : 0) / mean : 0;
}

/* Bins between perturbations, but for the first `settle` of them after each. */
static struct spread between(const struct trial_result *r, uint32_t settle)
{
    struct spread s = {0};
    uint32_t since = settle; /* bins since the last perturbation */
    for (size_t i = 0; i < r->bin_count; i++) {
        since = r->perturbed[i] ? 0 : since + 1;
        if (since > settle)
            spread_add(&s, r->bins[i]);
    }
    return s;
}

static struct spread during(const struct trial_result *r)
{
    struct spread s = {0};
    for (size_t i = 0; i < r->bin_count; i++) {
        if (r->perturbed[i])
            spread_add(&s, r->bins[i]);
    }
    return s;
}

static struct trial above_trial(uint32_t nodes, const struct above *a)
{
    return (struct trial){.seed = 1,
                          .nodes = nodes,
                          .ring_size = RING_SIZE,
                          .rate = a->rate,
                          .message_bytes = MESSAGE_BYTES,
                          .us = ABOVE_US,
                          .wire_bytes_per_us = a->wire,
                          .victim = A_MEMBER};
}

static void above_row(uint32_t nodes, const struct above *a)
{
    struct trial t = above_trial(nodes, a);
    struct trial_result base, r;
    t.us = ABOVE_FREE_US;
    trial_run(&t, &base);
    t.us = ABOVE_US;
    t.perturbation = ASLEEP;
    trial_run(&t, &r);
    struct spread free_run = between(&base, 0), at_once = between(&r, 0), later = between(&r, 1),
                  sleeping = during(&r);
    printf("%u,%u,%u,%.0f,%.0f,%.0f,%.0f,%.4f,%.4f,%.4f,%u,%llu,%llu\n", nodes, a->rate, a->wire,
           base.throughput, r.throughput, spread_mean(&sleeping), spread_mean(&later),
           spread_cv(&free_run), spread_cv(&at_once), spread_cv(&later),
           samples_quantile(&r.unacked_bytes, 1), (unsigned long long)r.window_bytes,
           (unsigned long long)r.expelled);
    fflush(stdout);
    trial_result_done(&r);
    trial_result_done(&base);
}

static void above(uint32_t nodes)
{
    for (size_t i = 0; i < STREAMS; i++) {
        if (nodes <= streams[i].nodes_max)
            above_row(nodes, &streams[i]);
    }
}

/* Some of the same runs as they went, bin by bin. */
static void course(uint32_t nodes)
{
    for (size_t i = 0; i < STREAMS; i++) {
        struct trial t = above_trial(nodes, &streams[i]);
        struct trial_result r;
        if (nodes > streams[i].nodes_max)
            continue;
        t.perturbation = ASLEEP;
        trial_run(&t, &r);
        for (size_t bin = 0; bin < r.bin_count; bin++)
            printf("%u,%u,%llu,%.1f,%.0f,%d\n", nodes, t.rate,
                   (unsigned long long)t.wire_bytes_per_us,
                   (double)(bin * TRIAL_BIN_US) / (double)S, r.bins[bin], r.perturbed[bin]);
        fflush(stdout);
        trial_result_done(&r);
    }
}

/* ---- the command */

#define SCALE_COLUMNS                                                                              \
    "design,nodes,levels,round_trip_us,longest_ring_us,stable_mean_us,stable_p99_us,"              \
    "unacked_mean_bytes,unacked_p99_bytes,rate,least_throughput"
#define PERTURB_COLUMNS                                                                            \
    "design,nodes,perturbation,victim,rate,throughput_without,throughput_with,"                    \
    "least_throughput_with,cost_percent,p99_without_us,p99_with_us,p99_ratio,max_with_us,"         \
    "stable_mean_us,unacked_max_bytes,window_bytes,expelled"

static const struct section {
    const char *name;
    void (*print)(uint32_t nodes);
    const char *columns;
} sections[] = {
    {"scale", scale, SCALE_COLUMNS},
    {"scale-linear", scale_linear, SCALE_COLUMNS},
    {"perturb", perturb, PERTURB_COLUMNS},
    {"perturb-linear", perturb_linear, PERTURB_COLUMNS},
    {"above", above,
     "nodes,rate,wire_bytes_per_us,throughput_without,throughput_with,throughput_asleep,"
     "throughput_between,cv_without,cv_between,cv_between_but_first,unacked_max_bytes,window_bytes,"
     "expelled"},
    {"course", course, "nodes,rate,wire_bytes_per_us,at_s,throughput,asleep"},
};
#define SECTIONS (sizeof(sections) / sizeof(sections[0]))

int main(int argc, char **argv)
{
    for (size_t i = 0; i < SECTIONS; i++) {
        if (argc < 3 || strcmp(argv[1], sections[i].name) != 0)
            continue;
        puts(sections[i].columns);
        for (int k = 2; k < argc; k++)
            sections[i].print((uint32_t)strtoul(argv[k], NULL, 10));
        return 0;
    }
    fprintf(stderr, "usage: qsmfigures SECTION NODES...\nsections:");
    for (size_t i = 0; i < SECTIONS; i++)
        fprintf(stderr, " %s", sections[i].name);
    fprintf(stderr, "\n");
    return 2;
}
