/* options: see options.h. */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DUMP_STATE 's' /* its place in the list is the last, as not both programs have it */

static void print_usage(FILE *out, const struct options_program *program)
{
    fprintf(out, "usage: %s [-c FILE] [--check-config | --dump-config%s]\n", program->name,
            program->has_dump_state ? " | --dump-state" : "");
}

static void print_help(const struct options_program *program)
{
    print_usage(stdout, program);
    printf("%s\n\n", program->does);
    printf("  -c, --config FILE    the configuration instead of %s\n", program->path);
    puts("      --check-config   says what is wrong with the configuration, and exits");
    puts("      --dump-config    prints every key as it is understood, and exits");
    if (program->has_dump_state)
        puts("      --dump-state     prints what the log says, as JSON, and exits");
    puts("      --version        prints the version, and exits");
    puts("  -h, --help           prints this, and exits");
}

/* Where standard error is closed, the next file that is opened would get its number, and lines of
 * the log: the CMS's mark of its journal, say. /dev/null takes it, opened the other way round: to
 * use it is an error. */
static void fill_closed_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
}

enum options_action options_parse(int argc, char **argv, const struct options_program *program,
                                  const char **ret_path)
{
    const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"dump-config", no_argument, NULL, 'd'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {program->has_dump_state ? "dump-state" : NULL, no_argument, NULL, DUMP_STATE},
        {NULL, 0, NULL, 0},
    };
    enum options_action action = OPTIONS_RUN;
    int option;

    fill_closed_descriptors();
    *ret_path = program->path;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            *ret_path = optarg;
            break;
        case 'k':
            action = OPTIONS_CHECK;
            break;
        case 'd':
            action = OPTIONS_DUMP;
            break;
        case DUMP_STATE:
            action = OPTIONS_STATE;
            break;
        case 'v':
            printf("%s %s\n", program->name, QSM_VERSION);
            return OPTIONS_DONE;
        case 'h':
            print_help(program);
            return OPTIONS_DONE;
        default:
            print_usage(stderr, program);
            return OPTIONS_WRONG;
        }
    }
    if (optind == argc)
        return action;
    fprintf(stderr, "%s: %s: there are no arguments, only options\n", program->name, argv[optind]);
    print_usage(stderr, program);
    return OPTIONS_WRONG;
}

bool options_printed(const struct options_program *program)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    fprintf(stderr, "%s: standard output: %s\n", program->name, strerror(errno));
    return false;
}
