#!/bin/sh
# unit.sh: the suites of the unit tests, as many at a time as there are processors; each suite's
# output in one piece.
#   tests/unit.sh UNIT-TESTS
set -u
tests=$1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
# Suites that take long come first, so that none is left alone at the end.
suites=$(sed -n -E 's/^    X\(([a-z_]+)\).*/\1/p' "$(dirname "$0")/unit/suites.h")
first="session_input session_data cms check session journal"
for suite in $first $suites; do
    echo "$suite"
done | awk '!seen[$0]++' |
    xargs -P "$(nproc)" -I {} sh -c '"$1" "$2" >"$3/$2" 2>&1 || echo "$2" >>"$3/.failed"' sh "$tests" {} "$out"
cat "$out"/*
[ ! -e "$out/.failed" ]
