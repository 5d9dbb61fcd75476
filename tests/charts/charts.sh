#!/bin/sh
# charts.sh: what QSM costs as a region grows, and what one receiver's trouble costs the others, in
# virtual time: runs qsmfigures in parts side by side and judges its figures (check.awk). Exit code 1
# when a claim fails.
#   BUILD=dir tests/charts/charts.sh all    and makes docs/scaling.md with its charts and figures
#   BUILD=dir tests/charts/charts.sh part   the few that CI keeps, below 20 s
set -eu
cd "$(dirname "$0")/../.."
figures=${BUILD:-build}/qsmfigures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs "SECTION NODES" for each line of the input; what takes longest should come first.
run() {
    # shellcheck disable=SC2016 # sh expands it
    xargs -P "$(nproc)" -L 1 sh -c '"$0" "$2" "$3" >"$1/$2-$3"' "$figures" "$work"
}

# What was printed of some sections, for the sizes in $sizes, under one line of headings.
gather() { # SECTION…
    head -n 1 "$work/$1-${sizes%% *}"
    for section in "$@"; do
        for nodes in $sizes; do
            tail -n +2 "$work/$section-$nodes"
        done
    done
}

jobs_of() { # SECTION NODES…
    section=$1
    shift
    printf "$section %s\n" "$@"
}

check() {
    awk -f tests/charts/check.awk "$@"
}

part() {
    { jobs_of perturb 60 && jobs_of scale 192 25; } | run
    sizes="25 192" && gather scale >"$work/scale.csv"
    sizes=60 && gather perturb >"$work/perturb.csv"
    check -v scale="25 192" -v perturb=60 "$work/scale.csv" "$work/perturb.csv"
}

all() {
    scale="8 25 60 120 192 400 1000"
    crowds="8 25 60 120 192"
    shown=60 # the crowd whose course is drawn
    # shellcheck disable=SC2046,SC2086 # lists of words
    for nodes in $(printf '%s\n' $scale | tac); do
        jobs_of scale "$nodes"
        jobs_of scale-linear "$nodes"
        case " $crowds " in *" $nodes "*)
            jobs_of above "$nodes"
            jobs_of perturb "$nodes"
            jobs_of perturb-linear "$nodes"
            ;;
        esac
    done >"$work/jobs"
    jobs_of course $shown 8 >>"$work/jobs"
    run <"$work/jobs"
    mkdir -p docs/scaling
    sizes=$scale && gather scale scale-linear >docs/scaling/scale.csv
    sizes=$crowds && gather perturb perturb-linear >docs/scaling/perturb.csv
    sizes=$crowds && gather above >docs/scaling/above.csv
    sizes="8 $shown" && gather course >docs/scaling/course.csv
    gnuplot -e "shown=$shown" tests/charts/charts.gp
    status=0
    check -v scale="$scale" -v perturb="$crowds" -v above="$crowds" docs/scaling/scale.csv \
        docs/scaling/perturb.csv docs/scaling/above.csv >"$work/claims" || status=$?
    cat "$work/claims"
    tests/charts/page.sh "$work/claims" >docs/scaling.md
    return $status
}

case "${1:-}" in
all | part) "$1" ;;
*)
    echo "usage: charts.sh all|part" >&2
    exit 2
    ;;
esac
