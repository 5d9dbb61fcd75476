#!/bin/bash
# rate.sh: what faster streams cost (figures 12 and 32 to 35 of the paper): one group, one sender at
# growing rates, up to as fast as is taken, with messages of 1,000 and of 100 bytes.
#   NODES="24"    receivers
#   RATES="250 500 1000 2000 4000 8000 16000 0"    SIZES="1000 100"
#   REPEATS=n     default 3
set -u
REPEATS=${REPEATS:-3}
. "$(dirname "$0")/lib.sh"
experiment rate "$@"

one_size() { # receivers
    region_make "$1" 1
    setting=bytes
    for bytes in ${SIZES:-1000 100}; do
        value=$bytes
        daemons_begin
        for asked in ${RATES:-250 500 1000 2000 4000 8000 16000 0}; do
            late || measure
        done
        daemons_end
    done
    cluster_remove
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-24}; do
        late || one_size "$count"
    done
done
