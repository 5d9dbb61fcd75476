/* trial: one run of the simulator that is measured: one region, one sender with a stream of
 * messages, all hops of equal cost (the same delay, the same cost to receive everywhere), nothing
 * lost but by the perturbation that is asked for. Time is virtual: the same trial gives the same
 * figures on every machine. */
#ifndef QSM_TRIAL_H
#define QSM_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRIAL_BIN_US UINT64_C(100000) /* throughput is counted by these */
#define TRIAL_LEVELS_MAX 4

/* The paper's perturbations of one receiver (5.3): once in each period, when in it is random. */
enum perturbation {
    UNPERTURBED,
    ASLEEP, /* 0.5 s in every 5 s */
    DEAF,   /* drops everything for 10 ms in every 1 s */
};
#define ASLEEP_US UINT64_C(500000)
#define ASLEEP_EVERY_US UINT64_C(5000000)
#define DEAF_US UINT64_C(10000)
#define DEAF_EVERY_US UINT64_C(1000000)

/* Which receiver is perturbed. Every member caches its share of the packets. */
enum victim {
    A_MEMBER,           /* the last one of the last partition */
    A_NEIGHBOUR,        /* a member of the sender's own partition */
    A_PARTITION_LEADER, /* that does not lead the region */
    THE_REGION_LEADER,
    VICTIMS
};
const char *victim_name(enum victim who);

struct trial {
    uint64_t seed; /* of when perturbations come, and of the network's jitter */
    uint32_t nodes, ring_size;
    uint32_t rate; /* messages offered per second; 0: as many as are taken */
    uint32_t message_bytes;
    uint64_t us; /* measured time */
    enum perturbation perturbation;
    enum victim victim;
    uint64_t wire_bytes_per_us; /* a sender's wire; 0: unlimited */
};

/* Values of a sample, sorted when asked. */
struct samples {
    uint32_t *values; /* owned */
    size_t count, room;
    bool sorted;
};
double samples_mean(const struct samples *s);
uint32_t samples_quantile(struct samples *s, double q); /* 0: there are none */

struct trial_result {
    uint32_t levels;                        /* of rings */
    double round_trip_us[TRIAL_LEVELS_MAX]; /* by level: mean of the ring with the longest */
    double path_us;                         /* the sum of these: the way of an aggregate */
    double longest_us;                      /* the greatest of these */
    struct samples stable_us;               /* from accepting a message to the sender's stable */
    struct samples unacked_bytes;           /* the sender's, looked at every millisecond */
    struct samples latency_us; /* accepting to delivery, at all others but the victim */
    double throughput;         /* deliveries per second of each of them, mean */
    double worst_throughput;   /* of the one with the least */
    uint64_t window_bytes;     /* in flight, at most */
    uint64_t expelled;         /* nodes that the CMS gave up: none should be */
    double *bins;              /* messages per second of them, by TRIAL_BIN_US; owned */
    size_t bin_count;
    bool *perturbed; /* by bin: the victim was, in part of it at least; owned */
};

/* False: no such victim, with these numbers of nodes and of a ring. Ends the program with a word on
 * standard error when the simulator fails. */
bool trial_run(const struct trial *t, struct trial_result *ret);
void trial_result_done(struct trial_result *r);

#endif
