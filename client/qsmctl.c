/* qsmctl: the command of QSM for people and scripts. This file has the table of commands, the
 * options that all have, and errors; qsmctl_show.c, qsmctl_stats.c, qsmctl_pub.c and qsmctl_sub.c
 * the commands. */
#include "qsmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "output.h"

static const struct command commands[] = {
    {"status", "", command_status, "this host: its node, its CMS, its epoch"},
    {"groups", "[GROUP] [--wait N] [-W SECONDS]", command_groups,
     "groups and their views; --wait: return when GROUP's view has N members"},
    {"regions", "", command_regions, "regions, their addresses, members and channels"},
    {"join", "GROUP… [-W SECONDS]", command_join, "make this host a member until it leaves"},
    {"leave", "GROUP… [-W SECONDS]", command_leave, "end what join began"},
    {"stats", "[--watch SECONDS]", command_stats,
     "counters of the daemon, and how long things take"},
    {"pub", "GROUP [TEXT… | -l | -f FILE] [--wait] [-W SECONDS]", command_pub,
     "send messages: each TEXT, each line of standard input (-l), or a file"},
    {"sub", "GROUP… [-n COUNT] [-W SECONDS] [-F FORMAT] [--policy end|latest] [--rejoin]",
     command_sub, "print the messages of groups"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static struct qsm *woken; /* for the signal handler */
static volatile sig_atomic_t stopped;

/* ---- errors */

static void print_usage(FILE *to)
{
    fprintf(to, "usage: qsmctl [-s SOCKET] [--json] COMMAND …\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %s %s\n        %s\n", commands[i].name, commands[i].args, commands[i].help);
    fprintf(to,
            "\n  -s, --socket SOCKET  of the daemon; else $QSM_SOCKET, else %s\n"
            "      --json           JSON instead of text\n"
            "  -h, --help           this text\n"
            "      --version        the version\n\n"
            "Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 no CMS has admitted "
            "the host, 27 timeout.\n",
            QSM_SOCKET_DEFAULT);
}

int ctl_print(struct ctl *ctl, struct output *o, int error)
{
    int printed = output_print(o);

    return error < 0     ? ctl_fail(ctl, NULL, error)
           : printed < 0 ? ctl_fail(ctl, "standard output", printed)
                         : EXIT_OK;
}

int ctl_usage(struct ctl *ctl, const char *format, ...)
{
    va_list list;

    fprintf(stderr, "qsmctl: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    if (ctl->command)
        fprintf(stderr, "\nusage: qsmctl %s %s\n", ctl->command->name, ctl->command->args);
    else
        fprintf(stderr, "\nTry `qsmctl --help`.\n");
    return EXIT_USAGE;
}

/* Whether the daemon says that it has no CMS; it is asked anew. */
static bool without_cms(struct ctl *ctl)
{
    const struct qsm_status *status;

    return ctl->qsm && qsm_status(ctl->qsm, 1000, &status) == 0 && status->node_id == 0;
}

int ctl_fail(struct ctl *ctl, const char *subject, int error)
{
    const char *text = ctl->qsm ? qsm_error(ctl->qsm) : "";
    const char *gap = subject ? ": " : "";

    if (!subject)
        subject = "";
    if (error == -ENOTCONN) {
        fprintf(stderr, "qsmctl: %s%s%s\n", subject, gap, *text ? text : "the daemon went away");
        return EXIT_UNREACHABLE;
    }
    if (error == -ETIMEDOUT && without_cms(ctl)) {
        fprintf(stderr, "qsmctl: %s%sno CMS has admitted this host\n", subject, gap);
        return EXIT_NO_CMS;
    }
    if (error == -ETIMEDOUT) {
        fprintf(stderr, "qsmctl: %s%stime is up\n", subject, gap);
        return EXIT_TIMEOUT;
    }
    fprintf(stderr, "qsmctl: %s%s%s\n", subject, gap, *text ? text : strerror(-error));
    return EXIT_ERROR;
}

int ctl_connect(struct ctl *ctl, const struct qsm_callbacks *callbacks)
{
    const char *path = ctl->socket ? ctl->socket : getenv("QSM_SOCKET");
    int error = qsm_connect(path, callbacks, ctl_left_ms(ctl, ANSWER_MS), &ctl->qsm);

    if (error == 0)
        return EXIT_OK;
    if (!path || !*path)
        path = QSM_SOCKET_DEFAULT;
    fprintf(stderr, "qsmctl: %s: %s\n", path,
            error == -ENOTCONN ? "the daemon closed the connection"
            : error == -EDQUOT
                ? "the daemon refuses more connections of one user (connections_per_uid)"
            : error == -EUSERS ? "the daemon refuses more connections (clients_max)"
                               : strerror(-error));
    return EXIT_UNREACHABLE;
}

/* ---- numbers and time */

int64_t ctl_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool ctl_parse_deadline(struct ctl *ctl, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds > 0 && seconds <= INT_MAX / 1000)) {
        ctl_usage(ctl, "-W %s: not a number of seconds", text);
        return false;
    }
    ctl->deadline_ms = ctl_now_ms() + (int64_t)(seconds * 1000);
    return true;
}

bool ctl_parse_count(const char *text, uint64_t most, uint64_t *ret_count)
{
    char *end;

    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text < '0' || *text > '9' || n < 1 || n > most)
        return false;
    *ret_count = n;
    return true;
}

int ctl_left_ms(const struct ctl *ctl, int most)
{
    if (!ctl->deadline_ms)
        return most;
    int64_t left = ctl->deadline_ms - ctl_now_ms();
    return left < 0 ? 0 : (int)left;
}

bool ctl_late(const struct ctl *ctl)
{
    return ctl->deadline_ms && ctl_now_ms() >= ctl->deadline_ms;
}

/* ---- signals */

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
    if (woken)
        qsm_wake(woken);
}

void ctl_catch_signals(struct ctl *ctl)
{
    /* No SA_RESTART: a write to a pipe that nobody reads must end, too. */
    struct sigaction action = {.sa_handler = on_signal};

    woken = ctl->qsm;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool ctl_stopped(void)
{
    return stopped;
}

/* ---- main */

/* Where standard input, output or error is closed, the connection would take its number, and be
 * read or written in its stead. /dev/null takes it, opened the other way round: to use it is an
 * error. */
static void fill_closed_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* The options in front of the command. -1: go on at optind, else exit. */
static int parse_options(struct ctl *ctl, int argc, char **argv)
{
    enum { OPTION_JSON = 256, OPTION_VERSION };
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, OPTION_JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, OPTION_VERSION},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "+s:h", options, NULL)) != -1) {
        switch (option) {
        case 's':
            ctl->socket = optarg;
            break;
        case OPTION_JSON:
            ctl->json = true;
            break;
        case 'h':
            print_usage(stdout);
            return EXIT_OK;
        case OPTION_VERSION:
            printf("qsmctl %s\n", QSM_VERSION);
            return EXIT_OK;
        default:
            fprintf(stderr, "Try `qsmctl --help`.\n");
            return EXIT_USAGE;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {0};

    fill_closed_descriptors();
    /* Numbers are written as in C, whatever the language. */
    setlocale(LC_CTYPE, "");
    int code = parse_options(&ctl, argc, argv);
    if (code >= 0)
        return code;
    if (optind == argc)
        return ctl_usage(&ctl, "no command");
    ctl.command = find_command(argv[optind]);
    if (!ctl.command)
        return ctl_usage(&ctl, "%s: no such command", argv[optind]);
    argc -= optind;
    argv += optind;
    optind = 0; /* glibc: begin anew, with the command's own options */
    code = ctl.command->run(&ctl, argc, argv);
    woken = NULL;
    qsm_close(ctl.qsm);
    return code;
}
