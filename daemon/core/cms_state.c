/* cms_state: the replicated state of the CMS (cms_state.h). */
#include "cms_state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "cms_log.h"
#include "cms_mem.h"
#include "cms_plan.h"
#include "name.h"

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

void state_init(struct cms_state *s)
{
    *s = (struct cms_state){.next_gid = 1};
    regions_init(&s->regions);
}

void state_done(struct cms_state *s)
{
    struct cms_node *n, *next_node;
    HASH_ITER (hh, s->nodes, n, next_node)
        state_drop_node(s, n);
    struct cms_group *g, *next_group;
    HASH_ITER (by_gid, s->by_gid, g, next_group)
        state_drop_group(s, g);
    regions_done(&s->regions);
}

/* ---- looking up */

struct cms_node *state_node(const struct cms_state *s, uint32_t id)
{
    struct cms_node *n;
    HASH_FIND(hh, s->nodes, &id, sizeof id, n);
    return n;
}

struct cms_group *state_group(const struct cms_state *s, uint32_t gid)
{
    struct cms_group *g;
    HASH_FIND(by_gid, s->by_gid, &gid, sizeof gid, g);
    return g;
}

struct cms_group *state_group_named(const struct cms_state *s, const char *name)
{
    struct cms_group *g;
    HASH_FIND(by_name, s->by_name, name, strlen(name), g);
    return g;
}

struct cms_node *state_incarnation(const struct cms_state *s, const char *name, uint32_t address,
                                   uint64_t incarnation)
{
    for (struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n->incarnation == incarnation && n->address == address && !n->expelled &&
            strcmp(n->name, name) == 0)
            return n;
    }
    return NULL;
}

static struct cms_row *find_row(const struct cms_node *n, uint32_t count, uint32_t gid)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (n->rows[middle].group->gid < gid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && n->rows[low].group->gid == gid ? &n->rows[low] : NULL;
}

const struct cms_row *node_row(const struct cms_node *n, const struct cms_group *g)
{
    return find_row(n, n->row_count, g->gid);
}

const char *state_bad_name(const char *name)
{
    if (*name == '\0')
        return "the name of a group has at least 1 byte";
    if (strlen(name) > NAME_BYTES_MAX)
        return "the name of a group has at most 255 bytes";
    return name_valid(name) ? NULL : "the name of a group is printable UTF-8 without spaces";
}

/* ---- nodes, groups, rows */

struct cms_node *state_add_node(struct cms_state *s, uint32_t id, const char *name)
{
    struct cms_node *n = mem_new(1, sizeof *n);
    n->id = id;
    n->name = mem_string(name);
    HASH_ADD(hh, s->nodes, id, sizeof n->id, n);
    return n;
}

struct cms_group *state_add_group(struct cms_state *s, uint32_t gid, const char *name)
{
    struct cms_group *g = mem_new(1, sizeof *g);
    g->gid = gid;
    g->name = mem_string(name);
    HASH_ADD_KEYPTR(by_name, s->by_name, g->name, strlen(g->name), g);
    HASH_ADD(by_gid, s->by_gid, gid, sizeof g->gid, g);
    return g;
}

void state_drop_group(struct cms_state *s, struct cms_group *g)
{
    assert(g->rows == 0);
    HASH_DELETE(by_name, s->by_name, g);
    HASH_DELETE(by_gid, s->by_gid, g);
    free(g->name);
    free(g);
}

void state_drop_node(struct cms_state *s, struct cms_node *n)
{
    for (uint32_t i = 0; i < n->row_count; i++)
        n->rows[i].group->rows--;
    HASH_DELETE(hh, s->nodes, n);
    free(n->rows);
    free(n->name);
    free(n);
}

void state_add_row(struct cms_state *s, struct cms_node *n, struct cms_group *g, uint8_t want,
                   uint8_t have)
{
    if (n->row_count == n->row_room) {
        n->row_room = n->row_room > 0 ? 2 * n->row_room : 8;
        n->rows = realloc(n->rows, n->row_room * sizeof *n->rows);
        if (n->rows == NULL)
            abort();
    }
    n->rows[n->row_count++] = (struct cms_row){.group = g, .want = want, .have = have};
    g->rows++;
    if (want & CMS_RECV)
        n->want_set += region_set_number(g->gid);
    if (!n->expelled)
        s->pending += want != have;
}

static void set_want(struct cms_state *s, struct cms_node *n, struct cms_row *row, uint8_t want)
{
    uint64_t number = region_set_number(row->group->gid);
    if ((row->want & CMS_RECV) && !(want & CMS_RECV))
        n->want_set -= number;
    if (!(row->want & CMS_RECV) && (want & CMS_RECV))
        n->want_set += number;
    s->pending -= row->want != row->have;
    row->want = want;
    s->pending += row->want != row->have;
}

void state_sweep_rows(struct cms_state *s, struct cms_node *n)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->row_count; i++) {
        struct cms_row row = n->rows[i];
        if (row.want != 0 || row.have != 0) {
            n->rows[kept++] = row;
            continue;
        }
        if (--row.group->rows == 0 && row.group->epoch == 0)
            state_drop_group(s, row.group);
    }
    n->row_count = kept;
}

/* ---- changes */

void refusal_add(struct cms_refusal **list, uint32_t *count, const char *name, const char *reason)
{
    *list = mem_grow(*list, *count, sizeof **list);
    (*list)[(*count)++] =
        (struct cms_refusal){.name = mem_string(name), .reason = mem_string(reason)};
}

void refusals_free(struct cms_refusal *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(list[i].name);
        free(list[i].reason);
    }
    free(list);
}

/* One change of a request, after the look at its name; group NULL: nothing to do. */
struct step {
    struct cms_group *group;
    uint8_t mode;
};

static void refuse(struct cms_effect *e, const char *name, const char *reason)
{
    refusal_add(&e->refusals, &e->refusal_count, name, reason);
}

/* Finds the group of each change, makes what does not exist yet. The last change of a name counts:
 * a group's mark is its step's number, from 1. */
static struct step *find_steps(struct cms_state *s, const Qsm__LogChanges *m, struct cms_effect *e)
{
    struct step *steps = mem_new(m->n_change, sizeof *steps);
    for (size_t i = 0; i < m->n_change; i++) {
        const Qsm__LogChange *change = m->change[i];
        const char *bad = state_bad_name(change->name);
        struct cms_group *g = bad == NULL ? state_group_named(s, change->name) : NULL;
        if (bad == NULL && g == NULL && (change->mode & 3) != 0) {
            if (HASH_CNT(by_gid, s->by_gid) >= CMS_GROUPS_MAX)
                bad = "there are groups_max (" TEXT(CMS_GROUPS_MAX) ") groups already";
            else
                g = state_add_group(s, s->next_gid++, change->name);
        }
        if (bad != NULL)
            refuse(e, change->name, bad);
        if (g == NULL)
            continue;
        g->marks = (uint32_t)i + 1;
        steps[i] = (struct step){.group = g, .mode = change->mode & 3};
    }
    return steps;
}

/* Whether the node, if it now received exactly this set, would need one more address than there
 * are. */
static bool lacks_address(const struct cms_state *s, const struct cms_node *of, uint64_t set)
{
    if (set == 0)
        return false;
    uint64_t *sets = mem_new(s->node_count + 1, sizeof *sets);
    uint32_t count = 0;
    bool exists = false;
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n == of || n->expelled)
            continue;
        exists |= n->want_set == set;
        sets[count++] = n->want_set;
    }
    bool lacks = !exists && region_count_sets(sets, count) + 1 > s->config.regions_max;
    free(sets);
    return lacks;
}

/* What the node would receive after these steps; *ret_joins: whether one of them is a join. */
static uint64_t set_after(const struct cms_node *n, const struct step *steps, size_t count,
                          bool *ret_joins)
{
    uint64_t set = n->want_set;
    *ret_joins = false;
    for (size_t i = 0; i < count; i++) {
        struct cms_group *g = steps[i].group;
        if (g == NULL || g->marks != i + 1)
            continue;
        const struct cms_row *row = node_row(n, g);
        bool was = row != NULL && (row->want & CMS_RECV), is = steps[i].mode & CMS_RECV;
        if (is && !was) {
            set += region_set_number(g->gid);
            *ret_joins = true;
        } else if (was && !is) {
            set -= region_set_number(g->gid);
        }
    }
    return set;
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = ((const struct cms_row *)a)->group->gid,
             y = ((const struct cms_row *)b)->group->gid;
    return x < y ? -1 : x > y;
}

static void take_steps(struct cms_state *s, struct cms_node *n, const struct step *steps,
                       size_t count, bool no_joins, struct cms_effect *e)
{
    uint32_t sorted = n->row_count;
    char reason[100];
    snprintf(reason, sizeof reason, "no multicast address is free: regions_max is %u",
             s->config.regions_max);
    for (size_t i = 0; i < count; i++) {
        struct cms_group *g = steps[i].group;
        if (g == NULL || g->marks != i + 1)
            continue;
        struct cms_row *row = find_row(n, sorted, g->gid);
        bool joins = (steps[i].mode & CMS_RECV) && !(row != NULL && (row->want & CMS_RECV));
        if (joins && no_joins)
            refuse(e, g->name, reason);
        else if (row != NULL)
            set_want(s, n, row, steps[i].mode);
        else if (steps[i].mode != 0)
            state_add_row(s, n, g, steps[i].mode, 0);
    }
    if (n->row_count > sorted)
        qsort(n->rows, n->row_count, sizeof *n->rows, compare_rows);
}

static void apply_changes(struct cms_state *s, const Qsm__LogChanges *m, struct cms_effect *e)
{
    struct cms_node *n = state_node(s, m->node);
    e->node = m->node;
    if (n == NULL || n->expelled)
        return;
    struct step *steps = find_steps(s, m, e);
    bool joins;
    uint64_t set = set_after(n, steps, m->n_change, &joins);
    take_steps(s, n, steps, m->n_change, joins && lacks_address(s, n, set), e);
    for (size_t i = 0; i < m->n_change; i++) {
        struct cms_group *g = steps[i].group;
        if (g == NULL || g->marks != i + 1)
            continue;
        g->marks = 0;
        if (g->rows == 0)
            state_drop_group(s, g);
    }
    state_sweep_rows(s, n);
    free(steps);
}

/* ---- the other entries */

static void apply_admit(struct cms_state *s, const Qsm__LogAdmit *m, struct cms_effect *e)
{
    struct cms_node *n = state_incarnation(s, m->name, m->address, m->incarnation);
    if (n == NULL && s->node_count < CMS_NODES_MAX) {
        n = state_add_node(s, (uint32_t)s->index, m->name);
        n->address = m->address;
        n->datagram_bytes = m->datagram_bytes;
        n->rcvbuf_bytes = m->rcvbuf_bytes;
        n->incarnation = m->incarnation;
        n->wire_min = m->wire_min;
        n->wire_max = m->wire_max;
        s->node_count++;
        e->fresh = true;
    }
    e->node = n != NULL ? n->id : 0;
}

static void apply_expel(struct cms_state *s, const Qsm__LogExpel *m, struct cms_effect *e)
{
    struct cms_node *n = state_node(s, m->node);
    if (n == NULL || n->expelled)
        return;
    e->node = m->node;
    e->why = mem_string(m->why);
    for (uint32_t i = 0; i < n->row_count; i++) {
        set_want(s, n, &n->rows[i], 0);
        s->pending -= n->rows[i].have != 0;
    }
    state_sweep_rows(s, n);
    n->expelled = true;
    s->node_count--;
    if (n->announced || n->row_count > 0)
        s->expelled_count++;
    else
        state_drop_node(s, n);
}

static int apply_install(struct cms_state *s, const Qsm__LogInstall *m, struct cms_effect *e)
{
    if (m->epoch != s->epoch + 1)
        return -EPROTO;
    e->plan = mem_new(1, sizeof *e->plan);
    plan_build(s, e->plan);
    plan_carry_out(s, e->plan);
    s->epoch = m->epoch;
    s->install_term = m->term;
    s->install_attempt = m->attempt;
    return 0;
}

static int apply(struct cms_state *s, const Qsm__LogEntry *entry, struct cms_effect *e)
{
    switch (entry->what_case) {
    case QSM__LOG_ENTRY__WHAT_LEAD:
        e->kind = CMS_LEAD;
        s->term = s->index;
        s->config = (struct region_config){.multicast = entry->lead->multicast,
                                           .regions_max = entry->lead->regions_max,
                                           .ring_size = entry->lead->ring_size,
                                           .cache_replicas = entry->lead->cache_replicas,
                                           .ack_ranges = entry->lead->ack_ranges};
        return 0;
    case QSM__LOG_ENTRY__WHAT_ADMIT:
        e->kind = CMS_ADMIT;
        apply_admit(s, entry->admit, e);
        return 0;
    case QSM__LOG_ENTRY__WHAT_CHANGES:
        e->kind = CMS_CHANGES;
        apply_changes(s, entry->changes, e);
        return 0;
    case QSM__LOG_ENTRY__WHAT_EXPEL:
        e->kind = CMS_EXPEL;
        apply_expel(s, entry->expel, e);
        return 0;
    case QSM__LOG_ENTRY__WHAT_INSTALL:
        e->kind = CMS_INSTALL;
        return apply_install(s, entry->install, e);
    default:
        return -EPROTO;
    }
}

int state_apply(struct cms_state *s, uint64_t index, const uint8_t *entry, size_t bytes,
                struct cms_effect *ret)
{
    *ret = (struct cms_effect){0};
    if (index != s->index + 1 || index > UINT32_MAX)
        return -EPROTO;
    Qsm__LogEntry *decoded = log_decode(entry, bytes);
    if (decoded == NULL)
        return -EPROTO;
    s->index = index;
    int result = apply(s, decoded, ret);
    qsm__log_entry__free_unpacked(decoded, NULL);
    return result;
}

void effect_done(struct cms_effect *e)
{
    refusals_free(e->refusals, e->refusal_count);
    free(e->why);
    if (e->plan != NULL) {
        plan_done(e->plan);
        free(e->plan);
    }
    *e = (struct cms_effect){0};
}
