#!/bin/bash
# groups.sh: what more groups cost (figures 36 to 42 of the paper): one sender multicasts to each of
# them in turn, all receivers are members of all: as fast as messages are taken, and at a rate.
#   NODES="8"    receivers
#   GROUPS_OF="1 64 1024 2048 4096 8192"    RATE=n  default 2000
#   REPEATS=n     default 3
set -u
REPEATS=${REPEATS:-3}
. "$(dirname "$0")/lib.sh"
experiment groups "$@"

# Daemons know no groups but those of one stream.
one_count() { # groups
    groups=$1
    for asked in "${RATE:-2000}" 0; do
        ! late || continue
        daemons_begin
        measure
        daemons_end
    done
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-8}; do
        region_make "$count" 1
        for of in ${GROUPS_OF:-1 64 1024 2048 4096 8192}; do
            late || one_count "$of"
        done
        cluster_remove
    done
done
