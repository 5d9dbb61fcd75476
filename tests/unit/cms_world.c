/* cms_world: a CMS with scripted nodes and a journal in memory (cms_world.h). */
#include "cms_world.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

static void on_trace(void *ctx, const char *line)
{
    struct world *w = ctx;
    size_t bytes = strlen(line);
    if (w->trace_bytes + bytes + 2 > w->trace_room) {
        w->trace_room = 2 * (w->trace_room + bytes + 2);
        w->trace = realloc(w->trace, w->trace_room);
    }
    memcpy(w->trace + w->trace_bytes, line, bytes);
    memcpy(w->trace + w->trace_bytes + bytes, "\n", 2);
    w->trace_bytes += bytes + 1;
}

static struct cms *make_cms(const struct world *w, struct world *traced)
{
    struct cms_upcalls up = {.ctx = traced, .trace = traced != NULL ? on_trace : NULL};
    return cms_new(&w->config, &up, w->now_us);
}

struct world *world_new_sized(uint32_t regions_max)
{
    struct world *w = calloc(1, sizeof *w);
    w->config = (struct cms_config){.cluster = "test",
                                    .multicast = 0xefc04d00,
                                    .regions_max = regions_max,
                                    .ring_size = 25,
                                    .cache_replicas = 5,
                                    .ack_ranges = 3,
                                    .batch_us = 50000,
                                    .silence_us = 1500000,
                                    .resume_us = 150000,
                                    .progress_us = 2000000};
    w->now_us = 1000000;
    w->ping_us = w->now_us + 500000;
    w->cms = make_cms(w, w);
    cms_lead(w->cms, w->now_us);
    world_settle(w);
    world_run(w, 5000001); /* past the grace of a new leader */
    return w;
}

struct world *world_new(void)
{
    return world_new_sized(256);
}

static void keep_last(Qsm__CmsToNode **slot, Qsm__CmsToNode *m)
{
    if (*slot != NULL)
        qsm__cms_to_node__free_unpacked(*slot, NULL);
    *slot = m;
}

void world_free(struct world *w)
{
    cms_free(w->cms);
    for (size_t i = 0; i < w->log_count; i++)
        free(w->log[i].bytes);
    for (int i = 0; i < w->peer_count; i++) {
        struct world_peer *p = &w->peers[i];
        Qsm__CmsToNode **slots[] = {&p->refused, &p->expelled, &p->answer,
                                    &p->prep,    &p->cut,      &p->install};
        for (size_t k = 0; k < sizeof slots / sizeof slots[0]; k++)
            keep_last(slots[k], NULL);
        free(p->in);
        parts_reset(&p->parts);
    }
    free(w->log);
    free(w->trace);
    free(w);
}

/* ---- peers */

void world_say(struct world *w, struct world_peer *p, const Qsm__NodeToCms *m)
{
    size_t size = qsm__node_to_cms__get_packed_size(m);
    uint8_t *frame = malloc(FRAME_HEAD_BYTES + size);
    frame_write_head(frame, 1, 0, size);
    qsm__node_to_cms__pack(m, frame + FRAME_HEAD_BYTES);
    /* cut in the middle, as a stream may be */
    size_t half = (FRAME_HEAD_BYTES + size) / 2;
    ck_assert_int_eq(cms_link_receive(w->cms, p->link, frame, half, w->now_us), 0);
    ck_assert_int_eq(
        cms_link_receive(w->cms, p->link, frame + half, FRAME_HEAD_BYTES + size - half, w->now_us),
        0);
    free(frame);
}

void world_link(struct world *w, struct world_peer *p)
{
    p->link = ++w->next_link;
    p->closed = false;
    p->in_count = 0;
    parts_reset(&p->parts);
    cms_link_up(w->cms, p->link, w->now_us);
    char cluster[] = "test";
    Qsm__Hello hello = QSM__HELLO__INIT;
    hello.cluster = cluster;
    hello.name = p->name;
    hello.address = p->address;
    hello.datagram_bytes = 1472;
    hello.rcvbuf_bytes = 4000000 + p->address;
    hello.wire_min = hello.wire_max = 1;
    hello.node_id = p->id;
    hello.incarnation = p->incarnation;
    hello.epoch = p->epoch;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_HELLO;
    m.hello = &hello;
    world_say(w, p, &m);
}

struct world_peer *world_add(struct world *w)
{
    ck_assert_int_lt(w->peer_count, WORLD_PEERS_MAX);
    struct world_peer *p = &w->peers[w->peer_count++];
    snprintf(p->name, sizeof p->name, "host%d", w->peer_count);
    p->address = 0x0a000000 + (uint32_t)w->peer_count;
    p->incarnation = 1000 + (uint64_t)w->peer_count;
    world_link(w, p);
    world_settle(w);
    return p;
}

void world_cut(struct world *w, struct world_peer *p)
{
    if (p->link == 0)
        return;
    cms_link_down(w->cms, p->link, w->now_us);
    p->link = 0;
}

void world_want(struct world *w, struct world_peer *p, uint64_t request, const char *names,
                unsigned mode)
{
    Qsm__Change list[32], *pointers[32];
    char copy[1024], *save = NULL;
    Qsm__Changes changes = QSM__CHANGES__INIT;
    snprintf(copy, sizeof copy, "%s", names);
    changes.request = request;
    changes.change = pointers;
    for (char *name = strtok_r(copy, " ", &save); name != NULL; name = strtok_r(NULL, " ", &save)) {
        qsm__change__init(&list[changes.n_change]);
        list[changes.n_change].name = name;
        list[changes.n_change].recv = mode & 1;
        list[changes.n_change].send = mode & 2 ? 1 : 0;
        pointers[changes.n_change] = &list[changes.n_change];
        changes.n_change++;
    }
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_CHANGES;
    m.changes = &changes;
    world_say(w, p, &m);
}

static void report(struct world *w, struct world_peer *p, const Qsm__Prep *prep)
{
    Qsm__ChannelAt at[64], *boundary[64], *heard[64];
    size_t used = 0;
    Qsm__Report message = QSM__REPORT__INIT;
    message.tag = prep->tag;
    message.boundary = boundary;
    message.heard = heard;
    message.voided = p->voided;
    for (size_t i = 0; i < prep->n_region && p->boundary > 0; i++) {
        qsm__channel_at__init(&at[used]);
        at[used].rid = prep->region[i];
        at[used].seq = p->boundary;
        boundary[message.n_boundary++] = &at[used++];
    }
    for (size_t i = 0; i < prep->n_dead && p->heard > 0; i++) {
        qsm__channel_at__init(&at[used]);
        at[used].sender = prep->dead[i];
        at[used].rid = prep->region[0];
        at[used].seq = p->heard;
        heard[message.n_heard++] = &at[used++];
    }
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_REPORT;
    m.report = &message;
    /* in two parts, as a long one */
    message.more = true;
    world_say(w, p, &m);
    message.more = false;
    message.n_boundary = 0;
    if (!p->half)
        world_say(w, p, &m);
}

static void vote(struct world *w, struct world_peer *p, Qsm__Tag *tag)
{
    Qsm__Done done = QSM__DONE__INIT;
    done.tag = tag;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_DONE;
    m.done = &done;
    world_say(w, p, &m);
}

static void say_result(struct world *w, struct world_peer *p, uint64_t probe, bool alive)
{
    Qsm__ProbeResult result = QSM__PROBE_RESULT__INIT;
    result.probe = probe;
    result.alive = alive;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_PROBE_RESULT;
    m.probe_result = &result;
    world_say(w, p, &m);
}

static void answer_probe(struct world *w, struct world_peer *p, uint64_t probe)
{
    p->probe_count++;
    if (p->probes > 0)
        say_result(w, p, probe, true);
    if (p->probes >= 0)
        return;
    for (int i = 0; i < WORLD_NOES_MAX; i++) {
        if (p->noes[i].probe != 0)
            continue;
        p->noes[i].probe = probe;
        p->noes[i].at_us = w->now_us + WORLD_NO_US;
        return;
    }
    ck_abort_msg("too many probes at once");
}

/* Takes the message over. */
static void peer_receive(struct world *w, struct world_peer *p, Qsm__CmsToNode *m)
{
    bool mute = p->silent;
    switch (m->what_case) {
    case QSM__CMS_TO_NODE__WHAT_WELCOME:
        p->id = m->welcome->node_id;
        p->term = m->welcome->term;
        break;
    case QSM__CMS_TO_NODE__WHAT_REFUSED:
        keep_last(&p->refused, m);
        return;
    case QSM__CMS_TO_NODE__WHAT_EXPELLED:
        keep_last(&p->expelled, m);
        return;
    case QSM__CMS_TO_NODE__WHAT_ANSWER:
        p->answer_count++;
        keep_last(&p->answer, m);
        return;
    case QSM__CMS_TO_NODE__WHAT_PREP:
        p->prep_count++;
        keep_last(&p->prep, m);
        ck_assert_uint_eq(m->prep->previous, p->epoch);
        if (!mute && !p->no_report && m->prep->tag->attempt != p->left)
            report(w, p, m->prep);
        return;
    case QSM__CMS_TO_NODE__WHAT_CUT:
        keep_last(&p->cut, m);
        if (!mute && !p->no_vote && m->cut->tag->attempt != p->left)
            vote(w, p, m->cut->tag);
        return;
    case QSM__CMS_TO_NODE__WHAT_INSTALL:
        ck_assert(m->install->full || m->install->previous == p->epoch);
        p->install_count++;
        p->full_count += m->install->full ? 1 : 0;
        p->epoch = m->install->tag->epoch;
        keep_last(&p->install, m);
        return;
    case QSM__CMS_TO_NODE__WHAT_PROBE:
        if (!mute)
            answer_probe(w, p, m->probe->probe);
        break;
    default:
        break;
    }
    qsm__cms_to_node__free_unpacked(m, NULL);
}

static void peer_parse(struct world *w, struct world_peer *p)
{
    size_t done = 0;
    struct frame f;
    long size;
    while (p->link != 0 && (size = frame_parse(p->in + done, p->in_count - done, &f)) > 0) {
        const uint8_t *bytes;
        size_t count;
        ck_assert(f.kind == 2 || f.kind == PARTS_KIND);
        int whole = parts_take(&p->parts, &f, &bytes, &count);
        ck_assert_int_ge(whole, 0);
        done += (size_t)size;
        p->largest_frame = (size_t)size > p->largest_frame ? (size_t)size : p->largest_frame;
        if (whole == 0)
            continue;
        Qsm__CmsToNode *m = qsm__cms_to_node__unpack(NULL, count, bytes);
        parts_reset(&p->parts);
        ck_assert_ptr_nonnull(m);
        peer_receive(w, p, m);
    }
    p->in_count -= done;
    memmove(p->in, p->in + done, p->in_count);
}

/* ---- turning */

static bool move_entries(struct world *w)
{
    uint64_t index, last = 0;
    const uint8_t *entry;
    size_t size;
    if (w->journal_stuck)
        return false;
    while (cms_append_pull(w->cms, &index, &entry, &size)) {
        ck_assert_uint_eq(index, w->log_count + 1);
        w->log = realloc(w->log, (w->log_count + 1) * sizeof *w->log);
        w->log[w->log_count].bytes = malloc(size + 1);
        memcpy(w->log[w->log_count].bytes, entry, size);
        w->log[w->log_count++].size = size;
        last = index;
    }
    if (last > 0)
        cms_appended(w->cms, last, w->now_us);
    return last > 0;
}

static struct world_peer *peer_of(struct world *w, uint64_t link)
{
    for (int i = 0; i < w->peer_count; i++) {
        if (w->peers[i].link == link)
            return &w->peers[i];
    }
    return NULL;
}

static bool move_bytes(struct world *w)
{
    uint64_t link;
    const char *close;
    if (!cms_link_next(w->cms, &link, &close))
        return false;
    struct world_peer *p = peer_of(w, link);
    uint8_t piece[777];
    size_t count;
    while ((count = cms_link_pull(w->cms, link, piece, sizeof piece)) > 0) {
        if (p == NULL)
            continue;
        if (p->in_count + count > p->in_room) {
            p->in_room = 2 * (p->in_room + count);
            p->in = realloc(p->in, p->in_room);
        }
        memcpy(p->in + p->in_count, piece, count);
        p->in_count += count;
    }
    if (p != NULL)
        peer_parse(w, p);
    if (close != NULL) {
        cms_link_down(w->cms, link, w->now_us);
        if (p != NULL) {
            p->link = 0;
            p->closed = true;
        }
    }
    return true;
}

void world_settle(struct world *w)
{
    while (move_entries(w) || move_bytes(w))
        ;
}

static void ping(struct world *w, struct world_peer *p)
{
    Qsm__Ping message = QSM__PING__INIT;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_PING;
    m.ping = &message;
    world_say(w, p, &m);
    if (p->stuck_of == 0 || p->prep == NULL)
        return;
    Qsm__Stuck stuck = QSM__STUCK__INIT;
    stuck.tag = p->prep->prep->tag;
    stuck.n_of = 1;
    stuck.of = &p->stuck_of;
    m.what_case = QSM__NODE_TO_CMS__WHAT_STUCK;
    m.stuck = &stuck;
    world_say(w, p, &m);
}

/* When the next answer is due; says those that are. */
static uint64_t say_noes(struct world *w)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < w->peer_count * WORLD_NOES_MAX; i++) {
        struct world_peer *p = &w->peers[i / WORLD_NOES_MAX];
        int k = i % WORLD_NOES_MAX;
        if (p->noes[k].probe == 0)
            continue;
        if (p->noes[k].at_us > w->now_us) {
            next = p->noes[k].at_us < next ? p->noes[k].at_us : next;
            continue;
        }
        if (p->link != 0 && !p->silent)
            say_result(w, p, p->noes[k].probe, false);
        p->noes[k].probe = 0;
    }
    return next;
}

void world_run(struct world *w, uint64_t us)
{
    uint64_t end = w->now_us + us, before = 0;
    int turns = 0;
    for (;;) {
        world_settle(w);
        uint64_t next = say_noes(w), due = cms_deadline(w->cms);
        next = next < w->ping_us ? next : w->ping_us;
        next = next < due ? next : due;
        if (next > end)
            break;
        w->now_us = next > w->now_us ? next : w->now_us;
        if (w->now_us >= w->ping_us) {
            w->ping_us += 500000;
            for (int i = 0; i < w->peer_count; i++) {
                if (w->peers[i].link != 0 && !w->peers[i].silent)
                    ping(w, &w->peers[i]);
            }
        }
        cms_expire(w->cms, w->now_us);
        world_settle(w);
        turns = w->now_us == before ? turns + 1 : 0;
        before = w->now_us;
        ck_assert_int_lt(turns, 10); /* no spinning */
    }
    w->now_us = end;
}

/* ---- dying */

char *world_replay_dump(const struct world *w, size_t entries, size_t snapshot_at)
{
    struct cms *c = make_cms(w, NULL);
    for (size_t i = 0; i < entries; i++) {
        ck_assert_int_eq(cms_replay(c, i + 1, w->log[i].bytes, w->log[i].size), 0);
        if (i + 1 != snapshot_at)
            continue;
        uint64_t index;
        size_t size;
        uint8_t *snapshot = cms_snapshot(c, &index, &size);
        ck_assert_uint_eq(index, snapshot_at);
        cms_free(c);
        c = make_cms(w, NULL);
        ck_assert_int_eq(cms_restore(c, index, snapshot, size), 0);
        free(snapshot);
    }
    char *dump = cms_dump(c);
    cms_free(c);
    return dump;
}

void world_restart(struct world *w, bool snapshot)
{
    uint64_t index = 0;
    size_t size;
    uint8_t *bytes = snapshot ? cms_snapshot(w->cms, &index, &size) : NULL;
    cms_free(w->cms);
    w->cms = make_cms(w, w);
    if (bytes != NULL)
        ck_assert_int_eq(cms_restore(w->cms, index, bytes, size), 0);
    free(bytes);
    for (size_t i = index; i < w->log_count; i++)
        ck_assert_int_eq(cms_replay(w->cms, i + 1, w->log[i].bytes, w->log[i].size), 0);
    for (int i = 0; i < w->peer_count; i++)
        w->peers[i].link = 0;
    w->journal_stuck = false;
    cms_lead(w->cms, w->now_us);
    world_settle(w);
}

/* ---- looking */

const Qsm__Region *world_region(const struct world_peer *p)
{
    if (p->install == NULL)
        return NULL;
    const Qsm__Install *install = p->install->install;
    for (size_t i = 0; i < install->n_region; i++) {
        for (size_t k = 0; k < install->region[i]->n_member; k++) {
            if (install->region[i]->member[k] == p->id)
                return install->region[i];
        }
    }
    return NULL;
}

bool world_traced(const struct world *w, const char *line)
{
    size_t bytes = strlen(line);
    for (const char *at = w->trace; at != NULL && (at = strstr(at, line)) != NULL; at++) {
        if ((at == w->trace || at[-1] == '\n') && at[bytes] == '\n')
            return true;
    }
    return false;
}
