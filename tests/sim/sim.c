/* sim: virtual time, the events in their order, the trace. */
#include "sim.h"
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers: splitmix64 */

uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    return n ? rng_next(r) % n : 0;
}

uint64_t rng_range(struct rng *r, uint64_t a, uint64_t b)
{
    return a + rng_below(r, b - a + 1);
}

bool rng_chance(struct rng *r, double p)
{
    return p > 0 && (double)(rng_next(r) >> 11) * 0x1p-53 < p;
}

/* ---- events: a heap by time, then by the order in which they were made */

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_at(struct sim *s, uint64_t at_us, void (*fire)(struct sim *, void *, uint64_t), void *ctx,
            uint64_t arg)
{
    if (s->event_count == s->event_room) {
        s->event_room = s->event_room ? s->event_room * 2 : 1024;
        s->events = realloc(s->events, s->event_room * sizeof(*s->events));
        assert(s->events);
    }
    struct event e = {at_us < s->now_us ? s->now_us : at_us, s->order++, fire, ctx, arg};
    size_t i = s->event_count++;
    for (size_t up; i > 0 && before(&e, &s->events[up = (i - 1) / 2]); i = up)
        s->events[i] = s->events[up];
    s->events[i] = e;
}

static struct event take_first(struct sim *s)
{
    struct event first = s->events[0], e = s->events[--s->event_count];
    size_t i = 0, n = s->event_count;
    for (size_t down; (down = 2 * i + 1) < n; i = down) {
        if (down + 1 < n && before(&s->events[down + 1], &s->events[down]))
            down++;
        if (!before(&s->events[down], &e))
            break;
        s->events[i] = s->events[down];
    }
    if (n)
        s->events[i] = e;
    return first;
}

/* The crash that one run of the small mode is about. */
static void small_crash(struct sim *s)
{
    if (!s->crash_of && s->cms.cms)
        cmshost_crash(s, 30 * SIM_MS);
    else if (s->crash_of && s->crash_of->node)
        host_crash(s->crash_of, false);
}

void sim_run_until(struct sim *s, uint64_t until_us)
{
    while (s->event_count && s->events[0].at_us <= until_us && !sim_failed(s)) {
        struct event e = take_first(s);
        s->now_us = e.at_us;
        if (++s->counts.events == s->crash_at)
            small_crash(s);
        e.fire(s, e.ctx, e.arg);
    }
    if (!sim_failed(s))
        s->now_us = until_us;
}

/* ---- the trace */

uint64_t sim_hash(const uint8_t *bytes, size_t count)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void keep(struct sim *s, const char *text)
{
    if (s->kept_count == s->kept_room) {
        s->kept_room = s->kept_room ? s->kept_room * 2 : 1024;
        s->kept = realloc(s->kept, s->kept_room * sizeof(*s->kept));
        assert(s->kept);
    }
    s->kept[s->kept_count] = strdup(text);
    assert(s->kept[s->kept_count++]);
}

/* Hashes eight bytes a step: traces are long. */
static uint64_t mix(uint64_t h, const char *text, size_t count)
{
    for (; count >= 8; text += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    for (; count; text++, count--)
        h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    return h;
}

/* Whether anybody reads the trace but the checker. */
bool sim_shows(const struct sim *s)
{
    return s->config.trace || s->config.keep_trace;
}

static void show(struct sim *s, const char *text)
{
    if (s->config.trace) {
        fputs(text, s->config.trace);
        putc('\n', s->config.trace);
    }
    if (s->config.keep_trace)
        keep(s, text);
}

/* A line with time and host, in small or, when it is long, in memory of its own. */
static char *compose(const struct sim *s, const char *who, const char *line, char *small,
                     size_t small_bytes, size_t *ret_bytes)
{
    size_t room = strlen(who) + strlen(line) + 32;
    char *text = room <= small_bytes ? small : malloc(room);
    assert(text);
    *ret_bytes =
        (size_t)snprintf(text, room, "%llu %s %s", (unsigned long long)s->now_us, who, line);
    return text;
}

void sim_show_line(struct sim *s, const char *who, const char *line)
{
    char small[600];
    size_t bytes;
    char *text = compose(s, who, line, small, sizeof(small), &bytes);
    show(s, text);
    if (text != small)
        free(text);
}

void sim_trace_line(struct sim *s, const char *who, const char *line)
{
    if (s->config.unwatched)
        return;
    char small[600];
    size_t bytes;
    char *text = compose(s, who, line, small, sizeof(small), &bytes);
    s->trace_hash = mix(s->trace_hash, text, bytes);
    s->trace_lines++;
    show(s, text);
    checker_line(s->checker, NULL, s->trace_lines, text);
    if (text != small)
        free(text);
}

void sim_trace(struct sim *s, const char *who, const char *format, ...)
{
    if (s->config.unwatched)
        return;
    char line[500];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    sim_trace_line(s, who, line);
}

void sim_fail(struct sim *s, const char *format, ...)
{
    if (s->failure[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(s->failure, sizeof(s->failure), format, args);
    va_end(args);
}

bool sim_failed(const struct sim *s)
{
    return s->failure[0] || checker_failures(s->checker) > 0;
}

/* ---- life */

struct sim_config sim_config_default(void)
{
    return (struct sim_config){
        .seed = 1,
        .hosts = 3,
        .groups = 2,
        .cms = {.cluster = "sim",
                .multicast = 0xefc04d00u, /* 239.192.77.0 */
                .regions_max = 200,
                .ring_size = 25,
                .cache_replicas = 5,
                .ack_ranges = 0,
                .batch_us = 50 * SIM_MS,
                .silence_us = 1500 * SIM_MS,
                .resume_us = 150 * SIM_MS,
                .progress_us = 2 * SIM_S},
        .node = {.cluster = "sim",
                 .datagram_bytes = 1472,
                 .rcvbuf_bytes = 1 << 20,
                 .window_bytes = 4 << 20,
                 .pool_bytes = 32 << 20,
                 .reassembly_bytes = 64 << 20,
                 .token_rate_mhz = 1000,
                 .token_min_interval_us = 1000},
    };
}

struct sim *sim_new(const struct sim_config *config)
{
    struct sim *s = calloc(1, sizeof(*s));
    assert(s && config->hosts <= SIM_HOSTS_MAX && config->groups <= SIM_GROUPS_MAX);
    s->config = *config;
    s->random.state = config->seed * UINT64_C(0xd1342543de82ef95) + 1;
    s->net.delay_us = 100;
    s->link_delay_us = 150;
    s->trace_hash = UINT64_C(0xcbf29ce484222325);
    s->cms.disk_us = 2 * SIM_MS;
    s->cms.wake_us = UINT64_MAX;
    TAILQ_INIT(&s->links);
    struct checker_config check = {.replicas = config->cms.cache_replicas,
                                   .ring_size = config->cms.ring_size};
    s->checker = checker_new(&check);
    for (uint32_t g = 0; g < config->groups; g++)
        snprintf(s->groups[g], sizeof(s->groups[g]), "group%u", g);
    s->hosts = calloc(config->hosts, sizeof(*s->hosts));
    assert(s->hosts);
    for (uint32_t i = 0; i < config->hosts; i++)
        host_init(s, i);
    return s;
}

/* What is still on its way is given back by firing into a simulator whose hosts are all down. */
static void drain(struct sim *s)
{
    while (s->event_count) {
        struct event e = take_first(s);
        e.fire(s, e.ctx, e.arg);
    }
}

void sim_free(struct sim *s)
{
    if (!s)
        return;
    s->ending = true;
    for (uint32_t i = 0; i < s->config.hosts; i++)
        host_done(&s->hosts[i]);
    cmshost_done(s);
    drain(s);
    for (uint32_t i = 0; i < s->config.hosts; i++)
        app_done(&s->hosts[i]);
    simlink_free_all(s);
    for (size_t i = 0; i < s->kept_count; i++)
        free(s->kept[i]);
    free(s->kept);
    free(s->events);
    free(s->hosts);
    checker_free(s->checker);
    free(s);
}
