/* cms_plan: what the next epoch would be (cms_plan.h). */
#include "cms_plan.h"

#include <assert.h>

#include "cms_mem.h"

enum {
    MARK_MEMBERS = 1, /* its members change */
    MARK_SCOPE = 2,   /* they do, or a dead node had it open to send */
    MARK_FLUSHED = 4, /* some region in scope maps it */
    MARK_TOUCHED = 8, /* somebody's mode changes */
};

static void list_add(struct plan_list *l, uint32_t value)
{
    l->list = mem_grow(l->list, l->count, sizeof *l->list);
    l->list[l->count++] = value;
}

static void clear_marks(const struct cms_state *s)
{
    for (struct cms_group *g = s->by_gid; g != NULL; g = g->by_gid.next)
        g->marks = 0;
}

/* ---- regions */

static uint64_t have_set(const struct cms_node *n)
{
    uint64_t set = 0;
    for (uint32_t i = 0; i < n->row_count; i++) {
        if (n->rows[i].have & CMS_RECV)
            set += region_set_number(n->rows[i].group->gid);
    }
    return set;
}

static void choose(const struct cms_state *s, struct cms_plan *p)
{
    uint64_t *have = mem_new(s->node_count, sizeof *have);
    uint64_t *want = mem_new(s->node_count, sizeof *want);
    uint32_t count = 0;
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n->expelled)
            continue;
        have[count] = have_set(n);
        want[count++] = n->want_set;
    }
    assert(count == s->node_count);
    p->take = mem_new(count, sizeof *p->take);
    region_fit(have, want, count, s->config.regions_max, p->take);
    free(have);
    free(want);
}

/* The mode that a row will have. */
static uint8_t mode_after(const struct cms_row *row, bool take)
{
    return (uint8_t)(take ? row->want : (row->have & CMS_RECV) | (row->want & CMS_SEND));
}

static void build_regions(const struct cms_state *s, struct cms_plan *p)
{
    struct region_node *nodes = mem_new(s->node_count, sizeof *nodes);
    uint32_t **groups = mem_new(s->node_count, sizeof *groups);
    uint32_t count = 0;
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n->expelled)
            continue;
        groups[count] = mem_new(n->row_count, sizeof **groups);
        nodes[count] = (struct region_node){.id = n->id,
                                            .datagram_bytes = n->datagram_bytes,
                                            .rcvbuf_bytes = n->rcvbuf_bytes,
                                            .groups = groups[count]};
        for (uint32_t i = 0; i < n->row_count; i++) {
            if (mode_after(&n->rows[i], p->take[count]) & CMS_RECV)
                groups[count][nodes[count].group_count++] = n->rows[i].group->gid;
        }
        count++;
    }
    int result = regions_build(&s->regions, nodes, count, &s->config, &p->next);
    assert(result == 0); /* region_fit saw to it */
    for (uint32_t i = 0; i < count; i++)
        free(groups[i]);
    free(groups);
    free(nodes);
}

/* ---- scope */

static void mark_node(const struct cms_node *n, bool take)
{
    for (uint32_t i = 0; i < n->row_count; i++) {
        const struct cms_row *row = &n->rows[i];
        uint8_t after = n->expelled ? 0 : mode_after(row, take);
        if (row->have != after)
            row->group->marks |= MARK_TOUCHED;
        if ((row->have ^ after) & CMS_RECV)
            row->group->marks |= MARK_MEMBERS | MARK_SCOPE;
        if (n->expelled && (row->have & CMS_SEND))
            row->group->marks |= MARK_SCOPE;
    }
}

static bool region_marked(const struct cms_state *s, const struct region *r)
{
    for (uint32_t i = 0; i < r->group_count; i++) {
        const struct cms_group *g = state_group(s, r->groups[i]);
        if (g != NULL && (g->marks & MARK_SCOPE))
            return true;
    }
    return false;
}

/* Regions that map a group in scope, and those whose own members differ, are in scope. What is not
 * keeps its view as it is. */
static void find_scope(const struct cms_state *s, struct cms_plan *p)
{
    for (uint32_t i = 0; i < s->regions.count; i++) {
        const struct region *old = &s->regions.list[i];
        const struct region *next = regions_find(&p->next, old->rid);
        if (next == NULL || !region_same_members(old, next) || region_marked(s, old))
            list_add(&p->scope, old->rid);
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < p->next.count; i++) {
        struct region *next = &p->next.list[i];
        const struct region *old = regions_find(&s->regions, next->rid);
        while (at < p->scope.count && p->scope.list[at] < next->rid)
            at++;
        if (old == NULL || (at < p->scope.count && p->scope.list[at] == next->rid)) {
            next->epoch = p->epoch;
            continue;
        }
        next->epoch = old->epoch;
        next->ring_size = old->ring_size;
        next->cache_replicas = old->cache_replicas;
        next->ack_ranges = old->ack_ranges;
    }
}

static void mark_flushed(const struct cms_state *s, const struct cms_plan *p)
{
    for (uint32_t i = 0; i < p->scope.count; i++) {
        const struct region *r = regions_find(&s->regions, p->scope.list[i]);
        for (uint32_t k = 0; k < r->group_count; k++) {
            struct cms_group *g = state_group(s, r->groups[k]);
            assert(g != NULL);
            g->marks |= MARK_FLUSHED;
        }
    }
}

/* Whether the node can send to a region in scope. */
static bool can_send(const struct cms_node *n)
{
    for (uint32_t i = 0; i < n->row_count; i++) {
        const struct cms_row *row = &n->rows[i];
        if ((row->have & CMS_SEND) && (row->group->marks & MARK_FLUSHED))
            return true;
    }
    return false;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void find_participants(const struct cms_state *s, struct cms_plan *p)
{
    struct plan_list members = {0};
    for (uint32_t i = 0; i < p->scope.count; i++) {
        const struct region *r = regions_find(&s->regions, p->scope.list[i]);
        for (uint32_t k = 0; k < r->member_count; k++)
            list_add(&members, r->members[k]); /* a node is in one region only */
    }
    if (members.count > 0)
        qsort(members.list, members.count, sizeof *members.list, compare_u32);
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n->expelled)
            continue;
        bool member = members.count > 0 && bsearch(&n->id, members.list, members.count,
                                                   sizeof *members.list, compare_u32) != NULL;
        if (member || can_send(n))
            list_add(&p->participants, n->id);
    }
    free(members.list);
}

static bool could_send(const struct cms_node *n, const struct region *r)
{
    for (uint32_t i = 0; i < n->row_count; i++) {
        if ((n->rows[i].have & CMS_SEND) && region_has_group(r, n->rows[i].group->gid))
            return true;
    }
    return false;
}

static void find_dead(const struct cms_state *s, struct cms_plan *p)
{
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (!n->expelled)
            continue;
        list_add(&p->dead, n->id);
        for (uint32_t i = 0; i < p->scope.count; i++) {
            const struct region *r = regions_find(&s->regions, p->scope.list[i]);
            if (!could_send(n, r))
                continue;
            p->channels = mem_grow(p->channels, p->channel_count, sizeof *p->channels);
            p->channels[p->channel_count++] = (struct plan_channel){.sender = n->id, .rid = r->rid};
        }
    }
}

void plan_build(const struct cms_state *s, struct cms_plan *ret)
{
    struct cms_plan *p = ret;
    *p = (struct cms_plan){.epoch = s->epoch + 1};
    choose(s, p);
    build_regions(s, p);
    clear_marks(s);
    uint32_t at = 0;
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next)
        mark_node(n, n->expelled ? true : p->take[at++]);
    find_scope(s, p);
    mark_flushed(s, p);
    find_participants(s, p);
    find_dead(s, p);
    p->empty = p->dead.count == 0;
    for (struct cms_group *g = s->by_gid; g != NULL && p->empty; g = g->by_gid.next)
        p->empty = (g->marks & MARK_TOUCHED) == 0;
    clear_marks(s);
}

/* ---- carrying it out */

static void sender_add(struct cms_plan *p, uint32_t gid, uint32_t node, bool on)
{
    p->senders = mem_grow(p->senders, p->sender_count, sizeof *p->senders);
    p->senders[p->sender_count++] = (struct plan_sender){.gid = gid, .node = node, .on = on};
}

static void move_node(struct cms_state *s, struct cms_plan *p, struct cms_node *n, bool take)
{
    mark_node(n, take);
    for (uint32_t i = 0; i < n->row_count; i++) {
        struct cms_row *row = &n->rows[i];
        uint8_t after = n->expelled ? 0 : mode_after(row, take);
        if ((row->have ^ after) & CMS_SEND)
            sender_add(p, row->group->gid, n->id, after & CMS_SEND);
        if (!n->expelled) {
            s->pending -= row->have != row->want;
            s->pending += after != row->want;
        }
        row->have = after;
    }
    state_sweep_rows(s, n);
}

static void move_groups(struct cms_state *s, struct cms_plan *p)
{
    struct cms_group *g, *next;
    HASH_ITER (by_gid, s->by_gid, g, next) {
        uint32_t marks = g->marks;
        g->marks = 0;
        if ((marks & MARK_TOUCHED) == 0)
            continue;
        if (g->rows == 0) {
            list_add(&p->groups_gone, g->gid);
            state_drop_group(s, g);
        } else if (g->epoch == 0 || (marks & MARK_MEMBERS)) {
            g->epoch = p->epoch;
            list_add(&p->groups, g->gid);
        }
    }
}

static void move_regions(struct cms_state *s, struct cms_plan *p)
{
    for (uint32_t i = 0; i < p->next.count; i++) {
        if (p->next.list[i].epoch == p->epoch)
            list_add(&p->regions, p->next.list[i].rid);
    }
    for (uint32_t i = 0; i < s->regions.count; i++) {
        if (regions_find(&p->next, s->regions.list[i].rid) == NULL)
            list_add(&p->regions_gone, s->regions.list[i].rid);
    }
    regions_done(&s->regions);
    s->regions = p->next;
    regions_init(&p->next);
}

void plan_carry_out(struct cms_state *s, struct cms_plan *p)
{
    uint32_t at = 0;
    struct cms_node *n, *next;
    clear_marks(s);
    HASH_ITER (hh, s->nodes, n, next) {
        move_node(s, p, n, n->expelled ? true : p->take[at++]);
        if (n->expelled) {
            assert(n->row_count == 0);
            if (n->announced)
                list_add(&p->gone, n->id);
            s->expelled_count--;
            state_drop_node(s, n);
        } else if (!n->announced) {
            n->announced = true;
            list_add(&p->peers, n->id);
        }
    }
    move_groups(s, p);
    move_regions(s, p);
}

void plan_done(struct cms_plan *p)
{
    regions_done(&p->next);
    free(p->scope.list);
    free(p->dead.list);
    free(p->participants.list);
    free(p->channels);
    free(p->take);
    free(p->peers.list);
    free(p->gone.list);
    free(p->regions.list);
    free(p->regions_gone.list);
    free(p->groups.list);
    free(p->groups_gone.list);
    free(p->senders);
    *p = (struct cms_plan){0};
}
