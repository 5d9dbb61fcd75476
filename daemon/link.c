/* link: see link.h. A node that lost its connection must be back within 0.15 s, or the CMS takes it
 * for dead; so the first try after a loss comes at once and to the same server. */
#include "link.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "log.h"

#define BUFFER_BYTES (64 * 1024)
#define READS_MAX 16 /* buffers in one turn */
#define BACKOFF_MIN_US 50000u
#define BACKOFF_MAX_US 1000000u
#define SHORT_US 1000000u
#define CONNECT_US 2000000u /* a server that does not answer in this time is passed over */

enum state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

struct link {
    struct event_base *base;            /* not owned */
    struct node *node;                  /* not owned */
    const struct conf_servers *servers; /* not owned */
    uint32_t bind_address;
    enum state state;
    size_t server; /* index of the one that is connected or tried */
    int fd;
    struct event *readable, *writable;
    bool heard; /* there may be something to read */
    uint64_t at_us;      /* DOWN: when to try; CONNECTING: when to give up */
    uint64_t up_us;      /* since when it is UP */
    uint64_t backoff_us; /* the last pause between two tries; 0: none since a connection lasted */
    bool said;           /* the log knows that no server answers */
    size_t out_start, out_end;
    uint8_t in[BUFFER_BYTES], out[BUFFER_BYTES];
    char text[32];
    struct link_counters counters;
};

/* Only wakes the loop; link_receive and link_send act. */
static void on_ready(evutil_socket_t fd, short what, void *ctx)
{
    struct link *l = ctx;

    (void)fd;
    l->heard = l->heard || what & EV_READ;
}

struct link *link_new(struct event_base *base, struct node *node,
                      const struct conf_servers *servers, uint32_t bind_address)
{
    struct link *l = calloc(1, sizeof(*l));

    assert(l);
    assert(servers->count > 0);
    l->base = base;
    l->node = node;
    l->servers = servers;
    l->bind_address = bind_address;
    l->fd = -1;
    return l;
}

static void close_socket(struct link *l)
{
    if (l->readable)
        event_free(l->readable);
    if (l->writable)
        event_free(l->writable);
    if (l->fd >= 0)
        close(l->fd);
    l->readable = l->writable = NULL;
    l->fd = -1;
    l->out_start = l->out_end = 0;
    l->state = LINK_DOWN;
}

void link_free(struct link *l)
{
    if (!l)
        return;
    close_socket(l);
    free(l);
}

/* ---- connecting */

static void next_server(struct link *l, uint64_t now_us)
{
    l->server = (l->server + 1) % l->servers->count;
    l->at_us = now_us;
    /* One pause for each time that all were tried. */
    if (l->server == 0) {
        l->backoff_us = l->backoff_us ? l->backoff_us * 2 : BACKOFF_MIN_US;
        if (l->backoff_us > BACKOFF_MAX_US)
            l->backoff_us = BACKOFF_MAX_US;
    }
    if (l->backoff_us > 0)
        l->at_us = now_us + l->backoff_us / l->servers->count;
}

static void connect_failed(struct link *l, int error, uint64_t now_us)
{
    if (!l->said && l->server + 1 == l->servers->count)
        log_warning("no CMS server answers; the last one tried is %s: %s", link_server(l),
                    strerror(error));
    l->said = l->said || l->server + 1 == l->servers->count;
    close_socket(l);
    next_server(l, now_us);
}

/* elsewhere: this server is no good, try the next one. So is one that ends what it just took. */
static void connection_lost(struct link *l, const char *why, bool elsewhere, uint64_t now_us)
{
    bool short_lived = now_us - l->up_us < SHORT_US;

    log_notice("the connection to CMS server %s ended: %s", link_server(l), why);
    close_socket(l);
    node_link_down(l->node, now_us);
    if (!short_lived)
        l->backoff_us = 0;
    if (elsewhere || short_lived)
        next_server(l, now_us);
    else
        l->at_us = now_us;
}

static int open_socket(struct link *l)
{
    const struct conf_endpoint *server = &l->servers->server[l->server];
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(l->bind_address)};
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(server->port),
        .sin_addr.s_addr = htonl(server->address),
    };
    int one = 1;

    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return -errno;
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (l->bind_address != 0) {
        /* The kernel picks the port at connect, when it knows both ends. */
        setsockopt(l->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(l->fd, (struct sockaddr *)&from, sizeof(from)) < 0)
            return -errno;
    }
    if (connect(l->fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
        return -errno;
    l->readable = event_new(l->base, l->fd, EV_READ | EV_PERSIST, on_ready, l);
    l->writable = event_new(l->base, l->fd, EV_WRITE, on_ready, l);
    assert(l->readable && l->writable);
    event_add(l->writable, NULL);
    return 0;
}

static void start(struct link *l, uint64_t now_us)
{
    int rc;

    l->counters.connects++;
    rc = open_socket(l);
    if (rc < 0) {
        connect_failed(l, -rc, now_us);
        return;
    }
    l->state = LINK_CONNECTING;
    l->at_us = now_us + CONNECT_US;
}

/* Looks whether the connection stands by now. */
static void finish(struct link *l, uint64_t now_us)
{
    struct sockaddr_in peer;
    socklen_t peer_bytes = sizeof(peer), error_bytes = sizeof(int);
    int error = 0;

    getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes);
    if (error == 0 && getpeername(l->fd, (struct sockaddr *)&peer, &peer_bytes) < 0) {
        if (now_us < l->at_us)
            return;
        error = ETIMEDOUT;
    }
    if (error != 0) {
        connect_failed(l, error, now_us);
        return;
    }
    l->state = LINK_UP;
    l->up_us = now_us;
    l->said = false;
    l->counters.connected++;
    event_add(l->readable, NULL);
    log_info("connected to CMS server %s", link_server(l));
    node_link_up(l->node, now_us);
}

/* ---- bytes */

void link_receive(struct link *l, uint64_t now_us)
{
    if (l->state == LINK_CONNECTING)
        finish(l, now_us);
    if (!l->heard)
        return;
    l->heard = false;
    for (unsigned i = 0; l->state == LINK_UP && i < READS_MAX; i++) {
        ssize_t n = recv(l->fd, l->in, sizeof(l->in), 0);
        int rc;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            connection_lost(l, n < 0 ? strerror(errno) : "the server closed it", false, now_us);
            return;
        }
        l->counters.bytes_in += (uint64_t)n;
        rc = node_link_receive(l->node, l->in, (size_t)n, now_us);
        if (rc < 0) {
            l->counters.malformed++;
            connection_lost(l,
                            rc == -EMSGSIZE ? "it sent a message of more than 64 MiB"
                                            : "it sent what does not parse",
                            true, now_us);
            return;
        }
        if ((size_t)n < sizeof(l->in))
            return;
    }
}

/* Sends until the core has no more or the socket is full. */
static void send_pending(struct link *l, uint64_t now_us)
{
    for (;;) {
        ssize_t n;

        if (l->out_start == l->out_end) {
            l->out_start = 0;
            l->out_end = node_link_pull(l->node, l->out, sizeof(l->out), now_us);
            if (l->out_end == 0)
                return;
        }
        n = send(l->fd, l->out + l->out_start, l->out_end - l->out_start, MSG_NOSIGNAL);
        if (n >= 0) {
            l->out_start += (size_t)n;
            l->counters.bytes_out += (uint64_t)n;
        } else if (errno == EAGAIN) {
            event_add(l->writable, NULL);
            return;
        } else if (errno != EINTR) {
            connection_lost(l, strerror(errno), false, now_us);
            return;
        }
    }
}

void link_send(struct link *l, uint64_t now_us)
{
    bool reset = node_link_reset(l->node);

    if (reset && l->state == LINK_UP)
        connection_lost(l, *node_refusal(l->node) ? node_refusal(l->node) : "it does not answer",
                        true, now_us);
    if (l->state == LINK_DOWN && now_us >= l->at_us)
        start(l, now_us);
    else if (l->state == LINK_CONNECTING)
        finish(l, now_us);
    if (l->state == LINK_UP)
        send_pending(l, now_us);
}

uint64_t link_deadline(const struct link *l)
{
    return l->state == LINK_UP ? UINT64_MAX : l->at_us;
}

const char *link_server(struct link *l)
{
    const struct conf_endpoint *server = &l->servers->server[l->server];
    struct in_addr in = {htonl(server->address)};

    snprintf(l->text, sizeof(l->text), "%s:%u", inet_ntoa(in), server->port);
    return l->text;
}

bool link_connected(const struct link *l)
{
    return l->state == LINK_UP;
}

bool link_pending(const struct link *l)
{
    return l->state == LINK_UP && l->out_start < l->out_end;
}

const struct link_counters *link_counters(const struct link *l)
{
    return &l->counters;
}
