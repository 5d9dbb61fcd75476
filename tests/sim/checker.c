/* checker: the checker's frame: takes lines apart, keeps the lives of processes and nodes, and
 * gives each event to the part that knows what it promises. */
#include "checker_model.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory and failures */

void *checker_grow(void *list, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return list;
    size_t want = *room ? *room * 2 : 8;
    uint8_t *bigger = realloc(list, want * size);
    assert(bigger);
    memset(bigger + *room * size, 0, (want - *room) * size);
    *room = want;
    return bigger;
}

const char *at_text(struct at at)
{
    static char texts[8][300]; /* a failure names a few places at once */
    static unsigned turn;
    char *text = texts[turn++ % 8];
    if (at.source)
        snprintf(text, sizeof(texts[0]), "%s:%llu", at.source, (unsigned long long)at.line);
    else
        snprintf(text, sizeof(texts[0]), "line %llu", (unsigned long long)at.line);
    return text;
}

void violated(struct checker *c, const char *id, const struct line *l, const char *format, ...)
{
    size_t i = c->failure_count++;
    if (i >= CHECKER_FAILURES_MAX)
        return;
    char what[700], all[1100];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    snprintf(all, sizeof(all), "%s: %s: %s %s: %s", id, at_text(l->at), l->who, l->event, what);
    c->failures[i] = strdup(all);
    assert(c->failures[i]);
}

/* ---- lines */

const char *line_text(struct line *l, const char *key)
{
    for (size_t i = 0; i < l->fields; i++) {
        if (strcmp(l->keys[i], key) == 0)
            return l->values[i];
    }
    l->bad = true;
    return "";
}

/* By hand: most of a simulation's time goes into its trace. */
uint64_t line_number(struct line *l, const char *key)
{
    const char *text = line_text(l, key), *at = text;
    uint64_t v = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (v > (UINT64_MAX - digit) / 10)
            l->bad = true;
        v = v * 10 + digit;
    }
    if (at == text || *at)
        l->bad = true;
    return v;
}

uint32_t line_id(struct line *l, const char *key)
{
    uint64_t v = line_number(l, key);
    if (v > UINT32_MAX)
        l->bad = true;
    return (uint32_t)v;
}

uint64_t line_hex(struct line *l, const char *key)
{
    const char *text = line_text(l, key);
    char *end;
    uint64_t v = strtoull(text, &end, 16);
    if (end == text || *end)
        l->bad = true;
    return v;
}

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

struct ids line_ids(struct line *l, const char *key)
{
    struct ids ids = {NULL, 0};
    size_t room = 0;
    const char *at = line_text(l, key);
    if (strcmp(at, "-") == 0)
        return ids;
    while (*at) {
        char *end;
        unsigned long long v = strtoull(at, &end, 10);
        if (end == at || v > UINT32_MAX || (*end && *end != ',')) {
            l->bad = true;
            break;
        }
        ids.list = checker_grow(ids.list, ids.count, &room, sizeof(*ids.list));
        ids.list[ids.count++] = (uint32_t)v;
        at = *end ? end + 1 : end;
    }
    if (ids.count)
        qsort(ids.list, ids.count, sizeof(*ids.list), compare_ids);
    return ids;
}

bool ids_have(const struct ids *ids, uint32_t id)
{
    return ids->count && bsearch(&id, ids->list, ids->count, sizeof(id), compare_ids);
}

bool ids_equal(const struct ids *a, const struct ids *b)
{
    return a->count == b->count &&
           (!a->count || memcmp(a->list, b->list, a->count * sizeof(*a->list)) == 0);
}

/* ---- who is there */

struct process *process_find(struct checker *c, const char *who)
{
    struct process *p;
    HASH_FIND_STR(c->processes, who, p);
    if (p)
        return p;
    p = calloc(1, sizeof(*p));
    assert(p);
    p->who = strdup(who);
    p->alive = true; /* a file may begin after its boot line */
    HASH_ADD_KEYPTR(hh, c->processes, p->who, strlen(p->who), p);
    return p;
}

struct cnode *cnode_find(struct checker *c, uint32_t id)
{
    struct cnode *n;
    HASH_FIND(hh, c->nodes, &id, sizeof(id), n);
    if (n)
        return n;
    n = calloc(1, sizeof(*n));
    assert(n);
    n->id = id;
    HASH_ADD(hh, c->nodes, id, sizeof(id), n);
    return n;
}

struct cnode *line_node(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    if (!p->node) {
        violated(c, "TRACE", l, "said before the process was admitted as a node");
        return NULL;
    }
    return cnode_find(c, p->node);
}

struct cgroup *cgroup_find(struct checker *c, uint32_t gid)
{
    struct cgroup *g;
    HASH_FIND(hh, c->groups, &gid, sizeof(gid), g);
    if (g)
        return g;
    g = calloc(1, sizeof(*g));
    assert(g);
    g->gid = gid;
    HASH_ADD(hh, c->groups, gid, sizeof(gid), g);
    return g;
}

struct cgroup *cgroup_by_name(struct checker *c, struct process *p, const char *name)
{
    struct named *known;
    HASH_FIND_STR(p->names, name, known);
    return known ? cgroup_find(c, known->gid) : NULL;
}

bool cnode_lives(const struct cnode *n)
{
    return !n->expelled && !n->gone;
}

static void life_over(struct checker *c, struct process *p)
{
    if (p->node)
        cnode_find(c, p->node)->gone = true;
    p->node = 0;
    process_reset(p);
}

static void on_boot(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    life_over(c, p);
    p->alive = true;
}

static void on_crash(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    life_over(c, p);
    p->alive = false;
}

static void on_node(struct checker *c, struct line *l)
{
    struct process *p = process_find(c, l->who);
    uint32_t id = line_id(l, "id");
    if (l->bad || p->node == id)
        return;
    if (p->node)
        cnode_find(c, p->node)->gone = true;
    struct cnode *n = cnode_find(c, id);
    if (n->process)
        violated(c, "S6", l, "node id %u was in use before by %s", id, n->process->who);
    if (c->cms_seen && !n->admitted)
        violated(c, "S6", l, "node id %u was not admitted by the CMS", id);
    n->process = p;
    p->node = id;
    process_renewed(p);
}

static void process_knows(struct checker *c, struct process *p, const char *name, uint32_t gid)
{
    struct named *known;
    HASH_FIND_STR(p->names, name, known);
    if (!known) {
        known = calloc(1, sizeof(*known));
        assert(known);
        known->name = strdup(name);
        HASH_ADD_KEYPTR(hh, p->names, known->name, strlen(known->name), known);
    }
    if (known->gid && known->gid != gid)
        process_carries(c, p, known->gid, gid);
    known->gid = gid;
}

static void on_name(struct checker *c, struct line *l)
{
    struct cgroup *g = cgroup_find(c, line_id(l, "g"));
    const char *name = line_text(l, "name");
    if (l->bad)
        return;
    if (g->name && strcmp(g->name, name) != 0)
        violated(c, "S6", l, "group %u was named %s, now %s", g->gid, g->name, name);
    if (!g->name)
        g->name = strdup(name);
    process_knows(c, process_find(c, l->who), name, g->gid);
}

static void on_admit(struct checker *c, struct line *l)
{
    c->cms_seen = true;
    cnode_find(c, line_id(l, "id"))->admitted = true;
}

static void on_expel(struct checker *c, struct line *l)
{
    struct cnode *n = cnode_find(c, line_id(l, "id"));
    if (n->expelled)
        return;
    n->expelled = true;
    n->expelled_after = c->epoch;
}

static void on_epoch(struct checker *c, struct line *l)
{
    uint64_t epoch = line_number(l, "ep"), prev = line_number(l, "prev");
    if (l->bad)
        return;
    if (epoch <= c->epoch || prev != c->epoch)
        violated(c, "S6", l, "epoch %llu after %llu, while the last was %llu",
                 (unsigned long long)epoch, (unsigned long long)prev, (unsigned long long)c->epoch);
    c->cms_seen = true;
    c->epoch = epoch;
    c->counts.epochs++;
}

static void on_full(struct checker *c, struct line *l)
{
    uint64_t value = line_number(l, "value"), max = line_number(l, "max");
    if (value > max)
        violated(c, "S12", l, "%s holds %llu, its cap is %llu", line_text(l, "name"),
                 (unsigned long long)value, (unsigned long long)max);
}

static void on_finish(struct checker *c, struct line *l)
{
    c->finished = true;
    finish_clients(c, l);
    finish_views(c, l);
}

/* ---- dispatch */

struct handler {
    const char *event;
    void (*handle)(struct checker *c, struct line *l);
};

static const struct handler handlers[] = {
    {"take", on_take},       {"next", on_next},       {"drop", on_drop},
    {"ahead", on_ahead},     {"deliver", on_deliver}, {"recv", on_recv},
    {"pack", on_pack},       {"send", on_send},       {"accept", on_accept},
    {"pull", on_pull},       {"stable", on_stable},   {"complete", on_complete},
    {"base", on_base},       {"view", on_view},       {"left", on_left},
    {"unknown", on_unknown}, {"sub", on_sub},         {"end", on_end},
    {"close", on_close},     {"boot", on_boot},       {"crash", on_crash},
    {"node", on_node},       {"name", on_name},       {"full", on_full},
    {"admit", on_admit},     {"expel", on_expel},     {"epoch", on_epoch},
    {"gview", on_gview},     {"rview", on_rview},     {"finish", on_finish},
};

/* The next word, made a string of its own; NULL: there is none. *ret_value: what is behind its
 * first
 * '=', or NULL. */
static char *next_word(char **at, char **ret_value)
{
    while (**at == ' ')
        ++*at;
    char *word = *at;
    *ret_value = NULL;
    for (; **at != '\0' && **at != ' '; ++*at) {
        if (**at == '=' && !*ret_value)
            *ret_value = *at + 1;
    }
    if (*at == word)
        return NULL;
    if (**at == ' ')
        *(*at)++ = '\0';
    return word;
}

/* Cuts the copy in text into words and key=value pairs. False: not even a time, who and event. */
static bool take_apart(char *text, struct line *l)
{
    char *value, *time = next_word(&text, &value);
    for (const char *digit = time; digit && *digit; digit++) {
        if (*digit < '0' || *digit > '9')
            return false; /* it would be sorted to anywhere */
    }
    l->who = time ? next_word(&text, &value) : NULL;
    l->event = l->who ? next_word(&text, &value) : NULL;
    if (!l->event)
        return false;
    for (char *word; (word = next_word(&text, &value)) != NULL;) {
        if (!value || l->fields == FIELDS_MAX)
            continue;
        value[-1] = '\0';
        l->keys[l->fields] = word;
        l->values[l->fields++] = value;
    }
    return true;
}

void checker_line(struct checker *c, const char *source, uint64_t number, const char *text)
{
    struct line l = {.at = {source, number}, .who = "?", .event = "?"};
    char small[512];
    size_t bytes = strlen(text) + 1;
    char *copy = bytes <= sizeof(small) ? small : malloc(bytes);
    assert(copy);
    memcpy(copy, text, bytes);
    c->counts.lines++;
    if (!take_apart(copy, &l)) {
        l.event = "?";
        violated(c, "TRACE", &l, "not a line of a trace");
    } else {
        for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
            if (strcmp(handlers[i].event, l.event) != 0)
                continue;
            handlers[i].handle(c, &l);
            if (l.bad)
                violated(c, "TRACE", &l, "a key is missing or no number");
            break;
        }
    }
    if (copy != small)
        free(copy);
}

/* ---- life of the checker */

struct checker *checker_new(const struct checker_config *config)
{
    struct checker *c = calloc(1, sizeof(*c));
    assert(c);
    c->config = *config;
    return c;
}

void checker_free(struct checker *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->failure_count && i < CHECKER_FAILURES_MAX; i++)
        free(c->failures[i]);
    struct process *p, *next;
    HASH_ITER (hh, c->processes, p, next) {
        process_reset(p);
        HASH_DEL(c->processes, p);
        free(p->who);
        free(p);
    }
    free_packets(c);
    free_views(c);
    free(c);
}

size_t checker_failures(const struct checker *c)
{
    return c->failure_count;
}

const char *checker_failure(const struct checker *c, size_t i)
{
    assert(i < c->failure_count && i < CHECKER_FAILURES_MAX);
    return c->failures[i];
}

int checker_finished(const struct checker *c)
{
    return c->finished;
}

const struct checker_counts *checker_counts(const struct checker *c)
{
    return &c->counts;
}
