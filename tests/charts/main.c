/* main: qsmfigures prints what the charts in docs/ show, as CSV: `qsmfigures scale`, `perturb` or
 * `above`. */
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

#define SCALE_RATE 500

static void scale_one(uint32_t nodes, uint32_t ring_size)
{
    struct trial t = {.nodes = nodes,
                      .ring_size = ring_size,
                      .rate = SCALE_RATE,
                      .message_bytes = MESSAGE_BYTES,
                      .us = 6 * S};
    struct trial_result r;
    trial_run(&t, &r);
    printf("%s,%u,%u,%.0f,%.0f,%.0f,%u,%.0f,%u,%.1f\n", design(ring_size), nodes, r.levels,
           r.path_us, r.longest_us, samples_mean(&r.stable_us),
           samples_quantile(&r.stable_us, 0.99), samples_mean(&r.unacked_bytes),
           samples_quantile(&r.unacked_bytes, 0.99), r.worst_throughput);
    fflush(stdout);
    trial_result_done(&r);
}

static void scale(void)
{
    static const uint32_t sizes[] = {8, 25, 60, 120, 192, 400, 700, 1000};
    printf("design,nodes,levels,round_trip_us,longest_ring_us,stable_mean_us,stable_p99_us,"
           "unacked_mean_bytes,unacked_p99_bytes,least_rate\n");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        scale_one(sizes[i], RING_SIZE);
        scale_one(sizes[i], RING_OF_ALL);
    }
}

/* ---- perturb: what one receiver's trouble costs the others */

static const uint32_t crowds[] = {8, 25, 60, 120, 192};
#define CROWDS (sizeof(crowds) / sizeof(crowds[0]))
#define PERTURB_US (20 * S)

/* Half the window fits into the 0.5 s of a sleep: the window is a quarter of the receive buffer. */
#define PERTURB_RATE 256

struct cost {
    double before, after, least; /* messages per second of the others */
    uint32_t p99_before, p99_after, max_us, unacked_max;
    double stable_us;
    uint64_t expelled;
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
    printf("%s,%u,%s,%s,%u,%.1f,%.1f,%.1f,%.2f,%u,%u,%.2f,%u,%.0f,%u,%llu\n", design(t.ring_size),
           t.nodes, t.perturbation == ASLEEP ? "sleep" : "loss", victim_name(t.victim), t.rate,
           c.before, c.after, c.least, cost_percent(&c), c.p99_before, c.p99_after,
           (double)c.p99_after / c.p99_before, c.max_us, c.stable_us, c.unacked_max,
           (unsigned long long)c.expelled);
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

static void perturb(uint64_t seeds)
{
    printf("design,nodes,perturbation,victim,rate,throughput_without,throughput_with,"
           "least_throughput_with,cost_percent,p99_without_us,p99_with_us,p99_ratio,max_with_us,"
           "stable_mean_us,unacked_max_bytes,expelled\n");
    for (size_t i = 0; i < CROWDS; i++) {
        perturb_crowd(crowds[i], RING_SIZE, seeds);
        if (crowds[i] > RING_SIZE)
            perturb_crowd(crowds[i], RING_OF_ALL, seeds);
    }
}

/* ---- above: what a stream does that is faster than the window allows while somebody sleeps */

#define ABOVE_US (20 * S)
#define ABOVE_WIRE 125 /* bytes per microsecond: 1 Gbit/s */

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

static void above_row(uint32_t nodes, uint32_t rate, enum victim victim)
{
    struct trial t = {.seed = 1,
                      .nodes = nodes,
                      .ring_size = RING_SIZE,
                      .rate = rate,
                      .message_bytes = MESSAGE_BYTES,
                      .us = ABOVE_US,
                      .wire_bytes_per_us = ABOVE_WIRE};
    struct trial_result base, r;
    t.victim = victim;
    trial_run(&t, &base);
    t.perturbation = ASLEEP;
    if (trial_run(&t, &r)) {
        struct spread free_run = between(&base, 0), at_once = between(&r, 0),
                      later = between(&r, 1), sleeping = during(&r);
        printf("%u,%s,%u,%.0f,%.0f,%.0f,%.0f,%.4f,%.4f,%.4f,%llu\n", nodes, victim_name(victim),
               rate, base.throughput, r.throughput, spread_mean(&sleeping), spread_mean(&at_once),
               spread_cv(&free_run), spread_cv(&at_once), spread_cv(&later),
               (unsigned long long)r.expelled);
        fflush(stdout);
        trial_result_done(&r);
    }
    trial_result_done(&base);
}

static void above(void)
{
    static const uint32_t rates[] = {2 * PERTURB_RATE, 4 * PERTURB_RATE, 8 * PERTURB_RATE};
    printf("nodes,victim,rate,throughput_without,throughput_with,throughput_asleep,"
           "throughput_between,cv_without,cv_between,cv_between_but_first,expelled\n");
    for (size_t i = 0; i < CROWDS; i++) {
        for (size_t k = 0; k < sizeof(rates) / sizeof(rates[0]); k++)
            above_row(crowds[i], rates[k], A_MEMBER);
    }
    above_row(25, 0, A_MEMBER);
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc == 3 ? strtoull(argv[2], NULL, 10) : 1;
    if (argc == 2 && strcmp(argv[1], "scale") == 0)
        scale();
    else if ((argc == 2 || argc == 3) && strcmp(argv[1], "perturb") == 0)
        perturb(seeds);
    else if (argc == 2 && strcmp(argv[1], "above") == 0)
        above();
    else {
        fprintf(stderr, "usage: qsmfigures scale|perturb [SEEDS]|above\n");
        return 2;
    }
    return 0;
}
