#!/bin/sh
# mutants.sh: builds the core with each of its known mistakes (`#ifdef MUTANT_name`) and has the
# simulator find it. A mistake that no seed shows is a hole in the checker or in the faults.
#   SEEDS=n MAKE=make tests/mutants.sh [NAME…]
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
seeds=${SEEDS:-500}
failed=0

[ $# -gt 0 ] || set -- $(grep -rhoE 'MUTANT_[a-z0-9_]+' daemon/core | sed 's/^MUTANT_//' | sort -u)
[ $# -gt 0 ] || { echo "FAIL mutants (there are none)"; exit 1; }
for name in "$@"; do
    build=build-mutant-$name
    if env -u MAKEFLAGS -u MFLAGS "$make" -s -j"$(nproc)" MUTANT="$name" BUILD="$build" "$build/qsmsim" &&
        "$build/qsmsim" --seed 1 --seeds "$seeds" --jobs "$(nproc)" --mutant-expect; then
        echo "PASS mutant $name is found"
    else
        echo "FAIL mutant $name is found within $seeds seeds"
        failed=1
    fi
done
exit $failed
