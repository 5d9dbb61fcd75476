/* story: short stories on the simulator: a few hosts, no faults but those that the story names, and
 * lines of the trace that are expected in their order. */
#ifndef QSM_STORY_H
#define QSM_STORY_H

#include "sim.h"

#define STORY_ANY UINT32_MAX
#define STORY_EVER UINT32_MAX
#define STORY_RULES_MAX 8
#define STORY_CAUGHT_MAX 64

/* Which datagrams are dropped on their way to a receiver. */
struct rule {
    uint32_t from, to; /* hosts, or STORY_ANY */
    enum wire_kind kind;
    uint64_t seq;   /* of DATA and REPAIR; 0: any */
    uint32_t times; /* how often, or STORY_EVER */
};

struct story {
    struct sim *sim;
    struct rule rules[STORY_RULES_MAX];
    uint32_t rule_count;
    size_t at;                   /* trace lines before this one are behind us */
    uint64_t passed[WIRE_KINDS]; /* datagrams by kind, one for each receiver */
    struct parcel
        *caught[STORY_CAUGHT_MAX];   /* with catch_to: datagrams to that host, not passed on */
    uint32_t caught_count, catch_to; /* STORY_ANY: nobody's */
};

/* Hosts that run, admitted in order of their index, and a CMS. groups: group0, group1, ... */
struct story *story_new(uint32_t hosts, uint32_t groups);
/* The same with another configuration: starts from sim_config_default. */
struct story *story_with(const struct sim_config *config);
/* Checks that the trace keeps all promises, and gives all back. */
void story_end(struct story *st);

struct host *story_host(struct story *st, uint32_t host);
uint32_t story_id(struct story *st, uint32_t host); /* node id */
const struct node_stats *story_stats(struct story *st, uint32_t host);

void story_join(struct story *st, uint32_t host, uint32_t group);
void story_leave(struct story *st, uint32_t host, uint32_t group);
void story_sender(struct story *st, uint32_t host, uint32_t group);
void story_send(struct story *st, uint32_t host, uint32_t group, uint32_t bytes);

/* From now on datagrams that fit the rule are dropped. */
void story_drop(struct story *st, struct rule rule);
void story_drop_nothing(struct story *st);

void story_run(struct story *st, uint64_t us);
/* To the millisecond in which a line says this, which is expected within 10 s. */
void story_until(struct story *st, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Until all is delivered, stable and quiet; the test fails when that takes over 10 s. */
void story_settle(struct story *st);

/* Expects a line that says this after the last expected one: `*` stands for anything, the time goes
 * without saying. */
void story_expect(struct story *st, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* When the last expected line was said. */
uint64_t story_time(struct story *st);
/* Expects that no line from here on says this. */
void story_never(struct story *st, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* From the start again. */
void story_rewind(struct story *st);
/* What comes from now on. */
void story_skip(struct story *st);

#endif
