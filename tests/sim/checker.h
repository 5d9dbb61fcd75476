/* checker: reads a trace (TRACE.md), line by line in the order of time, and says where a promise of
 * DESIGN section 2 is broken: S1 to S12 and S14. It includes nothing of the core, so that it can't
 * share the core's mistakes. Used by qsmsim on the trace of a run, and by qsmcheck on the files of
 * real daemons. */
#ifndef QSM_CHECKER_H
#define QSM_CHECKER_H

#include <stddef.h>
#include <stdint.h>

struct checker;

struct checker_config {
    /* For S10: cachers of a packet (cache_replicas), and the largest partition of a region, in
     * which they are (ring_size). */
    uint32_t replicas, ring_size;
};

/* What the checker counted on its way. */
struct checker_counts {
    uint64_t lines, sends, delivers, views, stables, completions, epochs;
};

/* A checker that has seen nothing; aborts when memory is out. */
struct checker *checker_new(const struct checker_config *config);
void checker_free(struct checker *c); /* NULL is fine */

/* The next line of the trace, without its newline. source names the file for failures, NULL: none;
 * it must stay valid as long as c. number is the line's number in its file. */
void checker_line(struct checker *c, const char *source, uint64_t number, const char *line);

/* Failures found so far, and the text of one of the first CHECKER_FAILURES_MAX: "S7: line 12: ...".
 */
size_t checker_failures(const struct checker *c);
const char *checker_failure(const struct checker *c, size_t i);
#define CHECKER_FAILURES_MAX 100

/* Whether `finish` was seen: only then the promises about the end could be judged. */
int checker_finished(const struct checker *c);

const struct checker_counts *checker_counts(const struct checker *c);

#endif
