/* client_rig: see client_rig.h. */
#include "client_rig.h"

#include <errno.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "frame.h"
#include "ipc.pb-c.h"
#include "qsmclient.h"

#define GRANT_BYTES 65536u
#define COST 16u

static char host_here[] = "here", refusal[] = "not for you"; /* protobuf-c only reads them */

/* ---- the daemon */

static void put_raw(struct daemon *d, const void *data, size_t bytes)
{
    const uint8_t *p = data;

    while (bytes > 0) {
        ssize_t n = send(d->fd, p, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        p += n;
        bytes -= (size_t)n;
    }
}

static void put_control(struct daemon *d, Qsm__ToClient__WhatCase what, void *body)
{
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    uint8_t bytes[4096];

    m.what_case = what;
    m.hello = body; /* all members of the union are pointers */
    size_t n = qsm__to_client__get_packed_size(&m);
    ck_assert_uint_le(n, sizeof(bytes) - FRAME_HEAD_BYTES);
    frame_write_head(bytes, 2, 0, n);
    qsm__to_client__pack(&m, bytes + FRAME_HEAD_BYTES);
    put_raw(d, bytes, n + FRAME_HEAD_BYTES);
}

static void say_grant(struct daemon *d, uint32_t id, uint64_t bytes)
{
    Qsm__Grant grant = QSM__GRANT__INIT;

    grant.id = id;
    grant.bytes = bytes;
    d->credit += bytes;
    put_control(d, QSM__TO_CLIENT__WHAT_GRANT, &grant);
}

static void take_open(struct daemon *d, const Qsm__OpenGroups *open)
{
    Qsm__Result result = QSM__RESULT__INIT;

    result.request = open->request;
    if (d->refuse_open) {
        result.error = -EACCES;
        result.text = refusal;
    }
    for (size_t i = 0; i < open->n_group && !d->refuse_open; i++) {
        Qsm__Member member = QSM__MEMBER__INIT;
        Qsm__Member *members[] = {&member};
        Qsm__ViewEvent view = QSM__VIEW_EVENT__INIT;
        member.node = 7;
        member.host = host_here;
        view.id = open->group[i]->id;
        view.epoch = 3;
        view.n_member = 1;
        view.member = members;
        if (open->group[i]->recv)
            put_control(d, QSM__TO_CLIENT__WHAT_VIEW, &view);
        if (open->group[i]->send)
            say_grant(d, open->group[i]->id, d->no_first_grant ? 0 : GRANT_BYTES);
    }
    put_control(d, QSM__TO_CLIENT__WHAT_RESULT, &result);
}

static void say_slow(struct daemon *d, uint32_t id)
{
    Qsm__EndEvent end = QSM__END_EVENT__INIT;

    end.id = id;
    end.why = QSM_END_SLOW;
    put_control(d, QSM__TO_CLIENT__WHAT_END, &end);
}

/* Takes back what is left and grants a little. */
static void say_revoke(struct daemon *d, uint32_t id)
{
    Qsm__Revoke revoke = QSM__REVOKE__INIT;

    d->revoked += d->credit;
    d->credit = 0;
    revoke.id = id;
    revoke.serial = ++d->serial;
    put_control(d, QSM__TO_CLIENT__WHAT_REVOKE, &revoke);
    say_grant(d, id, 1000);
}

static void take_control(struct daemon *d, const struct frame *f)
{
    Qsm__ToDaemon *m = qsm__to_daemon__unpack(NULL, f->payload_bytes, f->payload);
    Qsm__DaemonHello hello = QSM__DAEMON_HELLO__INIT;
    Qsm__NodeStatus status = QSM__NODE_STATUS__INIT;
    Qsm__Result result = QSM__RESULT__INIT;

    ck_assert_ptr_nonnull(m);
    switch (m->what_case) {
    case QSM__TO_DAEMON__WHAT_HELLO:
        hello.version = 1;
        hello.host = host_here;
        hello.admitted = true;
        put_control(d, QSM__TO_CLIENT__WHAT_HELLO, &hello);
        put_raw(d, d->say, d->say_bytes);
        if (d->stop_after_hello)
            shutdown(d->fd, SHUT_RDWR);
        break;
    case QSM__TO_DAEMON__WHAT_OPEN:
        take_open(d, m->open);
        break;
    case QSM__TO_DAEMON__WHAT_RETURNED:
        ck_assert_uint_eq(m->returned->serial, d->serial);
        d->revoked = 0;
        d->returned++;
        break;
    case QSM__TO_DAEMON__WHAT_CLOSE:
        if (d->end_on_close && m->close->group[0]->send)
            say_slow(d, m->close->group[0]->id);
        d->k = d->credit = 0;
        result.request = m->close->request;
        put_control(d, QSM__TO_CLIENT__WHAT_RESULT, &result);
        break;
    case QSM__TO_DAEMON__WHAT_ASK:
        status.request = m->ask->request;
        status.host = host_here;
        status.node_id = 7;
        put_control(d, QSM__TO_CLIENT__WHAT_STATUS, &status);
        break;
    default:
        ck_abort_msg("an unexpected request");
    }
    qsm__to_daemon__free_unpacked(m, NULL);
}

static void put_payloads(struct daemon *d, const Qsm__Submit *s, const struct frame *f)
{
    uint8_t gap[256];
    const uint8_t *at = f->payload;

    if (d->gap == 0) {
        put_raw(d, f->payload, f->payload_bytes);
        return;
    }
    ck_assert_uint_le(d->gap, sizeof(gap));
    memset(gap, 0xee, sizeof(gap));
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t bytes = s->bytes[frame_list_at(s->n_bytes, i)];
        put_raw(d, at, bytes);
        at += bytes;
        if (i + 1 < s->count)
            put_raw(d, gap, d->gap);
    }
}

/* What the frame says of its messages it says once, as the client did, or of each of them. */
static void echo(struct daemon *d, const Qsm__Submit *s, const struct frame *f)
{
    Qsm__Deliver deliver = QSM__DELIVER__INIT;
    uint32_t sender[64];
    uint64_t number[64], epoch[64];
    uint8_t head[4096];

    for (uint32_t i = 0; i < s->count; i++) {
        sender[i] = 7;
        number[i] = ++d->sent;
        epoch[i] = 3;
    }
    deliver.count = s->count;
    deliver.n_group = s->n_group;
    deliver.n_bytes = s->n_bytes;
    deliver.n_sender = deliver.n_number = deliver.n_epoch = d->frames % 2 ? 1 : s->count;
    deliver.group = s->group;
    deliver.bytes = s->bytes;
    deliver.sender = sender;
    deliver.number = number;
    deliver.epoch = epoch;
    deliver.gap = d->gap;
    size_t bytes = qsm__deliver__get_packed_size(&deliver);
    frame_write_head(head, 4, bytes, f->payload_bytes + (s->count - 1) * (size_t)d->gap);
    qsm__deliver__pack(&deliver, head + FRAME_HEAD_BYTES);
    put_raw(d, head, FRAME_HEAD_BYTES + bytes);
    put_payloads(d, s, f);
}

/* All that the daemon relies on; lists are not longer than they have to be. */
static void check_submit(const Qsm__Submit *s, const struct frame *f)
{
    uint32_t groups_differ = 0, bytes_differ = 0;
    size_t sum = 0;

    ck_assert_uint_le(s->count, FRAME_MESSAGES_MAX);
    ck_assert(frame_list_fits(s->n_group, s->count));
    ck_assert(frame_list_fits(s->n_bytes, s->count));
    for (size_t i = 0; i < s->n_group; i++)
        groups_differ |= s->group[i] ^ s->group[0];
    for (size_t i = 0; i < s->n_bytes; i++)
        bytes_differ |= s->bytes[i] ^ s->bytes[0];
    ck_assert(s->n_group <= 1 || groups_differ);
    ck_assert(s->n_bytes <= 1 || bytes_differ);
    for (uint32_t i = 0; i < s->count; i++)
        sum += s->bytes[frame_list_at(s->n_bytes, i)];
    ck_assert_uint_eq(sum, f->payload_bytes);
}

static void take_submit(struct daemon *d, const struct frame *f)
{
    Qsm__Submit *s = qsm__submit__unpack(NULL, f->header_bytes, f->header);
    Qsm__Completion completion = QSM__COMPLETION__INIT;
    ck_assert_ptr_nonnull(s);
    check_submit(s, f);
    if (s->count > d->frame_messages_max)
        d->frame_messages_max = s->count;
    d->frames++;
    uint64_t cost = f->payload_bytes + s->count * COST;
    ck_assert_uint_le(cost, d->revoked ? d->revoked : d->credit);
    *(d->revoked ? &d->revoked : &d->credit) -= cost;
    d->k += s->count;
    if (s->count > 0 && !d->mute) {
        echo(d, s, f);
        completion.id = s->group[0];
        completion.k = d->k;
        put_control(d, QSM__TO_CLIENT__WHAT_COMPLETION, &completion);
    }
    if (s->count > 0 && d->revokes > 0 && !d->revoked) {
        d->revokes--;
        say_revoke(d, s->group[0]);
    } else if (s->count > 0 && d->credit < GRANT_BYTES && !d->revoked && !d->no_first_grant)
        say_grant(d, s->group[0], GRANT_BYTES - d->credit);
    for (size_t i = 0; i < s->n_need; i++) {
        if (s->need[i]->bytes > d->credit)
            say_grant(d, s->need[i]->id, s->need[i]->bytes - d->credit);
    }
    if (d->drop_after && d->sent >= d->drop_after)
        shutdown(d->fd, SHUT_RDWR);
    qsm__submit__free_unpacked(s, NULL);
}

static void serve(struct daemon *d)
{
    for (;;) {
        struct frame f;
        long n;
        size_t done = 0;
        while ((n = frame_parse(d->in + done, d->have - done, &f)) > 0) {
            if (f.kind == 1)
                take_control(d, &f);
            else
                take_submit(d, &f);
            done += (size_t)n;
        }
        ck_assert_int_eq(n, 0);
        memmove(d->in, d->in + done, d->have - done);
        d->have -= done;
        ssize_t got = recv(d->fd, d->in + d->have, d->room - d->have, 0);
        if (got <= 0)
            return;
        d->have += (size_t)got;
    }
}

static void *daemon_main(void *arg)
{
    struct daemon *d = arg;

    while ((d->fd = accept(d->listener, NULL, NULL)) >= 0) {
        d->have = 0;
        d->credit = d->sent = d->k = 0;
        serve(d);
        close(d->fd);
    }
    return NULL;
}

void daemon_start(struct daemon *d)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(d->dir, "/tmp/qsm-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(d->dir));
    snprintf(d->path, sizeof(d->path), "%s/sock", d->dir);
    strcpy(address.sun_path, d->path);
    d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(d->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(d->listener, 4), 0);
    d->room = FRAME_BODY_MAX + (1u << 20);
    d->in = malloc(d->room);
    ck_assert_ptr_nonnull(d->in);
    ck_assert_int_eq(pthread_create(&d->thread, NULL, daemon_main, d), 0);
}

void daemon_stop(struct daemon *d)
{
    shutdown(d->listener, SHUT_RDWR);
    pthread_join(d->thread, NULL);
    close(d->listener);
    unlink(d->path);
    rmdir(d->dir);
    free(d->in);
}
