/* story: see story.h. */
#include <check.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>
#include "story.h"

/* ---- what passes */

static bool fits(const struct rule *r, const struct sim_look *look, enum wire_kind kind,
                 uint64_t seq)
{
    return r->times && r->kind == kind && (r->from == STORY_ANY || r->from == look->from) &&
           (r->to == STORY_ANY || r->to == look->to) && (!r->seq || r->seq == seq);
}

static bool filter(void *ctx, const struct sim_look *look)
{
    struct story *st = ctx;
    struct reader r = {.at = look->parcel->data, .end = look->parcel->data + look->parcel->bytes};
    struct wire_outer outer;
    struct wire_packet packet = {0};
    enum wire_bad bad = wire_read_outer(&r, wire_cluster_tag("sim"), &outer);
    ck_assert_int_eq(bad, WIRE_OK);
    if (outer.kind == WIRE_DATA || outer.kind == WIRE_REPAIR)
        ck_assert(wire_read_packet(&r, &packet));
    for (uint32_t i = 0; i < st->rule_count; i++) {
        struct rule *rule = &st->rules[i];
        if (!fits(rule, look, outer.kind, packet.seq))
            continue;
        if (rule->times != STORY_EVER)
            rule->times--;
        return true;
    }
    st->passed[outer.kind]++;
    if (st->catch_to != look->to || st->caught_count == STORY_CAUGHT_MAX)
        return false;
    st->caught[st->caught_count++] = (struct parcel *)(uintptr_t)look->parcel;
    st->caught[st->caught_count - 1]->refs++;
    return true;
}

void story_drop(struct story *st, struct rule rule)
{
    ck_assert_uint_lt(st->rule_count, STORY_RULES_MAX);
    st->rules[st->rule_count++] = rule;
}

void story_drop_nothing(struct story *st)
{
    st->rule_count = 0;
}

/* ---- life */

struct story *story_with(const struct sim_config *config)
{
    struct story *st = calloc(1, sizeof(*st));
    ck_assert_ptr_nonnull(st);
    struct sim_config c = *config;
    c.keep_trace = true;
    st->sim = sim_new(&c);
    st->sim->filter = filter;
    st->sim->filter_ctx = st;
    st->catch_to = STORY_ANY;
    cmshost_start(st->sim);
    for (uint32_t i = 0; i < c.hosts; i++) {
        host_boot(&st->sim->hosts[i]);
        for (int tries = 0; tries < 200 && !node_id(st->sim->hosts[i].node); tries++)
            story_run(st, 10 * SIM_MS);
        ck_assert_uint_ne(node_id(st->sim->hosts[i].node), 0);
    }
    return st;
}

struct story *story_new(uint32_t hosts, uint32_t groups)
{
    struct sim_config c = sim_config_default();
    c.hosts = hosts;
    c.groups = groups;
    return story_with(&c);
}

void story_end(struct story *st)
{
    ck_assert_uint_eq(st->sim->counts.lost + st->sim->counts.overruns, 0);
    for (uint32_t i = 0; i < st->caught_count; i++)
        parcel_unref(st->caught[i]);
    sim_free(st->sim);
    free(st);
}

static void check_promises(struct story *st)
{
    struct sim *s = st->sim;
    if (s->failure[0])
        ck_abort_msg("%s", s->failure);
    if (checker_failures(s->checker))
        ck_abort_msg("%s", checker_failure(s->checker, 0));
}

void story_run(struct story *st, uint64_t us)
{
    sim_run_until(st->sim, st->sim->now_us + us);
    check_promises(st);
}

void story_settle(struct story *st)
{
    char why[200] = "";
    for (int i = 0; i < 1000; i++) {
        story_run(st, 10 * SIM_MS);
        if (sim_converged(st->sim, why, sizeof(why))) {
            sim_trace(st->sim, "sim", "finish");
            check_promises(st);
            return;
        }
    }
    ck_abort_msg("not settled after 10 s: %s", why);
}

struct host *story_host(struct story *st, uint32_t host)
{
    return &st->sim->hosts[host];
}

uint32_t story_id(struct story *st, uint32_t host)
{
    return node_id(st->sim->hosts[host].node);
}

const struct node_stats *story_stats(struct story *st, uint32_t host)
{
    return node_stats(st->sim->hosts[host].node);
}

/* ---- what hosts do */

void story_join(struct story *st, uint32_t host, uint32_t group)
{
    ck_assert(app_subscribe(story_host(st, host), 0, group));
}

void story_leave(struct story *st, uint32_t host, uint32_t group)
{
    app_unsubscribe(story_host(st, host), 0, group);
}

void story_sender(struct story *st, uint32_t host, uint32_t group)
{
    ck_assert(app_open_send(story_host(st, host), group));
}

void story_send(struct story *st, uint32_t host, uint32_t group, uint32_t bytes)
{
    ck_assert(app_publish(story_host(st, host), 0, group, bytes, true));
}

/* ---- what is expected */

/* The first line from `from` on that says this, or -1. */
static long find(const struct story *st, size_t from, const char *text)
{
    char pattern[400], line[700];
    snprintf(pattern, sizeof(pattern), "* %s *", text);
    for (size_t i = from; i < st->sim->kept_count; i++) {
        snprintf(line, sizeof(line), "%s ", st->sim->kept[i]);
        if (fnmatch(pattern, line, 0) == 0)
            return (long)i;
    }
    return -1;
}

void story_expect(struct story *st, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    long at = find(st, st->at, text);
    if (at < 0)
        ck_abort_msg("no line says `%s` after line %zu of the trace (`%s`)", text, st->at,
                     st->at ? st->sim->kept[st->at - 1] : "its start");
    st->at = (size_t)at + 1;
}

void story_until(struct story *st, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (int i = 0; i < 10000 && find(st, st->at, text) < 0; i++)
        story_run(st, SIM_MS);
    story_expect(st, "%s", text);
}

uint64_t story_time(struct story *st)
{
    ck_assert_uint_gt(st->at, 0);
    return strtoull(st->sim->kept[st->at - 1], NULL, 10);
}

void story_never(struct story *st, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    long at = find(st, st->at, text);
    if (at >= 0)
        ck_abort_msg("a line says `%s`: %s", text, st->sim->kept[at]);
}

void story_rewind(struct story *st)
{
    st->at = 0;
}

void story_skip(struct story *st)
{
    st->at = st->sim->kept_count;
}
