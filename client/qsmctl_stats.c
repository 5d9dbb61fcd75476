/* qsmctl_stats: the counters and histograms of the node, once or again and again. */
#include "qsmctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "output.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define NAME_BYTES 64

/* ---- what the daemon says at one time */

struct counter {
    char name[NAME_BYTES];
    uint64_t value;
};

struct histogram {
    char name[NAME_BYTES];
    uint64_t count, sum, max;
    struct qsm_bucket *buckets; /* owned */
    size_t bucket_count;
};

struct sample {
    int64_t at_ms;
    struct counter *counters;
    size_t count, size;
    struct histogram *histograms;
    size_t histogram_count;
    int error;
};

static void take_counter(void *ctx, const struct qsm_counter *c)
{
    struct sample *s = ctx;

    if (s->count == s->size) {
        size_t size = s->size ? 2 * s->size : 128;
        void *counters = realloc(s->counters, size * sizeof(*s->counters));
        if (!counters) {
            s->error = -ENOMEM;
            return;
        }
        s->counters = counters;
        s->size = size;
    }
    snprintf(s->counters[s->count].name, NAME_BYTES, "%s", c->name);
    s->counters[s->count].value = c->value;
    s->count++;
}

static void take_histogram(void *ctx, const struct qsm_histogram *h)
{
    struct sample *s = ctx;
    size_t bytes = h->bucket_count * sizeof(h->buckets[0]);
    void *more = realloc(s->histograms, (s->histogram_count + 1) * sizeof(*s->histograms));

    if (more)
        s->histograms = more;
    struct histogram taken = {.count = h->count,
                              .sum = h->sum,
                              .max = h->max,
                              .buckets = more ? malloc(bytes + 1) : NULL,
                              .bucket_count = h->bucket_count};
    if (!taken.buckets) {
        s->error = -ENOMEM;
        return;
    }
    snprintf(taken.name, NAME_BYTES, "%s", h->name);
    memcpy(taken.buckets, h->buckets, bytes);
    s->histograms[s->histogram_count++] = taken;
}

static void sample_done(struct sample *s)
{
    for (size_t i = 0; i < s->histogram_count; i++)
        free(s->histograms[i].buckets);
    free(s->histograms);
    free(s->counters);
    *s = (struct sample){0};
}

static int take_sample(struct ctl *ctl, struct sample *s)
{
    sample_done(s);
    int error = qsm_each_counter(ctl->qsm, ANSWER_MS, take_counter, s);
    s->at_ms = ctl_now_ms();
    if (error == 0)
        error = qsm_each_histogram(ctl->qsm, ANSWER_MS, take_histogram, s);
    return error < 0 ? error : s->error;
}

/* ---- counters */

static int counter_rows(struct output *o, const struct sample *now, const struct sample *before)
{
    int error = 0;

    for (size_t i = 0; i < now->count && error == 0; i++) {
        uint64_t value = now->counters[i].value;
        struct value values[] = {
            {.text = now->counters[i].name}, {.number = value}, {.none = true}};
        if (before && i < before->count && before->counters[i].value <= value &&
            now->at_ms > before->at_ms) {
            uint64_t more = value - before->counters[i].value;
            values[2].none = false;
            values[2].number = more * 1000 / (uint64_t)(now->at_ms - before->at_ms);
        }
        error = output_row(o, values);
    }
    return error;
}

/* ---- histograms */

static uint64_t count_in(const struct histogram *h, uint64_t up_to)
{
    for (size_t i = 0; h && i < h->bucket_count; i++) {
        if (h->buckets[i].up_to == up_to)
            return h->buckets[i].count;
    }
    return 0;
}

/* A bound that so many percent of what came since before (NULL: the start) do not exceed. None when
 * nothing came. */
static struct value percentile(const struct histogram *now, const struct histogram *before,
                               unsigned percent)
{
    uint64_t all = now->count - (before ? before->count : 0), below = 0;

    for (size_t i = 0; i < now->bucket_count && all > 0; i++) {
        const struct qsm_bucket *b = &now->buckets[i];
        below += b->count - count_in(before, b->up_to);
        if (below * 100 < all * percent)
            continue;
        /* Nothing is above the highest, nor what it says of it. */
        return (struct value){.number = i + 1 < now->bucket_count ? b->up_to : now->max};
    }
    return (struct value){.none = true};
}

static int histogram_rows(struct output *o, const struct sample *now, const struct sample *before)
{
    int error = 0;

    for (size_t i = 0; i < now->histogram_count && error == 0; i++) {
        const struct histogram *h = &now->histograms[i];
        const struct histogram *old =
            before && i < before->histogram_count ? &before->histograms[i] : NULL;
        struct value values[] = {
            {.text = h->name},       {.number = h->count},
            {.number = h->sum},      percentile(h, old, 50),
            percentile(h, old, 90),  percentile(h, old, 99),
            percentile(h, old, 100), {.buckets = h->buckets, .bucket_count = h->bucket_count}};
        error = output_row(o, values);
    }
    return error;
}

/* ---- both */

/* before: NULL for the first or only sample, which has no rates. */
static int show_sample(struct ctl *ctl, const struct sample *now, const struct sample *before,
                       bool watch)
{
    static const struct column columns[] = {{"name", "COUNTER", VALUE_TEXT},
                                            {"value", "VALUE", VALUE_NUMBER},
                                            {"per_second", "PER SECOND", VALUE_NUMBER}};
    static const struct column of_histograms[] = {
        {"name", "HISTOGRAM", VALUE_TEXT}, {"count", "COUNT", VALUE_NUMBER},
        {"sum", NULL, VALUE_NUMBER},       {"p50", "P50", VALUE_NUMBER},
        {"p90", "P90", VALUE_NUMBER},      {"p99", "P99", VALUE_NUMBER},
        {"max", "MAX", VALUE_NUMBER},      {"buckets", NULL, VALUE_BUCKETS}};
    /* Text leaves the column of rates out when there are none; JSON keeps its shape. */
    size_t count = LENGTH(columns) - (!before && !ctl->json);
    struct output *o = output_new(ctl->json, watch, "counters", columns, count);
    int error = o ? counter_rows(o, now, before) : -ENOMEM;

    if (error == 0)
        error = output_table(o, "histograms", of_histograms, LENGTH(of_histograms));
    if (error == 0)
        error = histogram_rows(o, now, before);
    return o ? ctl_print(ctl, o, error) : ctl_fail(ctl, NULL, error);
}

/* ---- the command */

/* Until the time has come or a signal. */
static int pause_until(struct ctl *ctl, int64_t at_ms)
{
    for (;;) {
        int64_t left = at_ms - ctl_now_ms();
        if (left <= 0 || ctl_stopped())
            return 0;
        int error = qsm_wait(ctl->qsm, (int)left);
        if (error < 0)
            return error;
    }
}

static int watch_stats(struct ctl *ctl, uint64_t every_ms)
{
    struct sample samples[2] = {0};
    const struct sample *before = NULL;
    int code = EXIT_OK;

    ctl_catch_signals(ctl);
    for (unsigned i = 0; code == EXIT_OK && !ctl_stopped(); i ^= 1) {
        struct sample *now = &samples[i];
        int error = take_sample(ctl, now);
        if (error == 0) {
            if (before && !ctl->json)
                printf("\n");
            code = show_sample(ctl, now, before, true);
            error = pause_until(ctl, now->at_ms + (int64_t)every_ms);
        }
        if (error < 0)
            code = ctl_fail(ctl, NULL, error);
        before = now;
    }
    sample_done(&samples[0]);
    sample_done(&samples[1]);
    return code;
}

int command_stats(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"watch", required_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    uint64_t every_ms = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'w')
            return ctl_usage(ctl, "wrong option");
        char *end;
        double seconds = strtod(optarg, &end);
        if (end == optarg || *end || !(seconds >= 0.01 && seconds <= 86400))
            return ctl_usage(ctl, "--watch %s: not a number of seconds", optarg);
        every_ms = (uint64_t)(seconds * 1000);
    }
    if (optind < argc)
        return ctl_usage(ctl, "%s: unexpected", argv[optind]);
    int code = ctl_connect(ctl, NULL);
    if (code != EXIT_OK)
        return code;
    if (every_ms)
        return watch_stats(ctl, every_ms);
    struct sample sample = {0};
    int error = take_sample(ctl, &sample);
    code = error < 0 ? ctl_fail(ctl, NULL, error) : show_sample(ctl, &sample, NULL, false);
    sample_done(&sample);
    return code;
}
