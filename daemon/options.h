/* options: the command line, which is the same for both daemons. */
#ifndef QSM_OPTIONS_H
#define QSM_OPTIONS_H

#include <stdbool.h>

enum options_action {
    OPTIONS_RUN,
    OPTIONS_CHECK, /* --check-config */
    OPTIONS_DUMP,  /* --dump-config */
    OPTIONS_STATE, /* --dump-state */
    OPTIONS_DONE,  /* what was asked for is printed: exit with 0 */
    OPTIONS_WRONG  /* what is wrong is printed: exit with 2 */
};

struct options_program {
    const char *name;
    const char *does;    /* a sentence */
    const char *path;    /* of its configuration */
    bool has_dump_state; /* the option --dump-state */
};

/* What to do, and with which configuration. To be called before anything is opened: descriptors 0
 * to 2 are in use afterwards. */
enum options_action options_parse(int argc, char **argv, const struct options_program *program,
                                  const char **ret_path);

/* Whether all that was printed has been written; false: not, and what is wrong is printed. */
bool options_printed(const struct options_program *program);

#endif
