/* sim_small: the exhaustive mode. A few short stories of three hosts; each is run once without a
 * fault, which counts its events and datagrams, and then once for each of these: with the crash of
 * each host, or of the CMS, at each event, and with the loss of each datagram. */
#include "sim.h"
#include <assert.h>
#include <string.h>

#define HOSTS 3
#define GROUPS 2
#define BEGIN_US (250 * SIM_MS)
#define END_US (330 * SIM_MS)
#define SMALL_HEAL_US (25 * SIM_S)

struct story {
    uint64_t recv[HOSTS], send[HOSTS]; /* groups, as bits */
    uint32_t bytes;                    /* of the second message of each sender */
    bool join, leave;                  /* a view change is under way when they send */
    uint32_t replicas;
    /* found out: what there is to lose and to crash at; from_event: all are up */
    uint64_t events, datagrams;
};

static const struct story stories[] = {
    {.recv = {1, 1, 1}, .send = {1, 1, 0}, .bytes = 100, .replicas = 5}, /* one region */
    {.recv = {1, 1, 3}, .send = {1, 0, 1}, .bytes = 100, .replicas = 1}, /* two */
    {.recv = {1, 3, 1}, .send = {1, 1, 0}, .bytes = 3000, .join = true, .replicas = 1},
    {.recv = {0, 1, 3}, .send = {1, 0, 3}, .bytes = 3000, .leave = true, .replicas = 5},
};
#define STORIES (sizeof(stories) / sizeof(stories[0]))

static void begin(struct sim *s, void *ctx, uint64_t arg)
{
    struct host *h = ctx;
    (void)s;
    (void)arg;
    host_boot(h);
    load_open(h);
}

static void say(struct sim *s, void *ctx, uint64_t bytes)
{
    struct host *h = ctx;
    for (uint32_t g = 0; h->node && g < s->config.groups; g++) {
        if (h->wants_send >> g & 1)
            app_publish(h, 0, g, (uint32_t)bytes, true);
    }
}

static void change(struct sim *s, void *ctx, uint64_t join)
{
    struct host *h = ctx;
    (void)s;
    if (!h->node)
        return;
    if (join)
        app_subscribe(h, 0, 1);
    else
        app_unsubscribe(h, (h->index + 1) % SIM_CONNS_MAX, 1); /* where load_open put it */
}

static struct sim *stage(const struct story *story, FILE *trace)
{
    struct sim_config c = sim_config_default();
    c.seed = 1;
    c.hosts = HOSTS;
    c.groups = GROUPS;
    c.trace = trace;
    c.cms.cache_replicas = story->replicas;
    c.cms.ack_ranges = story->replicas == 1 ? 2 : 0;
    c.cms.batch_us = 20 * SIM_MS;
    struct sim *s = sim_new(&c);
    cmshost_start(s);
    for (uint32_t i = 0; i < HOSTS; i++) {
        struct host *h = &s->hosts[i];
        h->wants_recv = story->recv[i];
        h->wants_send = story->send[i];
        sim_at(s, 1000 * i, begin, h, 0);
        if (!h->wants_send)
            continue;
        sim_at(s, BEGIN_US + 300 * i, say, h, 100);
        sim_at(s, BEGIN_US + 24 * SIM_MS + 50 * i, say, h, story->bytes);
        sim_at(s, BEGIN_US + 50 * SIM_MS + 200 * i, say, h, 10);
    }
    if (story->join)
        sim_at(s, BEGIN_US, change, &s->hosts[0], 1);
    if (story->leave)
        sim_at(s, BEGIN_US, change, &s->hosts[2], 0);
    return s;
}

/* Runs the story to its end, and until all agree. */
static void play(struct sim *s)
{
    sim_run_until(s, END_US);
    if (sim_failed(s))
        return;
    if (s->counts.events < s->crash_at || s->sent < s->lose) /* it would be after the end */
        sim_fail(s, "SMALL: there is no such event or datagram");
    s->calm = true;
    sim_trace(s, "sim", "calm");
    if (run_converge(s, SMALL_HEAL_US, "healed"))
        sim_trace(s, "sim", "finish");
}

/* The runs of a story: none, each crash of each host and the CMS, each loss. */
static uint64_t runs_of(const struct story *story)
{
    return 1 + story->events * (HOSTS + 1) + story->datagrams;
}

static struct story counted(size_t i)
{
    static struct story known[STORIES];
    if (known[i].events)
        return known[i];
    struct sim *s = stage(&stories[i], NULL);
    known[i] = stories[i];
    sim_run_until(s, END_US);
    known[i].events = s->counts.events;
    known[i].datagrams = s->sent;
    sim_free(s);
    return known[i];
}

uint64_t small_runs(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < STORIES; i++) {
        struct story story = counted(i);
        sum += runs_of(&story);
    }
    return sum;
}

void small_run(const struct run_config *config, struct run_result *ret)
{
    uint64_t n = config->seed - 1;
    size_t i = 0;
    struct story story = counted(0);
    while (n >= runs_of(&story)) {
        n -= runs_of(&story);
        i = (i + 1) % STORIES; /* beyond the last: from the first again */
        story = counted(i);
    }
    struct sim *s = stage(&story, config->trace);
    if (n > story.events * (HOSTS + 1)) {
        s->lose = n - story.events * (HOSTS + 1);
    } else if (n > 0) {
        uint64_t who = (n - 1) % (HOSTS + 1);
        s->crash_at = 1 + (n - 1) / (HOSTS + 1);
        s->crash_of = who < HOSTS ? &s->hosts[who] : NULL;
    }
    play(s);
    ret->healed_us = s->now_us - END_US;
    run_result_fill(s, ret);
    sim_free(s);
}
