/* trace: the file of events for the checker (tests/sim/TRACE.md), written by both daemons when
 * `debug { trace = FILE }` is set. Lines are gathered and written at the end of a turn, so that a
 * daemon that is killed loses at most its last turn. One thread. */
#ifndef QSM_TRACE_H
#define QSM_TRACE_H

#include <stdint.h>

struct trace;

/* Opens the file to append to, made when there is none; the first line is `boot`. who is copied.
 * Negative errno otherwise. */
int trace_open(struct trace **ret, const char *path, const char *who);

/* One event, without time and who. t may be NULL: nothing happens. */
void trace_line(struct trace *t, const char *line);

/* Writes what was gathered. A file that cannot take it is given up, with one line in the log. */
void trace_flush(struct trace *t);

/* What was not flushed is lost: a daemon that could not start was never there. NULL is fine. */
void trace_close(struct trace *t);

#endif
