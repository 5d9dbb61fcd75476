/* loop: see loop.h. The order within a turn follows the paper's figure 8: first everything that the
 * network brought, by rank of its class, then timers, then the clients' requests, then as many
 * datagrams as the sockets take. The paper had no quantum for requests and starved its timers. */
#include "loop.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include "clock.h"
#include "conf.h"
#include "core/histogram.h"
#include "core/timer.h"
#include "ipc.h"
#include "link.h"
#include "log.h"
#include "session.h"
#include "trace.h"
#include "udp.h"

#define IO_QUANTUM_US 50000u /* receiving from the network */
#define LOAD_EVERY_US 100000
#define DATA_QUANTUM_US 2000u   /* receiving data before control is looked at again */
#define DATA_QUANTUM_BYTES (1u << 20)
#define TIMER_QUANTUM_US 5000u /* timers that are due */
#define CLIENT_QUANTUM_US 5000u /* requests of clients */
#define CLIENT_QUANTUM_BYTES (CACHED_BYTES / 2) /* which is copied twice before it leaves */
#define PULL_QUANTUM_US 5000u /* filling the sockets */
/* What comes in, from the network or from clients, goes on before it is out of the processor's
 * cache. */
#define CACHED_BYTES (256u << 10)
#define STOP_US 1500000u
/* At most so often the MTU is read and memory that is not needed is freed; no turn is made for it.
 */
#define MTU_US 1000000u
#define TRIM_US 25000000u /* twice that, and memory is back to idle: in 60 s */
/* When turns follow each other closely and each finds little, the next one waits a little, so that
 * it finds more: a wakeup costs more than a copy. */
#define BUSY_TURNS 8u      /* in a row before that begins */
#define BUSY_GAP_US 200u   /* an idle time that ends the row */
#define BUSY_DATAGRAMS 64u /* a turn that moved more has not found little */
#define BUSY_BYTES 65536u  /* the same, of clients */
#define BUSY_WAIT_MAX_US 200u

/* X(name, what it counts) */
#define LOOP_COUNTERS(X)                                                                           \
    X(turns, "turns of the loop")                                                                  \
    X(wakeups, "turns that came after a sleep")                                                    \
    X(waits, "turns put off so that they find more to do")                                         \
    X(quantum_io, "turns in which the network used up its quantum")                                \
    X(quantum_timers, "turns in which timers used up theirs")                                      \
    X(quantum_clients, "turns in which the clients used up theirs")                                \
    X(quantum_pull, "turns in which sending used up its quantum")                                  \
    X(turn_max_us, "longest turn")                                                                 \
    X(moves, "changes of the multicast address listened to")                                       \
    X(moves_failed, "such changes that the kernel refused")

/* X(name, what takes so long): microseconds */
#define LOOP_HISTOGRAMS(X)                                                                         \
    X(turn_us, "a turn of the loop: what comes meanwhile waits at most so long to be looked at")   \
    X(lag_us, "what was due at a time, until a turn began after it")

struct loop {
    struct loop_config config;
    struct event_base *base;
    struct event *readable[UDP_SOCKETS], *writable[NET_CLASSES], *alarm, *signals[2];
    int alarm_fd; /* a timerfd */
    struct ipc *ipc;
    struct link *link;
    bool ready[UDP_SOCKETS]; /* may have datagrams */
    bool again;              /* the turn left something to do */
    bool asked_to_stop, stopping;
    uint64_t stop_at_us;
    uint64_t due_us;      /* when the next turn is: the deadline as of the last one */
    uint64_t armed_at_us; /* when the alarm goes off: then or before */
    uint64_t load_us; /* when the node is told next how full its socket is */
    uint64_t now_us;  /* as of this turn's present step */
    uint64_t turn_ended_us, datagrams, client_bytes; /* datagrams, bytes: of this turn */
    uint64_t landed; /* bytes of datagrams, since data was begun with */
    unsigned busy_turns;
    uint64_t mtu_at_us, trim_at_us;
    uint32_t refused_address; /* that could not be listened to, said once */
    bool linked, refused;     /* what was last told of the CMS */
    uint32_t node_id;
    uint64_t epoch;
    struct {
#define X(name, text) uint64_t name;
        LOOP_COUNTERS(X)
#undef X
    } counters;
#define X(name, text) struct histogram name;
    LOOP_HISTOGRAMS(X)
#undef X
};

/* ---- libevent's callbacks: they only note */

static void on_readable(evutil_socket_t fd, short what, void *ctx)
{
    bool *ready = ctx;

    (void)fd;
    (void)what;
    *ready = true;
}

static void on_wakeup(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
}

static void on_alarm(evutil_socket_t fd, short what, void *ctx)
{
    struct loop *l = ctx;
    uint64_t times;

    (void)what;
    if (read(fd, &times, sizeof(times)) > 0)
        l->armed_at_us = TIMER_NEVER;
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    struct loop *l = ctx;

    (void)what;
    l->asked_to_stop = true;
    log_notice("stopping on %s", strsignal((int)number));
}

/* ---- a loop's life */

static void make_events(struct loop *l)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    struct udp *udp = l->config.udp;

    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++) {
        l->readable[s] = event_new(l->base, udp_descriptor(udp, s), EV_READ | EV_PERSIST,
                                   on_readable, &l->ready[s]);
        assert(l->readable[s]);
        /* Nothing arrives at the one that only sends data. */
        if (s != UDP_DATA)
            event_add(l->readable[s], NULL);
    }
    for (enum net_class net = 0; net < NET_CLASSES; net++) {
        l->writable[net] =
            event_new(l->base, udp_descriptor(udp, udp_sender(net)), EV_WRITE, on_wakeup, NULL);
        assert(l->writable[net]);
    }
    for (unsigned i = 0; i < 2; i++) {
        l->signals[i] = evsignal_new(l->base, numbers[i], on_signal, l);
        assert(l->signals[i]);
        event_add(l->signals[i], NULL);
    }
    l->alarm = event_new(l->base, l->alarm_fd, EV_READ | EV_PERSIST, on_alarm, l);
    assert(l->alarm);
    event_add(l->alarm, NULL);
}

static bool on_loopback(uint32_t address)
{
    return address >> 24 == 127;
}

int loop_open(struct loop **ret, const struct loop_config *config, char *error, size_t error_bytes)
{
    struct loop *l = calloc(1, sizeof(*l));
    uint32_t address = udp_address(config->udp);
    int rc;

    *ret = NULL;
    assert(l);
    l->config = *config;
    l->base = event_base_new();
    assert(l->base);
    l->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->due_us = TIMER_NEVER;
    if (l->alarm_fd < 0) {
        rc = -errno;
        snprintf(error, error_bytes, "no timer: %s", strerror(errno));
        loop_close(l);
        return rc;
    }
    l->armed_at_us = TIMER_NEVER;
    l->now_us = clock_now();
    rc = ipc_open(&l->ipc, l->base, config->session, config->conf->socket, error, error_bytes);
    if (rc < 0) {
        loop_close(l);
        return rc;
    }
    /* Daemons that share one host by addresses of lo are told apart in what they do by TCP, too. */
    l->link = link_new(
        l->base, config->node, &config->conf->cms,
        on_loopback(address) && on_loopback(config->conf->cms.server[0].address) ? address : 0);
    make_events(l);
    *ret = l;
    return 0;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

void loop_close(struct loop *l)
{
    if (!l)
        return;
    ipc_close(l->ipc, clock_now());
    link_free(l->link);
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++)
        free_event(l->readable[s]);
    for (enum net_class net = 0; net < NET_CLASSES; net++)
        free_event(l->writable[net]);
    for (unsigned i = 0; i < 2; i++)
        free_event(l->signals[i]);
    free_event(l->alarm);
    if (l->alarm_fd >= 0)
        close(l->alarm_fd);
    event_base_free(l->base);
    free(l);
}

/* ---- datagrams out */

/* Pulls datagrams down to the lowest class given, as long as their sockets take them. */
static void pull(struct loop *l, enum net_class lowest)
{
    uint64_t end_us = l->now_us + PULL_QUANTUM_US;
    struct datagram d;
    unsigned count = 0;
    int room = udp_room(l->config.udp);

    while (room >= 0) {
        if (room > (int)lowest)
            room = (int)lowest;
        if (!node_pull(l->config.node, (enum net_class)room, &d, l->now_us))
            break;
        /* A kill -9 comes at any moment: what others can know of must be in the trace. */
        trace_flush(l->config.trace);
        if (udp_put(l->config.udp, &d))
            room = udp_room(l->config.udp);
        if (++count % UDP_BATCH != 0)
            continue;
        l->now_us = clock_now();
        if (l->now_us >= end_us) {
            l->counters.quantum_pull++;
            l->again = true;
            break;
        }
    }
    udp_flush(l->config.udp);
    l->datagrams += count;
    for (enum net_class net = 0; net < NET_CLASSES; net++) {
        if (udp_blocked(l->config.udp, net))
            event_add(l->writable[net], NULL);
    }
}

/* ---- datagrams in */

static void on_datagram(void *ctx, enum net_class net, const uint8_t *data, size_t bytes,
                        struct buf *landing)
{
    struct loop *l = ctx;

    l->landed += bytes;
    node_receive(l->config.node, net, data, bytes, landing, l->now_us);
}

/* One call; true: the socket has more. */
static bool receive_batch(struct loop *l, enum udp_socket s)
{
    unsigned n;

    l->now_us = clock_now();
    n = udp_receive(l->config.udp, s, on_datagram, l, &l->ready[s]);
    l->datagrams += n;
    return l->ready[s];
}

/* Control and repair until empty; control is looked at first after each batch of repairs. */
static void drain_urgent(struct loop *l, uint64_t end_us)
{
    enum udp_socket s = UDP_CONTROL;

    while (s <= UDP_REPAIR_GROUP && l->now_us < end_us) {
        if (!l->ready[s]) {
            s++;
        } else if (receive_batch(l, s) && s >= UDP_REPAIR) {
            l->ready[UDP_CONTROL] = l->ready[UDP_CONTROL_GROUP] = true;
            s = UDP_CONTROL;
        }
    }
}

/* Data for one quantum; true: there is more. */
static bool drain_data(struct loop *l)
{
    uint64_t end_us = l->now_us + DATA_QUANTUM_US, passed_on = 0;

    l->landed = 0;
    while (l->ready[UDP_DATA_GROUP] && l->landed < DATA_QUANTUM_BYTES && l->now_us < end_us) {
        if (receive_batch(l, UDP_DATA_GROUP) && l->landed - passed_on >= CACHED_BYTES) {
            trace_flush(l->config.trace);
            ipc_flush(l->ipc, l->now_us);
            passed_on = l->landed;
        }
    }
    return l->ready[UDP_DATA_GROUP];
}

/* Before the socket is drained: whether this host keeps up with the data. */
static void tell_load(struct loop *l)
{
    uint64_t drops;
    uint32_t backlog_permille;

    if (!l->ready[UDP_DATA_GROUP] || l->now_us < l->load_us)
        return;
    backlog_permille = udp_backlog(l->config.udp, &drops);
    node_load(l->config.node, drops, backlog_permille);
    l->load_us = l->now_us + LOAD_EVERY_US;
}

static void receive(struct loop *l)
{
    uint64_t end_us = l->now_us + IO_QUANTUM_US;
    bool more;

    link_receive(l->link, l->now_us);
    for (;;) {
        drain_urgent(l, end_us);
        more = drain_data(l);
        if (!more || l->now_us >= end_us)
            break;
        /* The answers to control do not wait for all the data behind it. */
        pull(l, NET_CONTROL);
        for (enum udp_socket s = UDP_CONTROL; s <= UDP_REPAIR_GROUP; s++)
            l->ready[s] = true;
    }
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++)
        more = more || l->ready[s];
    l->counters.quantum_io += more;
    l->again = l->again || more;
}

/* ---- timers */

static void expire(struct loop *l)
{
    uint64_t end_us = l->now_us + TIMER_QUANTUM_US;

    while (node_expire(l->config.node, l->now_us)) {
        l->now_us = clock_now();
        if (l->now_us >= end_us) {
            l->counters.quantum_timers++;
            break; /* the deadline has passed: another turn follows */
        }
    }
    session_expire(l->config.session, l->now_us);
}

/* ---- the region's address */

static bool in_network(const struct conf_network *network, uint32_t address)
{
    return network->prefix == 0 || (address ^ network->address) >> (32 - network->prefix) == 0;
}

/* Follows the node's region to its address. */
static void listen_to_region(struct loop *l)
{
    uint32_t address = node_listen_address(l->config.node);
    struct in_addr in = {htonl(address)};
    int rc;

    if (address == udp_listening(l->config.udp) || (address && address == l->refused_address))
        return;
    if (address != 0 && !in_network(&l->config.conf->multicast, address)) {
        log_error("the CMS gave this host's region the address %s, which `multicast` does not hold",
                  inet_ntoa(in));
        l->refused_address = address;
        l->counters.moves_failed++;
        return;
    }
    rc = udp_listen(l->config.udp, address);
    l->counters.moves += rc == 0;
    l->counters.moves_failed += rc < 0;
    l->refused_address = rc < 0 ? address : 0;
    if (rc < 0)
        log_error("cannot listen to %s on %s: %s", inet_ntoa(in), udp_interface(l->config.udp),
                  strerror(-rc));
}

/* ---- what systemd and the log are told */

static void describe_cms(struct loop *l, char *out, size_t bytes)
{
    const char *server = link_server(l->link);
    const char *refusal = node_refusal(l->config.node);

    if (!l->linked && *refusal)
        snprintf(out, bytes, "the CMS refuses this host (last tried %s): %s", server, refusal);
    else if (l->linked && l->node_id != 0)
        snprintf(out, bytes, "node %" PRIu32 ", epoch %" PRIu64 ", CMS server %s", l->node_id,
                 l->epoch, server);
    else if (l->linked)
        snprintf(out, bytes, "CMS server %s has not admitted this host yet", server);
    else if (l->node_id != 0)
        snprintf(out, bytes,
                 "no CMS server answers (last tried %s); node %" PRIu32 ", epoch %" PRIu64, server,
                 l->node_id, l->epoch);
    else
        snprintf(out, bytes, "no CMS server answers (last tried %s)", server);
}

static void tell_status(struct loop *l)
{
    bool linked = node_linked(l->config.node), refused = *node_refusal(l->config.node) != '\0';
    uint32_t id = node_id(l->config.node);
    uint64_t epoch = node_epoch(l->config.node);
    char text[256];

    if (linked == l->linked && refused == l->refused && id == l->node_id && epoch == l->epoch)
        return;
    bool only_epoch = linked == l->linked && refused == l->refused && id == l->node_id;
    l->linked = linked;
    l->refused = refused;
    l->node_id = id;
    l->epoch = epoch;
    describe_cms(l, text, sizeof(text));
    sd_notifyf(0, "STATUS=%s", text);
    if (only_epoch)
        log_debug("%s", text);
    else
        log_info("%s", text);
}

static void look_at_mtu(struct loop *l)
{
    if (l->now_us < l->mtu_at_us)
        return;
    l->mtu_at_us = l->now_us + MTU_US;
    udp_look_at_mtu(l->config.udp);
}

static void trim_memory(struct loop *l)
{
    if (l->now_us < l->trim_at_us)
        return;
    l->trim_at_us = l->now_us + TRIM_US;
    node_trim(l->config.node);
    session_trim(l->config.session);
    udp_trim(l->config.udp);
}

/* ---- the turn */

static void stop_when_asked(struct loop *l)
{
    if (!l->asked_to_stop || l->stopping)
        return;
    sd_notify(0, "STOPPING=1");
    l->stopping = true;
    l->stop_at_us = l->now_us + STOP_US;
    ipc_refuse(l->ipc);
    session_stop(l->config.session, l->now_us);
    node_stop(l->config.node, l->now_us);
}

static bool stopped(const struct loop *l)
{
    if (!l->stopping)
        return false;
    if (l->now_us >= l->stop_at_us)
        return true;
    return node_stopped(l->config.node) && !ipc_pending(l->ipc) && !link_pending(l->link) &&
           !l->again;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline(struct loop *l)
{
    uint64_t at_us = least(node_deadline(l->config.node), session_deadline(l->config.session));

    at_us = least(at_us, link_deadline(l->link));
    return l->stopping ? least(at_us, l->stop_at_us) : at_us;
}

/* The alarm that is set stays when it goes off before the deadline: deadlines move on with every
 * message, and setting it costs a system call. */
static void arm(struct loop *l)
{
    uint64_t at_us = deadline(l);
    struct itimerspec at = {.it_value = {(time_t)(at_us / 1000000), (long)(at_us % 1000000 * 1000)}};

    l->due_us = at_us > l->now_us ? at_us : l->now_us;
    if (at_us <= l->now_us) {
        l->again = true;
        return;
    }
    if (at_us >= l->armed_at_us)
        return;
    l->armed_at_us = at_us;
    timerfd_settime(l->alarm_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void turn(struct loop *l)
{
    uint64_t started_us = clock_now();

    l->now_us = started_us;
    l->counters.turns++;
    if (l->due_us <= started_us)
        histogram_note(&l->lag_us, started_us - l->due_us);
    l->again = false;
    l->datagrams = l->client_bytes = 0;
    stop_when_asked(l);
    tell_load(l);
    receive(l);

    l->now_us = clock_now();
    expire(l);

    if (ipc_receive(l->ipc, l->now_us + CLIENT_QUANTUM_US, CLIENT_QUANTUM_BYTES,
                    &l->client_bytes)) {
        l->counters.quantum_clients++;
        l->again = true;
    }
    l->now_us = clock_now();
    udp_flush(l->config.udp);
    pull(l, NET_DATA);
    trace_flush(l->config.trace);
    link_send(l->link, l->now_us);
    listen_to_region(l);
    if (ipc_flush(l->ipc, l->now_us))
        l->again = true;
    tell_status(l);
    look_at_mtu(l);
    trim_memory(l);
    trace_flush(l->config.trace);
    l->now_us = l->turn_ended_us = clock_now();
    histogram_note(&l->turn_us, l->now_us - started_us);
    if (l->now_us - started_us > l->counters.turn_max_us)
        l->counters.turn_max_us = l->now_us - started_us;
    arm(l);
}

/* Puts the next turn off while turns are many and small. */
static void wait_for_more(struct loop *l)
{
    uint64_t at_us, wait_us;

    if (l->datagrams == 0 && l->client_bytes == 0)
        l->busy_turns = 0;
    if (l->again || l->busy_turns < BUSY_TURNS || l->datagrams > BUSY_DATAGRAMS ||
        l->client_bytes > BUSY_BYTES)
        return;
    wait_us = least((l->busy_turns - BUSY_TURNS + 1) * 25u, BUSY_WAIT_MAX_US);
    at_us = deadline(l);
    if (at_us <= l->now_us + wait_us)
        return;
    l->counters.waits++;
    nanosleep(&(struct timespec){.tv_nsec = (long)(wait_us * 1000)}, NULL);
}

void loop_run(struct loop *l)
{
    turn(l);
    sd_notify(0, "READY=1");
    while (!stopped(l)) {
        uint64_t slept_from_us;

        wait_for_more(l);
        slept_from_us = clock_now();
        event_base_loop(l->base, EVLOOP_ONCE | (l->again ? EVLOOP_NONBLOCK : 0));
        l->counters.wakeups += !l->again;
        if (!l->again && clock_now() - slept_from_us > BUSY_GAP_US)
            l->busy_turns = 0;
        else
            l->busy_turns++;
        turn(l);
    }
}

/* ---- looking in */

void loop_counters(struct loop *l, void (*emit)(void *to, const char *name, uint64_t value),
                   void *to)
{
    const struct udp_counters *udp = udp_counters(l->config.udp);
    const struct link_counters *link = link_counters(l->link);
    const struct ipc_counters *ipc = ipc_counters(l->ipc);

#define X(name, text) emit(to, "loop_" #name, l->counters.name);
    LOOP_COUNTERS(X)
#undef X
#define X(name, text) emit(to, "udp_" #name, udp->name);
    UDP_COUNTERS(X)
#undef X
#define X(name, text) emit(to, "link_" #name, link->name);
    LINK_COUNTERS(X)
#undef X
#define X(name, text) emit(to, "ipc_" #name, ipc->name);
    IPC_COUNTERS(X)
#undef X
}

void loop_histograms(struct loop *l,
                     void (*emit)(void *to, const char *name, const struct histogram *h), void *to)
{
#define X(name, text) emit(to, "loop_" #name, &l->name);
    LOOP_HISTOGRAMS(X)
#undef X
}

void loop_facts(struct loop *l, void (*emit)(void *to, const char *name, const char *value),
                void *to)
{
    const struct qsmd_conf *conf = l->config.conf;
    struct in_addr address = {htonl(udp_address(l->config.udp))};
    char text[256];

    describe_cms(l, text, sizeof(text));
    emit(to, "cms", text);
    emit(to, "cms_server", link_connected(l->link) ? link_server(l->link) : "");
    emit(to, "interface", udp_interface(l->config.udp));
    emit(to, "address", inet_ntoa(address));
    snprintf(text, sizeof(text), "%" PRIu32, conf->port);
    emit(to, "port", text);
    snprintf(text, sizeof(text), "%" PRIu32, udp_mtu(l->config.udp));
    emit(to, "mtu", text);
    snprintf(text, sizeof(text), "%" PRIu64, udp_rcvbuf(l->config.udp));
    emit(to, "rcvbuf_bytes", text);
    emit(to, "socket", conf->socket);
    if (conf->debug_fault_drop > 0) {
        snprintf(text, sizeof(text), "%.6f", conf->debug_fault_drop);
        emit(to, "debug_fault_drop", text);
    }
    if (conf->debug_trace[0])
        emit(to, "debug_trace", conf->debug_trace);
    if (conf->debug_no_sender_repair)
        emit(to, "debug_no_sender_repair", "true");
}
