/* suites: every suite of the unit tests. A new one is a line here and a test_NAME.c that defines
 * `Suite *suite_NAME(void)`. */
#ifndef QSM_SUITES_H
#define QSM_SUITES_H

#include <check.h>

#define SUITES(X)                                                                                  \
    X(buf)                                                                                         \
    X(check)                                                                                       \
    X(client)                                                                                      \
    X(cms)                                                                                         \
    X(conf)                                                                                        \
    X(flush)                                                                                       \
    X(frame)                                                                                       \
    X(group)                                                                                       \
    X(histogram)                                                                                   \
    X(journal)                                                                                     \
    X(flight)                                                                                      \
    X(load)                                                                                        \
    X(pace)                                                                                        \
    X(parts)                                                                                       \
    X(pull)                                                                                        \
    X(range)                                                                                       \
    X(recovery)                                                                                    \
    X(recv)                                                                                        \
    X(region)                                                                                      \
    X(session)                                                                                     \
    X(session_data)                                                                                \
    X(session_run)                                                                                 \
    X(session_grant)                                                                               \
    X(session_input)                                                                               \
    X(session_late)                                                                                \
    X(session_place)                                                                               \
    X(store)                                                                                       \
    X(suspect)                                                                                     \
    X(timer)                                                                                       \
    X(udp)                                                                                         \
    X(view)                                                                                        \
    X(wire_data)                                                                                   \
    X(wire_token)                                                                                  \
    X(held)

#define SUITE_DECLARE(name) Suite *suite_##name(void);
SUITES(SUITE_DECLARE)
#undef SUITE_DECLARE

#endif
