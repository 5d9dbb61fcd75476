/* loop: the daemon's turn (paper, section 4, figures 7 and 8). libevent only says what is ready;
 * everything is done here, class by class and within quanta, by one thread. */
#ifndef QSM_LOOP_H
#define QSM_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct histogram;
struct loop;
struct node;
struct qsmd_conf;
struct session;
struct trace;
struct udp;

/* None of it is owned. */
struct loop_config {
    const struct qsmd_conf *conf;
    struct node *node;
    struct session *session;
    struct udp *udp;
    struct trace *trace; /* NULL: none */
};

/* Opens the clients' socket and prepares the link to the CMS. Negative errno otherwise, and error
 * says what failed. */
int loop_open(struct loop **ret, const struct loop_config *config, char *error, size_t error_bytes);
void loop_close(struct loop *l); /* NULL is fine */

/* Turns until SIGTERM or SIGINT, and then until the node has left and the clients have read their
 * ends, at most 1.5 s. */
void loop_run(struct loop *l);

/* The shell's own counters, histograms and facts, for `stats` and `status`: emit is called for
 * each. */
void loop_counters(struct loop *l, void (*emit)(void *to, const char *name, uint64_t value),
                   void *to);
void loop_histograms(struct loop *l,
                     void (*emit)(void *to, const char *name, const struct histogram *h), void *to);
void loop_facts(struct loop *l, void (*emit)(void *to, const char *name, const char *value),
                void *to);

#endif
