#!/bin/bash
# run.sh: the experiments, all or some, each with its chart, and then the page, RESULTS.md (default
# docs/experiments.md).
#   BUILD=dir tests/experiments/run.sh [nodes|rate|tokens|ranges|replicas|perturbed|groups…]
# What else chooses is in lib.sh and at the top of each script. Without any, all.
set -u
. "$(dirname "$0")/table.sh"
here=$root/tests/experiments
experiments=("$@")
[[ $# -gt 0 ]] || experiments=(nodes rate tokens ranges replicas perturbed groups)
status=0
for experiment in "${experiments[@]}"; do
    if [[ ! -e $here/$experiment.sh ]]; then
        echo "no such experiment: $experiment" >&2
        exit 2
    fi
    began=$SECONDS
    "$here/$experiment.sh" || status=1
    "$here/draw.sh" "$experiment" || status=1
    echo "$experiment: $((SECONDS - began)) s"
done
"$here/page.sh" >"$results.md"
echo "$results.md, $SECONDS s"
exit $status
