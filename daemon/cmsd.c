/* cmsd: qsm-cmsd. It moves bytes between the nodes' connections and core/cms, which decides, and
 * makes durable in the journal what it decided, before it acts on it. An fsync may block here: no
 * data passes through this process. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <bsd/sys/queue.h>
#include <uthash.h>
#include "clock.h"
#include "conf.h"
#include "core/cms.h"
#include "journal.h"
#include "log.h"
#include "options.h"
#include "trace.h"

#define EXIT_USAGE 2
#define BACKLOG 1024
#define READ_BYTES (64 * 1024)
#define READS_MAX 128             /* a socket holds less than so many buffers */
#define OUTPUT_BYTES (128 * 1024) /* of one link taken from the CMS in advance */
#define BATCH_ENTRIES 256         /* of one transaction */
#define SNAPSHOT_ENTRIES 1000     /* from one snapshot to the next */

/* A connection of a node. */
struct peer {
    UT_hash_handle hh;
    TAILQ_ENTRY(peer) input_entry;
    TAILQ_ENTRY(peer) output_entry;
    struct cmsd *cmsd;
    uint64_t id;
    int fd;
    struct event *readable, *writable;
    struct evbuffer *out;
    bool ready;  /* on to_read */
    bool queued; /* on to_write */
    bool blocked;
    const char *close_after; /* why, once out is empty */
};

TAILQ_HEAD(peer_list, peer);

struct cmsd {
    struct cmsd_conf conf;
    struct cms *cms;
    struct journal *journal;
    struct trace *trace;
    struct event_base *base;
    int listener;
    bool acceptable;
    struct event *accept, *alarm, *signals[2];
    struct peer *peers; /* by id */
    struct peer_list to_read, to_write;
    uint64_t last_peer;
    uint64_t now_us;        /* when this turn began, or its last entry was durable */
    const char *crash_step; /* debug crash_at: the step at which to die, NULL: none */
    unsigned long crash_count;
    uint64_t term, epoch; /* as last told to systemd */
    bool again, asked_to_stop, failed;
};

/* ---- the journal */

static int on_snapshot(void *ctx, uint64_t index, const uint8_t *bytes, size_t count)
{
    struct cmsd *d = ctx;

    return cms_restore(d->cms, index, bytes, count);
}

static int on_entry(void *ctx, uint64_t index, const uint8_t *bytes, size_t count)
{
    struct cmsd *d = ctx;

    return cms_replay(d->cms, index, bytes, count);
}

static void on_step(void *ctx, const char *name)
{
    struct cmsd *d = ctx;

    if (d->crash_step && strncmp(d->crash_step, name, strlen(name)) == 0 &&
        d->crash_step[strlen(name)] == ':' && --d->crash_count == 0)
        kill(getpid(), SIGKILL);
}

/* A log that can't be written ends us: what the CMS decides must not be acted upon. */
static void journal_failed(struct cmsd *d)
{
    log_error("%s", journal_error(d->journal));
    d->failed = true;
}

/* Makes one batch of what the CMS decided durable and lets it act; false: there was none. */
static bool append_batch(struct cmsd *d)
{
    struct journal_entry entries[BATCH_ENTRIES];
    size_t count = 0;

    while (count < BATCH_ENTRIES && cms_append_pull(d->cms, &entries[count].index,
                                                    &entries[count].bytes, &entries[count].count))
        count++;
    if (count == 0)
        return false;
    if (journal_append(d->journal, entries, count) < 0) {
        journal_failed(d);
        return false;
    }
    d->now_us = clock_now(); /* to make it durable takes time, of which view changes keep away */
    cms_appended(d->cms, entries[count - 1].index, d->now_us);
    trace_flush(d->trace);
    return true;
}

static void snapshot_when_due(struct cmsd *d)
{
    uint64_t index;
    uint8_t *bytes;
    size_t count;

    if (d->failed ||
        journal_last(d->journal) - journal_snapshot_index(d->journal) < SNAPSHOT_ENTRIES)
        return;
    bytes = cms_snapshot(d->cms, &index, &count);
    if (index > journal_snapshot_index(d->journal) &&
        journal_snapshot(d->journal, index, bytes, count) < 0)
        journal_failed(d);
    free(bytes);
}

static void append_all(struct cmsd *d)
{
    while (!d->failed && append_batch(d))
        continue;
    snapshot_when_due(d);
}

/* ---- connections */

static void set_ready(struct peer *p, bool ready)
{
    if (p->ready == ready)
        return;
    p->ready = ready;
    if (ready)
        TAILQ_INSERT_TAIL(&p->cmsd->to_read, p, input_entry);
    else
        TAILQ_REMOVE(&p->cmsd->to_read, p, input_entry);
}

static void set_queued(struct peer *p, bool queued)
{
    if (p->queued == queued)
        return;
    p->queued = queued;
    if (queued)
        TAILQ_INSERT_TAIL(&p->cmsd->to_write, p, output_entry);
    else
        TAILQ_REMOVE(&p->cmsd->to_write, p, output_entry);
}

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    set_ready(ctx, true);
}

static void on_writable(evutil_socket_t fd, short what, void *ctx)
{
    struct peer *p = ctx;

    (void)fd;
    (void)what;
    p->blocked = false;
    set_queued(p, true);
}

static void close_peer(struct peer *p, const char *why)
{
    struct cmsd *d = p->cmsd;

    log_debug("connection %" PRIu64 " is closed: %s", p->id, why);
    set_ready(p, false);
    set_queued(p, false);
    HASH_DEL(d->peers, p);
    event_add(d->accept, NULL); /* a descriptor is free again */
    cms_link_down(d->cms, p->id, d->now_us);
    event_free(p->readable);
    event_free(p->writable);
    evbuffer_free(p->out);
    close(p->fd);
    free(p);
}

static void welcome(struct cmsd *d, int fd)
{
    struct peer *p = calloc(1, sizeof(*p));
    int one = 1;

    assert(p);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    p->cmsd = d;
    p->id = ++d->last_peer;
    p->fd = fd;
    p->out = evbuffer_new();
    p->readable = event_new(d->base, fd, EV_READ | EV_PERSIST, on_readable, p);
    p->writable = event_new(d->base, fd, EV_WRITE, on_writable, p);
    assert(p->out && p->readable && p->writable);
    event_add(p->readable, NULL);
    HASH_ADD(hh, d->peers, id, sizeof(p->id), p);
    cms_link_up(d->cms, p->id, d->now_us);
    set_ready(p, true);
}

static void accept_all(struct cmsd *d)
{
    while (d->acceptable) {
        int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            welcome(d, fd);
        } else if (errno == EMFILE || errno == ENFILE) {
            /* It would wake us for ever; a node that is left waiting is looked at again when a
             * connection ends. */
            log_warning("no descriptor is left for another node");
            event_del(d->accept);
            d->acceptable = false;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            d->acceptable = false;
        }
    }
}

/* Reads a connection until it is empty, or more came than had been waiting. p may be gone
 * afterwards. */
static void read_peer(struct peer *p)
{
    uint8_t bytes[READ_BYTES];
    ssize_t n;

    set_ready(p, false);
    for (unsigned i = 0; i < READS_MAX; i++) {
        n = recv(p->fd, bytes, sizeof(bytes), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_peer(p, n < 0 ? strerror(errno) : "the node closed it");
            return;
        }
        if (cms_link_receive(p->cmsd->cms, p->id, bytes, (size_t)n, p->cmsd->now_us) < 0) {
            log_notice("connection %" PRIu64 " sent what does not parse", p->id);
            close_peer(p, "it is malformed");
            return;
        }
        if ((size_t)n < sizeof(bytes))
            return;
    }
}

/* Everything that waits in our sockets is taken: a node must not be judged silent for what we have
 * not read, after this process was stopped for a while. */
static void drain(struct cmsd *d)
{
    struct peer *p;

    accept_all(d);
    while ((p = TAILQ_FIRST(&d->to_read)) != NULL)
        read_peer(p);
}

/* Takes what the CMS has for one link, but not much more than the socket does: the same message
 * waits there for many. */
static void fetch_output(struct peer *p)
{
    struct evbuffer_iovec room;
    size_t n = 1;

    while (n > 0 && evbuffer_get_length(p->out) < OUTPUT_BYTES) {
        int count = evbuffer_reserve_space(p->out, READ_BYTES, &room, 1);

        assert(count == 1);
        n = cms_link_pull(p->cmsd->cms, p->id, room.iov_base, room.iov_len);
        room.iov_len = n;
        evbuffer_commit_space(p->out, &room, n > 0 ? 1 : 0);
    }
}

/* p may be gone afterwards. */
static void write_peer(struct peer *p)
{
    set_queued(p, false);
    for (;;) {
        int n;

        fetch_output(p);
        if (evbuffer_get_length(p->out) == 0)
            break;
        n = evbuffer_write(p->out, p->fd);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            p->blocked = true;
            event_add(p->writable, NULL);
            return;
        }
        if (n <= 0) {
            close_peer(p, strerror(errno));
            return;
        }
    }
    if (p->close_after)
        close_peer(p, p->close_after);
}

static void write_all(struct cmsd *d)
{
    struct peer *p;
    const char *close_after;
    uint64_t id;

    while (cms_link_next(d->cms, &id, &close_after)) {
        HASH_FIND(hh, d->peers, &id, sizeof(id), p);
        assert(p);
        if (close_after && !p->close_after)
            log_notice("connection %" PRIu64 " is to be closed: %s", p->id, close_after);
        p->close_after = close_after ? close_after : p->close_after;
        set_queued(p, !p->blocked);
    }
    while ((p = TAILQ_FIRST(&d->to_write)) != NULL)
        write_peer(p);
}

/* ---- the turn */

static void on_acceptable(evutil_socket_t fd, short what, void *ctx)
{
    struct cmsd *d = ctx;

    (void)fd;
    (void)what;
    d->acceptable = true;
}

static void on_alarm(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct cmsd *d = ctx;

    (void)what;
    d->asked_to_stop = true;
    log_notice("stopping on %s", strsignal((int)number));
}

static void tell_status(struct cmsd *d)
{
    if (d->term == cms_term(d->cms) && d->epoch == cms_epoch(d->cms))
        return;
    d->term = cms_term(d->cms);
    d->epoch = cms_epoch(d->cms);
    sd_notifyf(0, "STATUS=leading, term %" PRIu64 ", epoch %" PRIu64, d->term, d->epoch);
    log_debug("term %" PRIu64 ", epoch %" PRIu64, d->term, d->epoch);
}

static void arm(struct cmsd *d)
{
    uint64_t at_us = cms_deadline(d->cms), now_us = clock_now();
    struct timeval wait;

    d->again = at_us <= now_us;
    if (d->again || at_us == UINT64_MAX) {
        event_del(d->alarm);
        return;
    }
    wait.tv_sec = (time_t)((at_us - now_us) / 1000000);
    wait.tv_usec = (suseconds_t)((at_us - now_us) % 1000000);
    event_add(d->alarm, &wait);
}

/* What the sockets brought and the judgement of who is silent go by the time when the turn began: a
 * stop before they are drained makes nobody late, and nobody is heard after he is judged. */
static void turn(struct cmsd *d)
{
    d->now_us = clock_now();
    drain(d);
    cms_expire(d->cms, d->now_us);
    append_all(d);
    if (d->failed)
        return;
    write_all(d);
    tell_status(d);
    trace_flush(d->trace);
    arm(d);
}

static void run(struct cmsd *d)
{
    cms_lead(d->cms, d->now_us);
    turn(d);
    if (!d->failed)
        sd_notify(0, "READY=1");
    while (!d->asked_to_stop && !d->failed) {
        event_base_loop(d->base, EVLOOP_ONCE | (d->again ? EVLOOP_NONBLOCK : 0));
        turn(d);
    }
    sd_notify(0, "STOPPING=1");
}

/* ---- making the parts */

static void trace_of_cms(void *ctx, const char *line)
{
    struct cmsd *d = ctx;

    trace_line(d->trace, line);
}

static bool parse_crash_step(struct cmsd *d)
{
    const char *text = d->conf.debug_crash_at, *colon = strchr(text, ':');
    char *end;

    if (!text[0])
        return true;
    for (const char *const *name = journal_steps; colon && *name; name++) {
        if (strlen(*name) != (size_t)(colon - text) || strncmp(*name, text, strlen(*name)) != 0)
            continue;
        d->crash_step = text;
        d->crash_count = strtoul(colon + 1, &end, 10);
        if (*end == '\0' && d->crash_count > 0)
            return true;
    }
    log_error("debug crash_at \"%s\": not a step of the journal, a colon and a count", text);
    return false;
}

/* The CMS as the log has it; false: it can't be opened, and the log says why. */
static bool open_cms(struct cmsd *d)
{
    struct cms_config config = {
        .cluster = d->conf.cluster,
        .multicast = d->conf.multicast.address,
        .regions_max = d->conf.regions_max,
        .ring_size = d->conf.ring_size,
        .cache_replicas = d->conf.cache_replicas,
        .ack_ranges = d->conf.ack_ranges,
        .batch_us = d->conf.batch_ms * 1000,
        .silence_us = d->conf.silence_ms * 1000,
        .resume_us = d->conf.resume_ms * 1000,
        .progress_us = d->conf.progress_ms * 1000,
    };
    /* Entries above the mark were never acted upon, nor traced. */
    struct cms_upcalls upcalls = {d, d->trace ? trace_of_cms : NULL,
                                  journal_marked(d->conf.journal) + 1};
    struct journal_hooks hooks = {d, on_snapshot, on_entry, on_step};
    char error[512];

    d->now_us = clock_now();
    d->cms = cms_new(&config, &upcalls, d->now_us);
    if (journal_open(&d->journal, d->conf.journal, &hooks, error, sizeof(error)) == 0)
        return true;
    log_error("%s", error);
    return false;
}

static bool open_listener(struct cmsd *d)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET,
        .sin_port = htons(d->conf.listen.port),
        .sin_addr.s_addr = htonl(d->conf.listen.address),
    };
    int one = 1;

    d->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->listener >= 0 &&
        setsockopt(d->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        bind(d->listener, (struct sockaddr *)&name, sizeof(name)) == 0 &&
        listen(d->listener, BACKLOG) == 0)
        return true;
    log_error("listen %s:%u: %s", inet_ntoa(name.sin_addr), d->conf.listen.port, strerror(errno));
    return false;
}

static void make_events(struct cmsd *d)
{
    static const int numbers[] = {SIGTERM, SIGINT};

    d->base = event_base_new();
    assert(d->base);
    d->accept = event_new(d->base, d->listener, EV_READ | EV_PERSIST, on_acceptable, d);
    d->alarm = evtimer_new(d->base, on_alarm, d);
    assert(d->accept && d->alarm);
    event_add(d->accept, NULL);
    for (unsigned i = 0; i < 2; i++) {
        d->signals[i] = evsignal_new(d->base, numbers[i], on_signal, d);
        assert(d->signals[i]);
        event_add(d->signals[i], NULL);
    }
}

static bool start(struct cmsd *d)
{
    int rc;

    if (d->conf.debug_trace[0]) {
        rc = trace_open(&d->trace, d->conf.debug_trace, "cms");
        if (rc < 0) {
            log_error("debug trace %s: %s", d->conf.debug_trace, strerror(-rc));
            return false;
        }
    }
    /* The log first: its lock says whether another process serves it. */
    if (!parse_crash_step(d) || !open_cms(d) || !open_listener(d))
        return false;
    make_events(d);
    return true;
}

static void stop(struct cmsd *d)
{
    struct peer *p, *next;

    HASH_ITER (hh, d->peers, p, next)
        close_peer(p, "qsm-cmsd stops");
    if (d->base) {
        event_free(d->accept);
        event_free(d->alarm);
        for (unsigned i = 0; i < 2; i++)
            event_free(d->signals[i]);
        event_base_free(d->base);
    }
    if (d->listener >= 0)
        close(d->listener);
    journal_close(d->journal);
    cms_free(d->cms);
    trace_close(d->trace);
}

static void set_process_up(void)
{
    struct rlimit files;

    umask(0027);
    signal(SIGPIPE, SIG_IGN);
    /* A file that may not grow is an error of write, like a full disk. */
    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int serve(struct cmsd *d)
{
    bool started;

    set_process_up();
    started = start(d);
    if (started) {
        log_info("qsm-cmsd %s: the log has %" PRIu64 " entries, epoch %" PRIu64, QSM_VERSION,
                 journal_last(d->journal), cms_epoch(d->cms));
        trace_flush(d->trace);
        run(d);
        trace_flush(d->trace);
        log_info("stopped");
    }
    stop(d);
    return started && !d->failed ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Prints what the log makes of the cluster. */
static int dump_state(struct cmsd *d)
{
    int status = EXIT_FAILURE;
    char *text;

    /* Opening the log would make a new one. */
    if (access(d->conf.journal, F_OK) < 0)
        log_error("%s: %s", d->conf.journal, strerror(errno));
    else if (open_cms(d)) {
        text = cms_dump(d->cms);
        fputs(text, stdout);
        free(text);
        status = EXIT_SUCCESS;
    }
    stop(d);
    return status;
}

int main(int argc, char **argv)
{
    static const struct options_program program = {
        "qsm-cmsd", "The configuration management service: it knows which host is in which group.",
        CONF_CMSD_PATH, true};
    static struct cmsd self = {.listener = -1};
    const char *path;
    char *error = NULL;
    int status = EXIT_SUCCESS;
    enum options_action action = options_parse(argc, argv, &program, &path);

    if (action == OPTIONS_WRONG || action == OPTIONS_DONE)
        return action == OPTIONS_WRONG ? EXIT_USAGE : EXIT_SUCCESS;
    if (conf_load_cmsd(path, &self.conf, &error) < 0) {
        fprintf(stderr, "%s\n", error);
        free(error);
        return EXIT_FAILURE;
    }
    log_set_level(self.conf.log_level);
    TAILQ_INIT(&self.to_read);
    TAILQ_INIT(&self.to_write);
    if (action == OPTIONS_DUMP)
        conf_dump_cmsd(stdout, &self.conf);
    else if (action == OPTIONS_STATE)
        status = dump_state(&self);
    else if (action == OPTIONS_RUN)
        status = serve(&self);
    if ((action == OPTIONS_DUMP || action == OPTIONS_STATE) && !options_printed(&program))
        status = EXIT_FAILURE;
    conf_done_cmsd(&self.conf);
    return status;
}
