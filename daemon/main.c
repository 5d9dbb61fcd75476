/* main: qsmd's command line, and the order in which its parts are made. */
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "clock.h"
#include "conf.h"
#include "core/name.h"
#include "log.h"
#include "loop.h"
#include "options.h"
#include "session.h"
#include "trace.h"
#include "udp.h"

#define HEADERS_BYTES 28 /* IP and UDP */
#define EXIT_USAGE 2

/* Everything that the daemon is made of, in the order in which it is made. */
struct daemon {
    struct qsmd_conf conf;
    char name[256];
    struct trace *trace;
    struct udp *udp;
    struct session *session;
    struct node *node;
    struct loop *loop;
};

/* ---- upcalls of the session */

static void trace_of_session(void *ctx, const char *line)
{
    struct daemon *d = ctx;

    trace_line(d->trace, line);
}

static void counters_of_shell(void *ctx, void (*emit)(void *to, const char *name, uint64_t value),
                              void *to)
{
    struct daemon *d = ctx;

    loop_counters(d->loop, emit, to);
}

static void histograms_of_shell(void *ctx,
                                void (*emit)(void *to, const char *name, const struct histogram *h),
                                void *to)
{
    struct daemon *d = ctx;

    loop_histograms(d->loop, emit, to);
}

static void facts_of_shell(void *ctx, void (*emit)(void *to, const char *name, const char *value),
                           void *to)
{
    struct daemon *d = ctx;

    loop_facts(d->loop, emit, to);
}

/* ---- making the parts */

static uint64_t random_seed(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = clock_now() ^ (uint64_t)getpid() << 32;
    return seed;
}

static void name_host(struct daemon *d)
{
    snprintf(d->name, sizeof(d->name), "%s", d->conf.name);
    if (!d->name[0] && gethostname(d->name, sizeof(d->name) - 1) < 0)
        d->name[0] = '\0';
    d->name[sizeof(d->name) - 1] = '\0';
    if (!name_valid(d->name))
        strcpy(d->name, "localhost");
}

static void make_session(struct daemon *d)
{
    struct session_config config = {
        .queue_bytes = d->conf.client_queue_bytes,
        .queue_messages = d->conf.client_queue_messages,
        .queue_age_us = (uint64_t)d->conf.client_queue_age_ms * 1000,
        .clients_max = d->conf.client_clients_max,
        .connections_per_uid = d->conf.client_connections_per_uid,
        .groups_per_client = d->conf.client_groups_per_client,
        .grant_bytes = d->conf.client_grant_bytes,
        .grant_bytes_all = d->conf.client_grant_bytes_all,
        .host = d->name,
        .version = QSM_VERSION,
        .trace = d->trace != NULL,
        .shell_counters = counters_of_shell,
        .shell_histograms = histograms_of_shell,
        .shell_facts = facts_of_shell,
        .trace_line = d->trace ? trace_of_session : NULL,
        .ctx = d,
    };

    d->session = session_new(&config);
}

static void make_node(struct daemon *d)
{
    uint32_t mtu_bytes = udp_mtu(d->udp) - HEADERS_BYTES;
    struct node_config config = {
        .cluster = d->conf.cluster,
        .name = d->name,
        .address = udp_address(d->udp),
        .datagram_bytes = mtu_bytes < WIRE_DATAGRAM_MAX ? mtu_bytes : WIRE_DATAGRAM_MAX,
        .rcvbuf_bytes = udp_rcvbuf(d->udp),
        .window_bytes = d->conf.window_bytes,
        .rate_max = d->conf.rate_max,
        .pool_bytes = d->conf.pool_bytes,
        .reassembly_bytes = d->conf.reassembly_bytes,
        .token_rate_mhz = d->conf.token_rate_mhz,
        .token_min_interval_us = d->conf.token_min_interval_us,
        .seed = random_seed(),
        .no_sender_repair = d->conf.debug_no_sender_repair,
    };
    struct upcalls upcalls = session_upcalls(d->session);

    d->node = node_new(&config, &upcalls, clock_now());
    session_attach(d->session, d->node);
}

/* Makes all the parts; false: one can't be, and the log says why. */
static bool start(struct daemon *d)
{
    struct udp_config udp = {
        .interface = d->conf.interface,
        .address = d->conf.address,
        .port = (uint16_t)d->conf.port,
        .ttl = (uint8_t)d->conf.ttl,
        .fault_drop = d->conf.debug_fault_drop,
        .seed = random_seed(),
    };
    char error[512];
    int rc;

    if (udp_open(&d->udp, &udp, error, sizeof(error)) < 0) {
        log_error("%s", error);
        return false;
    }
    if (d->conf.debug_trace[0]) {
        rc = trace_open(&d->trace, d->conf.debug_trace, d->name);
        if (rc < 0) {
            log_error("debug trace %s: %s", d->conf.debug_trace, strerror(-rc));
            return false;
        }
    }
    make_session(d);
    make_node(d);
    struct loop_config loop = {&d->conf, d->node, d->session, d->udp, d->trace};
    if (loop_open(&d->loop, &loop, error, sizeof(error)) < 0) {
        log_error("%s", error);
        return false;
    }
    return true;
}

static void stop(struct daemon *d)
{
    loop_close(d->loop);
    node_free(d->node);
    session_free(d->session);
    udp_close(d->udp);
    trace_close(d->trace);
}

/* One descriptor for each client: as many as we may have. A sleep in the loop is meant as it says.
 */
static void set_process_up(void)
{
    struct rlimit files;

    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static int run(struct daemon *d)
{
    int status = EXIT_FAILURE;

    log_set_level(d->conf.log_level);
    set_process_up();
    name_host(d);
    if (start(d)) {
        log_info("qsmd %s: host %s on %s, receive buffer of %" PRIu64 " bytes", QSM_VERSION,
                 d->name, udp_interface(d->udp), udp_rcvbuf(d->udp));
        loop_run(d->loop);
        log_info("stopped");
        status = EXIT_SUCCESS;
    }
    stop(d);
    return status;
}

int main(int argc, char **argv)
{
    static const struct options_program program = {
        "qsmd", "Reliable multicast for the applications of this host.", CONF_QSMD_PATH, false};
    static struct daemon self;
    const char *path;
    char *error = NULL;
    int status = EXIT_SUCCESS;
    enum options_action action = options_parse(argc, argv, &program, &path);

    if (action == OPTIONS_WRONG || action == OPTIONS_DONE)
        return action == OPTIONS_WRONG ? EXIT_USAGE : EXIT_SUCCESS;
    if (conf_load_qsmd(path, &self.conf, &error) < 0) {
        fprintf(stderr, "%s\n", error);
        free(error);
        return EXIT_FAILURE;
    }
    if (action == OPTIONS_DUMP)
        conf_dump_qsmd(stdout, &self.conf);
    else if (action == OPTIONS_RUN)
        status = run(&self);
    if (action == OPTIONS_DUMP && !options_printed(&program))
        status = EXIT_FAILURE;
    conf_done_qsmd(&self.conf);
    return status;
}
