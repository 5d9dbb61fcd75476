#!/bin/sh
# sim.sh: the simulator as a test step: seeds of each of its modes, and a few of them twice.
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

# mode claim option…
run() {
    mode=$1 claim=$2
    shift 2
    "$sim" --mode "$mode" --seed 1 --jobs "$(nproc)" "$@"
    report $? "$claim"
}
run safety "$seeds seeds of faults keep every promise and heal" --seeds "$seeds"
run liveness "$seeds seeds: a core goes on while the others stay broken" --seeds "$seeds"
run storm "$seeds seeds of view changes all the time" --seeds "$seeds"
run small "a crash at every event, the loss of every datagram (a part of them)" --seeds $((seeds * 25))
"$sim" --mode liveness --seed 1926
report $? "a packet gone with all who had it takes the one who lacks it along"
run all "the same seed gives the same trace" --seeds 1 --twice
exit $failed
