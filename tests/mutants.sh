#!/bin/sh
# mutants.sh: builds the core with each of its known mistakes (`#ifdef MUTANT_name`) and has the
# tests find it: the simulator, and the stories of tests/scenario for what no seed shows. A mistake
# that neither finds is a hole in the checker, in the faults or in the stories.
#   SEEDS=n COUNT=1 JOBS=n MAKE=make tests/mutants.sh [NAME…]
# With COUNT all seeds and stories are run and it is said how many find the mistake; otherwise the
# first that does will do.
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
seeds=${SEEDS:-500}
count=${COUNT:-}
jobs=${JOBS:-$(nproc)}
failed=0

seeds_that_find() { # build seeds
    run="--mode all --mutant-expect"
    [ -z "$count" ] || run="--mode safety"
    # shellcheck disable=SC2086
    "$1/qsmsim" $run --seed 1 --seeds "$2" --jobs "$jobs" >"$1/seeds.out"
    sed -n 's/^[0-9]* seeds, \([0-9]*\) failed$/\1/p' "$1/seeds.out"
}

stories_that_find() { # build
    "$1/scenario-tests" >"$1/stories.out" 2>&1
    grep -cE ':[FE]:' "$1/stories.out"
}

# Sets how: in words how it is found, empty when it is not. What a few seeds do not show a story may,
# and it takes less time than the rest of the seeds.
look() { # build
    how=
    found=0
    stories=0
    few=40
    [ -z "$count" ] && [ "$few" -lt "$seeds" ] || few=$seeds
    found=$(seeds_that_find "$1" "$few")
    found=${found:-0}
    if [ -n "$count" ] || [ "$found" -eq 0 ]; then
        stories=$(stories_that_find "$1")
    fi
    if [ $((found + stories)) -eq 0 ] && [ "$few" -lt "$seeds" ]; then
        found=$(seeds_that_find "$1" "$seeds")
        found=${found:-0}
    fi
    if [ $((found + stories)) -eq 0 ]; then
        return
    elif [ -n "$count" ]; then
        how="in $found of $seeds seeds, by $stories stories"
    elif [ "$found" -gt 0 ]; then
        how=$(sed -n 's/^found \(by .*\)/\1/p' "$1/seeds.out")
    else
        how="by $stories stories"
    fi
}

[ $# -gt 0 ] || set -- $(grep -rhoE 'MUTANT_[a-z0-9_]+' daemon/core | sed 's/^MUTANT_//' | sort -u)
[ $# -gt 0 ] || { echo "FAIL mutants (there are none)"; exit 1; }
for name in "$@"; do
    build=build-mutant-$name
    how=
    if env -u MAKEFLAGS -u MFLAGS "$make" -s -j"$jobs" MUTANT="$name" BUILD="$build" \
        "$build/qsmsim" "$build/scenario-tests"; then
        look "$build"
    fi
    if [ -n "$how" ]; then
        echo "PASS mutant $name is found $how"
    else
        echo "FAIL mutant $name is found, in $seeds seeds or by a story"
        failed=1
    fi
done
exit $failed
