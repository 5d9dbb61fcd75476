/* sim_cms: the CMS's host: its links, its durable log with the time that an append takes, its crash
 * between an append and the word that it is durable, and its restart from log and snapshot. */
#include "sim.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void cms_turn(struct sim *s);

/* ---- the log */

static struct log_entry *add_entry(struct log_entry **list, size_t *count, size_t *room)
{
    if (*count == *room) {
        *room = *room ? *room * 2 : 64;
        *list = realloc(*list, *room * sizeof(**list));
        assert(*list);
    }
    return &(*list)[(*count)++];
}

/* What the disk has done by now is durable, in order. */
static void settle(struct cms_host *c, uint64_t now_us)
{
    size_t n = 0;
    for (; n < c->writing_count && c->writing[n].durable_us <= now_us; n++)
        *add_entry(&c->log, &c->log_count, &c->log_room) = c->writing[n];
    c->writing_count -= n;
    if (n)
        memmove(c->writing, c->writing + n, c->writing_count * sizeof(*c->writing));
}

/* Whether the crash that was armed comes at this step; it takes place at the end of the turn, of
 * which nothing more is done. */
static bool strikes(struct sim *s, unsigned step)
{
    struct cms_host *c = &s->cms;
    if (c->struck || c->strike != step)
        return c->struck;
    c->struck = c->strike_after-- == 0;
    return c->struck;
}

static void tell_durable(struct sim *s)
{
    struct cms_host *c = &s->cms;
    settle(c, s->now_us);
    uint64_t index = c->log_count ? c->log[c->log_count - 1].index : 0;
    if (index <= c->appended || strikes(s, STRIKE_DURABLE))
        return;
    c->appended = index;
    cms_appended(c->cms, index, s->now_us);
    if (!rng_chance(&s->random, c->snapshot_chance))
        return;
    free(c->snapshot);
    c->snapshot = cms_snapshot(c->cms, &c->snapshot_index, &c->snapshot_bytes);
}

static void disk_done(struct sim *s, void *ctx, uint64_t life)
{
    (void)ctx;
    if (!s->ending && s->cms.cms && s->cms.life == life)
        cmshost_wake(s, s->now_us);
}

static void write_log(struct sim *s)
{
    struct cms_host *c = &s->cms;
    uint64_t index;
    const uint8_t *bytes;
    size_t count;
    while (cms_append_pull(c->cms, &index, &bytes, &count)) {
        const struct log_entry *last = c->writing_count ? &c->writing[c->writing_count - 1] : NULL;
        uint64_t begun = last && last->durable_us > s->now_us ? last->durable_us : s->now_us;
        uint64_t at = begun + c->disk_us + rng_below(&s->random, c->disk_extra_us + 1);
        if (c->group_commit && last && last->begun_us >= s->now_us) { /* goes with that one */
            begun = last->begun_us;
            at = last->durable_us;
        }
        struct log_entry *e = add_entry(&c->writing, &c->writing_count, &c->writing_room);
        *e =
            (struct log_entry){.index = index, .begun_us = begun, .durable_us = at, .count = count};
        e->bytes = malloc(count ? count : 1);
        assert(e->bytes);
        memcpy(e->bytes, bytes, count);
        sim_at(s, at, disk_done, NULL, c->life);
        if (strikes(s, STRIKE_APPEND))
            return;
    }
}

/* ---- links */

static bool read_link(struct sim *s, struct link *l)
{
    struct pipe *p = &l->pipes[TO_CMS];
    if (!l->cms_told) {
        l->cms_told = true;
        cms_link_up(s->cms.cms, l->id, s->now_us);
    }
    if (p->arrived_count) {
        int bad = cms_link_receive(s->cms.cms, l->id, p->arrived, p->arrived_count, s->now_us);
        p->arrived_count = 0;
        if (bad < 0)
            sim_fail(s, "LINK: the CMS refuses bytes of %s: %d", l->host->name, bad);
    }
    return !p->fin;
}

static void read_links(struct sim *s)
{
    struct link *l, *next;
    TAILQ_FOREACH_SAFE (l, &s->links, entry, next) {
        if (!l->cms_up || read_link(s, l))
            continue;
        cms_link_down(s->cms.cms, l->id, s->now_us);
        simlink_close(s, l, false);
    }
}

static struct link *find_link(struct sim *s, uint64_t id)
{
    struct link *l = simlink_find(s, id);
    return l && l->cms_up ? l : NULL;
}

static void write_links(struct sim *s)
{
    uint64_t id;
    const char *close;
    uint8_t bytes[16384];
    while (cms_link_next(s->cms.cms, &id, &close)) {
        struct link *l = find_link(s, id);
        if (!l) {
            sim_fail(s, "LINK: the CMS writes to link %llu, which is down", (unsigned long long)id);
            return;
        }
        for (size_t n; (n = cms_link_pull(s->cms.cms, id, bytes, sizeof(bytes))) > 0;)
            simlink_send(s, l, TO_NODE, bytes, n);
        if (strikes(s, STRIKE_ANSWER))
            return;
        if (close == NULL)
            continue;
        cms_link_down(s->cms.cms, id, s->now_us);
        simlink_close(s, l, false);
    }
}

/* ---- the turn */

static void wake_due(struct sim *s, void *ctx, uint64_t at_us)
{
    (void)ctx;
    if (!s->cms.cms || s->ending || s->cms.wake_us != at_us)
        return;
    s->cms.wake_us = UINT64_MAX;
    if (s->now_us >= s->cms.paused_until_us)
        cms_turn(s);
}

void cmshost_wake(struct sim *s, uint64_t at_us)
{
    if (at_us < s->now_us + 5)
        at_us = s->now_us + 5;
    if (!s->cms.cms || s->ending || at_us >= s->cms.wake_us)
        return;
    s->cms.wake_us = at_us;
    sim_at(s, at_us, wake_due, NULL, at_us);
}

static void cms_turn(struct sim *s)
{
    struct cms_host *c = &s->cms;
    uint64_t epoch = cms_epoch(c->cms);
    tell_durable(s);
    read_links(s);
    if (cms_deadline(c->cms) <= s->now_us)
        cms_expire(c->cms, s->now_us);
    if (!c->struck)
        write_log(s);
    if (!c->struck)
        write_links(s);
    if (cms_epoch(c->cms) > epoch)
        s->counts.views += cms_epoch(c->cms) - epoch;
    if (c->struck) {
        cmshost_crash(s, c->strike_down_us);
        return;
    }
    uint64_t at = cms_deadline(c->cms);
    if (at != UINT64_MAX)
        cmshost_wake(s, at);
}

/* ---- start, crash, pause */

/* So many are gone that a packet may be gone with them, and who lacks it (S10). */
static bool lost_with_others(struct sim *s, const char *line)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < s->config.hosts; i++)
        gone += !s->hosts[i].node || s->hosts[i].given_up;
    return strstr(line, "why=flush") && gone >= s->config.cms.cache_replicas;
}

/* A node that lives is expelled only for a reason. */
static void check_expulsion(struct sim *s, const char *line)
{
    unsigned id;
    if (!s->gentle || sscanf(line, "expel id=%u", &id) != 1 || lost_with_others(s, line))
        return;
    for (uint32_t i = 0; i < s->config.hosts; i++) {
        struct host *h = &s->hosts[i];
        if (h->node && !h->stopping && !h->given_up && node_id(h->node) == id)
            sim_fail(s, "EXPELLED: %s lives and was given no reason: %s", h->name, line);
    }
}

static void on_trace(void *ctx, const char *line)
{
    sim_trace_line(ctx, "cms", line);
    check_expulsion(ctx, line);
}

void cmshost_start(struct sim *s)
{
    struct cms_host *c = &s->cms;
    struct cms_upcalls up = {.ctx = s, .trace = on_trace, .trace_replay_from = c->appended + 1};
    assert(!c->cms);
    c->life++;
    c->wake_us = UINT64_MAX;
    c->cms = cms_new(&s->config.cms, &up, s->now_us);
    int bad = 0;
    uint64_t from = 0;
    if (c->snapshot) {
        from = c->snapshot_index;
        bad = cms_restore(c->cms, from, c->snapshot, c->snapshot_bytes);
    }
    for (size_t i = 0; !bad && i < c->log_count; i++) {
        if (c->log[i].index > from)
            bad = cms_replay(c->cms, c->log[i].index, c->log[i].bytes, c->log[i].count);
    }
    if (bad) {
        sim_fail(s, "LOG: the CMS refuses its own log: %d", bad);
        return;
    }
    c->appended = c->log_count ? c->log[c->log_count - 1].index : 0;
    cms_lead(c->cms, s->now_us);
    cmshost_wake(s, s->now_us);
}

void cmshost_count(struct sim *s)
{
    if (!s->cms.cms)
        return;
    const uint64_t *marks = cms_marks(s->cms.cms);
    for (int i = 0; i < MARKS_COUNT; i++)
        s->counts.marks[i] += marks[i];
}

static void back(struct sim *s, void *ctx, uint64_t life)
{
    (void)ctx;
    if (!s->ending && !s->cms.cms && s->cms.life == life)
        cmshost_start(s);
}

void cmshost_crash(struct sim *s, uint64_t down_us)
{
    struct cms_host *c = &s->cms;
    settle(c, s->now_us);
    s->counts.cms_crashes++;
    s->counts.cms_torn += c->writing_count > 0;
    /* Those that went to the disk together may be durable, though nobody was told. */
    size_t whole = 0;
    while (whole < c->writing_count && c->writing[whole].begun_us == c->writing[0].begun_us)
        whole++;
    whole = rng_below(&s->random, whole + 1);
    for (size_t i = 0; i < c->writing_count; i++) {
        struct log_entry *e = &c->writing[i];
        if (i < whole)
            *add_entry(&c->log, &c->log_count, &c->log_room) = *e;
        else
            free(e->bytes);
    }
    c->writing_count = 0;
    struct link *l, *next;
    TAILQ_FOREACH_SAFE (l, &s->links, entry, next)
        simlink_close(s, l, false);
    cmshost_count(s);
    cms_free(c->cms);
    c->cms = NULL;
    c->paused_until_us = 0;
    c->strike = STRIKE_NEVER;
    c->struck = false;
    if (down_us)
        sim_at(s, s->now_us + down_us, back, NULL, c->life);
}

static void resume(struct sim *s, void *ctx, uint64_t life)
{
    (void)ctx;
    if (s->cms.life == life)
        cmshost_wake(s, s->now_us);
}

void cmshost_pause(struct sim *s, uint64_t until_us)
{
    s->cms.paused_until_us = until_us;
    sim_at(s, until_us, resume, NULL, s->cms.life);
}

/* The disk is fast from now on, for what waits for it as well, and nothing strikes any more. */
void cmshost_calm(struct sim *s)
{
    struct cms_host *c = &s->cms;
    uint64_t at = s->now_us;
    c->disk_extra_us = 0;
    c->strike = STRIKE_NEVER;
    for (size_t i = 0; i < c->writing_count; i++) {
        struct log_entry *e = &c->writing[i];
        if (e->begun_us > s->now_us) {
            e->begun_us = at;
            e->durable_us = at + c->disk_us;
            sim_at(s, e->durable_us, disk_done, NULL, c->life);
        }
        at = e->durable_us > at ? e->durable_us : at;
    }
}

void cmshost_done(struct sim *s)
{
    struct cms_host *c = &s->cms;
    for (size_t i = 0; i < c->log_count; i++)
        free(c->log[i].bytes);
    for (size_t i = 0; i < c->writing_count; i++)
        free(c->writing[i].bytes);
    free(c->log);
    free(c->writing);
    free(c->snapshot);
    if (c->cms)
        cms_free(c->cms);
    c->cms = NULL;
}
