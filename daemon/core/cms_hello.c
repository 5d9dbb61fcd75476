/* cms_hello: who comes to the CMS, and how it is taken up: admission, resumption, refusal. */
#include <stdio.h>

#include "cms_core.h"
#include "cms_mem.h"
#include "name.h"
#include "wire_data.h"

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
#define GRAVES_MAX 4096
#define GRAVE_US 600000000  /* an expulsion counts so long */
#define REJOIN_WAIT_MS 5000 /* after the second; doubles */
#define REJOIN_WAIT_MAX_MS 300000

/* reason: static. */
static void refuse(struct cms *c, struct cms_link *l, const char *reason)
{
    char *copy = mem_string(reason);
    Qsm__Refused refused = QSM__REFUSED__INIT;
    refused.reason = copy;
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_REFUSED;
    m.refused = &refused;
    link_send(&c->links, l, &m);
    link_close(&c->links, l, reason);
    free(copy);
}

/* ---- the expelled */

static void drop_grave(struct cms *c, struct cms_grave *g)
{
    HASH_DELETE(hh, c->graves, g);
    free(g->key);
    free(g);
}

void hello_done(struct cms *c)
{
    struct cms_grave *g, *next;
    HASH_ITER (hh, c->graves, g, next)
        drop_grave(c, g);
}

/* The table is in the order of its last use, so that the first is the oldest. */
static struct cms_grave *find_grave(struct cms *c, const char *name, uint32_t address,
                                    uint64_t now_us)
{
    size_t bytes = strlen(name) + 16;
    char *key = mem_new(bytes, 1);
    snprintf(key, bytes, "%08x %s", address, name);
    struct cms_grave *g;
    HASH_FIND_STR(c->graves, key, g);
    if (g == NULL || now_us - g->told_us >= GRAVE_US) {
        if (g != NULL)
            drop_grave(c, g);
        if (HASH_COUNT(c->graves) >= GRAVES_MAX)
            drop_grave(c, c->graves);
        g = mem_new(1, sizeof *g);
        g->key = mem_string(key);
    } else {
        HASH_DELETE(hh, c->graves, g);
    }
    HASH_ADD_KEYPTR(hh, c->graves, g->key, strlen(g->key), g);
    free(key);
    return g;
}

/* How long an expelled node waits: not at all, then 5 s, 10 s, 20 s ... at most 5 minutes. */
static uint32_t rejoin_wait_ms(struct cms *c, const Qsm__Hello *hello, uint32_t node,
                               uint64_t now_us)
{
    struct cms_grave *g = find_grave(c, hello->name, hello->address, now_us);
    if (g->node != node) {
        g->count++;
        g->node = node;
    }
    g->told_us = now_us;
    if (g->count < 2)
        return 0;
    uint32_t shift = g->count - 2 < 6 ? g->count - 2 : 6;
    uint32_t wait = (uint32_t)REJOIN_WAIT_MS << shift;
    return wait < REJOIN_WAIT_MAX_MS ? wait : REJOIN_WAIT_MAX_MS;
}

void hello_expelled(struct cms *c, struct cms_link *l, uint32_t node, const char *why,
                    uint64_t now_us)
{
    char *copy = mem_string(why);
    Qsm__Expelled expelled = QSM__EXPELLED__INIT;
    expelled.reason = copy;
    expelled.wait_ms = rejoin_wait_ms(c, l->hello, node, now_us);
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_EXPELLED;
    m.expelled = &expelled;
    link_send(&c->links, l, &m);
    link_close(&c->links, l, "the node is expelled");
    l->node = 0;
    free(copy);
}

/* ---- the welcome ones */

/* Everything there is, for this node: one reference. For those that send nothing it is the same,
 * so that a thousand who start at once have it in memory once. */
static struct buf *full_for(struct cms *c, const struct cms_node *n)
{
    if (node_sends(n))
        return install_full(&c->state, n);
    if (c->full == NULL)
        c->full = install_full(&c->state, n);
    return c->full != NULL ? buf_ref(c->full) : NULL;
}

/* The node of this Hello talks on this link from now on. */
static void take_up(struct cms *c, struct cms_link *l, struct cms_node *n, uint64_t now_us)
{
    if (n->link != NULL && n->link != l) {
        n->link->node = 0;
        link_close(&c->links, n->link, "the node has a newer one");
    }
    n->link = l;
    l->node = n->id;
    Qsm__Welcome welcome = QSM__WELCOME__INIT;
    welcome.term = c->state.term;
    welcome.node_id = n->id;
    welcome.epoch = c->state.epoch;
    welcome.wire = CMS_WIRE_VERSION;
    Qsm__CmsToNode m = QSM__CMS_TO_NODE__INIT;
    m.what_case = QSM__CMS_TO_NODE__WHAT_WELCOME;
    m.welcome = &welcome;
    link_send(&c->links, l, &m);
    if (c->state.epoch > 0 && (l->hello->epoch != c->state.epoch || l->hello->node_id == 0)) {
        struct buf *install = full_for(c, n);
        if (l->hello->node_id != 0)
            cms_mark(c, MARK_full_install);
        link_put(&c->links, l, install);
        buf_unref(install);
    }
    suspect_linked(c, n, now_us);
    flush_linked(c, n, now_us);
}

/* A process that starts on a host where one is admitted already: that one is gone. */
static void replace_former(struct cms *c, const Qsm__Hello *m)
{
    for (struct cms_node *n = c->state.nodes; n != NULL; n = n->hh.next) {
        if (n->address == m->address && n->incarnation != m->incarnation &&
            strcmp(n->name, m->name) == 0)
            cms_expel(c, n, "restarted");
    }
}

/* The admission of this process that is on its way into the log already, or NULL. */
static struct cms_append *find_admission(struct cms *c, const Qsm__Hello *m)
{
    struct cms_append *a;
    TAILQ_FOREACH (a, &c->queue, entry) {
        if (a->kind == CMS_ADMIT && a->incarnation == m->incarnation && a->address == m->address)
            return a;
    }
    return NULL;
}

static void admit(struct cms *c, struct cms_link *l, uint64_t now_us)
{
    Qsm__Hello *hello = l->hello;
    struct cms_node *n =
        state_incarnation(&c->state, hello->name, hello->address, hello->incarnation);
    if (n != NULL && !n->expelling) {
        take_up(c, l, n, now_us);
        return;
    }
    l->admitting = true;
    struct cms_append *a = find_admission(c, hello);
    if (a != NULL) { /* asked on a link before this one */
        struct cms_link *former = link_find(&c->links, a->link);
        if (former != NULL)
            link_close(&c->links, former, "the node has a newer one");
        a->link = l->id;
        return;
    }
    replace_former(c, hello);
    Qsm__LogAdmit m = QSM__LOG_ADMIT__INIT;
    m.name = hello->name;
    m.address = hello->address;
    m.datagram_bytes = hello->datagram_bytes;
    m.rcvbuf_bytes = hello->rcvbuf_bytes;
    m.incarnation = hello->incarnation;
    m.wire_min = hello->wire_min;
    m.wire_max = hello->wire_max;
    size_t size;
    uint8_t *bytes = log_admit(&m, &size);
    a = cms_append(c, CMS_ADMIT, bytes, size);
    a->link = l->id;
    a->incarnation = hello->incarnation;
    a->address = hello->address;
}

void hello_admitted(struct cms *c, struct cms_link *l, uint32_t node, uint64_t now_us)
{
    struct cms_node *n = state_node(&c->state, node);
    l->admitting = false;
    if (l->closing != NULL)
        return;
    if (n == NULL) {
        refuse(c, l, "there are nodes_max (" TEXT_OF(CMS_NODES_MAX) ") nodes already");
        return;
    }
    if (n->expelling)
        link_close(&c->links, l, "the node is expelled"); /* it comes again, as another one */
    else
        take_up(c, l, n, now_us);
}

void hello_answer(struct cms *c, struct cms_link *l, uint64_t now_us)
{
    const Qsm__Hello *m = l->hello;
    bool lost = m->epoch > c->state.epoch;
#ifdef MUTANT_lost_log_served
    lost = false;
#endif
    if (lost) {
        /* Somebody lost the end of this log. Going on would make other views of the same epochs. */
        refuse(c, l, "the node has an epoch that is not in the log of this CMS");
        return;
    }
    if (m->node_id == 0) {
        admit(c, l, now_us);
        return;
    }
    struct cms_node *n = state_node(&c->state, m->node_id);
    if (n != NULL && n->expelling && !n->expelled)
        return; /* it hears of it when that is durable */
    if (n == NULL || n->expelled)
        hello_expelled(c, l, m->node_id, "this node is not a member any more", now_us);
    else
        take_up(c, l, n, now_us);
}

/* NULL, or why a node with this Hello can't be a node of this cluster. */
static const char *unacceptable(const struct cms *c, const Qsm__Hello *m)
{
    if (strcmp(m->cluster, c->config.cluster) != 0)
        return "the node belongs to another cluster";
    if (m->wire_min > CMS_WIRE_VERSION || m->wire_max < CMS_WIRE_VERSION)
        return "no common wire version: the cluster speaks version 1";
    if (!name_valid(m->name))
        return "name: not 1 to 255 bytes of printable UTF-8 without spaces";
    if (m->address == 0)
        return "address: missing";
    if (m->datagram_bytes < WIRE_DATAGRAM_MIN || m->datagram_bytes > WIRE_DATAGRAM_MAX)
        return "datagram_bytes: not between 548 and 8972";
    return NULL;
}

void hello_receive(struct cms *c, struct cms_link *l, const Qsm__Hello *m, uint64_t now_us)
{
    if (l->admitting)
        return; /* answered when the admission is durable */
    const char *wrong = unacceptable(c, m);
    if (wrong != NULL) {
        refuse(c, l, wrong);
        return;
    }
    size_t size = qsm__hello__get_packed_size(m);
    uint8_t *bytes = mem_new(size, 1);
    qsm__hello__pack(m, bytes);
    if (l->hello != NULL)
        qsm__hello__free_unpacked(l->hello, NULL);
    l->hello = qsm__hello__unpack(NULL, size, bytes);
    free(bytes);
    if (l->hello == NULL)
        abort();
    if (c->leading)
        hello_answer(c, l, now_us);
}
