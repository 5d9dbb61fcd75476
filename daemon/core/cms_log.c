/* cms_log: entries and snapshots as protobuf (cms_log.h). */
#include "cms_log.h"

#include <errno.h>

#include "cms_mem.h"

/* ---- entries */

static uint8_t *encode(const Qsm__LogEntry *entry, size_t *ret_bytes)
{
    *ret_bytes = qsm__log_entry__get_packed_size(entry);
    uint8_t *bytes = mem_new(*ret_bytes, 1);
    qsm__log_entry__pack(entry, bytes);
    return bytes;
}

uint8_t *log_lead(const struct region_config *config, size_t *ret_bytes)
{
    Qsm__LogLead lead = QSM__LOG_LEAD__INIT;
    lead.multicast = config->multicast;
    lead.regions_max = config->regions_max;
    lead.ring_size = config->ring_size;
    lead.cache_replicas = config->cache_replicas;
    lead.ack_ranges = config->ack_ranges;
    Qsm__LogEntry entry = QSM__LOG_ENTRY__INIT;
    entry.what_case = QSM__LOG_ENTRY__WHAT_LEAD;
    entry.lead = &lead;
    return encode(&entry, ret_bytes);
}

uint8_t *log_admit(const Qsm__LogAdmit *admit, size_t *ret_bytes)
{
    Qsm__LogAdmit copy = *admit;
    Qsm__LogEntry entry = QSM__LOG_ENTRY__INIT;
    entry.what_case = QSM__LOG_ENTRY__WHAT_ADMIT;
    entry.admit = &copy;
    return encode(&entry, ret_bytes);
}

uint8_t *log_changes(uint32_t node, Qsm__LogChange **changes, size_t count, size_t *ret_bytes)
{
    Qsm__LogChanges list = QSM__LOG_CHANGES__INIT;
    list.node = node;
    list.n_change = count;
    list.change = changes;
    Qsm__LogEntry entry = QSM__LOG_ENTRY__INIT;
    entry.what_case = QSM__LOG_ENTRY__WHAT_CHANGES;
    entry.changes = &list;
    return encode(&entry, ret_bytes);
}

uint8_t *log_expel(uint32_t node, const char *why, size_t *ret_bytes)
{
    Qsm__LogExpel expel = QSM__LOG_EXPEL__INIT;
    char *copy = mem_string(why);
    expel.node = node;
    expel.why = copy;
    Qsm__LogEntry entry = QSM__LOG_ENTRY__INIT;
    entry.what_case = QSM__LOG_ENTRY__WHAT_EXPEL;
    entry.expel = &expel;
    uint8_t *bytes = encode(&entry, ret_bytes);
    free(copy);
    return bytes;
}

uint8_t *log_install(uint64_t term, uint64_t epoch, uint32_t attempt, size_t *ret_bytes)
{
    Qsm__LogInstall install = QSM__LOG_INSTALL__INIT;
    install.term = term;
    install.epoch = epoch;
    install.attempt = attempt;
    Qsm__LogEntry entry = QSM__LOG_ENTRY__INIT;
    entry.what_case = QSM__LOG_ENTRY__WHAT_INSTALL;
    entry.install = &install;
    return encode(&entry, ret_bytes);
}

Qsm__LogEntry *log_decode(const uint8_t *bytes, size_t count)
{
    Qsm__LogEntry *entry = qsm__log_entry__unpack(NULL, count, bytes);
    if (entry != NULL && entry->what_case == QSM__LOG_ENTRY__WHAT__NOT_SET) {
        qsm__log_entry__free_unpacked(entry, NULL);
        return NULL;
    }
    return entry;
}

/* ---- snapshot out. Strings and lists of the message belong to the state, the messages and the
 * rows' columns do not. */

static Qsm__SnapGroup *snap_group(const struct cms_group *g)
{
    Qsm__SnapGroup *m = mem_new(1, sizeof *m);
    qsm__snap_group__init(m);
    m->gid = g->gid;
    m->name = g->name;
    m->epoch = g->epoch;
    return m;
}

static Qsm__SnapNode *snap_node(const struct cms_node *n)
{
    Qsm__SnapNode *m = mem_new(1, sizeof *m);
    qsm__snap_node__init(m);
    m->id = n->id;
    m->announced = n->announced;
    m->expelled = n->expelled;
    m->admit = mem_new(1, sizeof *m->admit);
    qsm__log_admit__init(m->admit);
    m->admit->name = n->name;
    m->admit->address = n->address;
    m->admit->datagram_bytes = n->datagram_bytes;
    m->admit->rcvbuf_bytes = n->rcvbuf_bytes;
    m->admit->incarnation = n->incarnation;
    m->admit->wire_min = n->wire_min;
    m->admit->wire_max = n->wire_max;
    m->n_gid = m->n_want = m->n_have = n->row_count;
    m->gid = mem_new(n->row_count, sizeof *m->gid);
    m->want = mem_new(n->row_count, sizeof *m->want);
    m->have = mem_new(n->row_count, sizeof *m->have);
    for (uint32_t i = 0; i < n->row_count; i++) {
        m->gid[i] = n->rows[i].group->gid;
        m->want[i] = n->rows[i].want;
        m->have[i] = n->rows[i].have;
    }
    return m;
}

static Qsm__SnapRegion *snap_region(const struct region *r)
{
    Qsm__SnapRegion *m = mem_new(1, sizeof *m);
    qsm__snap_region__init(m);
    m->rid = r->rid;
    m->epoch = r->epoch;
    m->address = r->address;
    m->datagram_bytes = r->datagram_bytes;
    m->rcvbuf_bytes = r->rcvbuf_bytes;
    m->ring_size = r->ring_size;
    m->cache_replicas = r->cache_replicas;
    m->ack_ranges = r->ack_ranges;
    m->n_group = r->group_count;
    m->group = r->groups;
    m->n_member = r->member_count;
    m->member = r->members;
    return m;
}

static void snapshot_fill(const struct cms_state *s, Qsm__Snapshot *m)
{
    m->index = s->index;
    m->term = s->term;
    m->epoch = s->epoch;
    m->install_term = s->install_term;
    m->install_attempt = s->install_attempt;
    m->next_gid = s->next_gid;
    m->next_rid = s->regions.next_rid;
    m->config->multicast = s->config.multicast;
    m->config->regions_max = s->config.regions_max;
    m->config->ring_size = s->config.ring_size;
    m->config->cache_replicas = s->config.cache_replicas;
    m->config->ack_ranges = s->config.ack_ranges;
    m->group = mem_new(HASH_CNT(by_gid, s->by_gid), sizeof *m->group);
    for (struct cms_group *g = s->by_gid; g != NULL; g = g->by_gid.next)
        m->group[m->n_group++] = snap_group(g);
    m->node = mem_new(HASH_COUNT(s->nodes), sizeof *m->node);
    for (struct cms_node *n = s->nodes; n != NULL; n = n->hh.next)
        m->node[m->n_node++] = snap_node(n);
    m->region = mem_new(s->regions.count, sizeof *m->region);
    for (uint32_t i = 0; i < s->regions.count; i++)
        m->region[m->n_region++] = snap_region(&s->regions.list[i]);
}

static void snapshot_free(Qsm__Snapshot *m)
{
    for (size_t i = 0; i < m->n_group; i++)
        free(m->group[i]);
    for (size_t i = 0; i < m->n_node; i++) {
        free(m->node[i]->admit);
        free(m->node[i]->gid);
        free(m->node[i]->want);
        free(m->node[i]->have);
        free(m->node[i]);
    }
    for (size_t i = 0; i < m->n_region; i++)
        free(m->region[i]);
    free(m->group);
    free(m->node);
    free(m->region);
}

uint8_t *log_snapshot(const struct cms_state *s, size_t *ret_bytes)
{
    Qsm__LogLead config = QSM__LOG_LEAD__INIT;
    Qsm__Snapshot m = QSM__SNAPSHOT__INIT;
    m.config = &config;
    snapshot_fill(s, &m);
    *ret_bytes = qsm__snapshot__get_packed_size(&m);
    uint8_t *bytes = mem_new(*ret_bytes, 1);
    qsm__snapshot__pack(&m, bytes);
    snapshot_free(&m);
    return bytes;
}

/* ---- snapshot in */

static bool ascending(const uint32_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i] == 0 || (i > 0 && list[i] <= list[i - 1]))
            return false;
    }
    return true;
}

static bool restore_group(struct cms_state *s, const Qsm__SnapGroup *m, uint32_t *last_gid)
{
    if (m->gid <= *last_gid || m->gid >= s->next_gid || state_bad_name(m->name) != NULL ||
        state_group_named(s, m->name) != NULL || m->epoch > s->epoch)
        return false;
    *last_gid = m->gid;
    state_add_group(s, m->gid, m->name)->epoch = m->epoch;
    return true;
}

static bool restore_node(struct cms_state *s, const Qsm__SnapNode *m, uint32_t *last_id)
{
    if (m->id <= *last_id || m->id > s->index || m->admit == NULL || m->n_want != m->n_gid ||
        m->n_have != m->n_gid || !ascending(m->gid, m->n_gid))
        return false;
    *last_id = m->id;
    struct cms_node *n = state_add_node(s, m->id, m->admit->name);
    n->address = m->admit->address;
    n->datagram_bytes = m->admit->datagram_bytes;
    n->rcvbuf_bytes = m->admit->rcvbuf_bytes;
    n->incarnation = m->admit->incarnation;
    n->wire_min = m->admit->wire_min;
    n->wire_max = m->admit->wire_max;
    n->announced = m->announced;
    n->expelled = m->expelled;
    s->node_count += m->expelled ? 0 : 1;
    s->expelled_count += m->expelled ? 1 : 0;
    for (size_t i = 0; i < m->n_gid; i++) {
        struct cms_group *g = state_group(s, m->gid[i]);
        if (g == NULL || m->want[i] > 3 || m->have[i] > 3 || (m->want[i] | m->have[i]) == 0)
            return false;
        state_add_row(s, n, g, (uint8_t)m->want[i], (uint8_t)m->have[i]);
    }
    return true;
}

static bool restore_region(struct cms_state *s, const Qsm__SnapRegion *m)
{
    uint32_t last = s->regions.count > 0 ? s->regions.list[s->regions.count - 1].rid : 0;
    if (m->rid <= last || m->rid >= s->regions.next_rid || m->n_group == 0 || m->n_member == 0 ||
        !ascending(m->group, m->n_group) || !ascending(m->member, m->n_member) ||
        m->epoch > s->epoch)
        return false;
    s->regions.list[s->regions.count++] = (struct region){
        .rid = m->rid,
        .epoch = m->epoch,
        .address = m->address,
        .datagram_bytes = m->datagram_bytes,
        .rcvbuf_bytes = m->rcvbuf_bytes,
        .ring_size = m->ring_size,
        .cache_replicas = m->cache_replicas,
        .ack_ranges = m->ack_ranges,
        .group_count = (uint32_t)m->n_group,
        .member_count = (uint32_t)m->n_member,
        .groups = mem_copy(m->group, m->n_group, sizeof *m->group),
        .members = mem_copy(m->member, m->n_member, sizeof *m->member),
    };
    return true;
}

static bool restore(struct cms_state *s, const Qsm__Snapshot *m)
{
    if (m->config == NULL || m->next_gid == 0 || m->next_rid == 0)
        return false;
    s->index = m->index;
    s->term = m->term;
    s->epoch = m->epoch;
    s->install_term = m->install_term;
    s->install_attempt = m->install_attempt;
    s->next_gid = m->next_gid;
    s->regions.next_rid = m->next_rid;
    s->config = (struct region_config){.multicast = m->config->multicast,
                                       .regions_max = m->config->regions_max,
                                       .ring_size = m->config->ring_size,
                                       .cache_replicas = m->config->cache_replicas,
                                       .ack_ranges = m->config->ack_ranges};
    uint32_t last = 0;
    for (size_t i = 0; i < m->n_group; i++) {
        if (!restore_group(s, m->group[i], &last))
            return false;
    }
    last = 0;
    for (size_t i = 0; i < m->n_node; i++) {
        if (!restore_node(s, m->node[i], &last))
            return false;
    }
    free(s->regions.list);
    s->regions.list = mem_new(m->n_region, sizeof *s->regions.list);
    for (size_t i = 0; i < m->n_region; i++) {
        if (!restore_region(s, m->region[i]))
            return false;
    }
    return true;
}

int log_restore(struct cms_state *s, const uint8_t *bytes, size_t count)
{
    Qsm__Snapshot *m = qsm__snapshot__unpack(NULL, count, bytes);
    if (m == NULL)
        return -EPROTO;
    bool good = restore(s, m);
    qsm__snapshot__free_unpacked(m, NULL);
    return good ? 0 : -EPROTO;
}
