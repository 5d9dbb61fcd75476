/* qsmctl: what its files share: the options that all commands have, exit codes, errors in words. */
#ifndef QSM_QSMCTL_H
#define QSM_QSMCTL_H

#include <stdbool.h>
#include <stdint.h>
#include "qsmclient.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3,
    EXIT_NO_CMS = 4,
    EXIT_TIMEOUT = 27,
};

#define ANSWER_MS                                                                                  \
    10000 /* for what the daemon or the CMS should answer soon, unless -W says more                \
           */

struct output;

struct ctl {
    const char *socket;
    bool json;
    const struct command *command;
    int64_t deadline_ms; /* of -W, monotonic; 0: none was given */
    struct qsm *qsm;
};

struct command {
    const char *name;
    const char *args; /* as in the usage line */
    /* Gets what follows the command's name as argc and argv, argv[0] is the name. Returns an exit
     * code. */
    int (*run)(struct ctl *ctl, int argc, char **argv);
    const char *help;
};

int command_status(struct ctl *ctl, int argc, char **argv);
int command_groups(struct ctl *ctl, int argc, char **argv);
int command_regions(struct ctl *ctl, int argc, char **argv);
int command_join(struct ctl *ctl, int argc, char **argv);
int command_leave(struct ctl *ctl, int argc, char **argv);
int command_stats(struct ctl *ctl, int argc, char **argv);
int command_pub(struct ctl *ctl, int argc, char **argv);
int command_sub(struct ctl *ctl, int argc, char **argv);

/* Connects ctl->qsm. An exit code, 0 when it worked. */
int ctl_connect(struct ctl *ctl, const struct qsm_callbacks *callbacks);
/* Says on standard error what went wrong with subject (NULL: nothing in particular) and returns the
 * exit code for it. */
int ctl_fail(struct ctl *ctl, const char *subject, int error);
/* Prints and frees o, error says whether all rows are in it; returns the exit code. */
int ctl_print(struct ctl *ctl, struct output *o, int error);
/* A mistake in the command line: says so, with the command's usage. */
int ctl_usage(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets ctl->deadline_ms from the argument of -W; false and a usage error unless it is a number of
 * seconds, which may have a fraction. */
bool ctl_parse_deadline(struct ctl *ctl, const char *text);
/* A whole number from 1 to most. */
bool ctl_parse_count(const char *text, uint64_t most, uint64_t *ret_count);
/* Milliseconds until the deadline of -W; without one most, which may be -1. */
int ctl_left_ms(const struct ctl *ctl, int most);
bool ctl_late(const struct ctl *ctl);
int64_t ctl_now_ms(void);

/* From now on SIGINT and SIGTERM set the flag that ctl_stopped tells, and wake ctl->qsm. */
void ctl_catch_signals(struct ctl *ctl);
bool ctl_stopped(void);

#endif
