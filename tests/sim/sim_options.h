/* sim_options: the command line of qsmsim, and which runs it stands for. */
#ifndef QSM_SIM_OPTIONS_H
#define QSM_SIM_OPTIONS_H

#include "sim.h"

/* A run: a seed in a mode. */
struct unit {
    enum sim_mode mode;
    uint64_t seed; /* 0: there is none here */
};

struct options {
    enum sim_mode mode;
    bool all; /* modes */
    uint64_t seed, seeds, seconds;
    bool seeds_set;
    uint32_t nodes_min, nodes_max; /* 0: as the mode has it */
    unsigned jobs;
    struct sim_without without;
    const char *trace;
    bool twice, mutant, marks, shrink, help;
};

#define JOBS_MAX 64

/* False: usage. */
bool options_parse(int argc, char **argv, struct options *ret);
/* The n-th run, from 0; false: there are no more. */
bool options_unit(const struct options *o, uint64_t n, struct unit *ret);
struct run_config options_run(const struct options *o, struct unit u);
/* Prints the command line that stands for that run alone. */
void options_say(const struct run_config *config);
/* Whether there are so many runs that each kind of fault must have struck. */
bool options_many(const struct options *o);
const char *mode_name(enum sim_mode mode);

/* sim_shrink.c: the exit code. */
int shrink(const struct options *o);

#endif
