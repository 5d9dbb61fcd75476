/* The runner of the scenario tests. */
#include <stdlib.h>
#include "suites.h"

int main(void)
{
    SRunner *runner = srunner_create(suite_repair());
    srunner_add_suite(runner, suite_views());
    srunner_add_suite(runner, suite_packets());
    srunner_add_suite(runner, suite_regress());
    srunner_add_suite(runner, suite_rings());
    srunner_add_suite(runner, suite_hostile());
    srunner_add_suite(runner, suite_scale());
    srunner_add_suite(runner, suite_rules());
    srunner_add_suite(runner, suite_acks());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
