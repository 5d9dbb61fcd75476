/* vote_proxy: a message that a dead sender got through to one region only is fetched from there by
 * members of its group's other regions, as pieces that name origin, group and number. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "vote_proxy.h"

static void piece_free(struct pieces *list, struct piece *p)
{
    TAILQ_REMOVE(list, p, entry);
    buf_unref(p->body);
    free(p);
}

void vote_drop_pieces(struct vote *v)
{
    struct piece *p, *next;
    HASH_ITER (hh, v->kept, p, next) {
        HASH_DEL(v->kept, p);
        buf_unref(p->body);
        free(p);
    }
    while ((p = TAILQ_FIRST(&v->out)) != NULL) {
        piece_free(&v->out, p);
    }
    v->out_count = 0;
    struct fetch_num *f;
    while ((f = TAILQ_FIRST(&v->passed)) != NULL) {
        TAILQ_REMOVE(&v->passed, f, entry);
        free(f);
    }
    v->passed_count = 0;
    source_dry(v->ctx, &v->proxy_source);
}

/* ---- sending */

static bool build_passed(struct vote *v, struct fetch_num *f, struct datagram *ret)
{
    struct writer w;
    datagram_begin(v->ctx, ret, &w, WIRE_FETCH_NUM, f->address, false);
    wire_write_fetch_num(&w, &f->fetch);
    datagram_end(ret, &w);
    TAILQ_REMOVE(&v->passed, f, entry);
    v->passed_count--;
    free(f);
    return true;
}

/* The head of a piece goes into the datagram's head, its payload stays where it is. */
bool vote_build_proxy(void *ctx, struct datagram *ret)
{
    struct vote *v = ctx;
    struct fetch_num *f = TAILQ_FIRST(&v->passed);
    if (f != NULL) {
        return build_passed(v, f, ret);
    }
    struct piece *p = TAILQ_FIRST(&v->out);
    if (p == NULL) {
        source_dry(v->ctx, &v->proxy_source);
        return false;
    }
    struct writer w;
    datagram_begin(v->ctx, ret, &w, WIRE_PROXY, p->address, false);
    struct wire_proxy head = p->proxy;
    wire_write_proxy_head(&w, &head);
    datagram_end(ret, &w);
    ret->body = p->proxy.payload;
    ret->body_bytes = p->proxy.payload_bytes;
    ret->body_ref = buf_ref(p->body);
    v->ctx->stats.repairs_sent++;
    v->out_count--;
    piece_free(&v->out, p);
    return true;
}

static void queue_piece(struct vote *v, uint32_t address, const struct wire_proxy *proxy,
                        struct buf *body)
{
    if (v->out_count >= PROXY_QUEUE_MAX) {
        v->ctx->stats.repairs_over_budget++;
        return;
    }
    struct piece *p = context_alloc(1, sizeof *p);
    p->proxy = *proxy;
    p->body = buf_ref(body);
    p->address = address;
    TAILQ_INSERT_TAIL(&v->out, p, entry);
    v->out_count++;
    source_ready(v->ctx, &v->proxy_source);
}

/* "Who freed the body passes the request to the packet's cachers." */
static void pass_on(struct vote *v, const struct wire_fetch_num *f, const struct channel_in *ch,
                    uint64_t seq)
{
    const struct view *view = v->recv->view;
    uint32_t cachers[64];
    uint32_t count = view_cachers(view, ch->rank, seq, cachers, 64);
    for (uint32_t i = 0; i < count && v->passed_count < PROXY_QUEUE_MAX; i++) {
        uint32_t address = peers_address(v->peers, view->members[cachers[i]]);
        if (cachers[i] == v->recv->rank || address == 0) {
            continue;
        }
        struct fetch_num *p = context_alloc(1, sizeof *p);
        p->fetch = *f;
        p->address = address;
        context_mark(v->ctx, MARK_passed_numbers);
        TAILQ_INSERT_TAIL(&v->passed, p, entry);
        v->passed_count++;
        source_ready(v->ctx, &v->proxy_source);
    }
}

static bool wanted(const struct wire_fetch_num *f, uint64_t number, uint32_t index)
{
    return number >= f->first && number <= f->last && (number > f->first || index >= f->index);
}

/* Queues what a packet holds of the messages asked for. first: number of the first record of the
 * slot in it. */
static void serve_packet(struct vote *v, const struct wire_fetch_num *f, const struct packet *p,
                         uint32_t slot, uint64_t first, uint32_t address)
{
    struct reader rd = {.at = p->data, .end = p->data + p->bytes};
    uint64_t number = first;
    for (uint16_t i = 0; i < p->records; i++) {
        struct record rec;
        bool ok = wire_read_record(&rd, &rec);
        assert(ok);
        if (rec.slot != slot) {
            continue;
        }
        number = rec.number != 0 ? rec.number : number;
        for (uint32_t k = 0; k <= rec.more; k++, number++) {
            if (wanted(f, number, rec.index)) {
                struct wire_proxy proxy = {.epoch = f->epoch,
                                           .sender = f->sender,
                                           .group = f->group,
                                           .number = number,
                                           .index = rec.index,
                                           .count = rec.count,
                                           .payload = rec.payload + (size_t)k * rec.payload_bytes,
                                           .payload_bytes = rec.payload_bytes};
                queue_piece(v, address, &proxy, p->body);
            }
        }
    }
}

static struct piece *kept_find(const struct vote *v, uint32_t sender, uint32_t group,
                               uint64_t number, uint32_t index)
{
    struct piece_key key = {.number = number, .sender = sender, .group = group, .index = index};
    struct piece *p;
    HASH_FIND(hh, v->kept, &key, sizeof key, p);
    return p;
}

static void serve_kept(struct vote *v, const struct wire_fetch_num *f, uint32_t address)
{
    for (uint64_t n = f->first; v->kept != NULL && n <= f->last && n - f->first < FETCH_NUMBERS_MAX;
         n++) {
        const struct piece *p;
        uint32_t index = n == f->first ? f->index : 0;
        while ((p = kept_find(v, f->sender, f->group, n, index)) != NULL) {
            struct wire_proxy proxy = p->proxy;
            proxy.epoch = f->epoch;
            queue_piece(v, address, &proxy, p->body);
            if (++index == p->proxy.count) {
                break;
            }
        }
    }
}

static void serve_store(struct vote *v, const struct wire_fetch_num *f, struct channel_in *ch,
                        uint32_t slot, uint32_t address, bool passed)
{
    for (uint64_t q = ch->store.base + 1; q <= ch->prefix; q++) {
        const struct packet *p = store_find(&ch->store, q);
        for (uint16_t i = 0; p != NULL && i < p->mark_count; i++) {
            const struct mark *m = &packet_marks(p)[i];
            if (m->slot != slot || m->last < f->first || m->first > f->last) {
                continue;
            }
#ifndef MUTANT_first_piece_passed
            if (m->last == f->first && m->unit < f->index) {
                continue; /* who asks has these pieces of a large message */
            }
#endif
            if (p->body != NULL) {
                serve_packet(v, f, p, slot, m->first, address);
            } else if (!passed) {
                pass_on(v, f, ch, q);
                passed = true; /* it is asked again for what comes next */
            }
        }
    }
}

void vote_fetch_num(struct vote *v, const struct wire_fetch_num *f, uint32_t from)
{
    uint32_t address = peers_address(v->peers, f->requester);
    const struct view *view = v->recv->view;
    struct channel_in *ch = view != NULL ? recv_find(v->recv, f->sender) : NULL;
    if (f->epoch != v->ctx->epoch + 1 || address == 0 || f->requester == v->ctx->id || ch == NULL) {
        return;
    }
    uint32_t slot = 0;
    while (slot < view->group_count && view->groups[slot] != f->group) {
        slot++;
    }
    if (slot < view->group_count) {
        serve_store(v, f, ch, slot, address, from != f->requester);
    }
    serve_kept(v, f, address);
}

/* ---- receiving */

static void keep(struct vote *v, const struct wire_proxy *p)
{
    struct piece *k = context_alloc(1, sizeof *k);
    k->body = buf_copy(p->payload, p->payload_bytes);
    k->proxy = *p;
    k->proxy.payload = k->body->data;
    k->key = (struct piece_key){
        .number = p->number, .sender = p->sender, .group = p->group, .index = p->index};
    HASH_ADD(hh, v->kept, key, sizeof k->key, k);
}

/* Delivers what is next in turn, as far as it is there. */
static void deliver_kept(struct vote *v, struct cut_number *n, struct channel_in *ch)
{
    const struct stream *st = &ch->streams[n->slot];
    const struct piece *p;
    do {
        const struct partial *pa = &ch->partial;
        bool goes_on = pa->body != NULL && pa->slot == n->slot && pa->number == st->delivered + 1;
        p = kept_find(v, n->sender, n->group, st->delivered + 1, goes_on ? pa->next : 0);
    } while (p != NULL && st->delivered < n->number && recv_proxy(ch, n->slot, &p->proxy));
    if (st->delivered >= n->asked && st->delivered < n->number) { /* the next lot at once */
        v->next_number = 0;
        source_ready(v->ctx, &v->fetch_source);
    }
}

void vote_proxy(struct vote *v, const struct wire_proxy *p)
{
    if (!v->active || !v->cut_known || v->done || p->epoch != v->tag.epoch) {
        v->ctx->stats.packets_dropped_unknown++;
        return;
    }
    for (uint32_t i = 0; i < v->number_count; i++) {
        struct cut_number *n = &v->numbers[i];
        if (n->sender != p->sender || n->group != p->group || p->number > n->number) {
            continue;
        }
        struct channel_in *ch = recv_find(v->recv, p->sender);
        if (ch != NULL && p->number > ch->streams[n->slot].delivered &&
            p->number <= ch->streams[n->slot].delivered + FETCH_NUMBERS_MAX &&
            kept_find(v, p->sender, p->group, p->number, p->index) == NULL) {
            v->ctx->stats.repairs_from_flush++;
            if (view_rank(v->recv->view, n->holder) == VIEW_NO_RANK) {
                context_mark(v->ctx, MARK_dead_fetched);
            }
            keep(v, p);
            if (ch->prefix >= ch->limit) {
                deliver_kept(v, n, ch);
            }
        }
        return;
    }
    v->ctx->stats.packets_dropped_unknown++;
}
