/* checker_packet: what is promised about packets: S10 (who keeps a body how long), S11 (in order,
 * past nothing), and who holds a message, which S8 asks. */
#include "checker_model.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull; /* for printf */

/* Above this a number of a packet is taken for damage: it would cost memory. */
#define PACKETS_MAX (1u << 26)
#define NODE_IDS_MAX (1u << 20) /* likewise */

/* ---- bits */

bool bits_have(const struct bits *b, uint64_t i)
{
    return i / 64 < b->count && (b->words[i / 64] >> (i % 64) & 1);
}

void bits_set(struct bits *b, uint64_t i)
{
    if (i / 64 >= b->count) {
        size_t want = (size_t)(i / 64 + 1) * 2;
        b->words = realloc(b->words, want * sizeof(*b->words));
        assert(b->words);
        memset(b->words + b->count, 0, (want - b->count) * sizeof(*b->words));
        b->count = want;
    }
    b->words[i / 64] |= (uint64_t)1 << (i % 64);
}

void bits_clear(struct bits *b, uint64_t i)
{
    if (i / 64 < b->count)
        b->words[i / 64] &= ~((uint64_t)1 << (i % 64));
}

/* ---- finding */

static struct rview *rview_find(struct checker *c, uint64_t key)
{
    struct rview *v;
    HASH_FIND(hh, c->rviews, &key, sizeof(key), v);
    if (v)
        return v;
    v = calloc(1, sizeof(*v));
    assert(v);
    v->key = key;
    HASH_ADD(hh, c->rviews, key, sizeof(key), v);
    return v;
}

static struct channel *channel_find(struct rview *v, uint32_t sender)
{
    struct channel *ch;
    HASH_FIND(hh, v->channels, &sender, sizeof(sender), ch);
    if (ch)
        return ch;
    ch = calloc(1, sizeof(*ch));
    assert(ch);
    ch->sender = sender;
    HASH_ADD(hh, v->channels, sender, sizeof(sender), ch);
    return ch;
}

static struct holding *holding_seek(const struct channel *ch, uint32_t node)
{
    if (node >= ch->by_node_count || !ch->by_node[node])
        return NULL;
    return &ch->holdings[ch->by_node[node] - 1];
}

static void index_holding(struct channel *ch, uint32_t node)
{
    if (node >= ch->by_node_count) {
        uint32_t count = node + 64;
        ch->by_node = realloc(ch->by_node, count * sizeof(*ch->by_node));
        assert(ch->by_node);
        memset(ch->by_node + ch->by_node_count, 0,
               (count - ch->by_node_count) * sizeof(*ch->by_node));
        ch->by_node_count = count;
    }
    ch->by_node[node] = (uint32_t)ch->holding_count;
}

static struct holding *holding_find(struct channel *ch, uint32_t node)
{
    struct holding *h = holding_seek(ch, node);
    if (h)
        return h;
    ch->holdings =
        checker_grow(ch->holdings, ch->holding_count, &ch->holding_room, sizeof(*ch->holdings));
    h = &ch->holdings[ch->holding_count++];
    *h = (struct holding){.node = node};
    index_holding(ch, node);
    return h;
}

/* The channel, packet and saying node of a line. False: malformed, noted. */
struct packet_line {
    struct cnode *node;
    struct rview *view;
    struct channel *channel;
    struct holding *holding;
    uint64_t seq;
};

static bool read_packet(struct checker *c, struct line *l, uint32_t sender, struct packet_line *ret)
{
    ret->node = line_node(c, l);
    ret->seq = line_number(l, "q");
    uint64_t key = pair(line_id(l, "r"), line_number(l, "v"));
    if (ret->seq == 0 || ret->seq > PACKETS_MAX)
        l->bad = true;
    if (l->bad || !ret->node || ret->node->id > NODE_IDS_MAX)
        return false;
    ret->view = rview_find(c, key);
    ret->channel = channel_find(ret->view, sender);
    ret->holding = holding_find(ret->channel, ret->node->id);
    return true;
}

/* ---- events */

void on_rview(struct checker *c, struct line *l)
{
    struct rview *v = rview_find(c, pair(line_id(l, "r"), line_number(l, "ep")));
    if (v->known)
        violated(c, "S6", l, "the region view was installed before");
    free(v->members.list);
    v->members = line_ids(l, "m");
    v->known = true;
}

void on_pack(struct checker *c, struct line *l)
{
    struct packet_line p;
    struct cnode *n = line_node(c, l);
    uint32_t gid = line_id(l, "g");
    uint64_t number = line_number(l, "n");
    if (!n || !read_packet(c, l, n->id, &p))
        return;
    struct sent *m = sent_find(c, gid, n->id, number);
    if (!m || !m->epoch) {
        violated(c, "S1", l, "%llu was not sent", (ull)number);
        return;
    }
    m->packed = realloc(m->packed, (m->packed_count + 1) * sizeof(*m->packed));
    assert(m->packed);
    m->packed[m->packed_count++] = (struct packed){p.view->key, p.seq};
    struct channel *ch = p.channel;
    ch->endings =
        checker_grow(ch->endings, ch->ending_count, &ch->ending_room, sizeof(*ch->endings));
    ch->endings[ch->ending_count++] = (struct ending){p.seq, number, gid};
    if (ch->ending_count > 1 && ch->endings[ch->ending_count - 2].seq > p.seq)
        violated(c, "S3", l, "packet %llu after packet %llu", (ull)p.seq,
                 (ull)ch->endings[ch->ending_count - 2].seq);
}

void on_take(struct checker *c, struct line *l)
{
    struct packet_line p;
    if (!read_packet(c, l, line_id(l, "s"), &p))
        return;
    struct holding *h = p.holding;
    if (bits_have(&h->taken, p.seq))
        violated(c, "S2", l, "packet %llu of sender %u taken again", (ull)p.seq, p.channel->sender);
    bits_set(&h->taken, p.seq);
    bits_clear(&h->dropped, p.seq);
    while (bits_have(&h->taken, h->prefix + 1))
        h->prefix++;
}

void on_next(struct checker *c, struct line *l)
{
    struct packet_line p;
    if (!read_packet(c, l, line_id(l, "s"), &p))
        return;
    if (p.seq != p.holding->next + 1)
        violated(c, "S11", l, "packet %llu of sender %u after %llu", (ull)p.seq, p.channel->sender,
                 (ull)p.holding->next);
    else if (!bits_have(&p.holding->taken, p.seq))
        violated(c, "S11", l, "packet %llu of sender %u processed, but not there", (ull)p.seq,
                 p.channel->sender);
    p.holding->next = p.seq;
}

bool cnode_took(struct checker *c, const struct cnode *n, uint32_t sender, const struct sent *m)
{
    for (uint32_t i = 0; i < m->packed_count; i++) {
        struct channel *ch = channel_find(rview_find(c, m->packed[i].channel_view), sender);
        const struct holding *h = holding_seek(ch, n->id);
        if (h && h->prefix >= m->packed[i].seq && n->id != sender)
            return true; /* the sender itself delivers when it builds the packet */
    }
    return false;
}

/* ---- S10 */

/* A living member of the region view that does not have packet seq; 0: all do. */
static uint32_t who_lacks(struct checker *c, struct rview *v, struct channel *ch, uint64_t seq)
{
    for (size_t i = 0; i < v->members.count; i++) {
        struct cnode *n = cnode_find(c, v->members.list[i]);
        const struct holding *h = holding_seek(ch, n->id);
        if (cnode_lives(n) && !(h && bits_have(&h->taken, seq)))
            return n->id;
    }
    return 0;
}

/* Whether the messages that end in packet seq are stable in all regions of their groups, and the
 * packet in its own; otherwise says so. */
static void check_released(struct checker *c, struct line *l, struct packet_line *p)
{
    struct channel *ch = p->channel;
    if (bits_have(&ch->released, p->seq))
        return;
    uint32_t lacks = who_lacks(c, p->view, ch, p->seq);
    if (lacks) {
        violated(c, "S10", l, "packet %llu of sender %u freed as released, but node %u lacks it",
                 (ull)p->seq, ch->sender, lacks);
        return;
    }
    for (size_t i = ch->ending_count; i-- > 0 && ch->endings[i].seq >= p->seq;) {
        struct ending *e = &ch->endings[i];
        struct sent *m = e->seq == p->seq ? sent_find(c, e->gid, ch->sender, e->number) : NULL;
        for (uint32_t k = 0; m && k < m->packed_count; k++) {
            struct rview *v = rview_find(c, m->packed[k].channel_view);
            lacks = who_lacks(c, v, channel_find(v, ch->sender), m->packed[k].seq);
            if (lacks && !cnode_delivered(cnode_find(c, lacks), e->gid, ch->sender, e->number)) {
                violated(
                    c, "S10", l,
                    "packet %llu of sender %u freed as released, but node %u of another region "
                    "lacks message %llu in it",
                    (ull)p->seq, ch->sender, lacks, (ull)e->number);
                return;
            }
        }
    }
    bits_set(&ch->released, p->seq);
}

/* A sender counts packets as arrived at all members, so that its window opens: at that time each of
 * them that lives had them, be it that some were displaced since. */
void on_ahead(struct checker *c, struct line *l)
{
    struct packet_line p;
    uint64_t last = line_number(l, "n");
    if (!read_packet(c, l, line_id(l, "s"), &p) || last > PACKETS_MAX)
        return;
    for (uint64_t seq = p.seq; seq <= last; seq++) {
        for (size_t i = 0; i < p.view->members.count; i++) {
            struct cnode *n = cnode_find(c, p.view->members.list[i]);
            const struct holding *h = holding_seek(p.channel, n->id);
            if (!cnode_lives(n) ||
                (h && (bits_have(&h->taken, seq) || bits_have(&h->displaced, seq))))
                continue;
            violated(c, "S8", l,
                     "packet %llu of sender %u counted as arrived, but node %u lacks it", (ull)seq,
                     p.channel->sender, n->id);
            return;
        }
    }
}

/* The least number of cachers that a packet has, other than the sender: as many members of one
 * partition; partitions are of even size. */
static size_t cachers_least(const struct checker *c, const struct rview *v, uint32_t sender)
{
    size_t members = v->members.count, size = c->config.ring_size;
    size_t partitions = size ? (members + size - 1) / size : 1;
    size_t least = partitions ? members / partitions : 0;
    if (least && ids_have(&v->members, sender))
        least--;
    return least < c->config.replicas ? least : c->config.replicas;
}

/* All its cachers hold it, and they are others than this node and the sender: then at least so many
 * others took it and did not free it while they lived. */
static void check_cachers(struct checker *c, struct line *l, struct packet_line *p)
{
    struct channel *ch = p->channel;
    uint32_t held = 0;
    for (size_t i = 0; i < ch->holding_count; i++) {
        const struct holding *h = &ch->holdings[i];
        if (h->node != p->node->id && h->node != ch->sender && bits_have(&h->taken, p->seq) &&
            !bits_have(&h->dropped, p->seq))
            held++;
    }
    if (!p->view->known || bits_have(&ch->released, p->seq))
        return;
    size_t want = cachers_least(c, p->view, ch->sender);
    if (p->node->id == ch->sender)
        violated(c, "S10", l, "the origin frees packet %llu before it is released", (ull)p->seq);
    else if (held < want)
        violated(c, "S10", l, "packet %llu of sender %u freed, but only %u others hold it, not %zu",
                 (ull)p->seq, ch->sender, held, want);
}

void on_drop(struct checker *c, struct line *l)
{
    struct packet_line p;
    const char *why = line_text(l, "why");
    if (!read_packet(c, l, line_id(l, "s"), &p))
        return;
    struct holding *h = p.holding;
    if (!bits_have(&h->taken, p.seq) || bits_have(&h->dropped, p.seq))
        violated(c, "S10", l, "packet %llu of sender %u freed, but not held", (ull)p.seq,
                 p.channel->sender);
    bits_set(&h->dropped, p.seq);
    if (strcmp(why, "rel") == 0) {
        check_released(c, l, &p);
    } else if (strcmp(why, "cachers") == 0) {
        check_cachers(c, l, &p);
    } else if (strcmp(why, "full") == 0) {
        if (p.seq <= h->prefix)
            violated(c, "S10", l, "packet %llu of sender %u displaced, but it extends the prefix",
                     (ull)p.seq, p.channel->sender);
        bits_clear(&h->taken, p.seq);
        bits_clear(&h->dropped, p.seq);
        bits_set(&h->displaced, p.seq);
    } else if (strcmp(why, "install") == 0) {
        if (c->cms_seen && c->epoch <= (p.view->key & UINT32_MAX))
            violated(c, "S10", l, "freed by an install, but no epoch after %llu was installed",
                     (ull)(p.view->key & UINT32_MAX));
    } else if (strcmp(why, "cut") == 0) {
        if (c->cms_seen && !cnode_find(c, p.channel->sender)->expelled)
            violated(c, "S10", l, "freed as above the cut of sender %u, who was not expelled",
                     p.channel->sender);
    } else {
        violated(c, "S10", l, "unknown reason %s", why);
    }
}

void free_packets(struct checker *c)
{
    struct rview *v, *next;
    HASH_ITER (hh, c->rviews, v, next) {
        struct channel *ch, *next_ch;
        HASH_ITER (hh, v->channels, ch, next_ch) {
            for (size_t i = 0; i < ch->holding_count; i++) {
                free(ch->holdings[i].taken.words);
                free(ch->holdings[i].dropped.words);
                free(ch->holdings[i].displaced.words);
            }
            HASH_DEL(v->channels, ch);
            free(ch->holdings);
            free(ch->by_node);
            free(ch->endings);
            free(ch->released.words);
            free(ch);
        }
        HASH_DEL(c->rviews, v);
        free(v->members.list);
        free(v);
    }
}
