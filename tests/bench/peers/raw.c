/* raw: what the kernel's multicast gives without a protocol, for the benchmark: datagrams of a
 * message each, and nobody repairs what gets lost; the sender is told by shared memory how far all
 * are. raw send|recv -m plain           sendmmsg and recvmmsg raw send|recv -m trains          UDP
 * GSO and GRO: up to 64 datagrams are one to the kernel raw send|recv -u SOCKET          an
 * application whose daemon is raw out|in -m trains -u SOCKET   one that takes its messages, or
 * gives it those that came: what qsmd would cost if it did nothing */
#include "run.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define GROUP "239.192.78.1"
#define PORT 7801
#define BATCH_MAX 64u /* messages; no more segments are certain to be taken as one */
#define TRAIN_BYTES 65000u
#define DATAGRAM_BYTES 65536u
#define TRAINS_MAX 16u /* at once, so that they stay in the cache */
#define STREAM_BYTES (256u << 10)
#define OUT_BYTES (1u << 20)
#define SOCKET_BYTES (32 << 20)
#define UNIX_BYTES (1 << 20)
#define LAST_TIMES 5
#define LAST_US 100000
#define CONNECT_TIMES 200
#define CONNECT_US 20000

static void check(int result, const char *what)
{
    if (result < 0)
        run_fail(what, strerror(errno));
}

/* ---- sockets */

static void buffers(int fd, int option, int forced, int bytes)
{
    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)) < 0)
        setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

static int socket_out(const struct run *r)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct in_addr own;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0;

    check(fd, "socket");
    buffers(fd, SO_SNDBUF, SO_SNDBUFFORCE, SOCKET_BYTES);
    inet_pton(AF_INET, r->address, &own);
    inet_pton(AF_INET, GROUP, &to.sin_addr);
    check(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof(own)), "IP_MULTICAST_IF");
    check(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof(off)), "IP_MULTICAST_LOOP");
    check(connect(fd, (struct sockaddr *)&to, sizeof(to)), "connect");
    return fd;
}

static bool has_trains(const struct run *r)
{
    return strcmp(r->mode, "trains") == 0;
}

static int socket_in(const struct run *r)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct ip_mreq group;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

    check(fd, "socket");
    buffers(fd, SO_RCVBUF, SO_RCVBUFFORCE, 2 * SOCKET_BYTES);
    inet_pton(AF_INET, GROUP, &at.sin_addr);
    group.imr_multiaddr = at.sin_addr;
    inet_pton(AF_INET, r->address, &group.imr_interface);
    check(bind(fd, (struct sockaddr *)&at, sizeof(at)), "bind");
    check(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)), "join");
    if (has_trains(r))
        check(setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)), "UDP_GRO");
    return fd;
}

static void unix_address(const struct run *r, struct sockaddr_un *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->sun_family = AF_UNIX;
    if (!r->socket || strlen(r->socket) >= sizeof(ret->sun_path))
        run_fail("socket", "no path, or too long a path");
    strcpy(ret->sun_path, r->socket);
}

/* The daemon's end; says ready when an application may come. */
static int unix_accept(const struct run *r)
{
    struct sockaddr_un at;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd, "socket");
    unix_address(r, &at);
    unlink(r->socket);
    check(bind(fd, (struct sockaddr *)&at, sizeof(at)), r->socket);
    check(listen(fd, 1), "listen");
    run_ready();
    int stream = accept(fd, NULL, NULL);
    check(stream, "accept");
    close(fd);
    buffers(stream, SO_SNDBUF, SO_SNDBUFFORCE, UNIX_BYTES);
    return stream;
}

static int unix_connect(const struct run *r)
{
    struct sockaddr_un to;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd, "socket");
    unix_address(r, &to);
    buffers(fd, SO_SNDBUF, SO_SNDBUFFORCE, UNIX_BYTES);
    for (int i = 0; connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0; i++) {
        if (i == CONNECT_TIMES)
            run_fail(r->socket, strerror(errno));
        usleep(CONNECT_US);
    }
    return fd;
}

/* Everything of the vector, which is used up. */
static void write_all(int fd, struct iovec *v, size_t count)
{
    struct msghdr m = {.msg_iov = v, .msg_iovlen = count};

    while (m.msg_iovlen > 0) {
        ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        check((int)(n < 0 ? -1 : 0), "write");
        size_t left = (size_t)n;
        while (m.msg_iovlen > 0 && left >= m.msg_iov->iov_len) {
            left -= m.msg_iov->iov_len;
            m.msg_iov++;
            m.msg_iovlen--;
        }
        if (m.msg_iovlen > 0) {
            m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + left;
            m.msg_iov->iov_len -= left;
        }
    }
}

/* ---- datagrams out */

static void send_train(int fd, char *data, size_t bytes, size_t segment)
{
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr aligned;
    } control;
    struct iovec v = {data, bytes};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

    if (bytes > segment) {
        memset(&control, 0, sizeof(control));
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        uint16_t size = (uint16_t)segment;
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(size));
        memcpy(CMSG_DATA(c), &size, sizeof(size));
    }
    check((int)sendmsg(fd, &m, 0), "sendmsg");
}

static void send_plain(int fd, char *data, unsigned count, size_t bytes)
{
    struct mmsghdr m[BATCH_MAX];
    struct iovec v[BATCH_MAX];

    memset(m, 0, sizeof(m));
    for (unsigned i = 0; i < count; i++) {
        v[i] = (struct iovec){data + i * bytes, bytes};
        m[i].msg_hdr.msg_iov = &v[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    for (unsigned sent = 0; sent < count;) {
        int n = sendmmsg(fd, m + sent, count - sent, 0);
        check(n, "sendmmsg");
        sent += (unsigned)n;
    }
}

static unsigned batch_of(const struct run *r)
{
    size_t fit = TRAIN_BYTES / r->bytes;

    if (r->rate > 0)
        return 1;
    return fit > BATCH_MAX ? BATCH_MAX : fit > 0 ? (unsigned)fit : 1;
}

static void transmit(const struct run *r, int fd, char *data, unsigned count)
{
    if (has_trains(r))
        send_train(fd, data, count * r->bytes, r->bytes);
    else
        send_plain(fd, data, count, r->bytes);
}

static void send_messages(struct run *r)
{
    int fd = socket_out(r);
    unsigned batch = batch_of(r), n;
    char *data = calloc(batch, r->bytes);

    if (!data)
        run_fail("send", "no memory");
    do {
        run_room(r, batch);
        for (n = 0; n < batch && run_next(r, data + n * r->bytes); n++)
            ;
        if (n > 0)
            transmit(r, fd, data, n);
    } while (!r->last);
    /* The last one tells the receivers that it is over, so it had better arrive. */
    for (int i = 0; i < LAST_TIMES; i++) {
        usleep(LAST_US);
        send_train(fd, data + (n - 1) * r->bytes, r->bytes, r->bytes);
    }
    run_stay(r);
}

/* Takes from the application what there is, and sends whole messages. */
static void relay_out(struct run *r)
{
    int fd = socket_out(r), stream = unix_accept(r);
    size_t have = 0,
           train = BATCH_MAX * r->bytes > TRAIN_BYTES ? TRAIN_BYTES : BATCH_MAX * r->bytes;
    char *data = malloc(OUT_BYTES);
    ssize_t got;

    if (!data)
        run_fail("out", "no memory");
    while ((got = recv(stream, data + have, OUT_BYTES - have, 0)) > 0) {
        size_t done = 0;
        have += (size_t)got;
        while (have - done >= r->bytes) {
            size_t bytes = have - done < train ? have - done : train;
            unsigned n = (unsigned)(bytes / r->bytes);
            run_room(r, n);
            transmit(r, fd, data + done, n);
            r->count += n;
            done += n * r->bytes;
        }
        have -= done;
        memmove(data, data + done, have);
    }
}

static void send_to_daemon(struct run *r)
{
    int fd = unix_connect(r);
    unsigned batch = batch_of(r), n;
    char *data = calloc(batch, r->bytes);

    if (!data)
        run_fail("send", "no memory");
    do {
        for (n = 0; n < batch && run_next(r, data + n * r->bytes); n++)
            ;
        struct iovec v = {data, n * r->bytes};
        write_all(fd, &v, 1);
    } while (!r->last);
    run_stay(r);
}

/* ---- datagrams in */

struct inbox {
    int fd;
    unsigned wanted; /* datagrams, or trains of them, at once */
    char *data;
    struct mmsghdr m[BATCH_MAX];
    struct iovec v[BATCH_MAX]; /* what came */
};

static void inbox_init(struct inbox *in, const struct run *r)
{
    memset(in, 0, sizeof(*in));
    in->fd = socket_in(r);
    in->wanted = BATCH_MAX;
    in->data = malloc((size_t)BATCH_MAX * DATAGRAM_BYTES);
    if (!in->data)
        run_fail("recv", "no memory");
}

/* Waits for datagrams; returns how many there are in in->v. */
static unsigned inbox_receive(struct inbox *in, const struct run *r)
{
    int n;

    do {
        for (unsigned i = 0; i < in->wanted; i++) {
            in->v[i] = (struct iovec){in->data + i * DATAGRAM_BYTES, DATAGRAM_BYTES};
            in->m[i].msg_hdr = (struct msghdr){.msg_iov = &in->v[i], .msg_iovlen = 1};
        }
        n = recvmmsg(in->fd, in->m, in->wanted, MSG_WAITFORONE, NULL);
    } while (n < 0 && errno == EINTR);
    check(n, "recvmmsg");
    in->wanted = BATCH_MAX;
    for (unsigned i = 0; i < (unsigned)n; i++) {
        in->v[i].iov_len = in->m[i].msg_len;
        if (in->m[i].msg_len > r->bytes)
            in->wanted = TRAINS_MAX;
    }
    return (unsigned)n;
}

/* Takes the whole messages of so many bytes; true after the last. */
static bool take_all(struct run *r, const char *data, size_t bytes, size_t *ret_taken)
{
    size_t at = 0;
    bool over = false;

    for (; bytes - at >= r->bytes && !over; at += r->bytes)
        over = run_take(r, data + at, r->bytes);
    *ret_taken = at;
    return over;
}

static void receive_messages(struct run *r)
{
    struct inbox in;
    bool over = false;
    size_t taken;

    inbox_init(&in, r);
    run_ready();
    while (!over) {
        unsigned n = inbox_receive(&in, r);
        for (unsigned i = 0; i < n && !over; i++)
            over = take_all(r, in.v[i].iov_base, in.v[i].iov_len, &taken);
        run_post(r, r->expected);
    }
}

/* Gives the application all that came at once. */
static void relay_in(struct run *r)
{
    struct inbox in;

    inbox_init(&in, r);
    int stream = unix_accept(r);
    for (;;) {
        unsigned n = inbox_receive(&in, r);
        const struct iovec *end = &in.v[n - 1];
        uint64_t expected = run_number((const char *)end->iov_base + (end->iov_len - r->bytes)) + 1;
        write_all(stream, in.v, n);
        run_post(r, expected);
    }
}

static void receive_from_daemon(struct run *r)
{
    int fd = unix_connect(r);
    size_t have = 0, taken;
    char *data = malloc(STREAM_BYTES);
    ssize_t got;

    if (!data)
        run_fail("recv", "no memory");
    run_ready();
    while ((got = recv(fd, data + have, STREAM_BYTES - have, 0)) > 0) {
        have += (size_t)got;
        if (take_all(r, data, have, &taken))
            return;
        have -= taken;
        memmove(data, data + taken, have);
    }
    run_fail("recv", got < 0 ? strerror(errno) : "the daemon is gone");
}

int main(int argc, char **argv)
{
    struct run r;

    run_begin(&r, argc, argv);
    if (strcmp(r.role, "out") == 0)
        relay_out(&r);
    else if (strcmp(r.role, "in") == 0)
        relay_in(&r);
    else if (strcmp(r.role, "send") == 0)
        r.socket ? send_to_daemon(&r) : send_messages(&r);
    else
        r.socket ? receive_from_daemon(&r) : receive_messages(&r);
    return 0;
}
