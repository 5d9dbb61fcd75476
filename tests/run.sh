#!/bin/sh
# run.sh: runs the test steps and counts. Every test says `PASS name` or `FAIL name` (those of the
# Check library in its own way); a step that fails without saying where, or says nothing at all,
# counts as one failure, and so does a skipped test. The last line is `N passed, N failed`.
#   BUILD=dir SEEDS=n MAKE=make tests/run.sh [STEP…]
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
san=$build-asan
make=${MAKE:-make}
seeds=${SEEDS:-20}
jobs=$(nproc)
logs=$build/test-logs
mkdir -p "$logs"
rm -f "$logs"/*

# What runs with sanitizers ends at the first error, leaks included.
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export CK_VERBOSITY=verbose

passed=0
failed=0

# The tests in a log, as PASS and FAIL lines.
results() {
    sed -n -E -e '/^(PASS|FAIL) /p' -e 's/^SKIP (.*)/FAIL \1 (skipped)/p' \
        -e 's/^[^ ]+:[0-9]+:P:([^:]*):([^:]*):([^:]*): .*/PASS \1 \2 \3/p' \
        -e 's/^[^ ]+:[0-9]+:[FE]:([^:]*):([^:]*):([^:]*): .*/FAIL \1 \2 \3/p' "$1"
}

step() { # name command…
    name=$1
    shift
    log=$logs/$name.log
    begin=$(date +%s)
    echo "== $name"
    "$@" >"$log" 2>&1
    status=$?
    results "$log" >"$log.results"
    if ! grep -q . "$log.results" && [ $status -eq 0 ]; then
        echo "FAIL $name (nothing was tested)" >>"$log.results"
    elif [ $status -ne 0 ] && ! grep -q '^FAIL' "$log.results"; then
        echo "FAIL $name (exit code $status)" >>"$log.results"
    fi
    good=$(grep -c '^PASS' "$log.results")
    bad=$(grep -c '^FAIL' "$log.results")
    if [ "$bad" -gt 0 ]; then
        tail -n 200 "$log"
        grep '^FAIL' "$log.results"
    fi
    echo "-- $name: $good passed, $bad failed, $(($(date +%s) - begin)) s"
    passed=$((passed + good))
    failed=$((failed + bad))
}

build_all() { # label make-arguments…
    label=$1
    shift
    # A make inside of make takes its jobs from the outer one, unless told.
    if env -u MAKEFLAGS -u MFLAGS "$make" -s -j"$jobs" "$@" all tests; then
        echo "PASS builds $label"
    else
        echo "FAIL builds $label"
        return 1
    fi
}

step_build() { step build build_all plainly BUILD="$build"; }
step_build_asan() { step build-asan build_all "with sanitizers" BUILD="$san" SAN=1; }
step_tidy() { step tidy env BUILD="$build" tests/tidy.sh; }
step_install() { step install env BUILD="$build" MAKE="$make" tests/install.sh; }
step_unit() { step unit tests/unit.sh "$san/unit-tests"; }
step_scenario() { step scenario "$san/scenario-tests"; }
step_conf() { step conf env BUILD="$san" tests/conf/run.sh; }
step_sim() { step sim tests/sim.sh "$san/qsmsim" "$seeds"; }
step_charts() { step charts env BUILD="$build" tests/charts/charts.sh part; }
step_mutants() { step mutants env SEEDS=500 MAKE="$make" tests/mutants.sh; }
step_allocs() { step allocs env BUILD="$build" tests/system/allocs.sh; }
step_system() { step system env BUILD="$san" LINES_SENT="${LINES_SENT:-150000}" tests/system/run.sh; }

[ $# -gt 0 ] || set -- build build_asan tidy install unit scenario conf sim charts allocs system
for name in "$@"; do
    "step_$name"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
