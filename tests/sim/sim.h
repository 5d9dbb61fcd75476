/* sim: the other shell. The production core for many nodes and the CMS in one process, under
 * virtual time and on a modelled network; one seed reproduces everything. Parts: sim.c (time,
 * events, trace), sim_net.c (datagrams), sim_link.c (streams to the CMS), sim_host.c (a node's
 * turn), sim_app.c (its applications), sim_cms.c (the CMS and its log), sim_faults.c, sim_plan.c,
 * sim_load.c and sim_run.c (what a seed does), sim_main.c (qsmsim). Scenario tests use the same
 * with a plan of their own. */
#ifndef QSM_SIM_H
#define QSM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/cdefs.h>
#include <bsd/sys/queue.h>
#include <uthash.h>
#include "daemon/core/cms.h"
#include "daemon/core/node.h"
#include "checker.h"

#define SIM_HOSTS_MAX 1000
#define SIM_GROUPS_MAX 64 /* bits of a set of groups */
#define SIM_CONNS_MAX 3
#define SIM_SIDES 8
#define SIM_MS UINT64_C(1000)
#define SIM_S UINT64_C(1000000)

/* ---- random numbers */

struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);             /* 0 .. n-1; 0 for n = 0 */
uint64_t rng_range(struct rng *r, uint64_t a, uint64_t b); /* a .. b */
bool rng_chance(struct rng *r, double p);

/* ---- kinds of fault. A seed has a random subset of them (swarm testing). */

/* X(name, what it is). Those of the network and of hosts are as strong as the seed says and last
 * for the whole run, the others happen at certain times. */
#define SIM_FAULTS(X)                                                                              \
    X(loss, "random loss")                                                                         \
    X(bursts, "bursts of loss")                                                                    \
    X(duplicates, "duplicates")                                                                    \
    X(reorder, "datagrams out of order")                                                           \
    X(spikes, "long delays of single datagrams")                                                   \
    X(late_data, "data delayed more than control: tokens overtake it")                             \
    X(slow_hosts, "hosts that are slow")                                                           \
    X(small_buffers, "receive buffers that are small, or smaller than granted")                    \
    X(mtus, "hosts with datagram sizes of their own")                                              \
    X(slow_disk, "a slow disk of the CMS")                                                         \
    X(drop_10ms, "hosts that drop everything for 10 ms in every 1 s")                              \
    X(sleep_500ms, "hosts that sleep 0.5 s in every 5 s")                                          \
    X(crash, "crash of a host")                                                                    \
    X(last_words, "crash of a sender that some only have heard")                                   \
    X(stop, "clean stop of a host")                                                                \
    X(pause, "pause of a host")                                                                    \
    X(partition, "partition in two")                                                               \
    X(one_way, "partition in one direction only")                                                  \
    X(some_pairs, "some pairs of hosts cut off from each other")                                   \
    X(deaf, "a host that gets no data, but control")                                               \
    X(squeeze, "a receive queue that is nearly full, and drops at its tail")                       \
    X(no_tokens, "tokens lost, and nothing else")                                                  \
    X(cms_crash, "crash of the CMS")                                                               \
    X(cms_step, "crash of the CMS at its n-th append or answer from now on")                       \
    X(cms_pause, "pause of the CMS")                                                               \
    X(link_cut, "cut of a link to the CMS")                                                        \
    X(exile, "a host out of reach of the CMS only")                                                \
    X(silence, "silence on a link to the CMS")                                                     \
    X(hit_holder, "pause or crash of a host that holds a token")                                   \
    X(hit_leader, "pause or crash of a ring's leader")                                             \
    X(hit_cacher, "pause or crash of a host that caches what others have dropped")                 \
    X(hit_voter, "pause or crash of a host in the middle of a view change")                        \
    X(late, "hosts that start late")                                                               \
    X(churn, "joins and leaves")                                                                   \
    X(large, "large messages")

enum sim_fault {
#define X(name, text) FAULT_##name,
    SIM_FAULTS(X)
#undef X
        FAULTS_COUNT
};

/* ---- counts: what happened, for the summary. A run over many seeds fails on a zero. */

/* X(name, how the summary calls it) */
#define SIM_COUNTERS(X)                                                                            \
    X(crashes, "crashes")                                                                          \
    X(restarts, "restarts")                                                                        \
    X(lost, "random losses")                                                                       \
    X(burst_lost, "burst losses")                                                                  \
    X(tokens_lost, "tokens lost and nothing else")                                                 \
    X(perturbed, "datagrams dropped in the 10 ms of every 1 s")                                    \
    X(overruns, "receive queue overruns")                                                          \
    X(duplicated, "duplicates")                                                                    \
    X(reordered, "reorderings")                                                                    \
    X(delayed, "delays")                                                                           \
    X(cms_crashes, "CMS crashes")                                                                  \
    X(cms_torn, "CMS crashes with an append not durable")                                          \
    X(joins, "joins")                                                                              \
    X(leaves, "leaves")                                                                            \
    X(expelled, "expulsions noticed")                                                              \
    X(views, "epochs")                                                                             \
    X(repairs_cachers, "repairs by cachers")                                                       \
    X(repairs_holders, "repairs by holders")                                                       \
    X(repairs_sender, "repairs by the sender")                                                     \
    X(repairs_flush, "repairs in view changes")                                                    \
    X(deliveries, "deliveries")                                                                    \
    X(stables, "messages completed as stable")

struct sim_counts {
#define X(name, text) uint64_t name;
    SIM_COUNTERS(X)
#undef X
    uint64_t faults[FAULTS_COUNT]; /* how often a kind of fault struck, or in how many seeds */
    uint64_t marks[MARKS_COUNT];   /* of all nodes and the CMS, in all their lives */
    uint64_t node_us;              /* virtual time, summed over nodes */
    uint64_t events;
};

/* ---- datagrams */

struct parcel { /* a datagram on the wire, shared by its receivers */
    uint32_t refs, bytes;
    enum net_class net;
    uint32_t from; /* host */
    uint8_t data[];
};

struct net_model {
    uint64_t delay_us, jitter_us;
    double loss;                      /* for each receiver */
    double burst;                     /* chance that a burst begins, per datagram and receiver */
    uint64_t burst_us;                /* how long one lasts */
    double burst_loss;                /* loss while it does */
    double duplicate, reorder, spike; /* chances: a second copy, held back a little, or long */
    uint64_t reorder_us, spike_us;
    uint64_t late_data_us; /* data and repairs come up to so much later than control */
    double token_loss;     /* of tokens and their acknowledgements alone */
    uint64_t bytes_per_us; /* a sender's wire; 0: unlimited */
};

/* ---- hosts */

struct queue { /* a socket's receive buffer: drops at the tail */
    struct parcel **ring;
    size_t head, count, room;
    uint64_t bytes, bytes_max;
};

struct link;

struct sim_message {
    TAILQ_ENTRY(sim_message) entry;
    uint32_t conn;
    uint64_t k, number;
    bool ask;
    uint32_t bytes;
    struct buf *body; /* owned until it is pulled */
};
TAILQ_HEAD(sim_messages, sim_message);

struct app_group {
    bool open; /* handle is good */
    uint32_t handle;
    unsigned mode;         /* asked of the node */
    bool leaving;          /* waits for GROUP_LEFT */
    bool member, sendable; /* as the node said */
    bool close_send;       /* once everything is out */
    bool subscribed[SIM_CONNS_MAX];
    uint64_t accepted[SIM_CONNS_MAX]; /* messages by connection: k */
    struct sim_messages queue;        /* accepted, not pulled */
    struct sim_messages sent;         /* pulled, neither stable nor lost */
    uint32_t queued;
    bool dry; /* said so, and the node was not told of another message since */
};

struct host {
    struct sim *sim;
    uint32_t index; /* K */
    uint32_t address;
    struct node_config config;
    char name[16];
    struct node *node; /* NULL: down */
    bool stopping;
    uint32_t boots;
    struct rng random; /* seeds of its incarnations */
    uint64_t booted_us;
    /* the turn */
    uint64_t wake_us, busy_until_us, paused_until_us, wire_until_us;
    uint64_t receive_cost_us; /* per packet */
    double buffer_share;      /* of the granted buffer that is really there */
    struct queue queues[NET_CLASSES];
    uint64_t drops, load_us; /* of data at its full queue; when the node is told */
    uint32_t listen;
    uint8_t side;           /* of a partition */
    bool muffled;           /* only those that hear it get what it sends */
    bool hears;             /* who is muffled */
    bool given_up;          /* liveness: not of the core, broken for good */
    bool deaf;              /* to data and repairs */
    uint64_t drop_phase_us; /* drops all that comes for 10 ms in every 1 s from here on; 0: not */
    uint64_t burst_until_us;
    /* S12: when gauges are looked at next, and the highest so far */
    uint64_t gauges_us, peaks[5];
    /* the link */
    struct link *link;
    uint64_t exiled_until_us; /* the CMS can't be reached, other hosts can */
    /* the applications */
    struct app_group *groups; /* config.groups of them; owned */
    uint32_t first_conn;      /* connections have numbers first_conn .. + SIM_CONNS_MAX - 1 */
    uint64_t app_ready;       /* groups that became ready during a turn, as bits */
    uint64_t wants_recv, wants_send; /* groups to open after a start, as bits */
};

/* ---- the CMS */

struct log_entry {
    uint64_t index, begun_us, durable_us;
    uint8_t *bytes;
    size_t count;
};

struct cms_host {
    struct cms *cms; /* NULL: down */
    uint64_t life;   /* counts starts, so that old events are told apart */
    uint64_t wake_us, paused_until_us;
    uint8_t side;
    struct log_entry *log; /* durable */
    size_t log_count, log_room;
    struct log_entry *writing; /* given to the disk, in order */
    size_t writing_count, writing_room;
    uint64_t disk_us, disk_extra_us; /* how long an append takes, at most that much more */
    bool group_commit;               /* appends that wait for the disk go to it together */
    enum { STRIKE_NEVER, STRIKE_APPEND, STRIKE_DURABLE, STRIKE_ANSWER } strike;
    uint64_t strike_after, strike_down_us; /* crashes at so many more of these, for so long */
    bool struck;
    uint64_t appended; /* told to the CMS as durable */
    uint8_t *snapshot;
    size_t snapshot_bytes;
    uint64_t snapshot_index;
    double snapshot_chance;
};

/* ---- the whole */

struct event {
    uint64_t at_us, order;
    void (*fire)(struct sim *s, void *ctx, uint64_t arg);
    void *ctx;
    uint64_t arg;
};

/* What a filter of a scenario sees of a datagram on its way to one receiver. */
struct sim_look {
    uint32_t from, to; /* hosts */
    const struct parcel *parcel;
};

struct sim_config {
    uint64_t seed;
    uint32_t hosts, groups;
    bool keep_trace; /* in memory, for scenarios */
    FILE *trace;     /* NULL: none; not owned */
    bool unwatched;  /* no trace at all, so that nothing is checked: for measurements */
    struct cms_config cms;
    struct node_config node; /* name, address and seed are filled in */
};

/* A fault at a time; its number names it for those who leave it out. */
struct planned {
    enum sim_fault kind;
    uint32_t number;
    struct host *host; /* not owned; NULL: of none */
    uint64_t arg;      /* how long, in microseconds */
};

/* A fault that waits for the right moment, told by the trace. */
struct ambush {
    enum sim_fault kind;
    uint64_t pass; /* moments that go by before */
    uint64_t for_us;
    bool crash;
};
#define SIM_PLANNED_MAX 256
#define SIM_AMBUSHES_MAX 64

/* What a run leaves out, of what its seed would have. */
struct sim_without {
    uint64_t kinds;                       /* bits by enum sim_fault */
    uint8_t planned[SIM_PLANNED_MAX / 8]; /* single faults, bits by number */
};

struct sim {
    struct sim_config config;
    uint64_t now_us, order;
    struct event *events; /* a heap */
    size_t event_count, event_room;
    struct rng random; /* of the network and of chances in general */
    struct net_model net;
    uint8_t
        blocked[SIM_SIDES]; /* bits: what a host of this side sends does not reach those sides */
    bool calm, ending;
    bool crowd; /* many senders, few members */
    struct planned planned[SIM_PLANNED_MAX];
    uint32_t planned_count;
    struct ambush ambushes[SIM_AMBUSHES_MAX];
    uint32_t ambush_count;
    struct sim_without without;
    bool gentle; /* nothing happens for which a living node may be expelled */
    uint64_t link_delay_us, link_jitter_us;
    struct host *hosts;
    struct cms_host cms;
    TAILQ_HEAD(links, link) links;
    struct link *links_by_id;
    uint64_t link_count;
    char groups[SIM_GROUPS_MAX][24]; /* names */
    uint64_t payloads;
    struct sim_counts counts;
    struct checker *checker;
    uint64_t trace_hash, trace_lines;
    char **kept; /* with keep_trace */
    size_t kept_count, kept_room;
    char failure[400];     /* found by the simulator itself, not by the checker */
    uint64_t crash_at;     /* small: the number of the event at which ... */
    struct host *crash_of; /* this host crashes; NULL: the CMS */
    uint64_t lose, sent;   /* small: the datagram to be lost, and those sent; 0: none */
    bool (*filter)(void *ctx, const struct sim_look *look); /* true: drop it */
    void *filter_ctx;
    /* What applications see, for measurements; NULL: nobody looks. */
    void (*on_deliver)(void *ctx, const struct host *h, const struct delivery *d);
    void (*on_stable)(void *ctx, const struct host *h, uint64_t number);
    void *look_ctx;
};

/* sim.c. Hosts are down, the CMS is down. */
struct sim *sim_new(const struct sim_config *config);
void sim_free(struct sim *s);
void sim_at(struct sim *s, uint64_t at_us, void (*fire)(struct sim *, void *, uint64_t), void *ctx,
            uint64_t arg);
/* Runs until the virtual time, or until the checker or the simulator found a failure. */
void sim_run_until(struct sim *s, uint64_t until_us);
void sim_trace(struct sim *s, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void sim_trace_line(struct sim *s, const char *who, const char *line);
/* A line for readers only: it is not judged, and no part of the hash. Only while sim_shows. */
void sim_show_line(struct sim *s, const char *who, const char *line);
bool sim_shows(const struct sim *s);
void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sim_failed(const struct sim *s);
/* What a configuration is unless something else is wanted. */
struct sim_config sim_config_default(void);

/* sim_net.c */
void net_send(struct sim *s, struct host *from, const struct datagram *d);
struct parcel *queue_take(struct queue *q);
void queue_clear(struct queue *q);
void parcel_unref(struct parcel *p);
bool net_reachable(const struct sim *s, uint8_t from, uint8_t to); /* sides */

/* sim_link.c: a link is two ordered streams with latency. Bytes that arrived wait until they are
 * consumed; a closed end is seen after the bytes before it. */
enum { TO_CMS, TO_NODE };
struct pipe {
    uint8_t *arrived; /* owned */
    size_t arrived_count, arrived_room;
    bool fin;         /* nothing more will come */
    uint64_t last_us; /* arrival of the last chunk sent */
    uint64_t in_flight;
    STAILQ_HEAD(chunks, chunk) chunks;
};
struct link {
    TAILQ_ENTRY(link) entry;
    UT_hash_handle hh;
    uint64_t id;
    struct host *host;        /* not owned */
    bool node_up, cms_up;     /* this end lives */
    bool node_told, cms_told; /* that it is up */
    uint64_t silent_until_us;
    struct pipe pipes[2];
};
void simlink_try(struct sim *s, struct host *h, uint64_t wait_us); /* until it is there */
void simlink_send(struct sim *s, struct link *l, int to, const uint8_t *bytes, size_t count);
void simlink_close(struct sim *s, struct link *l, bool by_node); /* an orderly end of one side */
void simlink_cut(struct sim *s, struct link *l);
void simlink_silence(struct sim *s, struct link *l, uint64_t for_us);
void simlink_wake(struct sim *s); /* a partition healed */
struct link *simlink_find(struct sim *s, uint64_t id);
void simlink_free_all(struct sim *s);
#define LINK_IN_FLIGHT_MAX (256u << 10)

/* sim_host.c */
void host_init(struct sim *s, uint32_t index);
void host_done(struct host *h);
void host_boot(struct host *h);
void host_crash(struct host *h, bool silent); /* silent: its link just goes quiet */
void host_stop(struct host *h);               /* asks the node to stop; it goes down when done */
void host_pause(struct host *h, uint64_t until_us);
void host_wake(struct host *h, uint64_t at_us);
bool host_up(const struct host *h);
struct host *host_at(struct sim *s, uint32_t address); /* NULL: there is none */

/* sim_app.c */
void app_init(struct host *h);
void app_done(struct host *h);
void app_reset(struct host *h);
void app_boot(struct host *h);
struct upcalls app_upcalls(struct host *h);
void app_turn(struct host *h); /* what upcalls noted is acted upon */
/* Connection conn (0 .. SIM_CONNS_MAX - 1) of the host. False: not now (still leaving). */
bool app_subscribe(struct host *h, uint32_t conn, uint32_t group);
void app_unsubscribe(struct host *h, uint32_t conn, uint32_t group);
bool app_open_send(struct host *h, uint32_t group);
void app_close_send(struct host *h, uint32_t group);
/* False: the queue is full, or the group is not open to send. */
bool app_publish(struct host *h, uint32_t conn, uint32_t group, uint32_t bytes, bool ask);
bool app_settled(const struct host *h, char *ret_why, size_t room); /* nothing is waiting */
uint64_t sim_hash(const uint8_t *bytes, size_t count);              /* FNV-1a 64 */

/* sim_cms.c */
void cmshost_start(struct sim *s);
void cmshost_crash(struct sim *s, uint64_t down_us); /* starts again after that; 0: no */
void cmshost_calm(struct sim *s);                    /* its disk is fast from now on */
void cmshost_pause(struct sim *s, uint64_t until_us);
void cmshost_wake(struct sim *s, uint64_t at_us);
void cmshost_done(struct sim *s);
void cmshost_count(struct sim *s); /* at the end: what the CMS of now has counted */

/* sim_faults.c: what a fault does. Returns whether it could. */
bool fault_strike(struct sim *s, const struct planned *p);
void faults_see(struct host *h, const char *line); /* a line of the core's trace, for ambushes */
void faults_heal(struct sim *s);                   /* of the network, as far as it is the hosts' */

/* sim_plan.c: a random subset of faults with random strength until then, and the calm after. */
void faults_plan(struct sim *s, uint64_t until_us, bool storm);
void faults_calm(struct sim *s);
/* Whether the seed has faults of that kind: chance is that of one which has all kinds. r: numbers
 * for this kind alone, so that leaving out one changes no other. */
bool faults_have(struct sim *s, enum sim_fault kind, double chance, struct rng *r);
const char *fault_name(enum sim_fault kind);

/* sim_load.c: who starts when, who is in which groups, what is sent. */
void load_plan(struct sim *s, struct rng *r, uint64_t until_us, bool storm);
void load_open(struct host *h); /* opens what the host wants, as far as it can now */
bool load_burst(
    struct host *h); /* publishes a burst to each group that it may send to; false: none */

/* sim_run.c */
#define SIM_MODES(X)                                                                               \
    X(safety, "faults, then a calm in which all must converge")                                    \
    X(liveness, "faults, then a core that is healed while the rest stays as broken as it is")      \
    X(storm, "view changes all the time, and faults in their middle")                              \
    X(small, "three hosts: a crash at every event, and the loss of every datagram, one a run")

enum sim_mode {
#define X(name, text) MODE_##name,
    SIM_MODES(X)
#undef X
        MODES_COUNT
};

struct run_config {
    enum sim_mode mode;
    uint64_t seed;                 /* small: the number of the run, from 1 */
    uint32_t nodes_min, nodes_max; /* 0: what the mode has */
    struct sim_without without;
    FILE *trace;
};
struct run_result {
    bool failed;
    char failures[3][500];
    uint64_t failure_count;
    uint64_t hash, lines;
    uint32_t nodes, planned;        /* planned: faults at certain times */
    uint64_t virtual_us, healed_us; /* the whole run, from calm to convergence */
    struct sim_counts counts;
};
void run_seed(const struct run_config *config, struct run_result *ret);
/* Whether all that live agree, and nothing is on its way; why not is written to why. */
bool sim_converged(struct sim *s, char *why, size_t room);
/* Runs until then, at most for so long; a failure when it does not, for which `what` stands. */
bool run_converge(struct sim *s, uint64_t within_us, const char *what);

/* sim_live.c: after the faults; returns from when on the core was to heal. */
uint64_t live_heal(struct sim *s, struct rng *r);

/* sim_small.c */
uint64_t small_runs(void); /* how many there are; finds out with a run of each story */
void small_run(const struct run_config *config, struct run_result *ret);
void run_result_fill(struct sim *s, struct run_result *ret); /* sim_run.c: what a run leaves */

#endif
