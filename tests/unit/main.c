/* The runner of the unit tests: all suites of suites.h, or those that its arguments name. Fails
 * when a test fails, and when a name is unknown. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "suites.h"

static const struct {
    const char *name;
    Suite *(*make)(void);
} suites[] = {
#define SUITE_ENTRY(name) {#name, suite_##name},
    SUITES(SUITE_ENTRY)
#undef SUITE_ENTRY
};

static bool add(SRunner *runner, const char *name)
{
    bool found = false;

    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        if (name != NULL && strcmp(name, suites[i].name) != 0)
            continue;
        srunner_add_suite(runner, suites[i].make());
        found = true;
    }
    return found;
}

int main(int argc, char **argv)
{
    SRunner *runner = srunner_create(NULL);
    int failed;

    if (argc < 2)
        add(runner, NULL);
    for (int i = 1; i < argc; i++) {
        if (!add(runner, argv[i])) {
            fprintf(stderr, "%s: no suite %s\n", argv[0], argv[i]);
            srunner_free(runner);
            return EXIT_FAILURE;
        }
    }
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
