/* cms_install: INSTALL messages (proto/cms.proto, step 5), as a difference and in full, and what
 * the trace says of an epoch. Strings and lists of the messages belong to the state. */
#include <stdio.h>

#include "cms_core.h"
#include "cms_mem.h"

static void put_tag(const struct cms_state *s, Qsm__Tag *tag, Qsm__Install *m)
{
    qsm__tag__init(tag);
    tag->term = s->install_term;
    tag->epoch = s->epoch;
    tag->attempt = s->install_attempt;
    m->tag = tag;
    m->previous = s->epoch > 0 ? s->epoch - 1 : 0;
}

static Qsm__Peer *peer_message(const struct cms_node *n)
{
    Qsm__Peer *m = mem_new(1, sizeof *m);
    qsm__peer__init(m);
    m->id = n->id;
    m->name = n->name;
    m->address = n->address;
    return m;
}

static Qsm__Region *region_message(const struct region *r)
{
    Qsm__Region *m = mem_new(1, sizeof *m);
    qsm__region__init(m);
    m->rid = r->rid;
    m->epoch = r->epoch;
    m->address = r->address;
    m->n_group = r->group_count;
    m->group = r->groups;
    m->n_member = r->member_count;
    m->member = r->members;
    m->datagram_bytes = r->datagram_bytes;
    m->rcvbuf_bytes = r->rcvbuf_bytes;
    m->ring_size = r->ring_size;
    m->cache_replicas = r->cache_replicas;
    m->ack_ranges = r->ack_ranges;
    return m;
}

static Qsm__Group *group_message(const struct cms_group *g)
{
    Qsm__Group *m = mem_new(1, sizeof *m);
    qsm__group__init(m);
    m->gid = g->gid;
    m->name = g->name;
    m->epoch = g->epoch;
    return m;
}

static Qsm__Sender *sender_message(uint32_t gid, uint32_t node, bool on)
{
    Qsm__Sender *m = mem_new(1, sizeof *m);
    qsm__sender__init(m);
    m->gid = gid;
    m->node = node;
    m->on = on;
    return m;
}

/* Encodes, and frees what the fill functions made. */
static struct buf *finish(Qsm__Install *install)
{
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_INSTALL;
    m.install = install;
    struct buf *frames = link_encode(&m);
    for (size_t i = 0; i < install->n_peer; i++)
        free(install->peer[i]);
    for (size_t i = 0; i < install->n_region; i++)
        free(install->region[i]);
    for (size_t i = 0; i < install->n_group; i++)
        free(install->group[i]);
    for (size_t i = 0; i < install->n_sender; i++)
        free(install->sender[i]);
    free(install->peer);
    free(install->region);
    free(install->group);
    free(install->sender);
    return frames;
}

struct buf *install_difference(const struct cms_state *s, const struct cms_plan *p)
{
    Qsm__Install m = QSM__INSTALL__INIT;
    Qsm__Tag tag;
    put_tag(s, &tag, &m);
    m.peer = mem_new(p->peers.count, sizeof *m.peer);
    for (uint32_t i = 0; i < p->peers.count; i++)
        m.peer[m.n_peer++] = peer_message(state_node(s, p->peers.list[i]));
    m.n_gone = p->gone.count;
    m.gone = p->gone.list;
    m.region = mem_new(p->regions.count, sizeof *m.region);
    for (uint32_t i = 0; i < p->regions.count; i++)
        m.region[m.n_region++] = region_message(regions_find(&s->regions, p->regions.list[i]));
    m.n_region_gone = p->regions_gone.count;
    m.region_gone = p->regions_gone.list;
    m.group = mem_new(p->groups.count, sizeof *m.group);
    for (uint32_t i = 0; i < p->groups.count; i++)
        m.group[m.n_group++] = group_message(state_group(s, p->groups.list[i]));
    m.n_group_gone = p->groups_gone.count;
    m.group_gone = p->groups_gone.list;
    m.sender = mem_new(p->sender_count, sizeof *m.sender);
    for (uint32_t i = 0; i < p->sender_count; i++) {
        const struct plan_sender *sender = &p->senders[i];
        m.sender[m.n_sender++] = sender_message(sender->gid, sender->node, sender->on);
    }
    return finish(&m);
}

bool node_sends(const struct cms_node *n)
{
    for (uint32_t i = 0; i < n->row_count; i++) {
        if (n->rows[i].have & CMS_SEND)
            return true;
    }
    return false;
}

static void fill_senders(const struct cms_node *n, Qsm__Install *m)
{
    m->sender = mem_new(n->row_count, sizeof *m->sender);
    for (uint32_t i = 0; i < n->row_count; i++) {
        if (n->rows[i].have & CMS_SEND)
            m->sender[m->n_sender++] = sender_message(n->rows[i].group->gid, n->id, true);
    }
}

struct buf *install_full(const struct cms_state *s, const struct cms_node *of)
{
    Qsm__Install m = QSM__INSTALL__INIT;
    Qsm__Tag tag;
    put_tag(s, &tag, &m);
    m.full = true;
    m.peer = mem_new(HASH_COUNT(s->nodes), sizeof *m.peer);
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        if (n->announced)
            m.peer[m.n_peer++] = peer_message(n);
    }
    m.region = mem_new(s->regions.count, sizeof *m.region);
    for (uint32_t i = 0; i < s->regions.count; i++)
        m.region[m.n_region++] = region_message(&s->regions.list[i]);
    m.group = mem_new(HASH_CNT(by_gid, s->by_gid), sizeof *m.group);
    for (const struct cms_group *g = s->by_gid; g != NULL; g = g->by_gid.next) {
        if (g->epoch > 0)
            m.group[m.n_group++] = group_message(g);
    }
    fill_senders(of, &m);
    return finish(&m);
}

/* ---- trace */

/* Ids as `1,2,3`, or `-`; the caller frees. */
static char *id_list(const uint32_t *list, uint32_t count)
{
    char *text = mem_new(11 * (size_t)count + 2, 1);
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++)
        at += (size_t)sprintf(text + at, i == 0 ? "%u" : ",%u", list[i]);
    if (count == 0)
        text[0] = '-';
    return text;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void trace_group(const struct cms *c, uint32_t gid)
{
    uint32_t *members = mem_new(HASH_COUNT(c->state.nodes), sizeof *members);
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->state.regions.count; i++) {
        const struct region *r = &c->state.regions.list[i];
        if (!region_has_group(r, gid))
            continue;
        memcpy(members + count, r->members, r->member_count * sizeof *members);
        count += r->member_count;
    }
    if (count > 0)
        qsort(members, count, sizeof *members, compare_u32);
    char *text = id_list(members, count);
    cms_trace(c, "gview ep=%llu g=%u m=%s", (unsigned long long)c->state.epoch, gid, text);
    free(text);
    free(members);
}

void install_trace(const struct cms *c, const struct cms_plan *p)
{
    const struct cms_state *s = &c->state;
    if (c->up.trace == NULL)
        return;
    cms_trace(c, "epoch ep=%llu prev=%llu t=%llu a=%u", (unsigned long long)s->epoch,
              (unsigned long long)s->epoch - 1, (unsigned long long)s->install_term,
              s->install_attempt);
    for (uint32_t i = 0; i < p->groups.count; i++)
        trace_group(c, p->groups.list[i]);
    for (uint32_t i = 0; i < p->groups_gone.count; i++)
        trace_group(c, p->groups_gone.list[i]);
    for (uint32_t i = 0; i < p->regions.count; i++) {
        const struct region *r = regions_find(&s->regions, p->regions.list[i]);
        char *text = id_list(r->members, r->member_count);
        cms_trace(c, "rview ep=%llu r=%u m=%s", (unsigned long long)s->epoch, r->rid, text);
        free(text);
    }
}
