/* conf: the configuration files of qsmd and qsm-cmsd. What is loaded is checked whole: a value out
 * of range never gets further than here. IPv4 addresses are in host byte order. */
#ifndef QSM_CONF_H
#define QSM_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "log.h"

#ifndef QSM_SYSCONFDIR
#define QSM_SYSCONFDIR "/etc"
#endif
#define CONF_QSMD_PATH QSM_SYSCONFDIR "/qsm/qsmd.conf"
#define CONF_CMSD_PATH QSM_SYSCONFDIR "/qsm/qsm-cmsd.conf"

#define CONF_SERVERS_MAX 8

struct conf_endpoint {
    uint32_t address;
    uint16_t port;
};

struct conf_servers {
    struct conf_endpoint server[CONF_SERVERS_MAX];
    size_t count; /* at least 1 */
};

struct conf_network {
    uint32_t address; /* the first one */
    uint32_t prefix;  /* bits that all have in common: 2^(32 - prefix) addresses */
};

/* Strings are never NULL; an empty one means the default that the comment names. */
struct qsmd_conf {
    char *cluster;
    struct conf_servers cms;
    char *name;                    /* empty: the host's name */
    char *interface;               /* empty: that of the default route */
    uint32_t address;              /* 0: the first of the interface */
    uint32_t port;                 /* control; repair is the next, data the one after */
    struct conf_network multicast; /* region addresses out of it are not listened to */
    uint32_t ttl;
    char *socket;
    enum log_level log_level;
    uint32_t token_rate_mhz; /* tokens per 1,000 s */
    uint32_t token_min_interval_us;
    uint64_t window_bytes;
    uint64_t rate_max; /* bytes/s into each region; 0: as fast as receivers can */
    uint64_t pool_bytes;
    uint64_t reassembly_bytes;
    uint64_t client_queue_bytes;
    uint32_t client_queue_messages;
    uint32_t client_queue_age_ms;
    uint32_t client_clients_max;
    uint32_t client_connections_per_uid;
    uint32_t client_groups_per_client;
    uint32_t client_grant_bytes;
    uint64_t client_grant_bytes_all;
    double debug_fault_drop; /* 0 to 1: share of arriving datagrams that are dropped */
    char *debug_trace;       /* file for the trace; empty: none */
    bool debug_no_sender_repair;
};

struct cmsd_conf {
    char *cluster;
    struct conf_endpoint listen;
    struct conf_network multicast;
    char *journal;        /* the path of "sqlite:PATH" */
    uint32_t regions_max; /* at most the addresses of multicast */
    uint32_t ring_size;
    uint32_t cache_replicas;
    uint32_t ack_ranges;
    uint32_t batch_ms;
    uint32_t silence_ms;
    uint32_t resume_ms;
    uint32_t progress_ms;
    enum log_level log_level;
    char *debug_trace;       /* file for the trace; empty: none */
    char *debug_crash_at;    /* "STEP:COUNT": step of the journal at which to die; empty: none */
};

/* Reads the file; path NULL: the defaults. 0, or -EINVAL and a line `file:line: key: what is wrong`
 * in *ret_error, or the errno of opening and a line `file: why`; *ret_error is malloc'ed and the
 * caller's. After an error *ret holds nothing to free. Otherwise the caller ends with _done. */
int conf_load_qsmd(const char *path, struct qsmd_conf *ret, char **ret_error);
int conf_load_cmsd(const char *path, struct cmsd_conf *ret, char **ret_error);

void conf_done_qsmd(struct qsmd_conf *conf);
void conf_done_cmsd(struct cmsd_conf *conf);

/* Prints a file that loads to the same: every key. */
void conf_dump_qsmd(FILE *out, const struct qsmd_conf *conf);
void conf_dump_cmsd(FILE *out, const struct cmsd_conf *conf);

#endif
