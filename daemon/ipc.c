/* ipc: see ipc.h. */
#include "ipc.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <bsd/sys/queue.h>
#include "log.h"
#include "clock.h"
#include "session.h"

#define INPUT_BYTES (128u * 1024) /* what a client's buffer holds unless a frame is larger */
#define SNDBUF_BYTES (1 << 20)
#define IOV_MAX_PER_CALL 256
#define BACKLOG 128
#define SOCKET_MODE 0660
#define CLOSE_SECONDS 2 /* a client that is to be closed has to take its output */

enum input { INPUT_IDLE, INPUT_READY, INPUT_STALLED };

/* A connection. */
struct peer {
    TAILQ_ENTRY(peer) entry;       /* all */
    TAILQ_ENTRY(peer) input_entry; /* to_read or stalled */
    TAILQ_ENTRY(peer) output_entry;
    struct ipc *ipc;
    struct client *client; /* the session's */
    int fd;
    struct event *readable, *writable;
    uint8_t *in; /* bytes start .. end - 1 are not consumed yet */
    size_t in_size, in_start, in_end;
    enum input input;  /* which list it is on */
    bool readable_now; /* the socket may have more */
    bool ended;        /* the client sends no more */
    bool failed;       /* what it sent was an error: write what can be, then close */
    bool close_after;  /* close once its output is written */
    bool blocked;      /* its socket is full */
    bool queued;       /* on to_write */
};

TAILQ_HEAD(peer_list, peer);

struct ipc {
    struct event_base *base; /* not owned */
    struct session *session; /* not owned */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int fd, spare; /* spare: given up for a moment when descriptors are out */
    bool acceptable;
    struct event *listener;
    struct peer_list all, to_read, stalled, to_write;
    struct ipc_counters counters;
};

static int fail(int error, char *text, size_t bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(int error, char *text, size_t bytes, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(text, bytes, format, args);
    va_end(args);
    return error;
}

/* ---- the callbacks only note */

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
    struct ipc *ipc = ctx;

    (void)fd;
    (void)what;
    ipc->acceptable = true;
}

/* Moves a peer to the end of a list. Who is stalled is not read from, nor polled. */
static void set_input(struct peer *p, enum input input)
{
    struct ipc *ipc = p->ipc;

    if (p->input == INPUT_READY) {
        TAILQ_REMOVE(&ipc->to_read, p, input_entry);
    } else if (p->input == INPUT_STALLED) {
        TAILQ_REMOVE(&ipc->stalled, p, input_entry);
        event_add(p->readable, NULL);
    }
    p->input = input;
    if (p->input == INPUT_READY) {
        TAILQ_INSERT_TAIL(&ipc->to_read, p, input_entry);
    } else if (p->input == INPUT_STALLED) {
        TAILQ_INSERT_TAIL(&ipc->stalled, p, input_entry);
        event_del(p->readable);
    }
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    struct peer *p = ctx;

    (void)fd;
    (void)what;
    p->readable_now = true;
    if (p->input == INPUT_IDLE)
        set_input(p, INPUT_READY);
}

static void queue_output(struct peer *p)
{
    if (p->queued || p->blocked)
        return;
    p->queued = true;
    TAILQ_INSERT_TAIL(&p->ipc->to_write, p, output_entry);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct peer *p = ctx;

    (void)fd;
    if (what & EV_TIMEOUT)
        p->failed = true; /* one more try, and then it is closed */
    p->blocked = false;
    queue_output(p);
}

/* ---- the listening socket */

/* A file at the path is removed only when it is a socket on which nobody answers. */
static int remove_stale(const struct sockaddr_un *name, char *error, size_t bytes)
{
    const char *path = name->sun_path;
    struct stat st;
    int fd, rc;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0
                               : fail(-errno, error, bytes, "socket %s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(-EEXIST, error, bytes, "socket %s: there is a file that is no socket", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(-errno, error, bytes, "cannot make a socket: %s", strerror(errno));
    rc = connect(fd, (const struct sockaddr *)name, sizeof(*name)) < 0 ? errno : 0;
    close(fd);
    if (rc == 0 || rc == EAGAIN)
        return fail(-EADDRINUSE, error, bytes, "socket %s: another qsmd answers there", path);
    if (rc != ECONNREFUSED)
        return fail(-rc, error, bytes, "socket %s: %s", path, strerror(rc));
    if (unlink(path) < 0)
        return fail(-errno, error, bytes, "socket %s: cannot remove the old one: %s", path,
                    strerror(errno));
    return 0;
}

static int bind_listener(struct ipc *ipc, char *error, size_t bytes)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    strcpy(name.sun_path, ipc->path);
    rc = remove_stale(&name, error, bytes);
    if (rc < 0)
        return rc;
    ipc->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ipc->fd < 0)
        return fail(-errno, error, bytes, "cannot make a socket: %s", strerror(errno));
    /* Nobody may connect in the moment between bind and chmod. */
    mask = umask(0777 & ~SOCKET_MODE);
    rc = bind(ipc->fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? errno : 0;
    umask(mask);
    if (rc == ENOENT)
        return fail(-rc, error, bytes, "socket %s: its directory does not exist", ipc->path);
    if (rc != 0 || listen(ipc->fd, BACKLOG) < 0) {
        rc = rc ? rc : errno;
        close(ipc->fd);
        ipc->fd = -1;
        return fail(-rc, error, bytes, "socket %s: %s", ipc->path, strerror(rc));
    }
    return 0;
}

int ipc_open(struct ipc **ret, struct event_base *base, struct session *session, const char *path,
             char *error, size_t error_bytes)
{
    struct ipc *ipc;
    int rc;

    *ret = NULL;
    if (strlen(path) >= sizeof(ipc->path))
        return fail(-ENAMETOOLONG, error, error_bytes, "socket %s: the path is too long", path);
    ipc = calloc(1, sizeof(*ipc));
    if (!ipc)
        return fail(-ENOMEM, error, error_bytes, "out of memory");
    strcpy(ipc->path, path);
    ipc->base = base;
    ipc->session = session;
    ipc->fd = -1;
    TAILQ_INIT(&ipc->all);
    TAILQ_INIT(&ipc->to_read);
    TAILQ_INIT(&ipc->stalled);
    TAILQ_INIT(&ipc->to_write);
    ipc->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    rc = bind_listener(ipc, error, error_bytes);
    if (rc < 0) {
        if (ipc->spare >= 0)
            close(ipc->spare);
        if (ipc->fd >= 0)
            close(ipc->fd);
        free(ipc);
        return rc;
    }
    ipc->listener = event_new(base, ipc->fd, EV_READ | EV_PERSIST, on_acceptable, ipc);
    assert(ipc->listener);
    event_add(ipc->listener, NULL);
    *ret = ipc;
    return 0;
}

void ipc_refuse(struct ipc *ipc)
{
    if (ipc->fd < 0)
        return;
    event_free(ipc->listener);
    close(ipc->fd);
    unlink(ipc->path);
    ipc->fd = -1;
    ipc->acceptable = false;
}

/* ---- connections come and go */

static void disconnect(struct peer *p, uint64_t now_us)
{
    struct ipc *ipc = p->ipc;

    session_disconnect(ipc->session, p->client, now_us);
    set_input(p, INPUT_IDLE);
    if (p->queued)
        TAILQ_REMOVE(&ipc->to_write, p, output_entry);
    TAILQ_REMOVE(&ipc->all, p, entry);
    event_free(p->readable);
    event_free(p->writable);
    close(p->fd);
    free(p->in);
    free(p);
}

static void welcome(struct ipc *ipc, int fd, uint64_t now_us)
{
    struct ucred who = {0};
    socklen_t length = sizeof(who);
    int error = 0, sndbuf = SNDBUF_BYTES;
    uint8_t refusal[SESSION_REFUSAL_BYTES];
    struct peer *p;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0) {
        close(fd);
        return;
    }
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
    p = calloc(1, sizeof(*p));
    assert(p);
    p->client = session_connect(ipc->session, who.uid, who.pid, now_us, &error);
    if (!p->client) {
        ipc->counters.refused++;
        log_debug("a client of uid %u, pid %d is refused: %s", who.uid, who.pid, strerror(-error));
        size_t bytes = session_refusal(ipc->session, error, refusal, sizeof(refusal));
        send(fd, refusal, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
        free(p);
        return;
    }
    ipc->counters.accepted++;
    client_set_data(p->client, p);
    p->ipc = ipc;
    p->fd = fd;
    p->readable = event_new(ipc->base, fd, EV_READ | EV_PERSIST, on_readable, p);
    p->writable = event_new(ipc->base, fd, EV_WRITE, on_writable, p);
    assert(p->readable && p->writable);
    event_add(p->readable, NULL);
    TAILQ_INSERT_TAIL(&ipc->all, p, entry);
    /* A client writes first, and has often done so by now. */
    p->readable_now = true;
    set_input(p, INPUT_READY);
}

static void accept_all(struct ipc *ipc, uint64_t end_us)
{
    while (ipc->acceptable && clock_now() < end_us) {
        int fd = accept4(ipc->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            welcome(ipc, fd, clock_now());
        } else if ((errno == EMFILE || errno == ENFILE) && ipc->spare >= 0) {
            /* A connection that is left waiting would wake us for ever: refuse it. */
            close(ipc->spare);
            fd = accept(ipc->fd, NULL, NULL);
            if (fd >= 0)
                close(fd);
            ipc->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
            ipc->counters.refused++;
            log_debug("a client is refused: no descriptor is left");
        } else if (errno != EINTR && errno != ECONNABORTED) {
            ipc->acceptable = false;
        }
    }
}

/* ---- input */

/* A buffer that a large message needed is not kept for the small ones. */
static void shrink(struct peer *p)
{
    free(p->in);
    p->in = NULL;
    p->in_size = p->in_start = p->in_end = 0;
}

/* Room behind what is there, for the rest of a frame that wants so many bytes in all. */
static void make_room(struct peer *p, size_t wants)
{
    size_t count = p->in_end - p->in_start;
    size_t size = wants > INPUT_BYTES ? wants : INPUT_BYTES;

    if (count == 0) {
        p->in_start = p->in_end = 0;
        if (p->in_size > INPUT_BYTES && size == INPUT_BYTES)
            shrink(p);
    } else if (p->in_start > 0 && (p->in_end == p->in_size || p->in_start + size > p->in_size)) {
        memmove(p->in, p->in + p->in_start, count);
        p->in_start = 0;
        p->in_end = count;
    }
    if (p->in_size < size) {
        p->in = realloc(p->in, size);
        assert(p->in);
        p->in_size = size;
    }
}

static void read_some(struct peer *p)
{
    size_t room = p->in_size - p->in_end;
    ssize_t n;

    assert(room > 0);
    n = recv(p->fd, p->in + p->in_end, room, 0);
    p->ipc->counters.recv_calls++;
    if (n > 0) {
        p->readable_now = (size_t)n == room;
        p->in_end += (size_t)n;
        p->ipc->counters.bytes_in += (uint64_t)n;
        return;
    }
    p->readable_now = n < 0 && errno == EINTR;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        p->ended = true;
}

static void fail_peer(struct peer *p)
{
    p->ipc->counters.malformed++;
    p->failed = true;
    set_input(p, INPUT_IDLE);
    event_del(p->readable);
    p->blocked = false;
    queue_output(p);
}

/* Gives the session what has arrived, and reads when that is not a whole frame. p may be gone
 * afterwards. */
static void serve(struct peer *p, uint64_t *work)
{
    uint64_t now_us = clock_now();
    size_t count = p->in_end - p->in_start, wants;
    long consumed = 0;

    if (count > 0)
        consumed = session_receive(p->client, p->in + p->in_start, count, now_us);
    if (consumed < 0) {
        fail_peer(p);
        return;
    }
    p->in_start += (size_t)consumed;
    *work += (uint64_t)consumed;
    count -= (size_t)consumed;
    if (consumed > 0) {
        set_input(p, INPUT_READY); /* at the end of the round */
        return;
    }
    wants = count > 0 ? session_wants(p->client, p->in + p->in_start, count) : 1;
    if (wants <= count) {
        p->ipc->counters.stalls += p->input != INPUT_STALLED;
        if (p->input != INPUT_STALLED)
            set_input(p, INPUT_STALLED);
        return;
    }
    if (p->ended) {
        disconnect(p, now_us);
        return;
    }
    if (!p->readable_now) {
        set_input(p, INPUT_IDLE);
        if (count == 0 && p->in_size > INPUT_BYTES)
            shrink(p);
        return;
    }
    make_room(p, wants);
    read_some(p);
    set_input(p, INPUT_READY);
}

bool ipc_receive(struct ipc *ipc, uint64_t end_us, uint64_t bytes, uint64_t *work)
{
    struct peer *p, *next;

    accept_all(ipc, end_us);
    /* What the session did not take may be welcome now; each is tried once in a turn. */
    TAILQ_FOREACH_SAFE (p, &ipc->stalled, input_entry, next)
        serve(p, work);
    while ((p = TAILQ_FIRST(&ipc->to_read)) != NULL && *work < bytes && clock_now() < end_us)
        serve(p, work);
    return !TAILQ_EMPTY(&ipc->to_read) || ipc->acceptable;
}

/* ---- output */

/* One call for what there is. p may be gone afterwards. */
static void write_some(struct peer *p, uint64_t now_us)
{
    static const struct timeval patience = {.tv_sec = CLOSE_SECONDS};
    struct iovec iov[IOV_MAX_PER_CALL];
    struct msghdr header = {.msg_iov = iov};
    struct ipc *ipc = p->ipc;
    size_t total = 0;
    ssize_t n = 0;
    int count = session_output(p->client, iov, IOV_MAX_PER_CALL);

    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    if (count > 0) {
        header.msg_iovlen = (size_t)count;
        n = sendmsg(p->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        ipc->counters.send_calls++;
    }
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        disconnect(p, now_us);
        return;
    }
    if (n > 0) {
        ipc->counters.bytes_out += (uint64_t)n;
        session_wrote(p->client, (size_t)n, now_us);
    }
    p->queued = false;
    TAILQ_REMOVE(&ipc->to_write, p, output_entry);
    if (count > 0 && (n < 0 || (size_t)n < total)) {
        ipc->counters.full++;
        if (p->failed) {
            disconnect(p, now_us);
            return;
        }
        p->blocked = true;
        event_add(p->writable, p->close_after ? &patience : NULL);
    } else if (count > 0 && session_output(p->client, iov, 1) > 0) {
        queue_output(p);
    } else if (p->failed || p->close_after) {
        disconnect(p, now_us);
    }
}

bool ipc_flush(struct ipc *ipc, uint64_t now_us)
{
    struct peer_list round;
    struct client *c;
    struct peer *p;
    bool close_after = false;

    while ((c = session_next(ipc->session, &close_after)) != NULL) {
        p = client_data(c);
        p->close_after = p->close_after || close_after;
        queue_output(p);
        close_after = false;
    }
    TAILQ_INIT(&round);
    TAILQ_CONCAT(&round, &ipc->to_write, output_entry);
    while ((p = TAILQ_FIRST(&round)) != NULL) {
        TAILQ_REMOVE(&round, p, output_entry);
        TAILQ_INSERT_HEAD(&ipc->to_write, p, output_entry);
        write_some(p, now_us);
    }
    return !TAILQ_EMPTY(&ipc->to_write);
}

bool ipc_pending(const struct ipc *ipc)
{
    const struct peer *p;

    TAILQ_FOREACH (p, &ipc->all, entry) {
        if (p->blocked || p->queued)
            return true;
    }
    return false;
}

void ipc_close(struct ipc *ipc, uint64_t now_us)
{
    struct peer *p;

    if (!ipc)
        return;
    while ((p = TAILQ_FIRST(&ipc->all)) != NULL)
        disconnect(p, now_us);
    ipc_refuse(ipc);
    if (ipc->spare >= 0)
        close(ipc->spare);
    free(ipc);
}

const struct ipc_counters *ipc_counters(const struct ipc *ipc)
{
    return &ipc->counters;
}
