/* suites: every suite of the scenario tests. */
#ifndef QSM_SCENARIO_SUITES_H
#define QSM_SCENARIO_SUITES_H

#include <check.h>

Suite *suite_repair(void);
Suite *suite_views(void);
Suite *suite_packets(void);
Suite *suite_regress(void);
Suite *suite_hostile(void);
Suite *suite_rings(void);
Suite *suite_scale(void);
Suite *suite_rules(void);
Suite *suite_acks(void);

#endif
