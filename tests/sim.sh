#!/bin/sh
# sim.sh: the simulator as a test step: many seeds with faults, and a few of them twice.
#   tests/sim.sh QSMSIM SEEDS
set -u
sim=$1
seeds=$2
failed=0

report() { # result name
    if [ "$1" -eq 0 ]; then
        echo "PASS sim $2"
    else
        echo "FAIL sim $2"
        failed=1
    fi
}

"$sim" --seed 1 --seeds "$seeds" --jobs "$(nproc)"
report $? "$seeds seeds of faults keep every promise and heal"
"$sim" --seed 1 --seeds 6 --jobs "$(nproc)" --twice
report $? "the same seed gives the same trace"
exit $failed
